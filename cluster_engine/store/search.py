"""Nearest concepts to query vectors, with a total order: exactly, or in the nearest cells where there are many.

Owns the check of queries and the order of answers. Refuses to know where centroids come from.
"""

from __future__ import annotations

import logging
import operator
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

import native_simd
from cluster_engine.errors import InputError, VectorError
from cluster_engine.search.explanation import Explanation
from cluster_engine.search.plan import MEASURED_K, SearchPlan, choose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.search.conditions import Condition
    from cluster_engine.search.explanation import Outcome

_logger = logging.getLogger(__name__)

_MANY_QUERIES = 32  # from here on, tiles of float32 pay for their packing
_PACKED_ROWS = 1 << 14  # at a time


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The concepts nearest to each query, best first; equal similarities in order of concept id.

    Attributes
    ----------
    concept_ids
        (q, min(k, n)) int64, of n concepts that may be found.
    similarities
        (q, min(k, n)) float32 cosines.
    """

    concept_ids: NDArray[np.int64]
    similarities: NDArray[np.float32]


class CentroidIndex:
    """Centroids in order of concept id, searched exactly, or in the cells of near centroids where there are many.

    Similarities are those of exact search in both; only which concepts are compared differs. The same concepts give the
    same index, in whatever order they come and on every machine.

    Parameters
    ----------
    concept_ids
        (n,) int64, unique, in any order.
    centroids
        (n, d) float32.
    facts : pyarrow.Table, optional
        n rows in the order of ``concept_ids``: what conditions may name.
    threads
        To build with, at least 1.
    directory : path, optional
        The float32 vectors, four fifths of the index, lie there, in a file without a name that is mapped into memory:
        a search reads some rows of it. Default, in memory.

    Attributes
    ----------
    concept_ids : ndarray of int64, shape (n,)
        Ascending: what a mask is about.
    plan : SearchPlan
        How it searches, and why.
    """

    def __init__(
        self,
        concept_ids: NDArray[np.int64],
        centroids: NDArray[np.float32],
        *,
        facts: pa.Table | None = None,
        threads: int = 1,
        directory: Path | None = None,
    ) -> None:
        order = np.argsort(concept_ids)
        self.concept_ids = concept_ids[order]
        self._facts = (facts if facts is not None else pa.table({"concept_id": concept_ids})).take(order)
        vectors = np.ascontiguousarray(centroids[order], np.float32)
        self._norms = native_simd.norms(vectors, unit=True, threads=threads)
        self.plan: SearchPlan
        self.plan, cells = choose(vectors, self._norms, threads)
        rows = None if directory is None else _map_rows(directory, vectors.shape)
        self._cells = native_simd.divide(vectors, cells.cell_of, cells.centres, rows=rows, threads=threads)
        self._mapped_bytes = 0 if rows is None else rows.nbytes
        _logger.info("index of centroids: n=%d bytes=%d plan=%s", len(order), self._cells.n_bytes, self.plan.reason)

    @property
    def n_bytes(self) -> int:
        """Memory of the index, without facts and what is mapped."""
        return self._cells.n_bytes - self._mapped_bytes + self.concept_ids.nbytes + self._norms.nbytes

    def search(
        self,
        vectors: ArrayLike,
        k: int,
        *,
        where: Sequence[Condition] = (),
        mask: NDArray[np.bool_] | None = None,
        exact: bool = False,
    ) -> Neighbours:
        """Return the ``k`` concepts nearest to each of ``vectors``; see `ConceptStore.search`."""
        queries, k = _float32_queries(vectors, self._cells.d), operator.index(k)
        allowed = self.allowed(where, mask) if where or mask is not None else None
        is_exact = exact or self.plan.is_exact
        try:
            if is_exact and allowed is None and len(queries) >= _MANY_QUERIES:
                return self._search_tiles(queries, k)
            return self._search_cells(queries, k, allowed, is_exact=is_exact)
        except native_simd.RowError as fault:
            raise VectorError(f"query vector in row {fault.row}, in float32: {fault.reason}") from None

    def allowed(self, where: Sequence[Condition] = (), mask: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return which of ``concept_ids`` meet all conditions and are in the mask: a mask for many searches.

        Raises
        ------
        ValueError
            A condition does not fit the facts, or the mask does not have one bool for each concept.
        """
        if mask is None:
            mask = np.ones(len(self.concept_ids), np.bool_)
        elif not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != self.concept_ids.shape:
            kind = f"{mask.dtype} of shape {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise ValueError(f"mask must be bool of shape {self.concept_ids.shape}, got {kind}")
        for condition in where:
            mask = mask & condition.holds(self._facts)
        return np.ascontiguousarray(mask)

    def explain(
        self,
        vector: ArrayLike,
        concept_id: int,
        k: int,
        *,
        where: Sequence[Condition] = (),
        mask: NDArray[np.bool_] | None = None,
        exact: bool = False,
    ) -> Explanation:
        """Return what a search with these arguments makes of one concept; see `ConceptStore.explain`."""
        row = int(np.searchsorted(self.concept_ids, concept_id))
        if row == len(self.concept_ids) or self.concept_ids[row] != concept_id:
            raise InputError(f"no concept {concept_id} among the {len(self.concept_ids)} of this index")
        query = _float32_queries(np.asarray(vector)[np.newaxis], self._cells.d)
        found = self.search(query, k, where=where, mask=mask, exact=exact)
        allowed = self.allowed(where, mask)
        failed = [str(condition) for condition in where if not condition.holds(self._facts)[row]]
        failed += ["mask"] if mask is not None and not mask[row] else []
        similarities = np.concatenate([native_simd.batch_similarity(query[0], part) for part in self._packed()])
        own, others = similarities[row], similarities[allowed]
        is_nearer = allowed & ((similarities > own) | ((similarities == own) & (np.arange(len(allowed)) < row)))
        rank = int(np.count_nonzero(is_nearer)) + 1
        kth = float(np.sort(others)[-k]) if k <= len(others) else -np.inf
        exactly, outcome = query[0].astype(np.float64), _outcome(found, concept_id, rank, k, is_left=not failed)
        vector_norm, centroid_norm = float(np.sqrt(exactly @ exactly)), float(self._norms[row])
        return Explanation(
            concept_id=int(concept_id),
            outcome=outcome,
            similarity=float(own),
            dot=float(exactly @ self._cells.rows[row].astype(np.float64)) * centroid_norm,
            vector_norm=vector_norm,
            centroid_norm=centroid_norm,
            rank=None if failed else rank,
            k=k,
            margin=float(own) - kth,
            failed=tuple(failed),
        )

    def _search_cells(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, *, is_exact: bool
    ) -> Neighbours:
        least_rows = None if is_exact else max(k, self.plan.least_rows * -(-k // MEASURED_K))
        rows, similarities, _ = native_simd.search_cells(
            queries, self._cells, k, least_rows=least_rows, allowed=allowed
        )
        if allowed is not None:
            n_found = min(rows.shape[1], int(np.count_nonzero(allowed)))
            rows, similarities = rows[:, :n_found], similarities[:, :n_found]
        return Neighbours(self.concept_ids[rows], similarities)

    def _search_tiles(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """Search exactly for many: the best of all parts are the best of the bests of each."""
        rows, similarities, first = [], [], 0
        for part in self._packed():
            found = native_simd.top_k(queries, part, k)
            rows.append(found[0] + first)
            similarities.append(found[1])
            first += part.n
        all_rows, all_similarities = np.concatenate(rows, axis=1), np.concatenate(similarities, axis=1)
        order = np.argsort(-all_similarities, axis=1, kind="stable")[:, :k]  # parts, and so equals, are in order of row
        return Neighbours(
            self.concept_ids[np.take_along_axis(all_rows, order, axis=1)],
            np.take_along_axis(all_similarities, order, axis=1),
        )

    def _packed(self) -> Iterator[native_simd.PackedVectors]:
        """Yield the centroids, of unit length already, in parts."""
        rows = self._cells.rows
        for start in range(0, max(len(rows), 1), _PACKED_ROWS):
            part = native_simd.pack(rows[start : start + _PACKED_ROWS])
            yield native_simd.PackedVectors(part.panels, part.norms, part.n, part.d, unit=True)


def _map_rows(directory: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """Return an array of this shape in a file without a name; None if it has no elements, and so needs none."""
    if 0 in shape:
        return None
    with tempfile.TemporaryFile(dir=directory) as file:
        return np.asarray(np.memmap(file, np.float32, "w+", shape=shape))


def _outcome(found: Neighbours, concept_id: int, rank: int, k: int, *, is_left: bool) -> Outcome:
    if not is_left:
        return "filtered"
    if (found.concept_ids == concept_id).any():
        return "found"
    return "below" if rank > k else "not compared"


def _float32_queries(vectors: ArrayLike, dimension: int) -> NDArray[np.float32]:
    given = np.asarray(vectors)
    if given.dtype.kind not in "fiu":
        raise ValueError(f"vectors must be real numbers, got dtype {given.dtype}")
    if given.ndim != 2 or given.shape[1] != dimension:
        raise ValueError(f"vectors must have shape (q, {dimension}), one row per query, got {given.shape}")
    if given.dtype == np.float32 and given.flags.c_contiguous:
        return given
    with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is refused with its row
        return np.ascontiguousarray(given, np.float32)
