"""A division of unit vectors into cells, and how many vectors a search must compare to find the nearest.

Owns the choice of cells: spherical k-means, of which none is much larger than the others. Refuses to know concepts. The
same vectors in the same order give the same cells on every machine: similarities have the same bits everywhere, and
means are float64 sums in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import native_simd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Int64Array = NDArray[np.int64]

_SAMPLE_PER_CELL, _ROUNDS, _SPLIT_ROUNDS = 64, 6, 3  # chosen: more changed no recall of benchmarks/search.py
_MOST_SHARE = 1.5  # of the mean size: a larger cell is halved, or the slowest searches would be those that meet it
_NO_DIRECTION = 1e-6  # of a mean of unit vectors that cancel
_N_SAMPLED, _N_NEAREST = 256, 10
_SEED = 1


@dataclass(frozen=True, slots=True)
class Partition:
    """Cells of vectors.

    Attributes
    ----------
    cell_of : ndarray of int64, shape (n,)
    centres : ndarray of float32, shape (c, d)
        Of any length; each has vectors.
    """

    cell_of: Int64Array
    centres: Float32Array


def whole(vectors: Float32Array) -> Partition:
    """Return one cell of all vectors."""
    return Partition(np.zeros(len(vectors), np.int64), np.ascontiguousarray(vectors[:1]))


def partition(vectors: Float32Array, n_cells: int, threads: int = 1) -> Partition:
    """Return cells of near vectors.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        Of unit length, at least one.
    n_cells : int
        From 1 to n; there will be more where cells are halved, and fewer where vectors are equal.
    threads : int
        At least 1; changes no cell.

    Notes
    -----
    O(n n_cells d) time. Lloyd's algorithm under cosine (Dhillon and Modha 2001) on a sample, then all vectors go to the
    nearest centre, and cells of more than 1.5 times the mean are halved by the same algorithm.
    """
    n = len(vectors)
    rng = np.random.Generator(np.random.Philox(_SEED))
    sample = vectors[np.sort(rng.choice(n, min(n, _SAMPLE_PER_CELL * n_cells), replace=False))]
    centres = sample[np.sort(rng.choice(len(sample), n_cells, replace=False))]
    for _ in range(_ROUNDS):
        centres = _means(sample, _nearest(sample, centres, threads), centres)
    cell_of = _nearest(vectors, centres, threads)
    return _with_even_cells(vectors, cell_of, centres, max(native_simd.LANES, int(_MOST_SHARE * n / n_cells)))


def rows_to_compare(vectors: Float32Array, cells: Partition, recall: float, threads: int = 1) -> int:
    """Return how many vectors to compare at least, so that a share ``recall`` of the 10 nearest is among them.

    Measured on 256 of the vectors as queries, with the nearest others of each, and the cells in the order of their
    centres.
    """
    n = len(vectors)
    rng = np.random.Generator(np.random.Philox(_SEED))
    rows = np.sort(rng.choice(n, min(n, _N_SAMPLED), replace=False))
    queries = np.ascontiguousarray(vectors[rows])
    packed = native_simd.pack(vectors, unit=True, threads=threads)
    nearest = native_simd.top_k(queries, packed, _N_NEAREST + 1, threads)[0]
    others = nearest != rows[:, None]
    order = native_simd.top_k(queries, cells.centres, len(cells.centres), threads)[0]
    sizes = np.bincount(cells.cell_of, minlength=len(cells.centres))[order]
    before = np.empty_like(order)  # vectors in the cells that are nearer, by cell
    np.put_along_axis(before, order, np.cumsum(sizes, axis=1) - sizes, axis=1)
    needed = np.sort(np.take_along_axis(before, cells.cell_of[nearest], axis=1)[others])
    return int(needed[math.ceil(recall * len(needed)) - 1]) + 1 if len(needed) else 1


def _nearest(vectors: Float32Array, centres: Float32Array, threads: int) -> Int64Array:
    return np.ascontiguousarray(native_simd.top_k(vectors, centres, 1, threads)[0][:, 0])


def _means(vectors: Float32Array, cell_of: Int64Array, centres: Float32Array) -> Float32Array:
    """Return the means; of a cell without vectors or direction, the centre that it had."""
    order = np.argsort(cell_of, kind="stable")
    cells, first = np.unique(cell_of[order], return_index=True)
    sums = np.add.reduceat(vectors[order], first, axis=0, dtype=np.float64)
    sizes = np.bincount(cell_of, minlength=len(centres))[cells]
    has_direction = np.abs(sums).max(axis=1) > _NO_DIRECTION * sizes
    means = centres.copy()
    means[cells[has_direction]] = (sums / sizes[:, None])[has_direction]
    return means


def _with_even_cells(vectors: Float32Array, cell_of: Int64Array, centres: Float32Array, most: int) -> Partition:
    """Return the cells, each of which has from 1 to ``most`` vectors: larger ones are halved until they have."""
    members = [np.flatnonzero(cell_of == cell) for cell in range(len(centres))]
    kept: list[tuple[Int64Array, Float32Array]] = []
    pending = [(rows, centre) for rows, centre in zip(members, centres, strict=True) if len(rows)]
    while pending:
        rows, centre = pending.pop()
        if len(rows) <= most:
            kept.append((rows, centre))
        else:
            pending += _halves(vectors, rows)
    kept.sort(key=lambda cell: int(cell[0][0]))  # by their first vectors
    even = np.empty(len(vectors), np.int64)
    for cell, (rows, _) in enumerate(kept):
        even[rows] = cell
    return Partition(even, np.array([centre for _, centre in kept], np.float32))


def _halves(vectors: Float32Array, rows: Int64Array) -> list[tuple[Int64Array, Float32Array]]:
    """Return two cells of these rows, around two that are far apart; copies of one vector are halved in order."""
    mine = vectors[rows]
    one = _farthest(mine, mine[:1])
    centres = np.stack([one, _farthest(mine, one[None])])
    side = _nearest(mine, centres, 1)
    for _ in range(_SPLIT_ROUNDS):
        centres = _means(mine, side, centres)
        side = _nearest(mine, centres, 1)
    if side.all() or not side.any():
        side = (np.arange(len(rows)) >= len(rows) // 2).astype(np.int64)
        centres = _means(mine, side, centres)
    return [(rows[side == half], centres[half]) for half in (0, 1)]


def _farthest(vectors: Float32Array, one: Float32Array) -> Float32Array:
    similarities = native_simd.batch_similarity(one[0], vectors)
    return np.asarray(vectors[int(np.argmin(similarities))])
