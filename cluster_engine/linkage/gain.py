"""The default cut: where binding episodes into groups gains most over chance.

Measured against a dozen rules on texts, words, images, mixtures and noise in ``docs/cut-rules.md``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.linkage.cut import Cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Criterion

MIN_DISTINCT = 3
"""Distinct vectors that a group needs to count."""
FLOOR = 0.3
"""How far from unrelated to identical two parts must be to be joined. Chosen on the data of ``docs/cut-rules.md``."""
COPY_SIMILARITY = 1 - 1e-6
"""Vectors closer than this are copies: the similarity of float32 embeddings is not known better."""


def choose_cut(z: NDArray[np.float64], cross: NDArray[np.float64]) -> Cut:
    """Cut where ``sum(m ln(m) (s - mu)**2)`` over the groups is largest. O(n).

    A group has m >= 3 distinct vectors and mean pair similarity s above mu, the mean of all pairs (copies weigh in both
    as they do in the linkage, but do not make a group). Only cuts whose last merge joins parts of mean similarity at
    least ``mu + 0.3 (1 - mu)`` are considered; if none has a positive gain, only copies join. Of equal gains the lowest
    cut wins; merges of equal distance are done together.

    Parameters
    ----------
    z : ndarray, shape (n - 1, 4)
        SciPy's linkage matrix.
    cross : ndarray, shape (n - 1,)
        Mean cosine similarity between the two parts of each merge; see :func:`cross_similarities`.
    """
    if len(z) == 0:
        return Cut(0.0, 0)
    gains, mu = _gains(z, cross)
    floor = mu + FLOOR * (1 - mu)
    apart = np.flatnonzero(cross < COPY_SIMILARITY)
    best, n_merges = 0.0, int(apart[0]) if len(apart) else len(z)
    for t, gain in enumerate(gains):
        is_level = t + 1 == len(z) or z[t + 1, 2] > z[t, 2]
        if is_level and cross[t] >= floor and gain > best * (1 + 1e-12):
            best, n_merges = gain, t + 1
    return Cut(float(z[n_merges - 1, 2]) if n_merges else 0.0, n_merges)


def _gains(z: NDArray[np.float64], cross: NDArray[np.float64]) -> tuple[list[float], float]:
    """Return the total gain after each merge, and the mean similarity of all pairs of distinct vectors."""
    n = len(z) + 1
    children = z[:, :2].astype(np.int64).tolist()
    distinct, inside = [1] * n, [0.0] * n
    for (a, b), similarity in zip(children, cross.tolist(), strict=True):
        if similarity >= COPY_SIMILARITY:
            distinct.append(max(distinct[a], distinct[b]))
            inside.append(max(inside[a], inside[b]))
        else:
            distinct.append(distinct[a] + distinct[b])
            inside.append(inside[a] + inside[b] + distinct[a] * distinct[b] * similarity)
    mu = inside[-1] / _n_pairs(distinct[-1]) if distinct[-1] > 1 else 1.0
    gain = [_gain(m, total, mu) for m, total in zip(distinct, inside, strict=True)]
    running, gains = 0.0, []
    for t, (a, b) in enumerate(children):
        running += gain[n + t] - gain[a] - gain[b]
        gains.append(running)
    return gains, mu


def _gain(m: int, inside: float, mu: float) -> float:
    if m < MIN_DISTINCT:
        return 0.0
    excess = max(0.0, inside / _n_pairs(m) - mu)
    return m * math.log(m) * excess * excess  # math.log: NumPy's differs in the last bit between instruction sets


def _n_pairs(m: int) -> int:
    return m * (m - 1) // 2


def cross_similarities(
    z: NDArray[np.float64],
    criterion: Criterion,
    vectors: NDArray[np.float32],
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the mean cosine similarity between the two parts of each merge.

    Average linkage under cosine has them as its heights; other trees need the sums of their vectors: O(n d), in
    O(n + d log n) memory.

    Parameters
    ----------
    z : ndarray, shape (n - 1, 4)
        A whole tree.
    vectors : ndarray of float32, shape (n, d)
        Not zero.
    weights : ndarray of float64, shape (n,), optional
        Of the vectors in the means, as in the linkage; default, 1 each.
    """
    if (criterion.method, criterion.metric) == ("average", "cosine"):
        return 1.0 - z[:, 2]
    n = len(vectors)
    norms = native_simd.norms(vectors, unit=True)
    totals = np.concatenate((np.ones(n) if weights is None else weights, np.zeros(len(z))))
    sums: dict[int, NDArray[np.float64]] = {}

    def take(node: int) -> NDArray[np.float64]:
        if node >= n:
            return sums.pop(node)
        unit: NDArray[np.float64] = vectors[node].astype(np.float64) / norms[node]
        return unit if weights is None else unit * weights[node]

    cross = np.empty(len(z))
    for t in _depth_first(z):
        a, b = (int(node) for node in z[t, :2])
        left, right = take(a), take(b)
        cross[t] = math.fsum((left * right).tolist()) / (totals[a] * totals[b])
        sums[n + t] = left + right
        totals[n + t] = totals[a] + totals[b]
    return cross


def _depth_first(z: NDArray[np.float64]) -> list[int]:
    """Return the merges in an order that finishes the larger of two branches first: few are open at a time, log2(n)."""
    n = len(z) + 1
    order, open_merges = [], list(range(len(z)))[-1:]
    while open_merges:
        t = open_merges.pop()
        order.append(t)
        branches = [int(node) - n for node in z[t, :2] if node >= n]
        open_merges += sorted(branches, key=lambda branch: -z[branch, 3])
    return order[::-1]
