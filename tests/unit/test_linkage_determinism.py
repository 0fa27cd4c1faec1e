"""The same bytes for any number of threads and any instruction set; the same tree for any order of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import clusters

import cluster_engine as ce
import native_simd
from cluster_engine.linkage.criterion import METHODS, METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Method, Metric

COMBINATIONS = [(m, k) for m in METHODS for k in METRICS if m != "ward" or k == "euclidean"]
# Heights recomputed from float64 sums, or copied from entries, are the same bits whatever was merged before them.
ORDER_FREE = [(m, k) for m, k in COMBINATIONS if m in ("complete", "single", "ward") or k in ("cosine", "dot")]


def sample(n: int, d: int, seed: int) -> NDArray[np.float32]:
    """Return groups of points, some rows twice."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((9, d))[rng.integers(9, size=n)] + 0.3 * rng.standard_normal((n, d))
    points[n // 2 : n // 2 + n // 10] = points[: n // 10]
    return points.astype(np.float32)


@pytest.mark.parametrize(("method", "metric"), COMBINATIONS)
@pytest.mark.parametrize(("n", "d"), [(2, 1), (193, 7), (700, 65)])
def test_bytes_depend_on_neither_threads_nor_instruction_set(
    method: Method, metric: Metric, n: int, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = sample(n, d, seed=n)
    results = set()
    for isa in native_simd.available_isas():
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
        results |= {ce.linkage(X, method, metric, threads=threads).tobytes() for threads in (1, 2, 4)}
    assert len(results) == 1


@pytest.mark.parametrize(("method", "metric"), [("average", "cosine"), ("average", "dot"), ("weighted", "cosine")])
def test_bytes_do_not_depend_on_the_path(method: Method, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    n, d = 3_000, 20
    X = sample(n, d, seed=1)
    X += 1e-4 * np.random.default_rng(2).standard_normal(X.shape, dtype=np.float32)  # no ties among means
    too_little_for_a_matrix = 4 * n * n
    assert ce.plan(n, d, method, metric, memory_limit=too_little_for_a_matrix).path == "lists"
    results = {ce.linkage(X, method, metric).tobytes()}
    for isa in native_simd.available_isas():
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
        for threads in (1, 2, 4):
            Z = ce.linkage(X, method, metric, threads=threads, memory_limit=too_little_for_a_matrix)
            results.add(Z.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("method", METHODS)
def test_given_distances_give_the_same_bytes_on_every_instruction_set(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    condensed = np.random.default_rng(0).integers(1, 60, 400 * 399 // 2)
    results = set()
    for isa in native_simd.available_isas():
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
        results.add(ce.linkage(condensed, method, "precomputed").tobytes())
    assert len(results) == 1


def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", "mmx")
    with pytest.raises(native_simd.IsaUnavailableError, match=r"mmx.*available: .*scalar"):
        ce.linkage(sample(20, 4, seed=0))


@pytest.mark.parametrize(("method", "metric"), COMBINATIONS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60))
def test_order_of_rows(method: Method, metric: Metric, seed: int, n: int) -> None:
    """Compare what does not depend on ties: among equal rows the leaf numbers decide, so each row occurs once."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 8)).astype(np.float32)
    order = rng.permutation(n)
    straight, shuffled = ce.linkage(X, method, metric), ce.linkage(X[order], method, metric)
    mapped = {frozenset(order[list(cluster)].tolist()) for cluster in clusters(shuffled)}
    assert mapped == clusters(straight)
    if (method, metric) in ORDER_FREE:
        assert shuffled[:, 2].tobytes() == straight[:, 2].tobytes()
    else:
        np.testing.assert_allclose(shuffled[:, 2], straight[:, 2], rtol=1e-5, atol=1e-12)


def test_equal_rows_in_another_order_give_the_same_heights() -> None:
    X = sample(300, 20, seed=4)
    order = np.random.default_rng(0).permutation(300)
    straight, shuffled = ce.linkage(X), ce.linkage(X[order])
    np.testing.assert_allclose(shuffled[:, 2], straight[:, 2], rtol=0, atol=1e-15)
