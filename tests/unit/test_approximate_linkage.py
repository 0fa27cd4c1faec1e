"""Approximate linkage: exact where its lists are whole, within its guarantee where they are true, honest where not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import best_available

import cluster_engine as ce
import native_simd
from cluster_engine.errors import CapacityError, InputError, VectorError
from cluster_engine.linkage import carving, lists
from cluster_engine.linkage.carving import candidate_lists, carve
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.dendrogram import linkage_matrix
from cluster_engine.linkage.duplicates import Points, distinct_points
from cluster_engine.linkage.violation import Violation, measure_violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Bilinear = Literal["cosine", "dot"]


@pytest.fixture(autouse=True, scope="module")
def small_sizes() -> Iterator[None]:
    """Never finish through a matrix, which is exact, and divide a few thousand points into many balls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "FEW", 1)
        patch.setattr(carving, "BALL_ROWS", 512)
        yield


def mixture(n: int, d: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, d))
    return np.asarray(centres[rng.integers(40, size=n)] + 0.5 * rng.standard_normal((n, d)), np.float32)


def points_of(
    X: NDArray[np.float32], metric: Bilinear, weights: NDArray[np.float64] | None = None
) -> tuple[Points, Criterion]:
    criterion = Criterion("average", metric)
    return distinct_points(X, native_simd.norms(X, unit=criterion.unit), criterion, weights), criterion


def tree_from(points: Points, criterion: Criterion, ranked: NDArray[np.uint64], epsilon: float) -> NDArray[np.float64]:
    """Return Z of the points by the agglomeration of these lists."""
    packed = native_simd.pack(points.vectors, unit=criterion.unit)
    merges = lists.agglomerate(points, packed, ranked, criterion, native_simd.Agglomeration.rescan, epsilon=epsilon)
    return linkage_matrix(merges, len(points))


def exact_lists(points: Points, criterion: Criterion, n_neighbours: int) -> NDArray[np.uint64]:
    neighbours = native_simd.NeighbourPass(
        native_simd.pack(points.vectors, unit=criterion.unit), n_neighbours, criterion.kernel
    )
    neighbours.run()
    return neighbours.lists


def poor_lists(points: Points, criterion: Criterion) -> NDArray[np.uint64]:
    """Return lists of 4 within each run of 12 points: most near candidates are missed, and no bound is true."""
    n, runs = len(points), []
    for start in range(0, n, 12):
        rows = np.arange(start, min(start + 12, n)) if n - start >= 24 else np.arange(start, n)
        neighbours = native_simd.NeighbourPass(
            native_simd.pack(points.vectors[rows], unit=criterion.unit), 4, criterion.kernel
        )
        neighbours.run()
        runs.append(native_simd.renumber(neighbours.lists, rows))
        if rows[-1] == n - 1:
            break
    return np.ascontiguousarray(np.concatenate(runs))


def reference_of(
    points: Points, z: NDArray[np.float64], metric: Bilinear
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = points.vectors.astype(np.longdouble)
    if metric == "cosine":
        x /= np.sqrt((x * x).sum(axis=1))[:, np.newaxis]
    return best_available(z, x, points.weights)


def worst_factor(merged: NDArray[np.float64], best: NDArray[np.float64]) -> float:
    """Return the largest ratio of what was there to what was taken, of differences above rounding."""
    missed = best - merged > 1e-9 * np.abs(best).max()
    over = np.where(best > 0, best / np.where(merged > 0, merged, 1e-300), merged / np.where(best == 0, 1e-300, best))
    return float(np.max(over[missed], initial=1.0))


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("n", [2, 3, 33, 34, 35, 200, 512])
def test_what_one_ball_holds_is_clustered_exactly(metric: Bilinear, n: int) -> None:
    X = mixture(n, 12, seed=n)
    found = ce.approximate_linkage(X, metric, epsilon=1e-12, n_repetitions=2)
    assert found.Z.tobytes() == ce.linkage(X, "average", metric).tobytes()
    assert found.violation.share == 0
    assert found.violation.excess.max() == 0


def test_without_epsilon_and_with_lists_of_the_whole_pass_the_tree_is_exact() -> None:
    X = mixture(1_500, 24, seed=1)
    points, criterion = points_of(X, "cosine")
    Z = tree_from(points, criterion, exact_lists(points, criterion, 8), 0.0)
    assert Z.tobytes() == ce.linkage(X).tobytes()


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_true_lists_keep_the_guarantee(metric: Bilinear, data: st.DataObject) -> None:
    n, d = data.draw(st.integers(2, 48)), data.draw(st.integers(2, 5))
    X = data.draw(arrays(np.float32, (n, d), elements=st.floats(-1, 1, width=16)))
    X = np.asarray(X[(X**2).sum(axis=1) > 0.1] + np.float32(data.draw(st.sampled_from([0.0, 2.0]))))
    if len(X) < 2 or not X.any(axis=1).all():
        return
    points, criterion = points_of(X, metric)
    if len(points) < 2:
        return
    epsilon = data.draw(st.sampled_from([0.01, 0.1, 0.5, 3.0]))
    Z = tree_from(points, criterion, exact_lists(points, criterion, data.draw(st.integers(1, 6))), epsilon)
    assert worst_factor(*reference_of(points, Z, metric)) <= (1 + epsilon) * (1 + 1e-6)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_true_lists_keep_the_guarantee_of_many_points(metric: Bilinear) -> None:
    points, criterion = points_of(mixture(300, 6, seed=2), metric)
    for epsilon in (0.02, 0.3):
        Z = tree_from(points, criterion, exact_lists(points, criterion, 3), epsilon)
        merged, best = reference_of(points, Z, metric)
        assert 1 < worst_factor(merged, best) <= 1 + epsilon


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("epsilon", [1e-12, 0.2, 1e6])
def test_violation_is_that_of_the_definition(metric: Bilinear, epsilon: float) -> None:
    weights = np.random.default_rng(3).integers(1, 4, size=150).astype(float)
    points, criterion = points_of(mixture(150, 6, seed=3), metric, weights)
    Z = tree_from(points, criterion, poor_lists(points, criterion), epsilon)
    merged, best = reference_of(points, Z, metric)
    rows = np.arange(len(Z))
    found = measure_violation(points, Z, rows, epsilon, unit=criterion.unit, threads=2)
    scale = np.abs(best).max()
    np.testing.assert_allclose(found.merged, merged, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(found.best, best, rtol=0, atol=1e-6 * scale)
    assert found.excess.max() > 1e-3 * scale
    some = measure_violation(points, Z, rows[7::31], epsilon, unit=criterion.unit, threads=1)
    np.testing.assert_array_equal(some.best, found.best[7::31])


def test_sums_over_many_blocks_of_leaves_are_those_of_the_points() -> None:
    points, _ = points_of(mixture(5_000, 4, seed=4), "cosine")
    Z = ce.linkage(points.vectors)
    top = np.arange(len(Z) - 8, len(Z))
    found = measure_violation(points, Z, top, 0.0, unit=True, threads=2)
    assert (found.best == found.merged).all()


def test_factors_of_similarities_of_any_sign() -> None:
    merged, best = np.array([0.5, 0.5, -0.4, -0.1, 0.0, -0.1]), np.array([0.5, 0.6, -0.2, 0.1, 0.0, 0.0])
    violation = Violation(0.1, merged, best)
    np.testing.assert_allclose(violation.factor, [1.0, 1.2, 2.0, np.inf, 1.0, np.inf])
    assert violation.share == pytest.approx(4 / 6)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_bytes_depend_on_neither_threads_nor_instruction_set(metric: Bilinear, monkeypatch: pytest.MonkeyPatch) -> None:
    X = mixture(1_600, 17, seed=5)
    X[800:900] = X[:100]
    results = set()
    for isa in native_simd.available_isas():
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
        for threads in (1, 3):
            found = ce.approximate_linkage(X, metric, n_repetitions=2, n_samples=40, seed=7, threads=threads)
            results.add((found.Z.tobytes(), found.violation.best.tobytes(), found.violation.merged.tobytes()))
    assert len(results) == 1
    other = ce.approximate_linkage(X, metric, n_repetitions=2, n_samples=40, seed=8)
    assert (other.Z.tobytes(), other.violation.best.tobytes(), other.violation.merged.tobytes()) not in results


def test_trees_are_whole_and_near_the_exact_one() -> None:
    X = mixture(4_000, 16, seed=6)
    exact = ce.linkage(X)
    found = ce.approximate_linkage(X)
    assert sorted(found.Z[:, :2].ravel()) == list(range(2 * len(X) - 2))
    assert (np.diff(found.Z[:, 2]) >= 0).all()
    np.testing.assert_allclose(found.Z[-39:, 2], exact[-39:, 2], atol=0.05)  # the mixture's 40 parts
    assert np.abs(found.Z[:, 2] - exact[:, 2]).mean() < 0.005
    assert found.violation.share < 0.1


@pytest.mark.parametrize("kind", ["mixture", "one direction", "half zeros", "few kinds"])
def test_balls_hold_every_point_once_and_fill_lists(kind: str) -> None:
    rng, n = np.random.default_rng(9), 3_000
    X = mixture(n, 5, seed=9)
    if kind == "one direction":
        X = np.outer(rng.random(n) + 1, np.ones(5)).astype(np.float32)
    elif kind == "half zeros":
        X[::2] = 0
    elif kind == "few kinds":
        X = X[rng.integers(3, size=n)]
    points, _ = points_of(X, "dot")
    balls = carve(points, rng.permutation(n), threads=2)
    np.testing.assert_array_equal(np.sort(np.concatenate(balls)), np.arange(n))
    assert all((np.diff(ball) > 0).all() for ball in balls)
    assert min(map(len, balls)) >= 64
    assert max(map(len, balls)) <= 512


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_candidates_are_others_with_their_similarities_and_more_carvings_find_more(metric: Bilinear) -> None:
    points, criterion = points_of(mixture(2_000, 16, seed=10), metric)
    everyone = exact_lists(points, criterion, len(points) - 1)
    whole = exact_lists(points, criterion, 32)
    recalls = []
    for n_repetitions in (1, 3, 9):
        found = candidate_lists(points, criterion.kernel, n_repetitions, seed=0, threads=2)
        assert found.shape == whole.shape
        assert (found[:, :-1] > found[:, 1:]).all()
        assert all(np.isin(found[i], everyone[i]).all() for i in range(0, 2_000, 50))
        recalls.append(np.mean([np.isin(whole[i], found[i]).mean() for i in range(2_000)]))
    assert recalls[0] < recalls[1] < recalls[2]
    assert recalls[2] > 0.95


def test_a_weight_counts_as_equal_vectors_do() -> None:
    X, times = mixture(150, 8, seed=11), np.random.default_rng(11).integers(1, 4, size=150)
    repeated = ce.approximate_linkage(np.repeat(X, times, axis=0), epsilon=1e-12)
    weighted = ce.approximate_linkage(X, epsilon=1e-12, weights=times)
    np.testing.assert_allclose(weighted.Z[:, 2], repeated.Z[-149:, 2], rtol=1e-12)


def test_equal_vectors_join_at_zero() -> None:
    X = np.ones((5, 3), np.float32)
    found = ce.approximate_linkage(X)
    assert (found.Z[:, 2] == 0).all()
    assert len(found.violation.merged) == 0
    assert found.violation.share == 0
    assert str(found.violation).startswith("0.0% of 0 merges")


def test_bad_arguments_are_refused() -> None:
    X = mixture(40, 4, seed=12)
    with pytest.raises(InputError, match="cosine"):
        ce.approximate_linkage(X, "euclidean")  # type: ignore[arg-type]
    for name, value in (("n_repetitions", 0), ("n_samples", 0), ("seed", -1)):
        with pytest.raises(InputError, match=name):
            ce.approximate_linkage(X, **{name: value})  # type: ignore[arg-type]
    for wrong in (0.0, -0.1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="epsilon"):
            ce.approximate_linkage(X, epsilon=wrong)
    with pytest.raises(CapacityError):
        ce.approximate_linkage(X, memory_limit=1_000)
    X[7] = 0
    with pytest.raises(VectorError, match="row 7"):
        ce.approximate_linkage(X)


def test_an_agglomeration_takes_either_an_epsilon_or_a_cut() -> None:
    points, criterion = points_of(mixture(40, 4, seed=13), "cosine")
    packed = native_simd.pack(points.vectors, unit=True)
    with pytest.raises(ValueError, match="epsilon"):
        native_simd.Agglomeration(
            points.vectors,
            points.norms,
            packed,
            points.weights,
            exact_lists(points, criterion, 4),
            method="average",
            metric="cosine",
            cut=0.5,
            epsilon=0.1,
        )


def test_a_plan_of_a_long_linkage_names_the_approximate_one() -> None:
    assert "approximate_linkage" in str(ce.plan(50_000_000, 768, memory_limit=10**13))
    assert "approximate_linkage" not in str(ce.plan(10_000, 768))
    assert "approximate_linkage" not in str(ce.plan(50_000_000, 768, "ward", "euclidean", memory_limit=10**13))
