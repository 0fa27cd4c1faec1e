"""Single linkage by the spanning tree against SciPy's, where lists say too little: clusters of clusters, ties."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.cluster import hierarchy

import cluster_engine as ce

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Metric


def clusters_of_clusters(n: int, d: int) -> NDArray[np.float32]:
    """Return 8 groups of 4 groups of 4 groups: far more points in each than a list holds."""
    rng = np.random.default_rng(0)
    at = rng.integers((8, 4, 4), size=(n, 3))
    places = rng.standard_normal((8, d))[at[:, 0]] + 0.3 * rng.standard_normal((8, 4, d))[at[:, 0], at[:, 1]]
    places += 0.1 * rng.standard_normal((8, 4, 4, d))[at[:, 0], at[:, 1], at[:, 2]]
    return np.asarray(places + 0.01 * rng.standard_normal((n, d)), np.float32)


def partition(z: NDArray[np.float64], height: float) -> set[tuple[int, ...]]:
    labels = hierarchy.fcluster(z, height, "distance")
    return {tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("threads", [1, 2])
def test_clusters_of_clusters(metric: Metric, threads: int) -> None:
    X = clusters_of_clusters(2_000, 8)
    Z, expected = ce.linkage(X, "single", metric, threads=threads), hierarchy.linkage(X.astype(float), "single", metric)
    np.testing.assert_allclose(Z[:, 2], expected[:, 2], rtol=1e-9, atol=1e-15)
    assert (Z[:, 3] == expected[:, 3]).mean() > 0.99
    for height in expected[[500, 1_500, 1_990, 1_997], 2] * (1 + 1e-7):
        assert partition(Z, height) == partition(expected, height)


def test_inner_products() -> None:
    X = clusters_of_clusters(800, 8)
    shift = 100.0
    distances = shift - X.astype(float) @ X.T.astype(float)
    expected = hierarchy.linkage(distances[np.triu_indices(len(X), 1)], "single")
    np.testing.assert_allclose(ce.linkage(X, "single", "dot")[:, 2], expected[:, 2] - shift + 1.0, atol=1e-12)


def test_more_ties_than_a_list_holds() -> None:
    X = np.stack(np.meshgrid(*[np.arange(7)] * 3), axis=-1).reshape(-1, 3)
    Z = ce.linkage(X, "single", "euclidean")
    np.testing.assert_array_equal(Z[:, 2], np.ones(len(X) - 1))
    ring = np.eye(60, dtype=np.float32)
    np.testing.assert_allclose(ce.linkage(ring, "single", "cosine")[:, 2], np.ones(59))


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_a_cut_leaves_a_forest(metric: Metric) -> None:
    X = clusters_of_clusters(600, 8)
    whole = ce.linkage(X, "single", metric)
    for cut in (whole[300, 2], whole[590, 2], whole[0, 2] - 1.0):
        np.testing.assert_array_equal(ce.linkage(X, "single", metric, cut=cut), whole[whole[:, 2] <= cut])
