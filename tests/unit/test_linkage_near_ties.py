"""Certified methods decide in float64: gaps far below the resolution of float32 decide as they should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import Join, clusters, distance_matrix, excess, greedy
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

import cluster_engine as ce
import native_simd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Method, Metric

CERTIFIED_METHODS = ("average", "weighted")


def nearly_equidistant(n: int, seed: int) -> NDArray[np.float32]:
    """Return unit vectors whose similarities are all 1/2, to about 1e-8: two groups of them, so that sums matter."""
    rng = np.random.default_rng(seed)
    x = np.eye(n) + rng.permutation(np.repeat([0.25, 0.3], n))[:n, np.newaxis] / np.sqrt(n)
    x += 1e-7 * rng.standard_normal((n, n))
    return np.asarray(x / np.linalg.norm(x, axis=1)[:, np.newaxis], np.float32)


def smallest_gap(distances: NDArray[np.float64], method: str) -> float:
    joins: list[Join[float]] = greedy(distances.tolist(), method)
    return min(join.runner_up - join.distance for join in joins[:-1])


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("method", CERTIFIED_METHODS)
@settings(max_examples=40, deadline=None)
@given(n=st.integers(8, 40), seed=st.integers(0, 2**32 - 1))
def test_gaps_near_1e_9_are_decided_right(method: Method, metric: Metric, n: int, seed: int) -> None:
    X = nearly_equidistant(n, seed)
    distances = distance_matrix(X, metric)
    assume(1e-13 < smallest_gap(distances, method) < 1e-9)
    expected = hierarchy.linkage(squareform(distances, checks=False), method)
    found = ce.linkage(X, method, metric)
    assert clusters(found) == clusters(expected)
    np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", CERTIFIED_METHODS)
def test_float32_would_decide_them_wrong(method: Method) -> None:
    X = nearly_equidistant(30, seed=1)
    distances = squareform(distance_matrix(X, "cosine"), checks=False)
    rounded = distances.astype(np.float32).astype(np.float64)
    assert clusters(hierarchy.linkage(rounded, method)) != clusters(hierarchy.linkage(distances, method))
    assert clusters(ce.linkage(X, method, "cosine")) == clusters(hierarchy.linkage(distances, method))


@pytest.mark.parametrize("method", CERTIFIED_METHODS)
def test_many_candidates_within_the_error_of_float32(method: Method) -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal(384)
    X = (base + 1e-4 * rng.standard_normal((300, 384))).astype(np.float32)  # distances near 1e-8, float32 blind
    found = ce.linkage(X, method, "cosine")
    assert excess(found, distance_matrix(X, "cosine"), method) < 1e-14


def cone(n: int, d: int) -> NDArray[np.float32]:
    """Return a blob, and outliers each farther from it than the one before, which join it one at a time."""
    rng = np.random.default_rng(0)
    angles = np.concatenate((np.full(n // 2, 0.02), np.geomspace(0.05, 1.5, n - n // 2)))
    away = rng.standard_normal((n, d))
    away[:, 0] = 0
    away /= np.linalg.norm(away, axis=1)[:, np.newaxis]
    axis = np.eye(1, d)
    return np.asarray(np.cos(angles)[:, np.newaxis] * axis + np.sin(angles)[:, np.newaxis] * away, np.float32)


@pytest.mark.parametrize("method", CERTIFIED_METHODS)
def test_cone_is_right_and_its_work_bounded(method: Method) -> None:
    n, d = 800, 64
    X = cone(n, d)
    distances = distance_matrix(X, "cosine")
    expected = hierarchy.linkage(squareform(distances, checks=False), method)
    assert clusters(ce.linkage(X, method, "cosine")) == clusters(expected)
    sums = X.astype(np.float64) / np.linalg.norm(X.astype(np.float64), axis=1)[:, np.newaxis]
    chain = native_simd.NearestNeighbourChain(
        native_simd.similarity(X, X), method, np.ones(n), sums=sums, value_error=d * 2.0**-24, value_bound=1.0
    )
    assert len(chain.advance(n)[0]) == n - 1
    assert chain.counters().scans <= 3 * n
    assert chain.counters().compared <= n * n / 8
