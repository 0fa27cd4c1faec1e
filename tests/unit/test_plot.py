"""The drawing of a hierarchy: which joins stay, where everything lies, and what the file holds."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image
from trees import grow

import cluster_engine as ce
from cluster_engine import plot
from cluster_engine.concepts.hierarchy import HierarchyNode
from cluster_engine.errors import InputError
from cluster_engine.layout import arrange, keep_concepts
from cluster_engine.plot import draw_dendrogram, draw_hierarchy

if TYPE_CHECKING:
    from pathlib import Path

NODE = 10_000  # node ids begin here, concept ids below


def random_tree(n: int, seed: int) -> tuple[list[HierarchyNode], dict[int, int]]:
    """Join n concepts in random order, at growing distances, some of them equal."""
    rng = np.random.default_rng(seed)
    sizes = {concept: int(rng.integers(3, 9)) for concept in range(n)}
    branches, counts = list(sizes), dict(sizes)
    nodes = []
    for step, distance in enumerate(np.sort(rng.integers(0, n, n - 1) / n).tolist()):
        left, right = (branches.pop(int(rng.integers(len(branches)))) for _ in range(2))
        counts[NODE + step] = counts[left] + counts[right]
        nodes.append(HierarchyNode(NODE + step, left, right, distance, counts[NODE + step]))
        branches.append(NODE + step)
    return nodes, sizes


def leaves_below(nodes: list[HierarchyNode]) -> dict[int, set[int]]:
    below: dict[int, set[int]] = {}
    for node in nodes:
        sides = (below.get(side, {side}) for side in (node.left_id, node.right_id))
        below[node.node_id] = set.union(*sides)
    return below


def joining_distances(nodes: list[HierarchyNode]) -> dict[frozenset[int], float]:
    below = leaves_below(nodes)
    return {
        frozenset((a, b)): node.distance
        for node in nodes
        for a in below.get(node.left_id, {node.left_id})
        for b in below.get(node.right_id, {node.right_id})
    }


def concepts_of(sizes: dict[int, int], text: str = "text of {}") -> list[dict[str, Any]]:
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    return [
        {
            "concept_id": concept,
            "n_episodes": n_episodes,
            "distance": 0.0,
            "exemplar_ids": [f"episode-{concept}"],
            "exemplar_texts": [text.format(concept)],
        }
        for concept, n_episodes in ordered
    ]


@given(n=st.integers(2, 30), seed=st.integers(0, 2**32), share=st.floats(0.0, 1.0))
def test_kept_concepts_join_at_the_distances_of_the_whole_tree(n: int, seed: int, share: float) -> None:
    nodes, sizes = random_tree(n, seed)
    kept = dict(itertools.islice(sizes.items(), max(2, round(share * n))))
    pruned = keep_concepts(nodes, kept)
    whole = joining_distances(nodes)
    assert joining_distances(pruned) == {pair: whole[pair] for pair in whole if pair <= kept.keys()}
    assert [node.n_episodes for node in pruned] == [
        sum(kept[leaf] for leaf in leaves) for leaves in leaves_below(pruned).values()
    ]


@given(n=st.integers(2, 40), seed=st.integers(0, 2**32))
def test_no_two_branches_cross(n: int, seed: int) -> None:
    nodes, sizes = random_tree(n, seed)
    layout = arrange(nodes, sizes)
    assert sorted(layout.leaves) == sorted(sizes)
    for node in nodes:
        rows = sorted(layout.rows[leaf] for leaf in leaves_below(nodes)[node.node_id])
        assert rows == list(range(int(rows[0]), int(rows[0]) + len(rows)))
        sides = sorted(layout.rows[side] for side in (node.left_id, node.right_id))
        assert sides[0] < layout.rows[node.node_id] < sides[1]


@given(n=st.integers(2, 40), seed=st.integers(0, 2**32))
def test_a_colour_is_a_branch_and_as_many_as_there_can_be(n: int, seed: int) -> None:
    nodes, sizes = random_tree(n, seed)
    branches = arrange(nodes, sizes).branches
    below = leaves_below(nodes)
    groups = {frozenset(leaf for leaf in sizes if branches.get(leaf) == number) for number in set(branches.values())}
    assert groups <= {frozenset(leaves) for leaves in below.values()}
    most = 0
    for n_joins in range(1, n):
        tops = {node.node_id for node in nodes[:n_joins]}
        most = max(most, len(tops - {side for node in nodes[:n_joins] for side in (node.left_id, node.right_id)}))
    assert len(groups) == most


def test_the_larger_branch_is_above() -> None:
    nodes = [HierarchyNode(NODE, 1, 2, 0.2, 9), HierarchyNode(NODE + 1, 3, NODE, 0.4, 14)]
    assert arrange(nodes, {1: 4, 2: 5, 3: 5}).leaves == (2, 1, 3)


def test_a_drawing_holds_each_concept_once_as_it_is_written(tmp_path: Path) -> None:
    nodes, sizes = random_tree(12, 3)
    path = tmp_path / "tree.svg"
    assert draw_hierarchy(path, concepts_of(sizes, "a < b & $x_{}$\n\x1b[31m"), nodes, "12 $concepts$") == 12
    words = words_of(path)
    for concept in sizes:
        assert words.count(f"a < b & $x_{concept}$ [31m") == 1
    assert "12 $concepts$" in words


def test_equal_trees_are_drawn_as_equal_bytes(tmp_path: Path) -> None:
    nodes, sizes = random_tree(9, 1)
    for suffix in ("png", "svg", "pdf"):
        files = [tmp_path / f"{name}.{suffix}" for name in ("a", "b")]
        for file in files:
            draw_hierarchy(file, concepts_of(sizes), nodes, "nine")
        assert files[0].read_bytes() == files[1].read_bytes(), suffix


def test_thousands_of_concepts_in_one_chain_give_a_page(tmp_path: Path) -> None:
    sizes = {concept: 6_000 - concept for concept in range(5_000)}
    nodes, left, n_episodes = [], 0, sizes[0]
    for concept in range(1, 5_000):
        n_episodes += sizes[concept]
        nodes.append(HierarchyNode(NODE + concept, left, concept, concept / 5_000, n_episodes))
        left = NODE + concept
    path = tmp_path / "chain.png"
    assert draw_hierarchy(path, concepts_of(sizes), nodes, "a chain", max_leaves=30) == 30
    height, width = image.imread(path).shape[:2]
    assert 0.5 < height / width < 2


def words_of(path: Path) -> list[str]:
    return [text.strip() for text in ET.fromstring(path.read_text(encoding="utf-8")).itertext()]  # noqa: S314  # ours


def test_a_small_dendrogram_has_a_row_for_each_leaf(tmp_path: Path) -> None:
    tree = ce.Dendrogram(grow(4, 30, 29, 20, -2.0).Z, [f"leaf <{leaf}>" for leaf in range(30)])
    assert draw_dendrogram(tmp_path / "tree.svg", tree, cut=0.5) == 30
    words = words_of(tmp_path / "tree.svg")
    assert [words.count(f"leaf <{leaf}>") for leaf in range(30)] == [1] * 30
    assert f"30 branches with all 30 leaves; cut at 0.5 into {tree.cut_height(0.5).max() + 1} groups" in words


@pytest.mark.parametrize(("n_merges", "is_chain"), [(99_999, False), (99_999, True), (90_000, False)])
def test_a_hundred_thousand_leaves_give_a_page(tmp_path: Path, n_merges: int, is_chain: bool) -> None:
    tree = ce.Dendrogram(grow(6, 100_000, n_merges, 10_000, 0.0, is_chain=is_chain).Z, n=100_000)
    drawn = tree.outline(20, 5)
    texts = [f"text {leaf}" for leaf in range(tree.n)]
    n_drawn = draw_dendrogram(tmp_path / "tree.svg", tree, texts=texts, heading="many", max_branches=20, min_leaves=5)
    assert n_drawn == len(drawn.tips)
    words = words_of(tmp_path / "tree.svg")
    assert sorted(word for word in words if word.startswith("text ")) == sorted(
        f"text {leaf}" for leaf in drawn.exemplars.tolist()
    )
    assert "many" in words
    for tip in drawn.tips.tolist():
        assert f"{len(tree.leaves(tip)):,}" in words


def test_the_groups_of_a_cut_are_the_coloured_branches(tmp_path: Path) -> None:
    z = [[0, 1, 0.25, 2], [2, 3, 0.5, 2], [4, 5, 0.75, 2], [6, 7, 1.0, 4], [8, 9, 1.25, 6]]
    n_colours = {}
    for cut in (0.1, 0.6, 0.8, 2.0):
        draw_dendrogram(tmp_path / "tree.svg", ce.Dendrogram(z), cut=cut)
        strokes = set(re.findall(r"stroke: (#\w{6})", (tmp_path / "tree.svg").read_text(encoding="utf-8")))
        n_colours[cut] = len(strokes & {colour.lower() for colour in plot._BRANCH_COLOURS})
    assert n_colours == {0.1: 6, 0.6: 4, 0.8: 3, 2.0: 1}


def test_one_leaf_and_what_cannot_be_drawn(tmp_path: Path) -> None:
    assert draw_dendrogram(tmp_path / "tree.png", ce.Dendrogram(np.empty((0, 4)))) == 1
    with pytest.raises(InputError, match="no tree has 3 leaves"):
        draw_dendrogram(tmp_path / "tree.png", ce.Dendrogram(np.empty((0, 4)), n=9), min_leaves=3)
    with pytest.raises(ValueError, match="want 1 texts, one a leaf, got 2"):
        draw_dendrogram(tmp_path / "tree.png", ce.Dendrogram(np.empty((0, 4))), texts=["a", "b"])


def test_signs_that_the_font_lacks_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nodes, sizes = random_tree(3, 0)
    draw_hierarchy(tmp_path / "tree.png", concepts_of(sizes, "日本語 {}"), nodes, "three")
    assert [bool(re.search("no sign for", record.message)) for record in caplog.records] == [True]
