"""Slow, obvious oracles of linkage: the definition written out, in whatever arithmetic the numbers bring along."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


Number = TypeVar("Number", float, Fraction)


@dataclass(frozen=True)
class Join(Generic[Number]):
    """One merge: the smallest leaves of the two, their distance, and the next best distance of either (if any)."""

    first: int
    second: int
    distance: Number
    runner_up: Number


def lance_williams(method: str, x: Number, y: Number, joint: Number, sizes: tuple[int, int, int]) -> Number:
    """Return the distance to C of A and B joined, from those of A to C, B to C and A to B, and the sizes of A, B, C."""
    a, b, c = sizes
    match method:
        case "average":
            return (a * x + b * y) / (a + b)
        case "weighted":
            return (x + y) / 2
        case "complete":
            return max(x, y)
        case "single":
            return min(x, y)
        case "ward":
            return ((a + c) * x + (b + c) * y - c * joint) / (a + b + c)
    raise AssertionError(method)


def greedy(distances: Sequence[Sequence[Number]], method: str) -> list[Join[Number]]:
    """Merge the closest pair until one cluster is left; of equals, the one with the smallest leaf, then smallest other.

    O(n^3). Exact for `fractions.Fraction`. For "ward" the distances are squared, and so are those returned.
    """
    size = dict.fromkeys(range(len(distances)), 1)
    apart = {(i, j): distances[i][j] for j in size for i in range(j)}
    joins = []
    while len(size) > 1:
        a, b = min(apart, key=lambda pair: (apart[pair], pair))
        joint = apart.pop((a, b))
        near = [value for pair, value in apart.items() if a in pair or b in pair]
        joins.append(Join(a, b, joint, min(near, default=joint)))
        for c in size.keys() - {a, b}:
            x, y = apart[min(a, c), max(a, c)], apart.pop((min(b, c), max(b, c)))
            apart[min(a, c), max(a, c)] = lance_williams(method, x, y, joint, (size[a], size[b], size[c]))
        size[a] += size.pop(b)
    return joins


def canonical(joins: list[Join[Number]], n: int) -> NDArray[np.float64]:
    """Return SciPy's Z of the joins; among equal heights first what others of that height rest on, then by leaves."""
    level: dict[int, tuple[Number, int]] = {}  # of clusters: distance, and merges of that distance below
    keyed = []
    for join in joins:
        below = [level[leaf] for leaf in (join.first, join.second) if leaf in level]
        stacked = max((height + 1 for distance, height in below if distance == join.distance), default=0)
        level[join.first] = (join.distance, stacked)
        keyed.append((join.distance, stacked, join.first, join.second))
    node, size, rows = list(range(n)), [1] * n, []
    for row, (distance, _, a, b) in enumerate(sorted(keyed)):
        size[a] += size[b]
        rows.append((min(node[a], node[b]), max(node[a], node[b]), float(distance), size[a]))
        node[a] = n + row
    return np.array(rows, np.float64).reshape(n - 1, 4)


def clusters(Z: NDArray[np.float64]) -> set[frozenset[int]]:
    """Return every cluster of the tree as the set of its leaves."""
    found = [frozenset([leaf]) for leaf in range(len(Z) + 1)]
    for left, right in Z[:, :2].astype(int):
        found.append(found[left] | found[right])
    return set(found)


def excess(Z: NDArray[np.float64], distances: NDArray[np.float64], method: str) -> float:
    """Return by how much, at worst, a row of Z joins a pair that is not the closest, or states another height.

    The rows are replayed in order in float64. For "ward" the distances are squared and heights are their roots.
    """
    apart = np.array(distances, np.float64)
    np.fill_diagonal(apart, np.inf)
    slot, size, worst = list(range(len(apart))), np.ones(len(apart)), 0.0
    for left, right, height, count in Z:
        a, b = slot[int(left)], slot[int(right)]
        joint = apart[a, b]
        stated = height**2 if method == "ward" else height
        worst = max(worst, float(joint - apart.min()), abs(float(joint - stated)))
        others = [c for c in range(len(apart)) if c not in (a, b) and np.isfinite(apart[a, c])]
        for c in others:
            apart[a, c] = apart[c, a] = lance_williams(
                method, apart[a, c], apart[b, c], joint, (size[a], size[b], size[c])
            )
        apart[b, :] = apart[:, b] = np.inf
        size[a] += size[b]
        assert size[a] == count
        slot.append(a)
    return worst


def distance_matrix(X: NDArray[Any], metric: str) -> NDArray[np.float64]:
    """Return the distances of the rows of X, in extended precision; but for "dot", from differences."""
    x: NDArray[np.longdouble] = np.asarray(X, np.longdouble)
    if metric == "dot":
        return np.asarray(1 - x @ x.T, np.float64)
    if metric == "cosine":
        x = x / np.sqrt((x * x).sum(axis=1))[:, np.newaxis]
    squared = np.array([((x - row) ** 2).sum(axis=1) for row in x])
    scale = {"cosine": squared / 2, "sqeuclidean": squared, "euclidean": np.sqrt(squared)}
    return np.asarray(scale[metric], np.float64)


def most_stable(Z: NDArray[np.float64], n: int, min_cluster_size: int) -> list[set[int]]:
    """Return the clusters of the largest total stability, by their smallest leaf: excess of mass, in exact fractions.

    The stability of a cluster born at a height is, summed over its leaves, how far below it each leaf leaves.
    """
    leaves = [{leaf} for leaf in range(n)]
    for a, b in Z[:, :2].astype(int):
        leaves.append(leaves[a] | leaves[b])

    def best(node: int, birth: Fraction) -> tuple[Fraction, list[set[int]]]:
        """Return the largest total in the branch of a node that a split at `birth` made, and the clusters of it."""
        stability, inner, clusters = descend(node, birth)
        return (stability, [leaves[node]]) if stability >= inner else (inner, clusters)

    def descend(node: int, birth: Fraction) -> tuple[Fraction, Fraction, list[set[int]]]:
        """Return the stability of the cluster that reaches up to `node`, and the best below its split."""
        height = Fraction(float(Z[node - n, 2]))
        sides = [int(side) for side in Z[node - n, :2]]
        large = [side for side in sides if len(leaves[side]) >= min_cluster_size]
        if len(large) == 1:
            stability, inner, clusters = descend(large[0], birth)
            return stability + (len(leaves[node]) - len(leaves[large[0]])) * (birth - height), inner, clusters
        parts = [best(side, height) for side in large]
        stability = len(leaves[node]) * (birth - height)
        return stability, sum((part[0] for part in parts), Fraction(0)), [c for part in parts for c in part[1]]

    joined = {int(node) for node in Z[:, :2].ravel()}
    trees = [v for v in range(n + len(Z)) if v not in joined and len(leaves[v]) >= min_cluster_size]
    if len(trees) == 1:
        found = descend(trees[0], Fraction(0))[2]
    else:
        found = [cluster for tree in trees for cluster in best(tree, Fraction(float(Z[-1, 2])))[1]]
    return sorted(found, key=min)


def best_available(
    Z: NDArray[np.float64], X: NDArray[Any], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, for each row of Z, the similarity that its height states, and the best that either side had to anything.

    Average linkage of inner products of the rows of X; merges are replayed in the order of Z.
    """
    x: NDArray[np.longdouble] = np.asarray(X, np.longdouble)
    similarities, members = x @ x.T, {leaf: [leaf] for leaf in range(len(x))}
    best = np.empty(len(Z))

    def similarity(a: list[int], b: list[int]) -> float:
        share = np.outer(weights[a], weights[b])
        return float((similarities[np.ix_(a, b)] * share).sum() / share.sum())

    for t, (left, right) in enumerate(Z[:, :2].astype(int)):
        best[t] = max(
            similarity(members[side], other)
            for side in (left, right)
            for node, other in members.items()
            if node != side
        )
        members[len(x) + t] = members.pop(left) + members.pop(right)
    return 1 - Z[:, 2], best
