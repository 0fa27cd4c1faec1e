"""The centroids of a shard: those of a version, and what was set since.

Owns the answer of both together: that of one index with every concept once. Refuses to know how a vector that is set is
made durable, and when a version comes that makes it old.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.shards.merging import merge_neighbours
from cluster_engine.store.search import CentroidIndex, Neighbours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.search.conditions import Condition

    Int64Array = NDArray[np.int64]
    Float32Array = NDArray[np.float32]

_MOST_RECENT = 4_096  # vectors that every call that sets some indexes anew: some 20 ms; chosen, not measured


@dataclass(frozen=True, slots=True)
class _Level:
    """Some centroids; those of later levels count instead of these, so a mask leaves them out."""

    index: CentroidIndex
    mask: NDArray[np.bool_] | None = None

    def without(self, concept_ids: Int64Array) -> _Level:
        return _Level(self.index, ~np.isin(self.index.concept_ids, concept_ids))


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a search sees: all of one moment.

    Attributes
    ----------
    loaded, older, recent : _Level or None
        Of the version; of what was set, the most; and the rest, few enough to be indexed anew.
    vectors : mapping of int to ndarray
        All that was set.
    """

    loaded: _Level | None = None
    older: _Level | None = None
    recent: _Level | None = None
    vectors: Mapping[int, Float32Array] = field(default_factory=dict)

    @property
    def levels(self) -> list[_Level]:
        return [level for level in (self.loaded, self.older, self.recent) if level is not None]


class Centroids:
    """Centroids by concept. Any number of threads may search, one at a time may set.

    Parameters
    ----------
    concept_ids : ndarray of int64, shape (n,)
    vectors : ndarray of float32, shape (n, d)
    facts : Table
        n rows, with a column ``concept_id``: what conditions may name. A concept that is set and not among them has no
        facts, and no condition holds for it.
    directory : path, optional
        Of the loaded ones, see :class:`~cluster_engine.store.search.CentroidIndex`.
    """

    def __init__(
        self, concept_ids: Int64Array, vectors: Float32Array, facts: pa.Table, directory: Path | None = None
    ) -> None:
        self._facts = facts
        self._n_loaded = len(concept_ids)
        self._known = np.sort(concept_ids)
        self._seen = _Seen()
        if len(concept_ids):
            self._seen = _Seen(_Level(CentroidIndex(concept_ids, vectors, facts=facts, directory=directory)))

    def __len__(self) -> int:
        return self._n_loaded + len(np.setdiff1d(_ids(self._seen.vectors), self._known))

    @property
    def n_bytes(self) -> int:
        """Memory of the indices."""
        return sum(level.index.n_bytes for level in self._seen.levels)

    def search(self, vectors: ArrayLike, k: int, *, where: Sequence[Condition] = (), exact: bool = False) -> Neighbours:
        """Return the concepts nearest to each vector; see `ConceptStore.search`."""
        levels = self._seen.levels
        if not levels:
            shape = len(np.asarray(vectors)), 0
            return Neighbours(np.empty(shape, np.int64), np.empty(shape, np.float32))
        parts = [level.index.search(vectors, k, where=where, mask=level.mask, exact=exact) for level in levels]
        return parts[0] if len(parts) == 1 else merge_neighbours(parts, k)

    def set(self, concept_ids: Int64Array, vectors: Float32Array) -> None:
        """Set centroids of concepts, each once, of whatever concepts; verified beforehand."""
        seen = self._seen
        known = {**seen.vectors, **dict(zip(concept_ids.tolist(), vectors, strict=True))}
        recent = concept_ids if seen.recent is None else np.union1d(seen.recent.index.concept_ids, concept_ids)
        older = seen.older
        if len(recent) > _MOST_RECENT:
            older, recent = _Level(self._index(_ids(known), known)), recent[:0]
        self._seen = _Seen(
            seen.loaded and seen.loaded.without(_ids(known)),
            older and older.without(recent),
            _Level(self._index(recent, known)) if len(recent) else None,
            known,
        )

    def columns(self) -> dict[str, NDArray[np.int64] | Float32Array]:
        """Return what was set, as columns of a log record: ``concept_ids`` and ``vectors``."""
        vectors = self._seen.vectors
        return {"concept_ids": _ids(vectors), "vectors": np.array(list(vectors.values()), np.float32)}

    def _index(self, concept_ids: Int64Array, vectors: Mapping[int, Float32Array]) -> CentroidIndex:
        rows = pc.index_in(pa.array(concept_ids), self._facts["concept_id"].combine_chunks())
        chosen = np.array([vectors[concept] for concept in concept_ids.tolist()], np.float32)
        return CentroidIndex(concept_ids, chosen, facts=self._facts.take(rows))


def _ids(vectors: Mapping[int, Float32Array]) -> Int64Array:
    return np.fromiter(vectors, np.int64, len(vectors))
