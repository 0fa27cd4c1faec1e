"""The one order of the leaves in which every node is a range. Owns the walk over the tree, once, without recursion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.linkage.cut import smallest_leaves

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LeafOrder:
    """Leaves from left to right: of two branches, the one with the smaller leaf first; so are the trees of a forest.

    The leaves below node v are ``leaves[start[v] : start[v] + size[v]]``, the smallest of them first.

    Attributes
    ----------
    leaves : ndarray of int64, shape (n,)
    start, size : ndarray of int64, shape (n + n_merges,)
        By node.
    """

    leaves: NDArray[np.int64]
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    def below(self, node: int) -> NDArray[np.int64]:
        """Return the leaves below a node, from left to right. O(1), a view."""
        start = self.start[node]
        return self.leaves[start : start + self.size[node]]

    def label(self, tops: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the group of each leaf, groups by their smallest leaf; -1 for leaves below no top.

        O(n + k log k).

        Parameters
        ----------
        tops : ndarray of int64, shape (k,)
            The nodes that are the groups, none below another, in any order.
        """
        start = self.start[tops]
        numbers = np.empty(len(tops), np.int64)
        numbers[np.argsort(self.leaves[start])] = np.arange(len(tops))
        steps = np.zeros(len(self.leaves) + 1, np.int64)
        np.add.at(steps, start, numbers + 1)
        np.add.at(steps, start + self.size[tops], -numbers - 1)
        by_position = np.cumsum(steps[:-1]) - 1
        return by_position[self.start[: len(self.leaves)]]


def children_of(z: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the two nodes that each merge joins, shape (n_merges, 2)."""
    return z[:, :2].astype(np.int64)


def find_tops(children: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the nodes, ascending, that none of these first merges over n leaves joins: one a group."""
    is_top = np.ones(n + len(children), np.bool_)
    is_top[children.ravel()] = False
    return np.flatnonzero(is_top)


def order_leaves(z: NDArray[np.float64], n: int) -> LeafOrder:
    """Return the order of the n leaves of a tree or forest. O(n)."""
    children = children_of(z)
    smallest = smallest_leaves(z, n)
    sizes = [1] * n + z[:, 3].astype(np.int64).tolist()
    start = [0] * len(sizes)
    position = 0
    for root in sorted(find_tops(children, n).tolist(), key=smallest.__getitem__):
        start[root] = position
        position += sizes[root]
    pairs = zip(*children[::-1].T.tolist(), strict=True)
    for node, (a, b) in zip(range(len(sizes) - 1, n - 1, -1), pairs, strict=True):
        left, right = (a, b) if smallest[a] < smallest[b] else (b, a)
        start[left] = start[node]
        start[right] = start[node] + sizes[left]
    starts = np.array(start, np.int64)
    leaves = np.empty(n, np.int64)
    leaves[starts[:n]] = np.arange(n)
    return LeafOrder(leaves, starts, np.array(sizes, np.int64))
