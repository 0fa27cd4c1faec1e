"""How far the merges of a tree are from the best that there were: measured, on some of its merges.

Knows a tree over points and their vectors, not how the tree was found: any tree of average linkage can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.linkage.leaf_order import LeafOrder, children_of, order_leaves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.duplicates import Points

_MERGES_AT_A_TIME = 16
_BLOCK_LEAVES = 1_024
_ROUNDING = 1e-9  # of the largest similarity; float64 sums of a million terms differ by less in another order


@dataclass(frozen=True, slots=True)
class Violation:
    """What some merges missed: the best similarity that either of the two had to any living cluster, and theirs.

    Merges count in the order of the tree, by height. Theirs is the least similarity within the merged cluster, 1 - its
    height: a merge of higher similarity on top of a lower one is at the height of the lower.

    Attributes
    ----------
    epsilon : float
        What is allowed: `factor` up to 1 + epsilon.
    merged, best : ndarray of float64, shape (m,)
        Similarities, of merges in the order of the tree; ``best >= merged``.
    """

    epsilon: float
    merged: NDArray[np.float64]
    best: NDArray[np.float64]

    @property
    def factor(self) -> NDArray[np.float64]:
        """Best over merged where both are positive, merged over best where both are negative, else infinity."""
        larger = np.where(self.best > 0, self.best, self.merged)
        smaller = np.where(self.best > 0, self.merged, self.best)
        alike = larger * smaller > 0
        ratio = np.divide(larger, smaller, out=np.full(len(larger), np.inf), where=alike)
        return np.where(self.best == self.merged, 1.0, ratio)

    @property
    def excess(self) -> NDArray[np.float64]:
        """Best less merged: by how much the merge is too high in the tree."""
        return self.best - self.merged

    @property
    def share(self) -> float:
        """Of the merges measured, those beyond the factor allowed."""
        return float((self.factor > 1 + self.epsilon).sum() / max(len(self.merged), 1))

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of {len(self.merged)} merges beyond a factor of {1 + self.epsilon:g}; "
            f"too high by {self.excess.sum() / max(len(self.merged), 1):.2g} on average, "
            f"{self.excess.max(initial=0):.2g} at most"
        )


@dataclass(frozen=True, slots=True)
class _Sums:
    """Weighted sums of points that follow each other in the leaf order, from sums of blocks of them."""

    points: Points
    unit: bool
    leaves: NDArray[np.int64]
    blocks: NDArray[np.float64]

    @classmethod
    def of(cls, points: Points, leaves: NDArray[np.int64], *, unit: bool) -> _Sums:
        starts = range(0, len(leaves), _BLOCK_LEAVES)
        sums = cls(points, unit, leaves, np.empty((len(starts), points.vectors.shape[1])))
        for b, start in enumerate(starts):
            sums.blocks[b] = sums.few(start, min(start + _BLOCK_LEAVES, len(leaves)))
        return sums

    def few(self, start: int, stop: int) -> NDArray[np.float64]:
        rows = self.leaves[start:stop]
        scale = self.points.weights[rows] / self.points.norms[rows] if self.unit else self.points.weights[rows]
        total: NDArray[np.float64] = (self.points.vectors[rows] * scale[:, np.newaxis]).sum(axis=0)
        return total

    def total(self, start: int, stop: int) -> NDArray[np.float64]:
        first, last = -(-start // _BLOCK_LEAVES), stop // _BLOCK_LEAVES
        if first >= last:
            return self.few(start, stop)
        inner: NDArray[np.float64] = self.blocks[first:last].sum(axis=0)
        return self.few(start, first * _BLOCK_LEAVES) + inner + self.few(last * _BLOCK_LEAVES, stop)


@dataclass(frozen=True, slots=True)
class _Tree:
    """A tree over points, and which of its clusters live before a merge: ranges of the leaf order."""

    order: LeafOrder
    children: NDArray[np.int64]
    between: NDArray[np.int64]  # before each position, the merge that joins it to its left
    weights: NDArray[np.float64]  # of the leaves, in order

    @classmethod
    def of(cls, z: NDArray[np.float64], points: Points) -> _Tree:
        order, children = order_leaves(z, len(points)), children_of(z)
        between = np.full(len(points), len(z), np.int64)
        between[order.start[children].max(axis=1)] = np.arange(len(z))
        return cls(order, children, between, points.weights[order.leaves])

    def range_of(self, node: int) -> tuple[int, int]:
        start = int(self.order.start[node])
        return start, start + int(self.order.size[node])

    def nearest(self, node: int, merge: int, similarities: NDArray[np.float32]) -> tuple[int, int]:
        """Return the range of the living cluster that is nearest to one, by its similarities to all leaves."""
        starts = np.flatnonzero(self.between >= merge)
        sums = np.add.reduceat(similarities[self.order.leaves] * self.weights, starts)
        means = sums / np.add.reduceat(self.weights, starts)
        means[np.searchsorted(starts, self.order.start[node])] = -np.inf
        at = int(means.argmax())
        return int(starts[at]), int(starts[at + 1]) if at + 1 < len(starts) else len(self.weights)


def measure_violation(
    points: Points,
    z: NDArray[np.float64],
    rows: NDArray[np.int64],
    epsilon: float,
    *,
    unit: bool,
    threads: int,
) -> Violation:
    """Compare merges with the best that there were.

    The nearest living cluster is looked for in float32, among all, and what it is to the cluster is computed in
    float64: a best that is missed for its rounding is better by some 1e-6 at most. O(n d) a merge, 4 n d bytes.

    Parameters
    ----------
    points : Points
    z : ndarray of float64, shape (n - 1, 4)
        A whole tree over them of average linkage under "cosine" or "dot".
    rows : ndarray of int64, shape (m,)
        Merges to look at, ascending.
    epsilon : float
    unit : bool
        Whether similarity is the cosine.
    threads : int
    """
    tree, packed = _Tree.of(z, points), native_simd.pack(points.vectors, unit=unit, threads=threads)
    sums = _Sums.of(points, tree.order.leaves, unit=unit)
    merged, best = 1.0 - z[rows, 2], np.full(len(rows), -np.inf)
    for at in range(0, len(rows), _MERGES_AT_A_TIME):
        some = rows[at : at + _MERGES_AT_A_TIME]
        to_leaves = _to_leaves(tree, sums, some, packed, threads)
        for i, merge in enumerate(some.tolist()):
            sides = zip(tree.children[merge].tolist(), to_leaves[2 * i : 2 * i + 2], strict=True)
            best[at + i] = max(_best_similarity(tree, sums, node, merge, values) for node, values in sides)
    scale = 1.0 if unit else float(points.norms.max()) ** 2
    return Violation(epsilon, merged, np.where(best - merged > _ROUNDING * scale, best, merged))


def _mean(tree: _Tree, sums: _Sums, start: int, stop: int) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = sums.total(start, stop) / tree.weights[start:stop].sum()
    return mean


def _to_leaves(
    tree: _Tree, sums: _Sums, merges: NDArray[np.int64], packed: native_simd.PackedVectors, threads: int
) -> NDArray[np.float32]:
    """Return the similarities of both sides of the merges to all leaves."""
    means = [_mean(tree, sums, *tree.range_of(node)) for node in tree.children[merges].ravel().tolist()]
    similarities = np.empty((len(means), packed.n), np.float32)
    sides = native_simd.pack(np.array(means, np.float32))
    native_simd.pairwise(sides, packed, metric="dot", out=similarities, threads=threads)
    return similarities


def _best_similarity(tree: _Tree, sums: _Sums, node: int, merge: int, similarities: NDArray[np.float32]) -> float:
    nearest = _mean(tree, sums, *tree.nearest(node, merge, similarities))
    return float((_mean(tree, sums, *tree.range_of(node)) * nearest).sum())
