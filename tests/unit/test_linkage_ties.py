"""Ties and duplicates: the stated rule against exact arithmetic, and a valid tree where roundings take its place."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import canonical, clusters, distance_matrix, excess, greedy
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

import cluster_engine as ce
from cluster_engine.linkage.criterion import METHODS, METRICS, Criterion

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Method, Metric

COMBINATIONS = [(m, k) for m in METHODS for k in METRICS if m != "ward" or k == "euclidean"]


@st.composite
def matrices(draw: st.DrawFn, low: int, high: int, columns: st.SearchStrategy[int]) -> NDArray[np.int64]:
    """Return small integer matrices of 2 to 20 rows: few values, so many ties and duplicates."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(low, high, (draw(st.integers(2, 20)), draw(columns)), endpoint=True)


def assert_same_tree(found: NDArray[np.float64], distances: list[list[Fraction]], method: str) -> None:
    expected = canonical(greedy(distances, method), len(distances))
    np.testing.assert_array_equal(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=1e-6)


@pytest.mark.parametrize("method", ["average", "weighted"])
@settings(deadline=None)
@given(X=matrices(-1, 1, st.integers(1, 6)))
def test_dot_ties_follow_the_rule(method: Method, X: NDArray[np.int64]) -> None:
    distances = [[Fraction(1 - int(x @ y)) for y in X] for x in X]
    assert_same_tree(ce.linkage(X, method, "dot"), distances, method)


@pytest.mark.parametrize("method", ["average", "weighted", "complete"])
@settings(deadline=None)
@given(X=matrices(0, 1, st.just(4)))
def test_cosine_ties_and_duplicates_follow_the_rule(method: Method, X: NDArray[np.int64]) -> None:
    signs = 2 * X - 1  # norms are 2, so unit vectors are exact
    distances = [[1 - Fraction(int(x @ y), 4) for y in signs] for x in signs]
    assert_same_tree(ce.linkage(signs, method, "cosine"), distances, method)


@pytest.mark.parametrize("method", ["weighted", "complete"])
@settings(deadline=None)
@given(X=matrices(0, 2, st.integers(1, 3)))
def test_euclidean_ties_and_duplicates_follow_the_rule(method: Method, X: NDArray[np.int64]) -> None:
    distances = [[Fraction(int(((x - y) ** 2).sum())) for y in X] for x in X]
    assert_same_tree(ce.linkage(X, method, "sqeuclidean"), distances, method)


@pytest.mark.parametrize("method", ["weighted", "complete"])
@settings(deadline=None)
@given(half=matrices(1, 4, st.just(20)))
def test_given_ties_follow_the_rule(method: Method, half: NDArray[np.int64]) -> None:
    n = len(half)
    upper = np.triu(half[:, :n], 1)
    square = upper + upper.T
    assert_same_tree(
        ce.linkage(square, method, "precomputed"), [[Fraction(int(v)) for v in row] for row in square], method
    )


def partitions(Z: NDArray[np.float64]) -> list[set[frozenset[int]]]:
    """Return the groups at each height of the tree."""
    flat = [hierarchy.fcluster(Z, height + 1e-6, "distance") for height in np.unique(Z[:, 2])]
    return [{frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels)} for labels in flat]


@settings(deadline=None)
@given(half=matrices(0, 4, st.just(20)))
def test_single_linkage_groups_at_each_height(half: NDArray[np.int64]) -> None:
    n = len(half)
    condensed = half[:, :n][np.triu_indices(n, 1)]
    expected = hierarchy.linkage(condensed.astype(float), "single")
    assert partitions(ce.linkage(condensed, "single", "precomputed")) == partitions(expected)


@pytest.mark.parametrize(("method", "metric"), COMBINATIONS)
@settings(deadline=None)
@given(X=matrices(0, 2, st.integers(1, 6)))
def test_ties_up_to_rounding_leave_a_valid_greedy_tree(method: Method, metric: Metric, X: NDArray[np.int64]) -> None:
    points = X[X.any(axis=1)] if metric == "cosine" else X
    if len(points) < 2:
        return
    Z = ce.linkage(points, method, metric)
    distances = distance_matrix(points, "sqeuclidean" if method == "ward" else metric)
    assert metric == "dot" or hierarchy.is_valid_linkage(Z)
    assert sorted(Z[:, :2].ravel()) == list(range(2 * len(points) - 2))
    assert (np.diff(Z[:, 2]) >= 0).all()
    exact = Criterion(method, metric).exact
    assert excess(Z, distances, method) <= (1e-13 if exact else 1e-5) * max(1.0, float(np.abs(distances).max()))


@pytest.mark.parametrize("method", ["average", "weighted"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@settings(deadline=None)
@given(n_blocks=st.integers(2, 16), inner=st.floats(0, 1), outer=st.floats(0, 1))
def test_equal_similarities_but_for_roundings(
    method: Method, metric: Metric, n_blocks: int, inner: float, outer: float
) -> None:
    """Blocks of equidistant points: a merged cluster often ranks closer by a rounding than either of its parts did."""
    X = np.kron(np.eye(n_blocks) + outer, np.eye(5) + inner)
    Z = ce.linkage(X, method, metric)
    assert sorted(Z[:, :2].ravel()) == list(range(2 * len(X) - 2))
    distances = distance_matrix(X.astype(np.float32), metric)
    assert excess(Z, distances, method) <= 1e-13 * float(np.abs(1 - distances).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [2, 3, 300])
def test_given_equal_distances(method: Method, n: int) -> None:
    Z = ce.linkage(1 - np.eye(n), method, "precomputed")
    assert hierarchy.is_valid_linkage(Z)
    assert excess(Z, 1 - np.eye(n), method) < 1e-4


@pytest.mark.parametrize(("method", "metric"), COMBINATIONS)
@pytest.mark.parametrize("n", [2, 17, 1000])
def test_all_rows_equal(method: Method, metric: Metric, n: int) -> None:
    Z = ce.linkage(np.full((n, 5), 0.3), method, metric)
    assert Z[-1, 3] == n
    if metric == "dot":
        np.testing.assert_allclose(Z[:, 2], 1 - 5 * 0.3**2, rtol=1e-6)
    else:
        assert (Z[:, 2] == 0).all()
        np.testing.assert_array_equal(Z[:, 0], [0, *range(2, n)])


@pytest.mark.parametrize(("method", "metric"), [pair for pair in COMBINATIONS if pair[1] != "dot"])
def test_duplicates_count_as_often_as_they_occur(method: Method, metric: Metric) -> None:
    rng = np.random.default_rng(5)
    kinds = rng.standard_normal((30, 12)).astype(np.float32)
    X = kinds[np.concatenate((np.arange(30), rng.integers(30, size=90)))]
    expected = hierarchy.linkage(squareform(distance_matrix(X, metric), checks=False), method)
    Z = ce.linkage(X, method, metric)
    joined = Z[:, 2] > 0
    assert joined.sum() == 29
    np.testing.assert_allclose(Z[joined, 2], expected[-29:, 2], rtol=1e-5)
    assert {c for c in clusters(Z) if len({X[leaf].tobytes() for leaf in c}) > 1} == {
        c for c in clusters(expected) if len({X[leaf].tobytes() for leaf in c}) > 1
    }


def test_signed_zeros_are_equal() -> None:
    Z = ce.linkage([[0.0, 1.0], [5.0, 5.0], [-0.0, 1.0]], "average", "euclidean")
    np.testing.assert_array_equal(Z[0], [0, 2, 0, 2])
