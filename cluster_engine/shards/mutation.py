"""A batch that changes bindings, as it travels, is logged and is applied.

Owns the kinds, their arguments, and what makes a batch refused. Refuses to know who sends it and where it is logged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

import native_simd
from cluster_engine.shards.shard import require_ids
from cluster_engine.shards.slots import are_in, slot_set, slots_of
from cluster_engine.store.log import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.shards.shard import BindingShard

CHANGES = get_args(native_simd.ChangeKind)
"""Kinds of batches of bindings."""
SET_CENTROIDS = "set_centroids"
KINDS = (*CHANGES, "decay", "decay_concepts", "activate", SET_CENTROIDS)
_COLUMNS = {
    **dict.fromkeys(CHANGES, ("concept_ids", "episode_ids", "values")),
    "unbind": ("concept_ids", "episode_ids"),
    "decay": (),
    "decay_concepts": ("concept_ids", "values"),
    "activate": ("concept_ids",),
    SET_CENTROIDS: ("concept_ids", "vectors"),
}
_LARGEST_DT_S = 2.0**127


@dataclass(frozen=True, slots=True)
class Mutation:
    """A batch of one kind.

    Attributes
    ----------
    kind : str
        One of `KINDS`: a method of :class:`~cluster_engine.shards.shard.BindingShard`, or that sets centroids.
    columns : tuple of ndarray, all of shape (m,)
        Positional arguments: concept ids first, if there are any.
    arguments : mapping of str to float or int
        The others, but for the operation id.
    """

    kind: str
    columns: tuple[NDArray[Any], ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, kind: str, *columns: ArrayLike, **arguments: float) -> Mutation:
        """Return a mutation of what a caller gave.

        Raises
        ------
        ValueError
            A column or an argument has the wrong type, shape or range.
        """
        arrays = tuple(
            require_ids(given, name) if name.endswith("_ids") else np.ascontiguousarray(given, np.float32)
            for name, given in zip(_COLUMNS[kind], columns, strict=True)
        )
        n_dimensions = 1 if kind == SET_CENTROIDS else 2
        if any(array.shape[:n_dimensions] != arrays[0].shape for array in arrays):
            raise ValueError(f"shapes differ: {', '.join(str(array.shape) for array in arrays)}")
        plain = {name: value if name == "at" else float(value) for name, value in arguments.items()}
        mutation = cls(kind, arrays, plain)
        mutation._require_arguments()
        return mutation

    @classmethod
    def from_record(cls, record: Record) -> Mutation:
        """Return the mutation that `to_record` made a record of."""
        columns = {name: record.columns[name] for name in _COLUMNS[record.kind]}
        if "vectors" in columns:  # a record has them flat
            columns["vectors"] = columns["vectors"].reshape(len(columns["concept_ids"]), -1)
        return cls(record.kind, tuple(columns.values()), record.fields["arguments"])

    def to_record(self, op_id: int, slots: int) -> Record:
        """Return a record of the mutation as an operation on these slots."""
        fields = {"op_id": op_id, "slots": f"{slots:x}", "arguments": dict(self.arguments)}
        return Record(self.kind, fields, dict(zip(_COLUMNS[self.kind], self.columns, strict=True)))

    @property
    def n_rows(self) -> int:
        """Rows of the batch; 0 if it is of all concepts."""
        return len(self.columns[0]) if self.columns else 0

    def slots(self, owned: int) -> int:
        """Return the slots that the mutation touches, of those that the shard owns."""
        if not self.columns:
            return owned
        touched = slot_set(slots_of(self.columns[0]))
        if touched & ~owned:
            raise ValueError("a batch has concepts that are not of this actor")
        return touched

    def rows_in(self, slots: int) -> NDArray[np.int64]:
        """Return the rows whose concepts are in these slots."""
        return np.flatnonzero(are_in(slots_of(self.columns[0]), slots))

    def take(self, rows: NDArray[np.int64]) -> Mutation:
        """Return the mutation of these rows alone."""
        return Mutation(self.kind, tuple(column[rows] for column in self.columns), self.arguments)

    def verify(self, shard: BindingShard) -> None:
        """Raise what `apply` would raise, but for lack of memory.

        Raises
        ------
        RowError
            Naming the first row that is refused.
        """
        if self.kind == SET_CENTROIDS:
            self._require_vectors(shard.dimension)
        elif self.kind in CHANGES:
            shard.verify_change(self.kind, *self.columns)  # type: ignore[arg-type] # one of CHANGES
        elif self.columns:
            self._require_known(shard)

    def apply(self, shard: BindingShard, op_id: int) -> None:
        """Change all that the shard has, as this operation of it."""
        getattr(shard, self.kind)(*self.columns, **self.arguments, op_id=op_id)

    def apply_within(self, shard: BindingShard, slots: int, op_id: int) -> None:
        """Change the bindings of these slots alone; of a mutation of all concepts."""
        shard.decay_slots(slots, **self.arguments, op_id=op_id)

    def _require_arguments(self) -> None:
        half_life_s = self.arguments.get("half_life_s", 1.0)
        if not half_life_s > 0:
            raise ValueError(f"half_life_s must be above 0, got {half_life_s}")
        dt_s = self.arguments.get("dt_s", 0.0)
        if not 0 <= dt_s <= _LARGEST_DT_S:
            raise ValueError(f"dt_s must be between 0 and 2**127, got {dt_s}")
        at = self.arguments.get("at", 0)
        if isinstance(at, bool) or not isinstance(at, int) or not -(2**63) <= at < 2**63:
            raise ValueError(f"at must be an int64, in microseconds, got {at!r}")
        if self.kind == "decay_concepts" and not (allowed := self.columns[1] >= 0).all():
            row = int(np.argmin(allowed))
            raise native_simd.RowError(row, f"rate {self.columns[1][row]} is not at least 0")

    def _require_vectors(self, dimension: int) -> None:
        concepts, vectors = self.columns
        if vectors.ndim != 2 or vectors.shape[1] != dimension:
            raise ValueError(f"vectors must have shape ({len(concepts)}, {dimension}), got {vectors.shape}")
        native_simd.norms(vectors, unit=True)  # refuses one that has no direction
        order = np.argsort(concepts, kind="stable")
        again = order[1:][np.diff(concepts[order]) == 0]
        if len(again):
            raise native_simd.RowError(int(again.min()), f"concept {concepts[again.min()]} occurs twice")

    def _require_known(self, shard: BindingShard) -> None:
        known = shard.fan_out(self.columns[0]) > 0
        if not known.all():
            row = int(np.argmin(known))
            raise native_simd.RowError(row, f"concept {self.columns[0][row]} is not here")
