"""Where two leaves of a dendrogram join."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.linkage.leaf_order import children_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.leaf_order import LeafOrder


def joining_merges(
    z: NDArray[np.float64], order: LeafOrder, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return, for each pair of leaves, the row of z that joins them; ``len(z)`` if none does.

    O((n + m) log n) for m pairs, O(n + m) memory: every merge stands between two neighbours of the leaf order, and the
    last of those between two leaves joins them (a range maximum, over spans of doubled width).

    Parameters
    ----------
    first, second : ndarray of int64, shape (m,)
        Two different leaves each.
    """
    between = np.full(len(order.leaves), len(z), np.int64)  # before each position, the row that joins it to its left
    between[order.start[children_of(z)].max(axis=1)] = np.arange(len(z))
    positions = np.sort(order.start[np.stack((first, second))], axis=0)
    left, right = positions[0] + 1, positions[1] + 1
    level = np.frexp(right - left)[1] - 1  # of the widest span that fits: 2**level
    rows = np.empty(len(left), np.int64)
    by_level = np.argsort(level, kind="stable")
    bounds = np.searchsorted(level[by_level], np.arange(level.max(initial=-1) + 2))
    for k, pairs in enumerate(np.split(by_level, bounds[1:-1])):
        rows[pairs] = np.maximum(between[left[pairs]], between[right[pairs] - (1 << k)])
        between = np.maximum(between[: -(1 << k)], between[1 << k :])
    return rows
