"""Groups at different heights of one dendrogram: the branches with the most excess of mass, as HDBSCAN chooses them.

Campello, Moulavi, Sander 2013 (doi:10.1007/978-3-642-37456-2_14); the hierarchy is condensed as in McInnes, Healy 2017
(arXiv:1705.07321). They measure mass over ``lambda = 1 / height``; here it is ``lambda = -height``, which is defined
for heights of 0 (copies) and below (inner products), and does not let a few near copies outweigh everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.linkage.leaf_order import children_of, find_tops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.leaf_order import LeafOrder


def stable_branches(z: NDArray[np.float64], order: LeafOrder, min_leaves: int) -> NDArray[np.int64]:
    """Return the nodes, from left to right, that are the most stable branches; none lies below another. O(n log n).

    A merge of two branches of at least `min_leaves` is a split: both are born at its height. Any other merge only lets
    leaves leave a branch, at its height. A branch's stability is the sum over its leaves of the height of its birth
    minus the height at which the leaf leaves it or it is split. A branch is chosen if it is at least as stable as the
    chosen ones below it together. What no split bore, the trunk, is never chosen; the trees of a forest count as split
    at the height of the last merge.

    Parameters
    ----------
    z : ndarray, shape (n_merges, 4)
        SciPy's linkage matrix, monotone.
    order : LeafOrder
        Of z.
    min_leaves : int
        At least 2.
    """
    candidates = np.array(_candidates(z, order.size, min_leaves), np.int64)
    start, size = order.start[candidates], order.size[candidates]
    outermost_first = np.lexsort((-size, start))
    stop = np.maximum.accumulate((start + size)[outermost_first])
    is_outermost = start[outermost_first] >= np.concatenate(([0], stop[:-1]))[: len(stop)]
    return candidates[outermost_first[is_outermost]]


def _candidates(z: NDArray[np.float64], size: NDArray[np.int64], min_leaves: int) -> list[int]:
    """Return the branches that are at least as stable as the best choice below them."""
    n = len(size) - len(z)
    sizes: list[int] = size.tolist()
    height: list[float] = [0.0] * n + z[:, 2].tolist()
    # Of the branch that reaches up to a node: the stability it would have if it were born there, and the most that
    # branches further down reach together.
    own, below = [0.0] * len(sizes), [0.0] * len(sizes)
    candidates = []

    def bear(node: int, birth: float) -> float:
        stability = own[node] + sizes[node] * (birth - height[node])
        if stability < below[node]:
            return below[node]
        candidates.append(node)
        return stability

    large = np.flatnonzero(size[n:] >= min_leaves)
    for node, (a, b) in zip((n + large).tolist(), children_of(z[large]).tolist(), strict=True):
        if sizes[a] >= min_leaves and sizes[b] >= min_leaves:
            below[node] = bear(a, height[node]) + bear(b, height[node])
        elif sizes[a] >= min_leaves or sizes[b] >= min_leaves:
            rest = a if sizes[a] >= min_leaves else b
            own[node] = own[rest] + sizes[rest] * (height[node] - height[rest])
            below[node] = below[rest]
    trees = [root for root in find_tops(children_of(z), n).tolist() if sizes[root] >= min_leaves]
    if len(trees) > 1:
        for root in trees:
            bear(root, height[-1])
    return candidates
