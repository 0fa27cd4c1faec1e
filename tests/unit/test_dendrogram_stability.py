"""The cut by stability against its definition in exact fractions, and against HDBSCAN's own code."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster._hdbscan._tree import tree_to_labels
from trees import Forest, forests, grow

import cluster_engine as ce


@settings(deadline=None)
@given(forests(), st.integers(2, 9))
def test_it_is_the_definition(forest: Forest, min_cluster_size: int) -> None:
    labels = ce.Dendrogram(forest.Z, n=forest.n).cut_stability(min_cluster_size)
    expected = np.full(forest.n, -1)
    for number, cluster in enumerate(reference.most_stable(forest.Z, forest.n, min_cluster_size)):
        expected[sorted(cluster)] = number
    assert labels.dtype == np.int64
    assert labels.tolist() == expected.tolist()


def by_hdbscan(z: np.ndarray, min_cluster_size: int) -> np.ndarray:
    """Return the labels of HDBSCAN for a tree of distances above 0, numbered by their smallest leaf."""
    fields = [("left_node", np.intp), ("right_node", np.intp), ("value", np.float64), ("cluster_size", np.intp)]
    tree = np.array([tuple(row) for row in z], dtype=fields)
    theirs = tree_to_labels(tree, min_cluster_size)[0]
    numbers = dict.fromkeys(label for label in theirs.tolist() if label >= 0)
    return np.array([[*numbers, -1].index(label) if label >= 0 else -1 for label in theirs.tolist()])


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(4, 150), st.integers(2, 9), st.booleans())
def test_it_is_hdbscans_where_lambda_is_the_same(seed: int, n: int, min_cluster_size: int, is_chain: bool) -> None:
    z = grow(seed, n, n - 1, 1, 0.0, is_chain=is_chain).Z
    z[:, 2] = np.sort(np.random.default_rng(seed).uniform(0.1, 1.0, n - 1))  # no ties: equal sums round differently
    linear = z.copy()
    linear[:, 2] = 1 / (2 - z[:, 2])  # lambda = 1 / height is then 2 - height
    assert np.array_equal(ce.Dendrogram(z).cut_stability(min_cluster_size), by_hdbscan(linear, min_cluster_size))
    inverse = z.copy()
    inverse[:, 2] = -1 / z[:, 2]
    assert np.array_equal(ce.Dendrogram(inverse).cut_stability(min_cluster_size), by_hdbscan(z, min_cluster_size))


def test_groups_of_different_density_that_no_one_height_separates() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 40)
    near, far, loose = rng.standard_normal((3, 96))
    centres = np.stack((near, near + 1.8 * rng.standard_normal(96), far, loose))
    x = centres[truth] + np.array([0.05, 0.05, 0.3, 1.2])[truth, np.newaxis] * rng.standard_normal((160, 96))
    tree = ce.Dendrogram(ce.linkage(x))
    assert np.array_equal(tree.cut_stability(10), truth)
    assert not any(np.array_equal(tree.cut_height(height), truth) for height in tree.Z[:, 2])


def test_copies_and_heights_below_0() -> None:
    z = grow(3, 60, 59, 1, 0.0).Z
    assert set(ce.Dendrogram(z).cut_stability(2).tolist()) <= set(range(-1, 30))
    forest = grow(8, 60, 50, 30, 0.0)
    lower = forest.Z - [0, 0, 20, 0]
    labels = [ce.Dendrogram(rows, n=60).cut_stability(3).tolist() for rows in (forest.Z, lower)]
    assert labels[0] == labels[1]


def test_the_least_size_is_two() -> None:
    with pytest.raises(ValueError, match="at least 2, got 1"):
        ce.Dendrogram([[0, 1, 0.5, 2]]).cut_stability(1)
