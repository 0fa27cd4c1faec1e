"""Merges in any valid order, to SciPy's linkage matrix Z in the one canonical order.

Invariants of a Z returned from here (n leaves):

I1. Z is (n - 1, 4) float64; row t forms node n + t from two earlier nodes, the smaller number first.
I2. Heights ``Z[:, 2]`` never decrease; ``Z[:, 3]`` is the number of leaves, n in the last row.
I3. Among equal heights, rows are ordered by how many merges of that same height lie below them, then by the smallest
    leaves of the two clusters. So Z depends on the tree and its heights alone, not on the order of discovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Merges:
    """Merges of a tree over n leaves, children before parents.

    Attributes
    ----------
    first, second : ndarray of int64, shape (m,)
        Smallest leaves of the two clusters, ``first < second``; m is n - 1 for a whole tree, less for a forest.
    heights : ndarray of float64, shape (m,)
        Distance at which they join.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    heights: NDArray[np.float64]

    def below(self, cut: float | None) -> Merges:
        """Return the merges at heights up to ``cut``; all of them without one."""
        if cut is None:
            return self
        kept = self.heights <= cut
        return Merges(self.first[kept], self.second[kept], self.heights[kept])


def _settle(merges: Merges, n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return heights lifted to those of the children (rounding can leave them an ulp below), and ranks for I3."""
    latest = [-1] * n  # the last merge of the cluster named by its smallest leaf
    heights: list[float] = merges.heights.tolist()
    ranks = [0] * len(heights)
    for t, (a, b) in enumerate(zip(merges.first.tolist(), merges.second.tolist(), strict=True)):
        height, rank = heights[t], 0
        for child in (latest[a], latest[b]):
            if child >= 0 and heights[child] >= height:
                rank = max(rank, ranks[child] + 1) if heights[child] == height else ranks[child] + 1
                height = heights[child]
        heights[t], ranks[t], latest[a] = height, rank, t
    return np.array(heights), np.array(ranks, np.int64)


def linkage_matrix(merges: Merges, n: int) -> NDArray[np.float64]:
    """Return SciPy's Z of the merges, one row each, with invariants I1 to I3. O(n log n)."""
    heights, ranks = _settle(merges, n)
    order = np.lexsort((merges.second, merges.first, ranks, heights))
    node, size = list(range(n)), [1] * n
    z = np.empty((len(heights), 4))
    z[:, 2] = heights[order]
    for t, (a, b) in enumerate(zip(merges.first[order].tolist(), merges.second[order].tolist(), strict=True)):
        left, right = node[a], node[b]
        size[a] += size[b]
        node[a] = n + t
        z[t, 0], z[t, 1], z[t, 3] = min(left, right), max(left, right), size[a]
    return z
