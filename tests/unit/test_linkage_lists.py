"""The matrix-free path against SciPy, exact fractions, and the path through the matrix, also with very short lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from list_linkage import EXACT, from_lists
from reference import distance_matrix, excess
from scipy.cluster import hierarchy

import cluster_engine as ce
from cluster_engine.errors import CapacityError, InputError
from cluster_engine.linkage import lists

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Method, Metric


@pytest.fixture(autouse=True, scope="module")
def lists_to_the_end() -> Iterator[None]:
    """Never finish through a matrix, but where a test says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "FEW", 1)
        yield


def scipy_linkage(X: NDArray[np.float32], method: Method, metric: Metric) -> NDArray[np.float64]:
    exact = X.astype(np.float64)
    if metric != "dot":
        return np.asarray(hierarchy.linkage(exact, method, metric))
    shift = 2 * float((exact**2).sum(axis=1).max())  # SciPy wants distances that are not negative
    z = hierarchy.linkage((shift - exact @ exact.T)[np.triu_indices(len(X), 1)], method)
    z[:, 2] += 1.0 - shift
    return np.asarray(z)


def cone(n: int, d: int) -> NDArray[np.float32]:
    """Return a blob and ever farther outliers: each joins all that came before it."""
    rng = np.random.default_rng(3)
    angle = np.linspace(0.01, 1.5, n)[:, np.newaxis]
    axis, towards = np.eye(d)[0], np.eye(d)[1] + 0.01 * rng.standard_normal((n, d))
    return np.asarray(np.cos(angle) * axis + np.sin(angle) * towards, np.float32)


@pytest.mark.parametrize(("method", "metric"), EXACT)
@pytest.mark.parametrize("n_neighbours", [1, 3, 32])
@pytest.mark.parametrize("kind", ["normal", "cone"])
def test_trees_are_scipys(method: Method, metric: Metric, n_neighbours: int, kind: str) -> None:
    rng = np.random.default_rng(5)
    X = cone(300, 12) if kind == "cone" else rng.standard_normal((500, 12), dtype=np.float32)
    expected = scipy_linkage(X, method, metric)
    Z, work = from_lists(X, method, metric, n_neighbours)
    np.testing.assert_array_equal(Z[:, [0, 1, 3]], expected[:, [0, 1, 3]])
    np.testing.assert_allclose(Z[:, 2], expected[:, 2], rtol=1e-12, atol=1e-12)
    assert work.restarts == 0
    assert work.searches <= 6 * len(X)


@pytest.mark.parametrize(("method", "metric"), EXACT)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_few_vectors_with_ties_and_duplicates(method: Method, metric: Metric, data: st.DataObject) -> None:
    n, d = data.draw(st.integers(2, 60)), data.draw(st.integers(1, 5))
    X = data.draw(arrays(np.float32, (n, d), elements=st.integers(-3, 3)))
    X = X[X.any(axis=1)] * np.float32(data.draw(st.sampled_from([1.0, 0.37])))
    if len(X) < 2:
        return
    Z, _ = from_lists(X, method, metric, data.draw(st.integers(1, 8)), threads=2)
    distances = distance_matrix(X, "sqeuclidean" if method == "ward" else metric)
    assert sorted(Z[:, :2].ravel()) == list(range(2 * len(X) - 2))
    assert excess(Z, distances, method) <= 1e-12 * max(1.0, float(np.abs(distances).max()))


@pytest.mark.parametrize("kind", ["normal", "mixture"])
@pytest.mark.parametrize("few", [1, 1_000])
def test_both_paths_give_the_same_bits(kind: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "FEW", few)
    rng = np.random.default_rng(6)
    X = rng.standard_normal((2_500, 24), dtype=np.float32)
    if kind == "mixture":
        X = 0.4 * X + rng.standard_normal((30, 24), dtype=np.float32)[rng.integers(30, size=len(X))]
    for threads in (1, 2):
        assert from_lists(X, "average", "cosine", 8, threads=threads)[0].tobytes() == ce.linkage(X).tobytes()


@pytest.mark.parametrize(("method", "metric"), EXACT)
def test_every_similarity_ties(method: Method, metric: Metric) -> None:
    X = np.eye(40, dtype=np.float32)
    expected = scipy_linkage(X, method, metric)
    Z, work = from_lists(X, method, metric, 4)
    np.testing.assert_allclose(Z[:, 2], expected[:, 2], rtol=1e-12, atol=1e-12)
    assert work.exhausted > 0
    assert (Z[0, :2] == [0, 1]).all()


@pytest.mark.parametrize(
    ("method", "metric"), [("average", "cosine"), ("average", "sqeuclidean"), ("ward", "euclidean")]
)
def test_a_weight_counts_as_equal_vectors_do(method: Method, metric: Metric) -> None:
    rng = np.random.default_rng(7)
    X = rng.standard_normal((200, 8), dtype=np.float32)
    times = rng.integers(1, 5, size=len(X))
    repeated = ce.linkage(np.repeat(X, times, axis=0), method, metric)
    expected = repeated[times.sum() - len(X) :, 2]  # the others join equal vectors at height 0
    for Z in (
        ce.linkage(X, method, metric, weights=times),
        from_lists(X, method, metric, 2, weights=times.astype(float))[0],
    ):
        np.testing.assert_allclose(Z[:, 2], expected, rtol=1e-12)
        assert Z[-1, 3] == len(X)


@pytest.mark.parametrize(("method", "metric"), [*EXACT, ("complete", "cosine"), ("single", "euclidean")])
def test_a_cut_leaves_out_the_merges_above_it(method: Method, metric: Metric) -> None:
    X = np.random.default_rng(8).standard_normal((300, 6), dtype=np.float32)
    whole = ce.linkage(X, method, metric)
    for cut in (whole[0, 2] - 1, whole[150, 2], (whole[200, 2] + whole[201, 2]) / 2, whole[-1, 2]):
        expected = whole[whole[:, 2] <= cut]
        np.testing.assert_array_equal(ce.linkage(X, method, metric, cut=cut), expected)
        if (method, metric) in EXACT:
            np.testing.assert_array_equal(from_lists(X, method, metric, 2, cut=cut)[0], expected)


def test_work_on_a_cone_stays_bounded() -> None:
    n = 3_000
    _, work = from_lists(cone(n, 16), "average", "cosine", 32, threads=2)
    assert n * n / 2 + work.rescanned + work.compared <= 3 * n * n


def test_plans_tell_the_path_and_the_bytes() -> None:
    assert ce.plan(1_000, 768).path == "matrix"
    assert ce.plan(100_000, 768).path == "lists"
    assert ce.plan(100_000, 768).memory_bytes < 2e9
    assert ce.plan(40_000, 768).memory_bytes < 0.8e9
    assert ce.plan(8_000, 96, memory_limit=300_000_000).path == "matrix"
    assert ce.plan(8_000, 96, memory_limit=100_000_000).path == "lists"
    with pytest.raises(CapacityError, match="average linkage under 'cosine'"):
        ce.plan(100_000, 768, "complete", memory_limit=10**9)


@pytest.mark.parametrize("wrong", [[1.0], np.zeros(20), np.full(20, np.nan), ["a"] * 20])
def test_weights_that_are_none_are_refused(wrong: object) -> None:
    X = np.random.default_rng(9).standard_normal((20, 3))
    with pytest.raises(InputError, match="weight"):
        ce.linkage(X, weights=wrong)
    with pytest.raises(InputError, match="no use for weights"):
        ce.linkage(X, "complete", weights=np.ones(20))
