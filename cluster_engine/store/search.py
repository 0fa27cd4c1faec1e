"""Nearest concepts to query vectors, exactly, with a total order.

Owns the check of queries and the order of answers. Refuses to know where centroids come from.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.errors import VectorError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BLOCK_BYTES = 64 << 20  # similarities held at once


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The concepts nearest to each query, best first; equal similarities in order of concept id.

    Attributes
    ----------
    concept_ids
        (q, min(k, n)) int64, of n concepts.
    similarities
        (q, min(k, n)) float32 cosines.
    """

    concept_ids: NDArray[np.int64]
    similarities: NDArray[np.float32]


class CentroidIndex:
    """Centroids in order of concept id, searched by exhaustive comparison.

    Parameters
    ----------
    concept_ids
        (n,) int64, unique, in any order.
    centroids
        (n, d) float32.
    """

    def __init__(self, concept_ids: NDArray[np.int64], centroids: NDArray[np.float32]) -> None:
        order = np.argsort(concept_ids)
        self._concept_ids = concept_ids[order]
        self._centroids = np.ascontiguousarray(centroids[order])

    def search(self, vectors: ArrayLike, k: int) -> Neighbours:
        """Return the ``k`` concepts nearest to each of ``vectors``; see `ConceptStore.search`."""
        n_concepts, dimension = self._centroids.shape
        queries = _check_queries(vectors, dimension)
        if operator.index(k) < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        n_found = min(k, n_concepts)
        positions = np.empty((len(queries), n_found), np.int64)
        similarities = np.empty((len(queries), n_found), np.float32)
        block_rows = max(1, _BLOCK_BYTES // (4 * max(1, n_concepts)))
        for first in range(0, len(queries) if n_found else 0, block_rows):
            block = native_simd.similarity(queries[first : first + block_rows], self._centroids, metric="cosine")
            for row, values in enumerate(block, start=first):
                positions[row] = _largest(values, n_found)
                similarities[row] = values[positions[row]]
        return Neighbours(self._concept_ids[positions], similarities)


def _largest(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the positions of the ``k`` largest values, descending, equal ones by position. O(n + ties log ties)."""
    kth = np.partition(values, len(values) - k)[len(values) - k]
    candidates = np.flatnonzero(values >= kth)
    return candidates[np.argsort(-values[candidates], kind="stable")[:k]]


def _check_queries(vectors: ArrayLike, dimension: int) -> NDArray[np.float32]:
    given = np.asarray(vectors)
    if given.dtype.kind not in "fiu":
        raise ValueError(f"vectors must be real numbers, got dtype {given.dtype}")
    if given.ndim != 2 or given.shape[1] != dimension:
        raise ValueError(f"vectors must have shape (q, {dimension}), one row per query, got {given.shape}")
    with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is refused with its row
        queries = np.ascontiguousarray(given, np.float32)
    for wrong, what in (
        (~np.isfinite(queries).all(axis=1), "is not finite in float32"),
        (~queries.any(axis=1), "is zero and has no direction"),
    ):
        if wrong.any():
            raise VectorError(f"query vector in row {np.flatnonzero(wrong)[0]} {what}")
    return queries
