"""Nearest concepts to query vectors, exactly, with a total order.

Owns the check of queries and the order of answers. Refuses to know where centroids come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.errors import VectorError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


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


_CACHED_BYTES = 2**20  # so much float32 stays in a core's own cache, where reading half of it gains nothing


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
        packed = native_simd.pack(centroids[order], unit=True)
        is_large = packed.panels.nbytes > _CACHED_BYTES
        self._centroids = native_simd.quantize(packed) if is_large else packed

    def search(self, vectors: ArrayLike, k: int) -> Neighbours:
        """Return the ``k`` concepts nearest to each of ``vectors``; see `ConceptStore.search`."""
        queries = _float32_queries(vectors, self._centroids.d)
        try:
            positions, similarities = native_simd.top_k(queries, self._centroids, k)
        except native_simd.RowError as fault:
            raise VectorError(f"query vector in row {fault.row}, in float32: {fault.reason}") from None
        return Neighbours(self._concept_ids[positions], similarities)


def _float32_queries(vectors: ArrayLike, dimension: int) -> NDArray[np.float32]:
    given = np.asarray(vectors)
    if given.dtype.kind not in "fiu":
        raise ValueError(f"vectors must be real numbers, got dtype {given.dtype}")
    if given.ndim != 2 or given.shape[1] != dimension:
        raise ValueError(f"vectors must have shape (q, {dimension}), one row per query, got {given.shape}")
    with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is refused with its row
        return np.ascontiguousarray(given, np.float32)
