"""Where the parts of a tree lie on a page.

Owns the rows, and which branches get a colour. Refuses to know how they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cluster_engine.concepts.hierarchy import HierarchyNode


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each name of a tree lies: the row, counted from the top, and the distance at which it begins.

    Attributes
    ----------
    leaves : tuple of int
        From top to bottom.
    rows : dict of int to float
        By the name of a leaf or node.
    branches : dict of int to int
        Number of the coloured branch that a name belongs to, from the top; the trunk has none.
    """

    leaves: tuple[int, ...]
    rows: dict[int, float]
    branches: dict[int, int]


def keep_concepts(nodes: Iterable[HierarchyNode], kept: Mapping[int, int]) -> list[HierarchyNode]:
    """Return the tree of some concepts alone: the joins between them, at the same distances. O(nodes).

    Parameters
    ----------
    nodes : iterable of HierarchyNode
        From the bottom up.
    kept : mapping of int to int
        Episodes of each concept that stays.
    """
    branch = {name: (name, n_episodes) for name, n_episodes in kept.items()}
    joined = []
    for node in nodes:
        sides = [branch[side] for side in (node.left_id, node.right_id) if side in branch]
        if len(sides) == 2:
            (left, n_left), (right, n_right) = sides
            joined.append(replace(node, left_id=left, right_id=right, n_episodes=n_left + n_right))
            branch[node.node_id] = (node.node_id, n_left + n_right)
        elif sides:
            branch[node.node_id] = sides[0]
    return joined


def arrange(nodes: Sequence[HierarchyNode], sizes: Mapping[int, int], tops: Collection[int] | None = None) -> Layout:
    """Lay binary trees out: one row a leaf, the branch or tree with more episodes above, each node between its two.

    Parameters
    ----------
    nodes : sequence of HierarchyNode
        From the bottom up.
    sizes : mapping of int to int
        Episodes of each leaf.
    tops : collection of int, optional
        Leaves and nodes that are the coloured branches; by default, those of the cut with the most branches of two
        leaves or more.
    """
    joins = {node.node_id: node for node in nodes}
    n_episodes = {**sizes, **{node.node_id: node.n_episodes for node in nodes}}
    leaves: list[int] = []
    joined = {side for node in nodes for side in (node.left_id, node.right_id)}
    waiting = sorted(n_episodes.keys() - joined, key=lambda name: (n_episodes[name], -name))
    while waiting:  # no recursion: a chain of thousands of joins is an ordinary tree
        name = waiting.pop()
        if name in joins:
            sides = (joins[name].left_id, joins[name].right_id)
            waiting += sorted(sides, key=lambda side: (n_episodes[side], -side))
        else:
            leaves.append(name)
    rows = {name: float(row) for row, name in enumerate(leaves)}
    for node in nodes:
        rows[node.node_id] = (rows[node.left_id] + rows[node.right_id]) / 2
    return Layout(tuple(leaves), rows, _number_branches(nodes, rows, _most_branches(nodes) if tops is None else tops))


def _most_branches(nodes: Sequence[HierarchyNode]) -> set[int]:
    """Cut where the most branches of two leaves or more hang below; of such cuts, the highest."""
    cuts: list[set[int]] = [set()]  # the branches that hang below, before the first join and after each
    for node in nodes:
        cuts.append(cuts[-1] - {node.left_id, node.right_id} | {node.node_id})
    return max(reversed(cuts), key=len)


def _number_branches(
    nodes: Sequence[HierarchyNode], rows: Mapping[int, float], tops: Collection[int]
) -> dict[int, int]:
    """Give all that lies in one of these branches its number, counted from the top of the page."""
    branches = {name: number for number, name in enumerate(sorted(tops, key=lambda name: rows[name]))}
    for node in reversed(nodes):
        if node.node_id in branches:
            branches[node.left_id] = branches[node.right_id] = branches[node.node_id]
    return branches
