"""A dendrogram in a few branches: the highest merges that join two large ones, and what hangs below them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.linkage.leaf_order import children_of, find_tops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.leaf_order import LeafOrder


@dataclass(frozen=True, slots=True)
class Outline:
    """Some merges of a dendrogram, and the branches that are not followed further.

    Attributes
    ----------
    joins : list of tuple of int
        Node, and the two nodes, joins or tips, that it is drawn above; from the bottom up.
    tips : ndarray of int64
        Nodes; none lies below another.
    exemplars : ndarray of int64
        Of each tip, the smallest leaf of its first merge: copies, and what all others gather around, merge first.
    """

    joins: list[tuple[int, int, int]]
    tips: NDArray[np.int64]
    exemplars: NDArray[np.int64]


def outline(z: NDArray[np.float64], order: LeafOrder, max_tips: int, min_leaves: int) -> Outline:
    """Return the highest merges of two branches of at least `min_leaves`, so many that `max_tips` branches result.

    Of a forest with more trees than that, the largest trees. Smaller branches are left out, and with them the merges
    that only add those. O(n + max_tips**2).

    Parameters
    ----------
    z : ndarray, shape (n_merges, 4)
        SciPy's linkage matrix.
    order : LeafOrder
        Of z.
    max_tips, min_leaves : int
        At least 1.
    """
    n = len(order.leaves)
    children = children_of(z)
    roots = find_tops(children, n)
    roots = roots[order.size[roots] >= min_leaves]
    roots = np.sort(roots[np.argsort(-order.size[roots], kind="stable")[:max_tips]])
    is_shown = order.label(roots)[order.leaves[order.start[n:]]] >= 0
    splits = np.flatnonzero(is_shown & (order.size[children] >= min_leaves).all(axis=1))
    splits = splits[max(0, len(splits) - (max_tips - len(roots))) :]
    joins: list[tuple[int, int, int]] = []
    tops: list[int] = []
    tips: list[int] = []

    def drawn(side: int) -> int:
        """Return the join that is drawn for a branch, or the branch itself, which is a tip then."""
        inside = [top for top in tops if 0 <= order.start[top] - order.start[side] < order.size[side]]
        for top in inside:  # one at most: what joins two splits is a split, and higher
            tops.remove(top)
            return top
        tips.append(side)
        return side

    for row, (a, b) in zip(splits.tolist(), children[splits].tolist(), strict=True):
        joins.append((n + row, drawn(a), drawn(b)))
        tops.append(n + row)
    for root in roots.tolist():
        drawn(root)
    nodes = np.array(tips, np.int64)
    return Outline(joins, nodes, _exemplars(order, nodes))


def _exemplars(order: LeafOrder, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    leaves = order.leaves[order.start[len(order.leaves) :]]  # the smallest of each merge
    below = order.label(nodes)[leaves]
    numbers, first = np.unique(below, return_index=True)
    found = order.leaves[order.start[nodes]]
    by_number = np.argsort(found)
    found[by_number[numbers[numbers >= 0]]] = leaves[first[numbers >= 0]]
    return found
