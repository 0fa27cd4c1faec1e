"""The dendrogram object: its invariants at the boundary, its cuts, its branches, the order of its leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from trees import Forest, forests, grow

import cluster_engine as ce
from cluster_engine.errors import InputError


def labels_of(groups: list[set[int]], n: int) -> list[int]:
    return [next(number for number, group in enumerate(groups) if leaf in group) for leaf in range(n)]


@settings(deadline=None)
@given(forests(), st.floats(-3, 16))
def test_a_cut_at_a_height_merges_up_to_it(forest: Forest, height: float) -> None:
    labels = ce.Dendrogram(forest.Z, n=forest.n, cut=np.inf).cut_height(height)
    assert labels.dtype == np.int64
    assert labels.tolist() == labels_of(forest.groups(int((forest.Z[:, 2] <= height).sum())), forest.n)


@settings(deadline=None)
@given(forests(whole=True), st.floats(0, 16), st.floats(-1, 17))
def test_what_joins_above_where_linkage_stopped_is_asked_of_none(tree: Forest, stop: float, height: float) -> None:
    Z = tree.Z[tree.Z[:, 2] <= stop]
    stopped = ce.Dendrogram(Z, n=tree.n, cut=stop)
    if stopped.n_trees == 1 or height <= stop:
        assert np.array_equal(stopped.cut_height(height), ce.Dendrogram(tree.Z).cut_height(height))
    else:
        with pytest.raises(ValueError, match=r"above .* let linkage go on"):
            stopped.cut_height(height)
    unknown = ce.Dendrogram(Z, n=tree.n)
    last = Z[:, 2].max(initial=-np.inf)
    assert unknown.cut == (np.inf if stopped.n_trees == 1 else last)
    if stopped.n_trees > 1 and len(Z):
        with pytest.raises(InputError, match="not below its last merge"):
            ce.Dendrogram(Z, n=tree.n, cut=last - 1)
        with pytest.raises(InputError, match="got nan"):
            ce.Dendrogram(Z, n=tree.n, cut=np.nan)


@settings(deadline=None)
@given(forests(), st.data())
def test_a_cut_by_count_has_so_many_groups(forest: Forest, data: st.DataObject) -> None:
    n_clusters = data.draw(st.integers(forest.n - len(forest.Z), forest.n))
    labels = ce.Dendrogram(forest.Z, n=forest.n).cut_count(n_clusters)
    assert labels.tolist() == labels_of(forest.groups(forest.n - n_clusters), forest.n)
    assert set(labels.tolist()) == set(range(n_clusters))


@settings(deadline=None)
@given(forests(whole=True), st.data())
def test_cuts_are_those_of_scipy(forest: Forest, data: st.DataObject) -> None:
    tree, (Z, n) = ce.Dendrogram(forest.Z), forest
    if n == 1:
        assert tree.cut_height(0).tolist() == tree.cut_count(1).tolist() == [0]
        return
    height = data.draw(st.sampled_from(Z[:, 2].tolist()))
    theirs = hierarchy.fcluster(Z, height, "distance")
    assert np.array_equal(first_of_group(theirs), first_of_group(tree.cut_height(height)))
    n_clusters = data.draw(st.integers(1, n))
    if n_clusters in (1, n) or Z[n - n_clusters, 2] > Z[n - n_clusters - 1, 2]:  # within a tie SciPy does otherwise
        theirs = hierarchy.cut_tree(Z, n_clusters=n_clusters)[:, 0]
        assert np.array_equal(theirs, tree.cut_count(n_clusters))


def first_of_group(labels: np.ndarray) -> np.ndarray:
    values, first = np.unique(labels, return_index=True)
    return first[np.searchsorted(values, labels)]


@settings(deadline=None)
@given(forests())
def test_every_node_is_a_range_of_the_leaf_order_with_its_smallest_leaf_first(forest: Forest) -> None:
    tree = ce.Dendrogram(forest.Z, n=forest.n)
    position = np.argsort(tree.leaf_order())
    for node, leaves in enumerate(forest.members()):
        assert tree.leaves(node).tolist() == sorted(leaves)
        at = sorted(position[list(leaves)].tolist())
        assert at == list(range(at[0], at[0] + len(leaves)))
        assert tree.leaf_order()[at[0]] == min(leaves)
    roots = [min(group) for group in forest.groups(len(forest.Z))]
    assert [leaf for leaf in tree.leaf_order().tolist() if leaf in roots] == roots


@settings(deadline=None)
@given(forests(), st.booleans(), st.data())
def test_a_branch_has_the_merges_below_its_node(forest: Forest, named: bool, data: st.DataObject) -> None:
    ids = [f"leaf {leaf}" for leaf in range(forest.n)] if named else list(range(forest.n))
    tree = ce.Dendrogram(forest.Z, ids if named else None, n=forest.n)
    below = forest.members()
    node = data.draw(st.integers(0, len(below) - 1))
    branch = tree.subtree(node)
    assert branch.ids.tolist() == [ids[leaf] for leaf in sorted(below[node])]
    assert branch.n_trees == 1
    found = {
        (frozenset(branch.ids[list(leaves)].tolist()), height)
        for leaves, height in zip(Forest(branch.Z, branch.n).members()[branch.n :], branch.Z[:, 2], strict=True)
    }
    assert found == {
        (frozenset(ids[leaf] for leaf in leaves), height)
        for leaves, height in zip(below[forest.n :], forest.Z[:, 2], strict=True)
        if leaves <= below[node]
    }


def test_trees_as_deep_as_they_are_large() -> None:
    forest = grow(1, 30_000, 29_999, 100_000, 0.0, is_chain=True)
    tree = ce.Dendrogram(forest.Z)
    assert sorted(tree.leaf_order().tolist()) == list(range(30_000))
    assert tree.subtree(2 * 30_000 - 2) == tree
    assert len(np.unique(tree.cut_count(10_000))) == 10_000


GOOD = [[0, 1, 0.25, 2], [2, 3, 0.5, 2], [4, 5, 0.75, 4]]


@pytest.mark.parametrize(
    ("row", "column", "value", "told"),
    [
        (1, 0, 5, "I1.*row 1"),
        (1, 0, -1, "I1.*row 1"),
        (2, 0, 4.5, "I1.*row 2"),
        (0, 0, np.nan, "I1.*row 0"),
        (2, 1, 4, "I1.*row 2"),
        (2, 0, 1, "I2.*row 2"),
        (1, 2, np.nan, "I3.*row 1"),
        (2, 2, np.inf, "I3.*row 2"),
        (1, 2, 0.125, "I3.*row 1"),
        (2, 3, 3, "I4.*row 2"),
        (0, 3, np.nan, "I4.*row 0"),
    ],
)
def test_a_row_that_breaks_an_invariant_is_named(row: int, column: int, value: float, told: str) -> None:
    z = np.array(GOOD)
    assert ce.Dendrogram(z).n == 4
    z[row, column] = value
    with pytest.raises(InputError, match=told):
        ce.Dendrogram(z)


def test_other_input_is_refused() -> None:
    for z in ([[0, 1, 2]], [["0", "1", "0", "2"]], [0, 1, 1, 2], np.array(GOOD) + 0j):
        with pytest.raises(InputError, match="shape"):
            ce.Dendrogram(z)
    with pytest.raises(InputError, match="I1: Z has 3 rows; 3 leaves"):
        ce.Dendrogram(GOOD, n=3)
    with pytest.raises(InputError, match=r"I5: want 4 ids.*\(5,\)"):
        ce.Dendrogram(GOOD, list("abcde"))
    with pytest.raises(InputError, match="I5: ids differ; leaf 2 has the id 'b'"):
        ce.Dendrogram(GOOD, list("abbc"))
    for ids in ([1, "a", 2, 3], [1.5, 2, 3, 4], [0, 1, 2, 2**63]):
        with pytest.raises(InputError, match="I5: ids are all strings, or all integers"):
            ce.Dendrogram(GOOD, ids)
    tree = ce.Dendrogram(GOOD)
    for n_clusters in (0, 5):
        with pytest.raises(ValueError, match=f"n_clusters must be from 1 to 4, got {n_clusters}"):
            tree.cut_count(n_clusters)
    with pytest.raises(ValueError, match="n_clusters must be from 3 to 5"):
        ce.Dendrogram(GOOD[:2], n=5).cut_count(2)
    with pytest.raises(ValueError, match="NaN"):
        tree.cut_height(float("nan"))
    for node in (-1, 7):
        with pytest.raises(ValueError, match=f"node must be from 0 to 6, got {node}"):
            tree.leaves(node)


def test_it_is_a_value() -> None:
    z = np.array(GOOD)
    tree = ce.Dendrogram(z, list("abcd"))
    z[0, 2] = 0.0
    assert tree == ce.Dendrogram(GOOD, np.array(list("abcd")))
    assert hash(tree) == hash(ce.Dendrogram(GOOD, list("abcd")))
    assert tree != ce.Dendrogram(GOOD)
    assert ce.Dendrogram(GOOD[:2], n=4) != ce.Dendrogram(GOOD[:2], n=5)
    assert ce.Dendrogram(GOOD[:2], n=4) != ce.Dendrogram(GOOD[:2], n=4, cut=9)
    with pytest.raises(ValueError, match="read-only"):
        tree.Z[0, 2] = 0.0
    with pytest.raises(AttributeError):
        tree.ids = np.arange(4)
    assert repr(ce.Dendrogram(GOOD[:2], n=4)) == "Dendrogram(n=4, n_trees=2)"
