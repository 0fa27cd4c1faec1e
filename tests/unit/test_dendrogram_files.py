"""What a dendrogram says about pairs of leaves, and how it is written and read back."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from trees import Forest, forests, grow

import cluster_engine as ce
from cluster_engine.errors import EpisodeFileError, InputError, SchemaError

if TYPE_CHECKING:
    from pathlib import Path


@settings(deadline=None)
@given(forests())
def test_leaves_join_at_the_first_height_where_one_group_holds_both(forest: Forest) -> None:
    below = forest.members()[forest.n :]
    expected = np.full((forest.n, forest.n), np.inf)
    np.fill_diagonal(expected, 0)
    for leaves, height in reversed(list(zip(below, forest.Z[:, 2], strict=True))):
        expected[np.ix_(list(leaves), list(leaves))] = height
    np.fill_diagonal(expected, 0)
    every = np.arange(forest.n)
    found = ce.Dendrogram(forest.Z, n=forest.n).cophenetic(every[:, np.newaxis], every)
    assert np.array_equal(found, expected)


@settings(deadline=None)
@given(forests(whole=True))
def test_cophenetic_distances_are_those_of_scipy(forest: Forest) -> None:
    if forest.n > 1:
        every = np.arange(forest.n)
        found = ce.Dendrogram(forest.Z).cophenetic(every[:, np.newaxis], every)
        assert np.array_equal(found, squareform(hierarchy.cophenet(forest.Z)))


def test_leaves_that_are_none_are_refused() -> None:
    tree = ce.Dendrogram([[0, 1, 0.5, 2]])
    assert tree.cophenetic(0, 1) == 0.5
    assert tree.cophenetic(np.empty(0, np.int64), 1).shape == (0,)
    for leaves in (2, -1, 0.5):
        with pytest.raises(ValueError, match="from 0 to 1"):
            tree.cophenetic(0, leaves)


Node = tuple[frozenset[str], str]


_PIECE = re.compile(r"'(?:[^']|'')*'|[(),;]|:[^(),;]+|[A-Za-z0-9.+-]+")


def parse(text: str) -> list[set[Node]]:
    """Return, for each Newick tree of the text, its nodes: their leaves, and the length of the branch above them."""
    assert set(_PIECE.sub("", text)) <= {"\n"}
    trees: list[set[Node]] = []
    nodes: set[Node] = set()
    open_nodes: list[set[str]] = [set()]
    latest: set[str] = set()
    for piece in _PIECE.findall(text):
        if piece == "(":
            open_nodes.append(set())
        elif piece == ";":
            trees.append(nodes | {(frozenset(latest), "root")})
            nodes, open_nodes = set(), [set()]
        elif piece.startswith(":"):
            nodes.add((frozenset(latest), piece[1:]))
        elif piece != ",":
            is_quoted = piece.startswith("'")
            name = piece[1:-1].replace("''", "'") if is_quoted else piece
            latest = open_nodes.pop() if piece == ")" else {name}
            open_nodes[-1] |= latest
    return trees


def newick_of(tree: ce.Dendrogram) -> str:
    file = io.StringIO()
    tree.to_newick(file)
    return file.getvalue()


@settings(deadline=None)
@given(forests(max_leaves=20), st.data())
def test_newick_text_says_the_tree(forest: Forest, data: st.DataObject) -> None:
    names = st.text("a1_ '(),:;[]\n\t é-.\"", max_size=5)
    ids = data.draw(st.lists(names, min_size=forest.n, max_size=forest.n, unique=True))
    members = forest.members()
    heights = [0.0] * forest.n + forest.Z[:, 2].tolist()
    lengths = {
        int(side): repr(height - heights[int(side)]) for *sides, height, _ in forest.Z.tolist() for side in sides
    }
    roots = sorted((node for node in range(len(members)) if node not in lengths), key=lambda root: min(members[root]))
    expected = [
        {
            (frozenset(ids[leaf] for leaf in members[node]), lengths.get(node, "root"))
            for node in range(len(members))
            if members[node] <= members[root]
        }
        for root in roots
    ]
    assert parse(newick_of(ce.Dendrogram(forest.Z, ids, n=forest.n))) == expected


def test_newick_by_hand() -> None:
    tree = ce.Dendrogram([[2, 1, 0.25, 2], [4, 0, 1, 3]], ["left", "it's", "x_y", "alone"], n=4)
    assert newick_of(tree) == "(left:1.0,('it''s':0.25,'x_y':0.25):0.75);\nalone;\n"
    assert newick_of(ce.Dendrogram(np.empty((0, 4)))) == "0;\n"


def test_leaves_are_written_in_leaf_order() -> None:
    tree = ce.Dendrogram(grow(4, 50, 45, 20, 0.0).Z, n=50)
    names = newick_of(tree).replace("(", "").replace(")", "").replace(";\n", ",").split(",")
    assert [int(name.split(":")[0]) for name in names if name] == tree.leaf_order().tolist()


def test_a_chain_of_many_leaves_is_written() -> None:
    text = newick_of(ce.Dendrogram(grow(1, 30_000, 29_999, 1000, 0.0, is_chain=True).Z))
    assert text.count("(") == text.count(")") == text.count(",") == 29_999


@settings(deadline=None)
@given(forests(), st.booleans(), st.sampled_from([None, 20.1, math.inf]))
def test_parquet_holds_all_of_it(
    tmp_path_factory: pytest.TempPathFactory, forest: Forest, named: bool, cut: float | None
) -> None:
    merges, leaves = (tmp_path_factory.getbasetemp() / name for name in ("merges.parquet", "leaves.parquet"))
    ids = [f"leaf {leaf}" for leaf in range(forest.n)] if named else None
    tree = ce.Dendrogram(forest.Z, ids, n=forest.n, cut=cut)
    tree.to_parquet(merges, leaves)
    assert ce.Dendrogram.from_parquet(merges, leaves) == tree
    assert pq.read_schema(merges).equals(
        pa.schema({"left": pa.int64(), "right": pa.int64(), "distance": pa.float64(), "n_episodes": pa.int64()})
    )
    assert pq.read_table(leaves)["episode_id"].to_pylist() == tree.ids.tolist()
    if named or len(forest.Z) < forest.n - 1:
        with pytest.raises(ValueError, match="leaves_path"):
            tree.to_parquet(merges)
    else:
        tree.to_parquet(merges)
        assert ce.Dendrogram.from_parquet(merges) == tree


def test_files_that_are_no_dendrogram_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "merges.parquet"
    with pytest.raises(EpisodeFileError, match=r"merges\.parquet: cannot be read"):
        ce.Dendrogram.from_parquet(path)
    path.write_text("no parquet")
    with pytest.raises(EpisodeFileError, match=r"merges\.parquet: cannot be read"):
        ce.Dendrogram.from_parquet(path)
    pq.write_table(pa.table({"left": [0], "right": [1]}), path)
    with pytest.raises(SchemaError, match=r"merges\.parquet: no column 'distance'"):
        ce.Dendrogram.from_parquet(path)
    rows = {"left": [0, None], "right": [1, 3], "distance": [0.5, 0.75], "n_episodes": [2, 3]}
    pq.write_table(pa.table(rows), path)
    with pytest.raises(InputError, match=r"I1.*row 1"):
        ce.Dendrogram.from_parquet(path)
    pq.write_table(pa.table(rows | {"left": ["0", "2"]}), path)
    with pytest.raises(InputError, match="real numbers"):
        ce.Dendrogram.from_parquet(path)
