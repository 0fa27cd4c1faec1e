"""The same tree as SciPy over float64 distances, wherever arithmetic leaves no choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from reference import Join, clusters, distance_matrix, greedy
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

import cluster_engine as ce
from cluster_engine.linkage.criterion import METHODS, METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Method, Metric

U = 2.0**-24  # unit roundoff of float32
COMBINATIONS = [(m, k) for m in METHODS for k in METRICS if m != "ward" or k == "euclidean"]
CERTIFIED = [(m, k) for m in ("average", "weighted") for k in ("cosine", "dot")]
UNCERTIFIED = [pair for pair in COMBINATIONS if pair not in CERTIFIED]


def draw_points(kind: str, n: int, d: int, seed: int) -> NDArray[np.float32]:
    """Return n points of d dimensions: one cloud, groups within groups, or uniform on the positive side."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n, d))
    if kind == "groups":
        noise *= 0.2
        for groups in (3, 7):
            noise += rng.standard_normal((groups, d))[rng.integers(groups, size=n)]
    points = rng.random((n, d)) + 0.1 if kind == "uniform" else noise
    return points.astype(np.float32)


def certain(joins: list[Join[float]], relative: float, absolute: float = 0.0) -> bool:
    """Tell whether no error within these bounds can change the tree.

    Each pair joined must be closer than the next best of either cluster by the errors of both. Then it is a reciprocal
    pair of the erroneous distances too, and these methods give one tree whichever reciprocal pair is joined first.
    """
    return all(
        join.runner_up - join.distance > relative * abs(join.runner_up + join.distance) + 2 * absolute
        for join in joins[:-1]  # the last has no rival
    )


def scipy_linkage(distances: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    return np.asarray(hierarchy.linkage(squareform(distances, checks=False), method))


def oracle_distances(distances: NDArray[np.float64], method: str) -> list[list[float]]:
    return [list(row) for row in (distances**2 if method == "ward" else distances).tolist()]


points = st.builds(
    draw_points,
    st.sampled_from(["cloud", "groups", "uniform"]),
    st.integers(2, 40),
    st.integers(2, 200),
    st.integers(0, 2**32 - 1),
)


@pytest.mark.parametrize(("method", "metric"), CERTIFIED)
@settings(max_examples=60, deadline=None)
@given(X=points)
def test_certified_methods_give_scipys_matrix(method: Method, metric: Metric, X: NDArray[np.float32]) -> None:
    distances = distance_matrix(X, metric)
    scale = np.abs(1 - distances).max()  # similarities, of which distances are 1 minus, carry the errors
    assume(certain(greedy(distances.tolist(), method), 0.0, 1e-12 * scale))
    expected = scipy_linkage(distances, method)
    assume((np.diff(expected[:, 2]) > 1e-12 * scale).all())  # else rows of Z may be in either order
    found = ce.linkage(X, method, metric)
    np.testing.assert_array_equal(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=0, atol=1e-13 * scale)


def unit_error(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the relative errors of cosine distances between unit vectors that were rounded to float32."""
    return 4 * U / np.sqrt(2 * distances)


def error_bounds(X: NDArray[np.float32], metric: str, method: str, smallest: float) -> tuple[float, float]:
    """Return bounds of the (relative, absolute) error of float32 distances between clusters.

    A chain of d operations, one rounding for each update of a row, and under "cosine" that of unit vectors. Ward's
    update subtracts and so magnifies errors; 8 times is a margin found by experiment, not proven.
    """
    n, d = X.shape
    if metric == "dot":
        return 0.0, (d + 2) * U * float((X.astype(np.float64) ** 2).sum(axis=1).max())
    relative = (d + 8 + n) * U + (unit_error(np.array(smallest)) if metric == "cosine" else 0)
    return (8 if method == "ward" else 1) * relative, 0.0


def assert_heights(found: NDArray[np.float64], expected: NDArray[np.float64], metric: str, absolute: float) -> None:
    relative = 0.0 if metric == "dot" else 1e-5
    allowed = absolute + relative * expected + (expected * unit_error(expected) if metric == "cosine" else 0)
    assert (np.abs(found - expected) <= allowed).all()


@pytest.mark.parametrize(("method", "metric"), UNCERTIFIED)
@settings(max_examples=60, deadline=None)
@given(X=points)
def test_other_methods_give_scipys_tree(method: Method, metric: Metric, X: NDArray[np.float32]) -> None:
    distances = distance_matrix(X, metric)
    smallest = float(distances[np.triu_indices(len(X), 1)].min())
    assume(smallest > 0 or metric == "dot")
    bounds = error_bounds(X, metric, method, smallest)
    assume(certain(greedy(oracle_distances(distances, method), method), *bounds))
    expected = scipy_linkage(distances, method)
    found = ce.linkage(X, method, metric)
    assert clusters(found) == clusters(expected)
    assert_heights(found[:, 2], expected[:, 2], metric, bounds[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["condensed", "square"])
@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 40), seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-9, 1.0, 1e12]))
@example(n=2, seed=0, scale=1.0)
def test_given_distances_give_scipys_tree(
    method: Method, form: Literal["condensed", "square"], n: int, seed: int, scale: float
) -> None:
    distances = distance_matrix(draw_points("cloud", n, 5, seed), "euclidean") * scale
    relative = (8 if method == "ward" else 1) * (n + 4) * U
    assume(certain(greedy(oracle_distances(distances, method), method), relative))
    expected = scipy_linkage(distances, method)
    given_ = distances if form == "square" else squareform(distances, checks=False)
    found = ce.linkage(given_, method, "precomputed")
    assert clusters(found) == clusters(expected)
    np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=1e-5)


def stable(distances: NDArray[np.float64], method: str, relative: float, seed: int) -> bool:
    """Tell whether SciPy's own tree outlives rounding of its input to float32, and random errors of this size."""
    rng = np.random.default_rng(seed)
    condensed = squareform(distances, checks=False)
    tree = clusters(hierarchy.linkage(condensed, method))
    disturbed = [condensed * (1 + relative * rng.uniform(-1, 1, len(condensed))) for _ in range(2)]
    rounded = condensed.astype(np.float32).astype(np.float64)
    return all(clusters(hierarchy.linkage(other, method)) == tree for other in [rounded, *disturbed])


def fast_distances(X: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
    x = X.astype(np.float64)
    if metric == "cosine":
        x /= np.linalg.norm(x, axis=1)[:, np.newaxis]
    gram = x @ x.T
    if metric in ("cosine", "dot"):
        distances = 1 - gram
    else:
        squared = np.maximum(np.diag(gram)[:, np.newaxis] + np.diag(gram) - 2 * gram, 0)
        distances = np.sqrt(squared) if metric == "euclidean" else squared
    np.fill_diagonal(distances, 0)
    return distances


@pytest.mark.parametrize(
    ("n", "d", "method", "metric"),
    [
        (2000, 64, "average", "cosine"),
        (2000, 200, "weighted", "cosine"),
        (1999, 3, "average", "dot"),
        (1500, 16, "weighted", "dot"),
    ],
)
def test_large_trees_of_certified_methods(n: int, d: int, method: Method, metric: Metric) -> None:
    X = draw_points("groups", n, d, seed=n + d)
    expected = scipy_linkage(fast_distances(X, metric), method)
    found = ce.linkage(X, method, metric)
    np.testing.assert_array_equal(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=1e-12, atol=1e-12 * float((X * X).sum(1).max()))


@pytest.mark.parametrize(
    ("n", "d", "method", "metric"),
    [
        (2000, 4, "single", "euclidean"),
        (2000, 8, "complete", "cosine"),
        (1000, 4, "ward", "euclidean"),
        (1000, 4, "average", "euclidean"),
        (1000, 3, "weighted", "sqeuclidean"),
    ],
)
def test_large_trees_of_other_methods(n: int, d: int, method: Method, metric: Metric) -> None:
    seed, X = next(
        (seed, X)
        for seed, X in ((seed, draw_points("cloud", n, d, seed)) for seed in range(50))
        if stable(fast_distances(X, metric), method, 1e-6, seed)
    )
    expected = scipy_linkage(fast_distances(X, metric), method)
    found = ce.linkage(X, method, metric)
    assert clusters(found) == clusters(expected), seed
    np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=1e-5)


@pytest.mark.parametrize(("method", "metric"), COMBINATIONS)
def test_scipy_works_on_the_result(method: Method, metric: Metric) -> None:
    X = draw_points("groups", 60, 20, seed=3)
    X /= 2 * np.linalg.norm(X, axis=1).max()  # keeps "dot" distances positive, which SciPy's functions expect
    expected = scipy_linkage(distance_matrix(X, metric), method)
    Z = ce.linkage(X, method, metric)
    assert hierarchy.is_valid_linkage(Z)
    assert hierarchy.is_monotonic(Z)
    np.testing.assert_allclose(hierarchy.cophenet(Z), hierarchy.cophenet(expected), rtol=1e-5)
    np.testing.assert_array_equal(hierarchy.cut_tree(Z, [2, 5]), hierarchy.cut_tree(expected, [2, 5]))
    np.testing.assert_array_equal(hierarchy.fcluster(Z, 4, "maxclust"), hierarchy.fcluster(expected, 4, "maxclust"))
    assert hierarchy.dendrogram(Z, no_plot=True)["leaves"] == hierarchy.dendrogram(expected, no_plot=True)["leaves"]
