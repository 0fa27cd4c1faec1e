"""The nearest-neighbour chain against a slow greedy linkage in exact arithmetic, and against SciPy."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

import native_simd

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("average", "complete", "single", "weighted", "ward")
EXAMPLES = settings(max_examples=60, deadline=None)
Merge = tuple[Fraction, int, int]


def exact_update(method: str, x: Fraction, y: Fraction, joint: Fraction, counts: tuple[int, int, int]) -> Fraction:
    """Return the similarity of a union with a third cluster (Lance and Williams 1967)."""
    a, b, c = counts
    if method == "average":
        return (a * x + b * y) / (a + b)
    if method == "ward":
        return ((a + c) * x + (b + c) * y - c * joint) / (a + b + c)
    return {"complete": min(x, y), "single": max(x, y), "weighted": (x + y) / 2}[method]


class ExactClusters:
    """Clusters named by their smallest leaf, and their similarities as fractions. O(n) a merge."""

    def __init__(self, matrix: NDArray[Any], method: str) -> None:
        self.method = method
        self.counts = dict.fromkeys(range(len(matrix)), 1)
        self._rows = [[Fraction(float(value)) for value in row] for row in matrix]

    def similarity(self, a: int, b: int) -> Fraction:
        return self._rows[a][b]

    def best_of(self, a: int) -> Fraction:
        return max(self._rows[a][b] for b in self.counts if b != a)

    def best_pair(self) -> tuple[int, int]:
        """Return the first pair by similarity descending, then smaller leaf, then larger."""
        alive = list(self.counts)
        pairs = ((a, b) for i, a in enumerate(alive) for b in alive[i + 1 :])
        return min(pairs, key=lambda pair: (-self._rows[pair[0]][pair[1]], pair))

    def join(self, a: int, b: int) -> None:
        joint, n_a, n_b = self._rows[a][b], self.counts[a], self.counts.pop(b)
        self.counts[a] += n_b
        for c in self.counts:
            if c != a:
                sizes = (n_a, n_b, self.counts[c])
                value = exact_update(self.method, self._rows[a][c], self._rows[b][c], joint, sizes)
                self._rows[a][c] = self._rows[c][a] = value


def greedy(matrix: NDArray[Any], method: str) -> list[Merge]:
    """Return the merges of always the best pair, by descending similarity, then names. O(n^3)."""
    clusters, merges = ExactClusters(matrix, method), []
    while len(clusters.counts) > 1:
        a, b = clusters.best_pair()
        merges.append((clusters.similarity(a, b), a, b))
        clusters.join(a, b)
    return sorted(merges, key=lambda merge: (-merge[0], *merge[1:]))


def run(matrix: NDArray[np.float32], method: str, **options: Any) -> list[Merge]:  # noqa: ANN401 - passed on
    n = len(matrix)
    chain = native_simd.NearestNeighbourChain(matrix.copy(), method, np.ones(n), **options)  # type: ignore[arg-type]
    return [(Fraction(float(s)), int(a), int(b)) for a, b, s in zip(*chain.advance(n), strict=True)]


def canonical(merges: list[Merge]) -> list[Merge]:
    return sorted(merges, key=lambda merge: (-merge[0], *merge[1:]))


def assert_each_merge_is_of_nearest(merges: list[Merge], matrix: NDArray[Any], method: str, slack: float) -> None:
    """Replay in exact arithmetic: every pair was alive, its similarity is right, and neither had anything nearer."""
    clusters = ExactClusters(matrix, method)
    for similarity, a, b in merges:
        assert a < b
        assert {a, b} <= clusters.counts.keys()
        exact, tolerance = clusters.similarity(a, b), Fraction(slack) * (1 + abs(similarity))
        assert abs(exact - similarity) <= tolerance
        assert max(clusters.best_of(a), clusters.best_of(b)) - exact <= tolerance
        clusters.join(a, b)
    assert len(clusters.counts) == 1


@st.composite
def symmetric_integers(draw: st.DrawFn, max_n: int = 40) -> NDArray[np.float32]:
    n, n_values = draw(st.integers(1, max_n)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    upper = np.triu(rng.integers(-n_values, 1, (n, n)), 1)
    return (upper + upper.T).astype(np.float32)


@st.composite
def integer_vectors(draw: st.DrawFn) -> NDArray[np.float32]:
    n, d, largest = draw(st.integers(1, 40)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return rng.integers(-largest, largest + 1, (n, d)).astype(np.float32)


@pytest.mark.parametrize("method", ["complete", "weighted"])
@EXAMPLES
@given(matrix=symmetric_integers())
def test_ties_go_to_the_first_pair(method: str, matrix: NDArray[np.float32]) -> None:
    assert canonical(run(matrix, method)) == greedy(matrix, method)


@pytest.mark.parametrize("method", METHODS)
@EXAMPLES
@given(matrix=symmetric_integers(max_n=60))
def test_every_merge_is_of_nearest_neighbours(method: str, matrix: NDArray[np.float32]) -> None:
    exact = method in ("complete", "single", "weighted")
    assert_each_merge_is_of_nearest(run(matrix, method), matrix, method, 0.0 if exact else 1e-5)


@EXAMPLES
@given(matrix=symmetric_integers())
def test_single_linkage_joins_the_same_points_at_each_height(matrix: NDArray[np.float32]) -> None:
    got, expected = canonical(run(matrix, "single")), greedy(matrix, "single")
    assert [merge[0] for merge in got] == [merge[0] for merge in expected]
    for height in {merge[0] for merge in got}:
        absorbed = [{b for s, _, b in merges if s >= height} for merges in (got, expected)]
        assert absorbed[0] == absorbed[1]  # what is left are the smallest leaves of the groups


@pytest.mark.parametrize("method", ["average", "weighted"])
@EXAMPLES
@given(x=integer_vectors())
def test_certified_decisions_are_exact(method: str, x: NDArray[np.float32]) -> None:
    matrix = x @ x.T
    bound = float(abs(matrix).max())
    options = {"sums": x.astype(np.float64), "value_error": 0.0, "value_bound": bound}
    got, expected = canonical(run(matrix, method, **options)), greedy(matrix, method)
    assert [merge[1:] for merge in got] == [merge[1:] for merge in expected]
    assert [float(merge[0]) for merge in got] == [float(merge[0]) for merge in expected]


@pytest.mark.parametrize("method", ["average", "weighted"])
@pytest.mark.parametrize("error", [1e-6, 1e-2, 0.2])
def test_errors_within_the_certificate_change_nothing(method: str, error: float) -> None:
    rng = np.random.default_rng(3)
    for n in (2, 10, 40, 300):
        x = rng.standard_normal((n, 6))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        exact = x @ x.T
        noise = np.triu(rng.choice([-1.0, 1.0], (n, n)), 1) * error * 0.99
        options = {"value_error": error, "value_bound": 1.0 + error}
        noisy = run((exact + noise + noise.T).astype(np.float32), method, sums=x.copy(), **options)
        clean = run(exact.astype(np.float32), method, sums=x.copy(), **options)
        assert noisy == clean


@pytest.mark.parametrize("method", ["average", "weighted"])
def test_roundings_of_the_updates_are_in_the_certificate(method: str) -> None:
    """Inner products that float32 holds exactly, but not their averages, and these are what decides."""
    for seed in range(20):
        x = np.random.default_rng(seed).integers(1980, 2028, (200, 2)).astype(np.float64)
        matrix = (x @ x.T).astype(np.float32)
        assert (matrix == x @ x.T).all()
        bound = float(matrix.max())
        certified = run(matrix, method, sums=x.copy(), value_error=0.0, value_bound=bound)
        all_compared = run(matrix, method, sums=x.copy(), value_error=bound, value_bound=bound)
        assert certified == all_compared


def regular_points(seed: int) -> NDArray[np.float32]:
    """Return points with many similarities that are equal but for their last bits."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 80))
    if seed % 3 == 0:
        return (np.eye(n) + rng.normal()).astype(np.float32)
    if seed % 3 == 1:
        angles = 2 * np.pi * np.arange(n) / n
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    base = rng.standard_normal((5, 6))
    return np.concatenate([np.roll(base, shift, axis=1) for shift in range(6)]).astype(np.float32)


@pytest.mark.parametrize("method", ["average", "weighted"])
def test_near_ties_leave_a_sound_tree(method: str) -> None:
    for seed in range(300):
        x = regular_points(seed)
        packed = native_simd.pack(x, unit=True)
        matrix = np.empty((len(x), len(x)), np.float32)
        native_simd.pairwise_symmetric(packed, out=matrix)
        units = x / packed.norms[:, np.newaxis]
        merges = run(matrix, method, sums=units.copy(), value_error=1e-5, value_bound=1.0)
        if seed < 60:
            assert_each_merge_is_of_nearest(merges, units @ units.T, method, 1e-13)
        assert sorted(b for _, _, b in merges) == list(range(1, len(x)))


def tree_of(z: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return, for each row of SciPy's Z, the smallest leaves of what it joins."""
    smallest = list(range(len(z) + 1))
    pairs = []
    for left, right in z[:, :2].astype(int):
        a, b = sorted((smallest[left], smallest[right]))
        pairs.append((a, b))
        smallest.append(a)
    return pairs


def points(n: int, shape: str) -> NDArray[np.float64]:
    rng = np.random.default_rng(n)
    if shape == "cone":  # ever closer points: the chain grows to the whole set
        return np.cumsum(np.linspace(2.0, 1.0, n) + 1e-4 * rng.random(n))[:, np.newaxis]
    if shape == "groups":
        return 4 * rng.standard_normal((1 + n // 8, 5))[rng.integers(0, 1 + n // 8, n)] + rng.standard_normal((n, 5))
    return rng.standard_normal((n, 5))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["cone", "groups", "cloud"])
@pytest.mark.parametrize("n", [2, 60, 255, 256, 257, 600])
def test_equals_scipy_without_ties(method: str, shape: str, n: int) -> None:
    # distances that float32 holds; for Ward, squared ones
    distances = squareform(pdist(points(n, shape))).astype(np.float32)
    matrix = -(distances**2) if method == "ward" else -distances
    expected = hierarchy.linkage(
        squareform(np.sqrt(-matrix.astype(np.float64)) if method == "ward" else -matrix), method
    )
    chain = native_simd.NearestNeighbourChain(matrix.copy(), method, np.ones(n))  # type: ignore[arg-type]
    first, second, similarity = chain.advance(n)
    heights = np.sqrt(-similarity) if method == "ward" else -similarity
    order = np.argsort(heights, kind="stable")
    np.testing.assert_allclose(heights[order], expected[:, 2], rtol=3e-6)
    if np.diff(expected[:, 2]).min(initial=1.0) > 1e-5:  # else the order of the two is open
        assert list(zip(first[order].tolist(), second[order].tolist(), strict=True)) == tree_of(expected)
    assert (chain.counters().compactions > 0) == (n >= 256)


@pytest.mark.parametrize("method", ["average", "complete", "single", "ward"])
def test_counts_stand_for_repeated_points(method: str) -> None:
    rng = np.random.default_rng(9)
    x, counts = rng.standard_normal((40, 3)), rng.integers(1, 6, 40)
    distances = squareform(pdist(x))
    pairs = 2 * np.multiply.outer(counts, counts) / np.add.outer(counts, counts)
    matrix = (-pairs * distances**2 if method == "ward" else -distances).astype(np.float32)
    chain = native_simd.NearestNeighbourChain(matrix, method, counts.astype(np.float64))  # type: ignore[arg-type]
    similarity = np.sort(chain.advance(40)[2])[::-1]
    heights = np.sqrt(-similarity) if method == "ward" else -similarity
    expected = hierarchy.linkage(np.repeat(x, counts, axis=0), method)[:, 2]
    np.testing.assert_allclose(heights, expected[expected > 1e-9], rtol=3e-6)


@pytest.mark.parametrize("method", METHODS)
def test_equal_similarities_join_in_order(method: str) -> None:
    merges = run(np.full((60, 60), -2, np.float32), method)
    if method != "ward":  # whose similarities fall as clusters grow
        assert canonical(merges) == [(Fraction(-2), 0, b) for b in range(1, 60)]
    assert_each_merge_is_of_nearest(merges, np.full((60, 60), -2, np.float32), method, 1e-5)


@EXAMPLES
@given(n=st.integers(1, 700), slices=st.lists(st.integers(0, 300), max_size=6), seed=st.integers(0, 999))
def test_slices_equal_one_go(n: int, slices: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-50, 0, (n, n)).astype(np.float32)
    matrix = np.maximum(matrix, matrix.T)
    whole = native_simd.NearestNeighbourChain(matrix.copy(), "average", np.ones(n)).advance(n)
    chain = native_simd.NearestNeighbourChain(matrix, "average", np.ones(n))
    parts = [chain.advance(size) for size in (*slices, n)]
    for expected, *got in zip(whole, *parts, strict=True):
        assert np.concatenate(got).tolist() == expected.tolist()
    assert len(chain.advance(5)[0]) == 0


@pytest.mark.parametrize("isa", native_simd.available_isas())
def test_merges_are_the_same_on_every_isa(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = -squareform(pdist(points(500, "cloud"))).astype(np.float32)
    results = []
    for name in ("scalar", isa):
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", name)
        results.append(run(matrix, "average"))
    assert results[0] == results[1]


def test_only_the_matrix_is_overwritten() -> None:
    n = 520
    frame = np.full((n + 2, n + 30), -123.25, np.float32)
    frame[1:-1, 10 : 10 + n] = -squareform(pdist(points(n, "groups")))
    chain = native_simd.NearestNeighbourChain(frame[1:-1, 10 : 10 + n], "complete", np.ones(n))
    chain.advance(n)
    assert chain.counters().compactions > 0
    frame[1:-1, 10 : 10 + n] = -123.25
    assert (frame == -123.25).all()


@pytest.mark.parametrize("method", METHODS)
def test_infinitely_far_clusters_join_last(method: str) -> None:
    matrix = np.full((6, 6), -np.inf, np.float32)
    matrix[:3, :3] = matrix[3:, 3:] = -1
    merges = run_raw(matrix, method)
    assert sorted(b for _, b, _ in merges) == [1, 2, 3, 4, 5]
    assert [similarity == -np.inf for _, _, similarity in merges].count(True) == 1
    assert merges[-1][0] == 0


def run_raw(matrix: NDArray[np.float32], method: str) -> list[tuple[int, int, float]]:
    chain = native_simd.NearestNeighbourChain(matrix.copy(), method, np.ones(len(matrix)))  # type: ignore[arg-type]
    return [(int(a), int(b), float(s)) for a, b, s in zip(*chain.advance(len(matrix)), strict=True)]


def test_what_is_on_the_diagonal_does_not_matter() -> None:
    matrix = -squareform(pdist(points(50, "cloud"))).astype(np.float32)
    expected = run(matrix, "average")
    for value in (np.nan, np.inf, -np.inf, 1e30):
        np.fill_diagonal(matrix, value)
        assert run(matrix, "average") == expected


def test_asymmetric_matrix_is_refused() -> None:
    matrix = np.full((3, 3), -9, np.float32)
    matrix[0, 1] = matrix[1, 2] = matrix[2, 0] = -1
    with pytest.raises(ValueError, match="not symmetric"):
        run(matrix, "average")


@EXAMPLES
@given(n=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_no_matrix_at_all_breaks_the_chain(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.choice(np.array([0, -1, 1, -2, np.inf, -np.inf, np.nan], np.float32), (n, n))
    try:
        merges = run_raw(matrix, str(rng.choice(METHODS)))
    except ValueError:
        return
    assert sorted(b for _, b, _ in merges) == list(range(1, n))
