"""Cosine similarities of queries to packed vectors: all of one query, or the best few of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from native_simd.arrays import check_status, pointer, require_threads
from native_simd.isa import active_code, lib
from native_simd.packing import PackedVectors, pack
from native_simd.pairs import require_unit
from native_simd.ranking import empty_lists, ranked, require_k

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]


def top_k(
    queries: Float32Array | PackedVectors, vectors: Float32Array | PackedVectors, k: int, threads: int = 1
) -> tuple[NDArray[np.int64], Float32Array]:
    """Return the ``k`` vectors of largest cosine with each query: similarity descending, then smaller index.

    Parameters
    ----------
    queries : ndarray of float32, shape (q, d), or PackedVectors
    vectors : ndarray of float32, shape (m, d), or PackedVectors
        Packed with ``unit=True``, once, where they are searched more than once.
    k : int
        At least 1; all vectors are returned where there are fewer.
    threads : int
        Threads to use, at least 1.

    Returns
    -------
    ids : ndarray of int64, shape (q, min(k, m))
    similarities : ndarray of float32, shape (q, min(k, m))
        A zero is positive.

    Raises
    ------
    RowError
        A query or vector is not finite or zero.

    Notes
    -----
    Exhaustive: O(q m d) time, and memory for ``q k`` candidates beside the panels.
    """
    packed_queries, packed = _unit(queries, threads), _unit(vectors, threads)
    _require_same_dimension(packed_queries, packed)
    n_kept = min(require_k(k), packed.n)
    lists = empty_lists(packed_queries.n, n_kept)
    if lists.size:
        check_status(
            lib.ns_top_k(
                active_code(),
                pointer(packed_queries.panels, "float *"),
                packed_queries.n,
                pointer(packed.panels, "float *"),
                packed.n,
                packed.d,
                pointer(lists, "uint64_t *"),
                n_kept,
                require_threads(threads),
            )
        )
    indices, similarities, _ = ranked(lists, n_kept)
    return indices, similarities


def batch_similarity(query: Float32Array, centroids: Float32Array | PackedVectors) -> Float32Array:
    """Return the cosines of one query with each centroid; the bits of :func:`similarity`.

    Parameters
    ----------
    query : ndarray of float32, shape (d,)
    centroids : ndarray of float32, shape (m, d), or PackedVectors
        Packed with ``unit=True``, once, where they are compared more than once.

    Returns
    -------
    ndarray of float32, shape (m,)

    Raises
    ------
    RowError
        The query or a centroid is not finite or zero.
    """
    if not isinstance(query, np.ndarray) or query.dtype != np.float32 or query.ndim != 1:
        kind = f"{query.dtype} of shape {query.shape}" if isinstance(query, np.ndarray) else type(query).__name__
        raise TypeError(f"query must be a float32 array of shape (d,), got {kind}")
    packed_query, packed = pack(query[None], unit=True), _unit(centroids, 1)
    _require_same_dimension(packed_query, packed)
    out = np.empty(packed.n, np.float32)
    check_status(
        lib.ns_batch_similarity(
            active_code(),
            pointer(packed_query.panels, "float *"),
            pointer(packed.panels, "float *"),
            packed.n,
            packed.d,
            pointer(out, "float *"),
        )
    )
    return out


def _unit(vectors: Float32Array | PackedVectors, threads: int) -> PackedVectors:
    packed = vectors if isinstance(vectors, PackedVectors) else pack(vectors, unit=True, threads=threads)
    require_unit("cosine", packed)
    return packed


def _require_same_dimension(queries: PackedVectors, vectors: PackedVectors) -> None:
    if queries.d != vectors.d:
        raise ValueError(f"queries have {queries.d} dimensions and vectors have {vectors.d}")
