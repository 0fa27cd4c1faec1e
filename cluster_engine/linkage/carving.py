"""Near candidates of every point without the pass over all pairs: exact neighbours within small random balls.

Owns how points are carved into balls (random pivots, each point to the nearest, again within what is too large) and
how often. Refuses to know what the candidates are for. No graph index is built: within a ball everything is the tile
kernel, and the same bytes come out for any number of threads and any instruction set.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.linkage.lists import N_NEIGHBOURS
from cluster_engine.progress import Phase, Reporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.duplicates import Points

BALL_ROWS = 2_048
"""Of 106,057 sentence embeddings, 16 carvings into balls of 512, 1,024, 2,048 or 4,096 find 0.953, 0.972, 0.982 or
0.989 of the nearest 32, in CPU times as 0.9 to 1 to 1 to 1.3."""
_LEAST_ROWS = 64  # more than a list holds, so that every list is full and its last place says how far it reaches
_PIVOTS = 256
_STUCK = 0.9  # a part with more than this share of the whole: pivots do not tell these points apart
_BLOCK_ROWS = 4_096
_MOVED_ROWS = 16_384


def candidate_lists(
    points: Points,
    kernel: native_simd.Metric,
    n_repetitions: int,
    seed: int,
    *,
    threads: int,
    reporter: Reporter | None = None,
) -> NDArray[np.uint64]:
    """Return ranked lists of near points: the best that any of the carvings brought into one ball.

    O(r n (b + p) d) for r repetitions, balls of b and p pivots; O(n k) memory. Points of at most one ball get the lists
    of the pass over all pairs.

    Parameters
    ----------
    points : Points
    kernel : {"cosine", "dot"}
        Ranks the candidates; balls are always by direction.
    n_repetitions, seed : int
        Carvings, at least 1, and what their pivots are drawn with.
    threads : int
    """
    rng, n = np.random.default_rng(seed), len(points)
    lists, order = native_simd.empty_lists(n, N_NEIGHBOURS + 1), np.arange(n)
    phase = Phase("neighbours", n * n_repetitions, reporter)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(n_repetitions):
            balls = carve(points, rng.permutation(n), threads)
            carved = np.concatenate(balls)
            lists, order = _reordered(lists, order, carved, pool), carved
            starts = np.cumsum([0, *map(len, balls[:-1])])
            offer = partial(_offer, points.vectors, kernel)
            for n_done in pool.map(offer, balls, starts.tolist(), np.split(lists, starts[1:])):
                phase.advance(n_done)
        return _reordered(lists, order, np.arange(n), pool)


def carve(points: Points, priority: NDArray[np.int64], threads: int) -> list[NDArray[np.int64]]:
    """Return the points in balls of at most `BALL_ROWS`, each an ascending array of rows; every point is in one.

    Parameters
    ----------
    points : Points
    priority : ndarray of int64, shape (n,)
        Of the points of a part, those with the least are its pivots.
    threads : int
    """
    balls, parts = [], [np.arange(len(points))]
    while parts:
        rows = parts.pop()
        if len(rows) <= BALL_ROWS:
            balls.append(rows)
            continue
        divided = _pooled(_around_pivots(points, rows, priority, threads))
        if max(map(len, divided)) > _STUCK * len(rows):
            shuffled = rows[np.argsort(priority[rows])]
            divided = [np.sort(part) for part in np.array_split(shuffled, -(-len(rows) // BALL_ROWS))]
        parts += divided
    return balls


def _around_pivots(
    points: Points, rows: NDArray[np.int64], priority: NDArray[np.int64], threads: int
) -> list[NDArray[np.int64]]:
    """Return the parts of rows of one nearest pivot each, by direction; a zero vector has none, and is no pivot."""
    directed = rows[points.norms[rows] > 0]
    pivots = directed[np.argsort(priority[directed])][: min(_PIVOTS, -(-2 * len(rows) // BALL_ROWS))]
    if not len(pivots):
        return [rows]
    packed, nearest = native_simd.pack(points.vectors[pivots], unit=True), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = native_simd.pack(points.vectors[rows[start : start + _BLOCK_ROWS]], threads=threads)
        values = np.empty((block.n, packed.n), np.float32)
        native_simd.pairwise(block, packed, metric="dot", out=values, threads=threads)
        nearest[start : start + block.n] = values.argmax(axis=1)
    order = np.argsort(nearest, kind="stable")
    bounds = np.searchsorted(nearest[order], np.arange(1, len(pivots)))
    return np.split(rows[order], bounds)


def _pooled(parts: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Join each part that is too small with the next; at the end, with the one before."""
    pooled: list[NDArray[np.int64]] = []
    held = parts[0][:0]
    for part in parts:
        held = np.concatenate((held, part))
        if len(held) >= _LEAST_ROWS:
            pooled.append(np.sort(held))
            held = part[:0]
    pooled[-1] = np.sort(np.concatenate((pooled[-1], held)))
    return pooled


def _offer(
    vectors: NDArray[np.float32],
    kernel: native_simd.Metric,
    rows: NDArray[np.int64],
    first: int,
    lists: NDArray[np.uint64],
) -> int:
    """Offer the points of a ball, numbered from `first`, to each other's lists; returns how many.

    What the lists hold takes part: little but what is nearer is ranked.
    """
    packed = native_simd.pack(vectors[rows], unit=kernel == "cosine")
    ball = native_simd.RankedBlock(packed, first, lists)
    native_simd.rank_blocks(ball, ball, kernel)
    return len(rows)


def _reordered(
    lists: NDArray[np.uint64], order: NDArray[np.int64], wanted: NDArray[np.int64], pool: ThreadPoolExecutor
) -> NDArray[np.uint64]:
    """Return lists of the points in one order, which numbers them, as those of the points in another."""
    rows, numbers = np.argsort(order)[wanted], np.argsort(wanted)[order]
    reordered = np.empty_like(lists)

    def move(start: int) -> None:
        block = slice(start, start + _MOVED_ROWS)
        moved = native_simd.renumber(lists[rows[block]], numbers)
        moved.sort(axis=1)  # candidates equally near are in another order
        reordered[block] = moved[:, ::-1]

    list(pool.map(move, range(0, len(lists), _MOVED_ROWS)))
    return reordered
