"""The tree above the concepts: the merges of the dendrogram that join two concepts or more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster_engine.concepts.identity import name_after
from cluster_engine.linkage.cut import group_tops, smallest_leaves

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from cluster_engine.concepts.records import Concept


@dataclass(frozen=True, slots=True)
class HierarchyNode:
    """Two branches, concepts or nodes, and the distance at which they join."""

    node_id: int
    left_id: int
    right_id: int
    distance: float
    n_episodes: int


def join_concepts(
    z: NDArray[np.float64], n_merges: int, concepts: Mapping[int, Concept], ids: pa.Array[Any]
) -> list[HierarchyNode]:
    """Contract the dendrogram above the cut to its concepts. O(n).

    Parameters
    ----------
    z : ndarray, shape (n - 1, 4)
        SciPy's linkage matrix.
    n_merges : int
        Merges below the cut.
    concepts : mapping of int to Concept
        By the smallest row of each; groups that are no concept are absent.
    ids : pyarrow.Array, length n
        Episode id of each row.

    Returns
    -------
    list of HierarchyNode
        One fewer than there are concepts, from the bottom up.
    """
    n = len(z) + 1
    smallest = smallest_leaves(z, n)
    # node of z to (id of the concept or hierarchy node it stands for, episodes in its concepts)
    branch = {
        top: (concepts[leaf].concept_id, len(concepts[leaf].rows))
        for leaf, top in group_tops(z, n_merges).items()
        if leaf in concepts
    }
    nodes = []
    for t in range(n_merges, len(z)):
        a, b = int(z[t, 0]), int(z[t, 1])
        sides = [branch[side] for side in (a, b) if side in branch]
        if len(sides) == 2:
            second = max(smallest[a], smallest[b])
            joined = (name_after("node", ids[second].as_py()), sides[0][1] + sides[1][1])
            nodes.append(HierarchyNode(joined[0], sides[0][0], sides[1][0], float(z[t, 2]), joined[1]))
            branch[n + t] = joined
        elif sides:
            branch[n + t] = sides[0]
    return nodes
