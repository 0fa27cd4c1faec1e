"""The hierarchy as a tree to browse: few levels, and no node with more children than a reader looks through.

A node of the hierarchy joins two branches. Here a group is opened at its joins, the branch with the most concepts
first, until it has some branches of a fair size, and none with most of it, or many of any; they are its children. A
branch of a few concepts is no group: these are children themselves.

Owns the grouping and its words. Refuses to know how the tree is shown.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cluster_engine.concepts.hierarchy import HierarchyNode

_MAX_BRANCHES = 10  # of a fair size: a fiftieth of the concepts; all five numbers chosen, not measured
_FAIR_SHARE = 50
_MOST_SHARE = 3  # of the concepts, a third: what the largest branch may have
_MAX_CHILDREN = 40
_SMALLEST_GROUP = 5
_GROUP_TERMS = 4

LONE = -1
"""Name of the group of concepts that join no other, where others do."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A row of the tree: a concept, or a group of them.

    Attributes
    ----------
    name : int
        Id of the concept, or of the node of the hierarchy, or `LONE`.
    depth : int
        0 for the highest.
    n_concepts, n_episodes : int
    distance : float
        At which its parts join.
    terms : tuple of str
        What it is about: a concept's label, or of a group those terms of its concepts that most of its episodes have.
    """

    name: int
    depth: int
    n_concepts: int
    n_episodes: int
    distance: float
    terms: tuple[str, ...]

    @property
    def is_group(self) -> bool:
        """Whether it has children."""
        return self.n_concepts > 1


def outline_tree(
    nodes: Sequence[HierarchyNode],
    sizes: Mapping[int, int],
    labels: Mapping[int, tuple[str, ...]],
    distances: Mapping[int, float],
) -> list[Branch]:
    """Return the rows of the tree from top to bottom, children after their parent. O(n log n) for n concepts.

    Parameters
    ----------
    nodes : sequence of HierarchyNode
        From the bottom up; a forest has several trees at the highest level.
    sizes : mapping of int to int
        Episodes of each concept.
    labels : mapping of int to tuple of str
        Terms of each concept, best first.
    distances : mapping of int to float
        At which the parts of each concept join.
    """
    joins = {node.node_id: node for node in nodes}
    n_concepts = dict.fromkeys(sizes, 1)
    n_episodes = dict(sizes)
    for node in nodes:
        for counts in (n_concepts, n_episodes):
            counts[node.node_id] = counts[node.left_id] + counts[node.right_id]
    joined = {side for node in nodes for side in (node.left_id, node.right_id)}
    order = _Order(joins, n_concepts, n_episodes)
    tops = order.sort(n_episodes.keys() - joined)
    lone = [name for name in tops if name not in joins]
    found: list[tuple[int, int]] = []
    if 1 < len(lone) < len(tops):
        tops = [*(name for name in tops if name in joins), LONE]
        n_concepts[LONE], n_episodes[LONE] = len(lone), sum(sizes[name] for name in lone)
    waiting = [(name, 0) for name in reversed(tops)]
    while waiting:  # no recursion: a chain of thousands of joins is an ordinary tree
        name, depth = waiting.pop()
        found.append((name, depth))
        if name not in sizes:
            parts = lone if name == LONE else order.open(name)
            waiting += [(part, depth + 1) for part in reversed(parts)]
    words = _group_terms(found, labels, sizes)
    heights = {LONE: 0.0, **distances, **{name: node.distance for name, node in joins.items()}}
    return [
        Branch(name, depth, n_concepts[name], n_episodes[name], heights[name], words[name]) for name, depth in found
    ]


@dataclass(frozen=True, slots=True)
class _Order:
    joins: Mapping[int, HierarchyNode]
    n_concepts: Mapping[int, int]
    n_episodes: Mapping[int, int]

    def sort(self, names: set[int] | list[int]) -> list[int]:
        """Return branches, the one with the most episodes first."""
        return sorted(names, key=lambda name: (-self.n_episodes[name], name))

    def open(self, name: int) -> list[int]:
        """Return the branches that a group is opened into."""
        n = self.n_concepts[name]
        heap = [(-n, name)]
        small: list[int] = []
        n_fair = 1
        while heap and (
            n <= _MAX_CHILDREN
            or (len(heap) + len(small) < _MAX_CHILDREN and (n_fair < _MAX_BRANCHES or -heap[0][0] * _MOST_SHARE > n))
        ):
            size, largest = heapq.heappop(heap)
            n_fair -= -size * _FAIR_SHARE >= n
            for side in (self.joins[largest].left_id, self.joins[largest].right_id):
                n_fair += self.n_concepts[side] * _FAIR_SHARE >= n
                if self.n_concepts[side] >= _SMALLEST_GROUP:
                    heapq.heappush(heap, (-self.n_concepts[side], side))
                else:
                    small += self.concepts(side)
        return self.sort([*(part for _, part in heap), *small])

    def concepts(self, name: int) -> list[int]:
        """Return the concepts of a branch."""
        waiting, found = [name], []
        while waiting:
            name = waiting.pop()
            if name in self.joins:
                waiting += [self.joins[name].left_id, self.joins[name].right_id]
            else:
                found.append(name)
        return found


def _group_terms(
    rows: Sequence[tuple[int, int]],
    labels: Mapping[int, tuple[str, ...]],
    sizes: Mapping[int, int],
) -> dict[int, tuple[str, ...]]:
    """Return the terms of each row, the rows being those of a tree from top to bottom."""
    words = {}
    weights: dict[int, Counter[str]] = {}  # by depth, of the rows below the next one that is less deep
    for name, depth in reversed(rows):
        if name in sizes:
            words[name] = labels.get(name, ())
            own = Counter(dict.fromkeys(words[name], sizes[name]))
        else:
            own = weights.pop(depth + 1)
            ranked = sorted(own, key=lambda term: (-own[term], term))
            words[name] = tuple(ranked[:_GROUP_TERMS])
        weights.setdefault(depth, Counter()).update(own)
    return words
