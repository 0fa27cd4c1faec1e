"""The tree above the concepts: average linkage of their means, each with the number of its members as weight.

Sums are additive, so where concepts came from one clustering this is the top of the dendrogram over their episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster_engine.concepts.identity import name_after
from cluster_engine.linkage.cut import smallest_leaves

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class HierarchyNode:
    """Two branches, concepts or nodes, and the distance at which they join."""

    node_id: int
    left_id: int
    right_id: int
    distance: float
    n_episodes: int


def join_concepts(z: NDArray[np.float64], ids: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[HierarchyNode]:
    """Return the merges of concepts as nodes, one fewer than there are concepts, from the bottom up. O(m).

    Parameters
    ----------
    z : ndarray, shape (m - 1, 4)
        SciPy's linkage matrix over the concepts.
    ids : ndarray of int64, shape (m,)
    sizes : ndarray of int64, shape (m,)
        Members of each.
    """
    m = len(ids)
    names, n_episodes = ids.tolist(), sizes.tolist()
    smallest = smallest_leaves(z, m)
    nodes = []
    for a, b, distance in zip(*z[:, :2].astype(int).T.tolist(), z[:, 2].tolist(), strict=True):
        second = max(smallest[a], smallest[b])  # the first of no other node's second branch
        n_episodes.append(n_episodes[a] + n_episodes[b])
        names.append(name_after("node", names[second]))
        nodes.append(HierarchyNode(names[-1], names[a], names[b], distance, n_episodes[-1]))
    return nodes
