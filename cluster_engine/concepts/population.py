"""What a store knows when a cycle begins: its concepts, its episodes and which of them are bound, as columns.

Positions instead of ids, so that everything between reading and writing is arithmetic on arrays. Nothing here knows
tables; :mod:`cluster_engine.concepts.records` reads and writes those.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from cluster_engine.data.episodes import Episodes

NEVER = -1
"""Cycle of a promotion that has not taken place."""
PPM = 1_000_000
"""A strength of 1 in parts per million: strengths of concepts are integers, so that a threshold is met when it says."""


@dataclass(frozen=True, slots=True)
class Population:
    """Concepts in the order of their ids.

    Attributes
    ----------
    ids : ndarray of int64, shape (m,)
        Ascending.
    strengths_ppm : ndarray of int64
        In [0, `PPM`].
    n_replays, idle_cycles : ndarray of int64
        Cycles in which a concept gained episodes, and cycles since the last one.
    born_cycle, promoted_cycle : ndarray of int64
        The latter `NEVER` for a proto-concept.
    is_retired : ndarray of bool
    born_us, replayed_us : ndarray of int64
        Time of the cycle of birth and of the last replay, microseconds since 1970.
    distances : ndarray of float64
        At which the last two parts of a concept joined.
    coherences : ndarray of float64
    centroids : ndarray of float32, shape (m, d)
    weights : ndarray of float64
        Members in the sums.
    sums : ndarray of float64, shape (m, d)
        Of the unit vectors of the members.
    """

    ids: NDArray[np.int64]
    strengths_ppm: NDArray[np.int64]
    n_replays: NDArray[np.int64]
    idle_cycles: NDArray[np.int64]
    born_cycle: NDArray[np.int64]
    promoted_cycle: NDArray[np.int64]
    is_retired: NDArray[np.bool_]
    born_us: NDArray[np.int64]
    replayed_us: NDArray[np.int64]
    distances: NDArray[np.float64]
    coherences: NDArray[np.float64]
    centroids: NDArray[np.float32]
    weights: NDArray[np.float64]
    sums: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def states(self) -> NDArray[np.str_]:
        """Return "proto", "active" or "retired" for each concept."""
        return np.where(self.is_retired, "retired", np.where(self.promoted_cycle == NEVER, "proto", "active"))

    def take(self, positions: NDArray[np.int64]) -> Population:
        """Return some of them; `positions` ascends."""
        return Population(**{field.name: getattr(self, field.name)[positions] for field in fields(self)})

    @classmethod
    def empty(cls, dimension: int) -> Population:
        """Return one without concepts."""
        none, numbers, flags = np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.bool_)
        vectors = np.empty((0, dimension), np.float64)
        return cls(
            ids=none,
            strengths_ppm=none,
            n_replays=none,
            idle_cycles=none,
            born_cycle=none,
            promoted_cycle=none,
            is_retired=flags,
            born_us=none,
            replayed_us=none,
            distances=numbers,
            coherences=numbers,
            centroids=vectors.astype(np.float32),
            weights=numbers,
            sums=vectors,
        )


@dataclass(frozen=True, slots=True)
class Roster:
    """All episodes, those of the store and the new ones, in the order of their ids; without their vectors.

    Attributes
    ----------
    ids : pyarrow.Array
        Ascending.
    times : pyarrow.TimestampArray
        Nullable.
    importances : ndarray of float32, shape (n,)
    evergreen : ndarray of bool, shape (n,)
    new_row : ndarray of int64, shape (n,)
        Row among the new episodes; -1 for one of the store.
    """

    ids: pa.Array[Any]
    times: pa.Array[Any]
    importances: NDArray[np.float32]
    evergreen: NDArray[np.bool_]
    new_row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def join(cls, stored: pa.Table | None, new: Episodes) -> Roster:
        """Join the episodes of a store (columns episode_id, time, importance, evergreen), if any, with new ones."""
        if stored is None:
            return cls(new.ids, new.times, new.importances, new.evergreen, np.arange(len(new)))
        stored = stored.combine_chunks()
        ids = pa.concat_arrays([_column(stored, "episode_id", new.ids.type), new.ids])
        order = pc.sort_indices(ids).to_numpy()
        times = pa.concat_arrays([_column(stored, "time", new.times.type), new.times])
        importances = np.concatenate([stored["importance"].to_numpy(), new.importances])
        evergreen = np.concatenate([stored["evergreen"].to_numpy(), new.evergreen])
        new_row = np.concatenate([np.full(len(stored), -1), np.arange(len(new))])
        return cls(
            ids=ids.take(order),
            times=times.take(order),
            importances=importances[order].astype(np.float32, copy=False),
            evergreen=evergreen[order].astype(np.bool_, copy=False),
            new_row=new_row[order],
        )

    def take(self, rows: NDArray[np.int64]) -> Roster:
        """Return some of them; `rows` ascends."""
        return Roster(
            ids=self.ids.take(rows),
            times=self.times.take(rows),
            importances=self.importances[rows],
            evergreen=self.evergreen[rows],
            new_row=self.new_row[rows],
        )

    def times_us(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the times in microseconds since 1970, and which there are; where there is none, any number."""
        known = self.times.is_valid().to_numpy(zero_copy_only=False)
        ticks: Any = self.times.view(pa.int64()).fill_null(0)
        return ticks.to_numpy(), known

    def rows_before(self, since: datetime) -> NDArray[np.int64]:
        """Return the rows of episodes from before a time, but for evergreen ones and those without a time."""
        is_before: Any = pc.fill_null(pc.less(self.times, pa.scalar(since, self.times.type)), pa.scalar(False))  # noqa: FBT003 - the value
        return np.flatnonzero(np.asarray(is_before) & ~self.evergreen)

    def rows_of(self, ids: pa.Array[Any] | pa.ChunkedArray[Any]) -> NDArray[np.int64]:
        """Return the row of each of some ids, -1 where there is none."""
        found: Any = pc.index_in(ids, value_set=self.ids)
        filled: Any = pc.fill_null(found, pa.scalar(-1, pa.int32()))
        rows: NDArray[np.int64] = filled.to_numpy().astype(np.int64)
        return rows


@dataclass(frozen=True, slots=True)
class Membership:
    """Bindings, by concept, then by episode.

    Attributes
    ----------
    concepts : ndarray of int64, shape (k,)
        Positions in the population.
    rows : ndarray of int64, shape (k,)
        Of the episodes, in the roster.
    initial : ndarray of float32, shape (k,)
        Strength when last touched, in [0, 1].
    touched_us : ndarray of int64, shape (k,)
        When that was, microseconds since 1970.
    """

    concepts: NDArray[np.int64]
    rows: NDArray[np.int64]
    initial: NDArray[np.float32]
    touched_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def empty(cls) -> Membership:
        """Return one without bindings."""
        none = np.empty(0, np.int64)
        return cls(none, none, np.empty(0, np.float32), none)

    @classmethod
    def ordered(
        cls,
        concepts: NDArray[np.int64],
        rows: NDArray[np.int64],
        initial: NDArray[np.float32],
        touched_us: NDArray[np.int64],
    ) -> Membership:
        """Return bindings that come in any order; of two of one pair the later touched, then the stronger counts."""
        order = np.lexsort((-initial, -touched_us, rows, concepts))
        concepts, rows = concepts[order], rows[order]
        first = np.ones(len(rows), np.bool_)
        first[1:] = (concepts[1:] != concepts[:-1]) | (rows[1:] != rows[:-1])
        return cls(concepts[first], rows[first], initial[order][first], touched_us[order][first])

    def sizes(self, n_concepts: int) -> NDArray[np.int64]:
        """Return the number of members of each concept."""
        return np.bincount(self.concepts, minlength=n_concepts).astype(np.int64)

    def spans(self, n_concepts: int) -> NDArray[np.int64]:
        """Return where the members of each concept begin, and the end, shape (n_concepts + 1,)."""
        return np.searchsorted(self.concepts, np.arange(n_concepts + 1))


def _column(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array[Any]:
    column: pa.Array[Any] = table[name].combine_chunks().cast(kind)
    return column
