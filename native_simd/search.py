"""Cosine similarities of queries to packed vectors: all of one query, or the best few of many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_threads
from native_simd.arrays import check_status, first_row, kind_of, require_vectors, row_stride
from native_simd.isa import active_code, ffi, lib
from native_simd.packing import PackedVectors, norms, pack, require_unit_vectors
from native_simd.quantized import QuantizedVectors
from native_simd.ranking import require_k, require_rankable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]


def top_k(
    queries: Float32Array, vectors: Float32Array | PackedVectors | QuantizedVectors, k: int, threads: int = 1
) -> tuple[NDArray[np.int64], Float32Array]:
    """Return the ``k`` vectors of largest cosine with each query: similarity descending, then smaller index.

    Parameters
    ----------
    queries : ndarray of float32, shape (q, d)
    vectors : ndarray of float32, shape (m, d), PackedVectors or QuantizedVectors
        Packed with ``unit=True``, once, where they are searched more than once; quantized too, where by fewer than 8
        queries at a time. The answer is the same to the bit.
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
    Exhaustive: O(q m d) time, and memory for ``q k`` candidates beside the panels; for ``m`` similarities more, of
    quantized vectors.
    """
    rows, packed = require_vectors(queries, "queries"), _unit(vectors, "vectors", threads)
    q, d = rows.shape
    if d != packed.d:
        raise ValueError(f"queries have {d} dimensions and vectors have {packed.d}")
    require_rankable(packed.n)
    n_kept = min(require_k(k), packed.n)
    ids, similarities = np.empty((q, n_kept), np.int64), np.empty((q, n_kept), np.float32)
    known = (active_code(), first_row(rows), q, row_stride(rows), ffi.from_buffer("float[]", packed.panels))
    sizes = (packed.n, d, n_kept)
    found = (ffi.from_buffer("int64_t[]", ids), ffi.from_buffer("float[]", similarities), require_threads(threads))
    if isinstance(vectors, QuantizedVectors):
        words, scales = ffi.from_buffer("int16_t[]", vectors.words), ffi.from_buffer("float[]", vectors.scales)
        status = lib.ns_top_k_quantized(*known, words, scales, vectors.error, *sizes, *found)
    else:
        status = lib.ns_top_k(*known, *sizes, *found)
    if status == lib.NS_E_ROW:
        norms(rows, unit=True)  # raises the RowError that names the row and its fault
    check_status(status)
    return ids, similarities


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
        raise TypeError(f"query must be a float32 array of shape (d,), got {kind_of(query)}")
    packed = _unit(centroids, "centroids", 1)
    if len(query) != packed.d:
        raise ValueError(f"query has {len(query)} dimensions and centroids have {packed.d}")
    row = query if query.flags.c_contiguous and query.flags.aligned else np.array(query)
    out = np.empty(packed.n, np.float32)
    status = lib.ns_batch_similarity(
        active_code(),
        ffi.from_buffer("float[]", row),
        ffi.from_buffer("float[]", packed.panels),
        packed.n,
        packed.d,
        ffi.from_buffer("float[]", out),
    )
    if status == lib.NS_E_ROW:
        norms(row[None], unit=True)  # raises the RowError that names the fault
    check_status(status)
    return out


def _unit(vectors: Float32Array | PackedVectors | QuantizedVectors, name: str, threads: int) -> PackedVectors:
    if isinstance(vectors, PackedVectors):
        return require_unit_vectors(vectors)
    if isinstance(vectors, QuantizedVectors):
        return vectors.packed
    return pack(require_vectors(vectors, name), unit=True, threads=threads)
