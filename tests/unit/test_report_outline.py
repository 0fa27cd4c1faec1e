"""The tree to browse against the hierarchy: nothing lost, nothing torn apart, nothing too wide."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.concepts.hierarchy import HierarchyNode
from cluster_engine.report.outline import LONE, Branch, outline_tree

MAX_CHILDREN = 40 + 8  # the last branch to be opened may have two sides of four concepts
SMALLEST_GROUP = 5


@st.composite
def forests(draw: st.DrawFn) -> tuple[list[HierarchyNode], dict[int, int]]:
    """Join some concepts, not always all of them."""
    n = draw(st.integers(0, 90))
    sizes = {name: draw(st.integers(1, 9)) for name in range(1, n + 1)}
    tops = list(sizes)
    totals = dict(sizes)
    nodes = []
    is_chain = draw(st.booleans())
    for number in range(draw(st.integers(0, max(0, n - 1)))):
        left = tops.pop(0 if is_chain and nodes else draw(st.integers(0, len(tops) - 1)))
        right = tops.pop(draw(st.integers(0, len(tops) - 1)))
        name = 1_000 + number
        totals[name] = totals[left] + totals[right]
        nodes.append(HierarchyNode(name, left, right, 0.1 * number, totals[name]))
        tops.insert(0, name)
    return nodes, sizes


def members(rows: list[Branch], at: int) -> list[Branch]:
    """The rows below one."""
    end = next((i for i in range(at + 1, len(rows)) if rows[i].depth <= rows[at].depth), len(rows))
    return rows[at + 1 : end]


def leaves(nodes: dict[int, HierarchyNode], name: int) -> set[int]:
    if name not in nodes:
        return {name}
    return leaves(nodes, nodes[name].left_id) | leaves(nodes, nodes[name].right_id)


@given(forests())
def test_the_tree_holds_every_concept_once_in_groups_of_the_hierarchy(
    forest: tuple[list[HierarchyNode], dict[int, int]],
) -> None:
    nodes, sizes = forest
    joins = {node.node_id: node for node in nodes}
    labels = {name: (f"t{name % 5}", f"u{name % 3}") for name in sizes}
    rows = outline_tree(nodes, sizes, labels, dict.fromkeys(sizes, 0.05))
    assert sorted(row.name for row in rows if not row.is_group) == sorted(sizes)
    for at, row in enumerate(rows):
        below = members(rows, at)
        assert all(row.depth < other.depth for other in below)
        inside = {other.name for other in below if not other.is_group} if row.is_group else {row.name}
        children = [other for other in below if other.depth == row.depth + 1]
        assert (row.n_concepts, row.n_episodes) == (len(inside), sum(sizes[name] for name in inside))
        assert children == sorted(children, key=lambda child: (-child.n_episodes, child.name))
        if row.name == LONE:
            assert inside == sizes.keys() - {side for node in nodes for side in (node.left_id, node.right_id)}
            continue
        assert inside == leaves(joins, row.name)
        assert len(children) <= MAX_CHILDREN
        assert len(children) != 1
        assert not row.is_group or row.depth == 0 or row.n_concepts >= SMALLEST_GROUP
        assert row.distance == (joins[row.name].distance if row.is_group else 0.05)
        weights = Counter(term for name in inside for term in labels[name] for _ in range(sizes[name]))
        want = sorted(weights, key=lambda term: (-weights[term], term))[:4] if row.is_group else labels[row.name]
        assert row.terms == tuple(want)


def test_a_large_balanced_tree_has_few_levels() -> None:
    tops = list(range(1, 4_097))
    totals = dict.fromkeys(tops, 1)
    sizes = dict(totals)
    nodes = []
    while len(tops) > 1:
        joined = []
        for left, right in zip(tops[::2], tops[1::2], strict=True):
            name = 10_000 + len(nodes)
            totals[name] = totals[left] + totals[right]
            nodes.append(HierarchyNode(name, left, right, float(len(nodes)), totals[name]))
            joined.append(name)
        tops = joined
    rows = outline_tree(nodes, sizes, {}, sizes)
    assert max(row.depth for row in rows) <= 5
    assert all(row.terms == () for row in rows)


@pytest.mark.parametrize("n", [1_000, 5_000])
def test_a_chain_does_not_nest_as_deep_as_it_is_long(n: int) -> None:
    sizes = dict.fromkeys(range(1, n + 1), 1)
    nodes = [HierarchyNode(n + i, n + i - 1 if i > 1 else 1, i + 1, float(i), i + 1) for i in range(1, n)]
    rows = outline_tree(nodes, sizes, {}, sizes)
    assert sum(not row.is_group for row in rows) == n
    assert max(row.depth for row in rows) <= n // 38 + 1
