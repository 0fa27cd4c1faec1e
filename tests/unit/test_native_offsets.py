"""Sizes past 31 and 32 bits never wrap: of strides, panels, tiles, lists and indices.

Arrays are address space that takes memory only where it is written. Decay and the fan effect write every element, so
theirs would take gigabytes: no test here.
"""

from __future__ import annotations

import mmap
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import native_simd
from native_simd.isa import active_code, ffi, lib
from native_simd.ranking import ranked

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

MAP_NORESERVE = 0x4000  # address space without memory behind it; Python 3.10 does not name it
ROWS = native_simd.TILE_ROWS


def sparse(*shape: int, dtype: DTypeLike = np.float32, huge: bool = False) -> NDArray[Any]:
    """Return zeros that take memory only where they are written; in huge pages, which are quick to read."""
    n_elements = int(np.prod(shape, dtype=object))
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    memory = mmap.mmap(-1, np.dtype(dtype).itemsize * n_elements, flags=flags)
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


def after_zeros(last: native_simd.PackedVectors, n: int) -> native_simd.PackedVectors:
    """Return n vectors, all zero but the last ones; these begin at a panel."""
    panels = sparse(-(-n // 16) * 16 * last.d, huge=True)
    panels[-last.panels.size :] = last.panels
    return native_simd.PackedVectors(panels, sparse(n, dtype=np.float64), n, last.d, unit=True)


def test_offsets_past_32_bits_reach_the_right_rows() -> None:
    n, stride = 40, 2**27 + 8  # the last row starts at element 5.2e9
    frame = sparse(n, stride)
    x = np.random.default_rng(1).standard_normal((n, 5)).astype(np.float32)
    frame[:, 100:105] = x
    packed = native_simd.pack(frame[:, 100:105])
    expected = native_simd.similarity(x, x, "dot")

    native_simd.pairwise(packed, packed, metric="dot", out=frame[:, :n], mirror=frame[:, 200 : 200 + n])
    np.testing.assert_array_equal(frame[:, :n], expected)
    np.testing.assert_array_equal(frame[:, 200 : 200 + n], expected)
    native_simd.pairwise_symmetric(packed, metric="dot", out=frame[:, 400 : 400 + n])
    np.testing.assert_array_equal(frame[:, 400 : 400 + n], expected)

    merges = native_simd.NearestNeighbourChain(frame[:, 400 : 400 + n], "complete", np.ones(n)).advance(n)
    again = native_simd.NearestNeighbourChain(expected, "complete", np.ones(n)).advance(n)
    for got, wanted in zip(merges, again, strict=True):
        np.testing.assert_array_equal(got, wanted)


def tile_position(tile: int, n_columns: int) -> tuple[int, int]:
    """Return row and column of a tile of the upper triangle, in integers."""
    from_end = n_columns * (n_columns + 1) // 2 - 1 - tile
    rows_below = (isqrt(8 * from_end + 1) - 1) // 2
    return n_columns - 1 - rows_below, n_columns - 1 - (from_end - rows_below * (rows_below + 1) // 2)


def test_tiles_of_a_million_rows_land_in_place() -> None:
    n = 10**6 + 7
    x = np.random.default_rng(2).standard_normal((n, 1)).astype(np.float32)
    packed, out = native_simd.pack(x), sparse(n, n)
    n_tiles, n_columns = native_simd.count_tiles(n), -(-n // ROWS)
    assert n_tiles == n_columns * (n_columns + 1) // 2
    for tile in (0, 1, n_columns - 1, n_columns, n_tiles // 3, n_tiles // 2, n_tiles - 4, n_tiles - 2, n_tiles - 1):
        native_simd.pairwise_symmetric(packed, metric="dot", out=out, tiles=(tile, tile + 1))
        row, column = tile_position(tile, n_columns)
        i, j = (slice(k * ROWS, min(n, (k + 1) * ROWS)) for k in (row, column))
        np.testing.assert_array_equal(out[i, j], x[i] * x[j].T)
        np.testing.assert_array_equal(out[j, i], x[j] * x[i].T)


def test_panels_past_32_bits_are_read_where_they_are() -> None:
    n, d = 10**6 + 7, 4_400  # 4.4e9 elements
    first = (n - 1) // ROWS * ROWS
    x = np.random.default_rng(3).integers(-3, 4, (n - first, d)).astype(np.float32)
    packed, out = after_zeros(native_simd.pack(x), n), sparse(n, n)
    native_simd.pairwise_symmetric(
        packed, metric="dot", out=out, tiles=(native_simd.count_tiles(n) - 1, native_simd.count_tiles(n))
    )
    np.testing.assert_array_equal(out[first:, first:], x @ x.T)


def test_queries_past_32_bits_find_vectors_past_31() -> None:
    n, d, k = 2**20 + 16, 2_050, 3  # 2.15e9 elements
    x = np.random.default_rng(4).standard_normal((16, d)).astype(np.float32)
    packed = after_zeros(native_simd.pack(x, unit=True), n)
    queries = sparse(3, 2**31 + 8)[:, 5 : 5 + d]  # the last begins at element 4.3e9
    queries[...] = x[[2, 7, 11]]
    expected = native_simd.top_k(x[[2, 7, 11]], x, k)[0] + n - 16
    np.testing.assert_array_equal(native_simd.top_k(queries, packed, k, threads=2)[0], expected)
    cosines = native_simd.batch_similarity(queries[2], packed)
    assert not cosines[:-16].any()
    np.testing.assert_array_equal(cosines[-16:], native_simd.similarity(queries[2:], x)[0])


def test_lists_and_indices_past_31_bits() -> None:
    n = 2**31 + 2 * ROWS + 1
    first = (n - 1) // ROWS * ROWS - ROWS  # of the last two blocks; three tiles pair them
    x = np.random.default_rng(5).standard_normal((n - first, 1)).astype(np.float32)
    packed, lists = after_zeros(native_simd.pack(x), n), sparse(n, 3, dtype=np.uint64)
    panels, places = ffi.from_buffer("float[]", packed.panels), ffi.from_buffer("uint64_t[]", lists)
    block = ffi.new("ns_ranked_block *", {"panels": panels, "n": n, "lists": places})
    tile = native_simd.count_tiles(n) - 3
    assert lib.ns_neighbours(active_code(), lib.NS_SQEUCLIDEAN, block, ffi.NULL, 1, tile, 3, 3, 2) == lib.NS_OK
    expected = native_simd.neighbours(native_simd.pack(x), 2, "sqeuclidean")
    ids, similarities, bound = ranked(lists[first:], 2)
    np.testing.assert_array_equal(ids, expected.ids + first)
    np.testing.assert_array_equal(similarities, expected.similarities)
    np.testing.assert_array_equal(bound, expected.bound)
    assert not lists[first - ROWS : first].any()


def test_ranked_reads_lists_past_32_bits() -> None:
    width = 2**31 + 3
    lists = sparse(3, width, dtype=np.uint64)
    lists[:, :2] = np.array([0x80000001, 0x80000000], np.uint64) << np.uint64(32) | np.arange(
        6, dtype=np.uint64
    ).reshape(3, 2)
    ids, similarities, bound = ranked(lists, 2)
    np.testing.assert_array_equal(ids, 2**32 - 1 - np.arange(6).reshape(3, 2))
    np.testing.assert_array_equal(similarities, np.array([[1e-45, 0]] * 3, np.float32))
    assert np.isneginf(bound).all()


def test_more_vectors_than_indices_are_refused() -> None:
    n = 2**32
    packed = native_simd.PackedVectors(sparse(n), sparse(n, dtype=np.float64), n, 1, unit=True)
    for call in (
        lambda: native_simd.NeighbourPass(packed, 1),
        lambda: native_simd.top_k(np.ones((1, 1), np.float32), packed, 1),
    ):
        with pytest.raises(ValueError, match="at most 2\\*\\*32 - 1 vectors can be ranked, got 4294967296"):
            call()
