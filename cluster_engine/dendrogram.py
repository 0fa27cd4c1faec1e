"""`Dendrogram`: a tree of merges, or a forest, as one frozen value, and what can be asked of it.

Owns the checking of a Z from anywhere. Refuses to know how merges were found.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster_engine.errors import InputError
from cluster_engine.linkage.cut import cut_at
from cluster_engine.linkage.leaf_order import LeafOrder, children_of, find_tops, order_leaves

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Dendrogram:
    """Merges over n leaves, in SciPy's layout: leaves are nodes 0 to n - 1, row t of Z forms node n + t.

    Fewer than n - 1 merges make a forest, as linkage that stops at a height does; each node that is never joined is
    the root of a tree. A cut above the height where such a linkage stopped gives its trees.

    Invariants, checked when it is made:

    I1. Z has fewer rows than there are leaves; row t joins two different earlier nodes, numbered below n + t.
    I2. No node is joined twice.
    I3. Heights ``Z[:, 2]`` are finite and never decrease: the tree is monotone. They may be negative.
    I4. ``Z[:, 3]`` is the number of leaves below the node.
    I5. There are n ids, all integers or all strings, no two equal.

    Parameters
    ----------
    Z : array_like, shape (n_merges, 4)
        Copied. From :func:`cluster_engine.linkage`, :func:`scipy.cluster.hierarchy.linkage` or elsewhere.
    ids : array_like of integers or strings, shape (n,), optional
        Of the leaves; by default their numbers.
    n : int, optional
        Number of leaves; by default ``len(Z) + 1``, one tree.

    Attributes
    ----------
    Z : ndarray of float64, shape (n_merges, 4)
        Read-only; SciPy's functions take it where it is one tree.
    ids : ndarray of int64 or of str objects, shape (n,)
        Read-only.

    Raises
    ------
    InputError
        An invariant does not hold; names it and the row.
    """

    Z: NDArray[np.float64]
    ids: NDArray[Any]

    def __init__(self, Z: ArrayLike, ids: ArrayLike | None = None, *, n: int | None = None) -> None:
        z = _as_rows(Z)
        n_leaves = len(z) + 1 if n is None else operator.index(n)
        _check_merges(z, n_leaves)
        names = np.arange(n_leaves) if ids is None else _as_ids(ids, n_leaves)
        for array in (z, names):
            array.flags.writeable = False
        object.__setattr__(self, "Z", z)
        object.__setattr__(self, "ids", names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dendrogram):
            return NotImplemented
        return np.array_equal(self.Z, other.Z) and np.array_equal(self.ids, other.ids)

    def __hash__(self) -> int:
        return hash((self.n, self.n_trees))

    def __repr__(self) -> str:
        return f"Dendrogram(n={self.n}, n_trees={self.n_trees})"

    @property
    def n(self) -> int:
        """Number of leaves."""
        return len(self.ids)

    @property
    def n_trees(self) -> int:
        """Number of trees: 1, or more for a forest."""
        return self.n - len(self.Z)

    @cached_property
    def _order(self) -> LeafOrder:
        return order_leaves(self.Z, self.n)

    def cut_height(self, height: float) -> NDArray[np.int64]:
        """Return the groups that merges at or below a height make. O(n log n).

        Parameters
        ----------
        height : float
            Not NaN.

        Returns
        -------
        ndarray of int64, shape (n,)
            Number of the group of each leaf, from 0, groups by their smallest leaf.
        """
        if math.isnan(height):
            raise ValueError("height must be a number, got NaN")
        return self._label_merged(cut_at(self.Z, height).n_merges)

    def cut_count(self, n_clusters: int) -> NDArray[np.int64]:
        """Return a number of groups: those after the first ``n - n_clusters`` merges. O(n log n).

        Where the next merge is as high as the last, the order of the rows of Z decides.

        Parameters
        ----------
        n_clusters : int
            From `n_trees` to n.

        Returns
        -------
        ndarray of int64, shape (n,)
            Number of the group of each leaf, from 0, groups by their smallest leaf.
        """
        if not self.n_trees <= n_clusters <= self.n:
            raise ValueError(f"n_clusters must be from {self.n_trees} to {self.n}, got {n_clusters}")
        return self._label_merged(self.n - operator.index(n_clusters))

    def _label_merged(self, n_merges: int) -> NDArray[np.int64]:
        return self._order.label(find_tops(children_of(self.Z[:n_merges]), self.n))

    def leaf_order(self) -> NDArray[np.int64]:
        """Return the leaves from left to right: the branch, and the tree, with the smaller leaf first. O(n).

        Every node's leaves lie side by side, the smallest first.
        """
        return self._order.leaves.copy()

    def leaves(self, node: int) -> NDArray[np.int64]:
        """Return the leaves below a node, ascending; of a leaf, itself. O(m log m) for m leaves."""
        return np.sort(self._order.below(self._check_node(node)))

    def subtree(self, node: int) -> Dendrogram:
        """Return the branch of a node, of one leaf or more, with the ids of its leaves. O(n).

        Leaves and merges keep their order and are numbered anew: leaf i is ``leaves(node)[i]``.
        """
        leaves = self.leaves(node)
        order, first = self._order, self._order.start[node]
        is_inside = (order.start >= first) & (order.start < first + len(leaves)) & (order.size <= len(leaves))
        renumbered = np.cumsum(is_inside) - 1
        rows = self.Z[is_inside[self.n :]]
        rows[:, :2] = renumbered[children_of(rows)]
        return Dendrogram(rows, self.ids[leaves])

    def _check_node(self, node: int) -> int:
        n_nodes = self.n + len(self.Z)
        if not 0 <= node < n_nodes:
            raise ValueError(f"node must be from 0 to {n_nodes - 1}, got {node}")
        return operator.index(node)


def _as_rows(Z: ArrayLike) -> NDArray[np.float64]:
    z = np.asarray(Z)
    if z.dtype.kind not in "fiu" or z.ndim != 2 or z.shape[1] != 4:
        raise InputError(f"Z is an array of real numbers of shape (n_merges, 4), got {z.dtype} of shape {z.shape}")
    return np.array(z, np.float64, order="C")


def _check_merges(z: NDArray[np.float64], n: int) -> None:
    """Refuse rows against I1 to I4."""
    if len(z) >= n:
        raise InputError(f"I1: Z has {len(z)} rows; {n} leaves have at most {n - 1} merges")
    a, b = z[:, 0], z[:, 1]
    is_earlier = (np.minimum(a, b) >= 0) & (np.maximum(a, b) < n + np.arange(len(z)))
    is_wrong = ~is_earlier | (np.floor(a) != a) | (np.floor(b) != b) | (a == b)
    _refuse(is_wrong, z, "I1: joins two different nodes numbered below n + t")
    joined = children_of(z).ravel()
    is_again = np.ones(len(joined), np.bool_)
    is_again[np.unique(joined, return_index=True)[1]] = False
    _refuse(is_again[::2] | is_again[1::2], z, "I2: joins no node that an earlier row joined")
    heights = z[:, 2]
    _refuse(~np.isfinite(heights), z, "I3: has a finite height")
    _refuse(np.diff(heights, prepend=heights[:1]) < 0, z, "I3: is not below the row before")
    sizes = np.concatenate((np.ones(n), z[:, 3]))
    _refuse(z[:, 3] != sizes[children_of(z)].sum(axis=1), z, "I4: counts the leaves below its two nodes")


def _refuse(is_bad: NDArray[np.bool_], z: NDArray[np.float64], want: str) -> None:
    if is_bad.any():
        row = int(np.flatnonzero(is_bad)[0])
        invariant, rule = want.split(": ")
        raise InputError(f"{invariant}: row t of Z {rule}; row {row} is {z[row].tolist()}")


def _as_ids(ids: ArrayLike, n: int) -> NDArray[Any]:
    """Return ids as I5 has them."""
    values = np.array(ids, object)
    if values.shape != (n,):
        raise InputError(f"I5: want {n} ids, one a leaf, got shape {values.shape}; a forest needs its n as well")
    is_text = all(isinstance(value, str) for value in values)
    if not is_text and not all(_is_int64(value) for value in values):
        raise InputError("I5: ids are all strings, or all integers of 64 bits")
    first = {value: n - 1 - k for k, value in enumerate(reversed(values))}
    if len(first) < n:
        leaf = next(leaf for leaf, value in enumerate(values) if first[value] < leaf)
        raise InputError(f"I5: ids differ; leaf {leaf} has the id {values[leaf]!r} of an earlier one")
    return values if is_text else values.astype(np.int64)


def _is_int64(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and bool(-(2**63) <= value < 2**63)
