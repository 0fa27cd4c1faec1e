"""What linkage accepts, what it refuses and how it says so, and how much memory it takes."""

from __future__ import annotations

import re
import tracemalloc
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

import cluster_engine as ce
from cluster_engine.errors import CapacityError, InputError, VectorError
from cluster_engine.linkage.criterion import METHODS
from cluster_engine.similarity.matrix import linkage_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Method, Metric
    from cluster_engine.progress import Progress

RNG = np.random.default_rng(11)
X = RNG.integers(1, 50, (40, 6)).astype(np.float32)  # exact in every dtype below


@pytest.fixture(name="peak_bytes")
def trace_allocations() -> Iterator[Any]:
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize(
    "same",
    [
        X.astype(np.float16),
        X.astype(np.float64),
        X.astype(np.int8),
        X.astype(np.uint8),
        X.astype(np.int64),
        X.astype(">f4"),
        np.asfortranarray(X),
        np.repeat(X, 3, axis=0)[::3],
        np.repeat(X, 2, axis=1)[:, ::2],
        X[::-1].copy()[::-1],
        X.tolist(),
    ],
    ids=[
        "float16",
        "float64",
        "int8",
        "uint8",
        "int64",
        "big-endian",
        "fortran",
        "rows",
        "columns",
        "reversed",
        "list",
    ],
)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_dtype_and_layout_do_not_matter(same: Any, metric: Metric) -> None:  # noqa: ANN401  # array_like
    assert ce.linkage(same, "average", metric).tobytes() == ce.linkage(X, "average", metric).tobytes()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.uint64, np.float16, np.float32, np.longdouble])
@pytest.mark.parametrize("method", METHODS)
def test_dtypes_of_given_distances(method: Method, dtype: type) -> None:
    condensed: NDArray[Any] = np.array([1, 4, 5, 7, 2, 9] if dtype is not bool else [0, 1, 1, 1, 1, 1]).astype(dtype)
    expected = hierarchy.linkage(condensed.astype(np.float64), method)
    for distances in (condensed, squareform(condensed.astype(np.float64)).astype(dtype)):
        np.testing.assert_allclose(ce.linkage(distances, method, "precomputed"), expected, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_input_is_not_modified(method: Method) -> None:
    metric: Metric = "euclidean" if method == "ward" else "cosine"
    duplicated = np.concatenate((X, X[:5]))
    square = squareform(RNG.random(190)).astype(np.float32)
    cases: list[tuple[NDArray[Any], Metric | Literal["precomputed"]]] = [
        (X.copy(), metric),
        (duplicated, metric),
        (square, "precomputed"),
        (squareform(square), "precomputed"),
    ]
    for given, kind in cases:
        before = given.copy()
        given.flags.writeable = False
        ce.linkage(given, method, kind)
        assert given.tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([[1 + 2j, 1], [2, 1]], "complex128"),
        ([["a"], ["b"]], "<U1"),
        (np.array([[1, None], [2, 3]], object), "object"),
        (np.array([["2020-01-01"]] * 2, "M8[D]"), "datetime64"),
        ([1.0, 2.0, 3.0], r"shape \(3,\)"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (np.float32(3), r"shape \(\)"),
        (None, "object"),
        (np.zeros((3, 0)), r"shape \(3, 0\)"),
        (np.zeros((0, 3)), "got 0"),
        ([[1.0, 2.0]], "got 1"),
    ],
)
def test_what_is_not_an_array_of_vectors(bad: Any, said: str) -> None:  # noqa: ANN401  # anything
    with pytest.raises(InputError, match=said):
        ce.linkage(bad)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 1e39])
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "sqeuclidean"])
def test_bad_rows_are_named(metric: Metric, value: float) -> None:
    bad = X.astype(np.float64)
    bad[[17, 30], 3] = value
    with pytest.raises(VectorError, match=r"row 17\b.*element 3\b"):
        ce.linkage(bad, "average", metric)


def test_zero_rows_have_no_direction_but_a_place() -> None:
    zero = X.copy()
    zero[23] = 0
    with pytest.raises(VectorError, match=r"row 23\b.*zero"):
        ce.linkage(zero)
    assert hierarchy.is_valid_linkage(ce.linkage(zero, metric="euclidean"))


@pytest.mark.parametrize("scale", [1e16, 1e25, 1e37, 1e-14, 1e-30])
@pytest.mark.parametrize(("method", "metric"), [("average", "euclidean"), ("ward", "euclidean"), ("average", "dot")])
def test_norms_whose_squares_float32_cannot_hold(method: Method, metric: Metric, scale: float) -> None:
    scaled = X.astype(np.float64) / np.linalg.norm(X, axis=1).max()
    ce.linkage(scaled, method, metric)
    with pytest.raises(VectorError, match=r"row \d+.*outside"):
        ce.linkage(scaled * scale, method, metric)
    np.testing.assert_allclose(ce.linkage(scaled * scale), ce.linkage(scaled), rtol=1e-5)  # a direction has no scale


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, 1e39])
def test_bad_distances_are_named(value: float) -> None:
    square = squareform(RNG.random(45))
    square[2, 7] = square[7, 2] = value
    for bad in (square, squareform(square, checks=False)):
        with pytest.raises(InputError, match=r"distance \(2, 7\) is"):
            ce.linkage(bad, metric="precomputed")


def test_distances_that_are_none() -> None:
    asymmetric = squareform(RNG.random(45))
    asymmetric[3, 8] += 0.25
    with pytest.raises(InputError, match=r"distance \(3, 8\).*symmetric"):
        ce.linkage(asymmetric, metric="precomputed")
    with pytest.raises(InputError, match=r"distance \(0, 0\) is 1.*diagonal"):
        ce.linkage(np.eye(3), metric="precomputed")  # similarities
    with pytest.raises(InputError, match="5 is not such"):
        ce.linkage(np.ones(5), metric="precomputed")
    with pytest.raises(InputError, match=r"square.*\(2, 3\)"):
        ce.linkage(np.ones((2, 3)), metric="precomputed")
    with pytest.raises(InputError, match="complex128"):
        ce.linkage(np.ones(3, complex), metric="precomputed")
    with pytest.raises(InputError, match="scale"):
        ce.linkage(np.full(3, 1e-45), metric="precomputed")
    with pytest.raises(InputError, match=r"distance \(0, 1\)"):
        ce.linkage(np.full(3, 1e20), "ward", "precomputed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"method": "centroid"}, "average, complete, single, weighted, ward"),
        ({"method": "centroid", "metric": "precomputed"}, "average, complete, single, weighted, ward"),
        ({"metric": "cityblock"}, "cosine, dot, euclidean, sqeuclidean or precomputed"),
        ({"method": "ward", "metric": "cosine"}, "ward.*euclidean"),
        ({"threads": 0}, "threads"),
        ({"threads": -1}, "threads"),
        ({"threads": 1.5}, "threads"),
    ],
)
def test_parameters_are_refused_by_name(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ce.linkage(X, **arguments)


@pytest.mark.parametrize(
    ("given", "metric"),
    [
        (np.arange(20_000, dtype=np.float32)[:, np.newaxis], "euclidean"),
        (np.broadcast_to(np.float32(1), 199_990_000), "precomputed"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_allocated(
    given: NDArray[np.float32],
    metric: Metric,
    peak_bytes: Any,  # noqa: ANN401  # fixture
) -> None:
    limit = 300_000_000
    with pytest.raises(CapacityError) as caught:
        ce.linkage(given, "average", metric, memory_limit=limit)
    assert peak_bytes() < 5_000_000
    need, allowed, *_ = (int(count.replace(",", "")) for count in re.findall(r"\(([\d,]+) bytes\)", str(caught.value)))
    assert need > 4 * 20_000**2
    assert allowed == limit
    fits = int(re.search(r"([\d,]+) vectors would fit", str(caught.value))[1].replace(",", ""))  # type: ignore[index]
    assert 8_000 < fits < (limit / 4) ** 0.5
    small = np.arange(fits, dtype=np.float32)[:, np.newaxis]
    with pytest.raises(CapacityError):
        ce.linkage(np.arange(fits + 2)[:, np.newaxis], "average", "euclidean", memory_limit=4 * fits**2)
    assert len(ce.linkage(small[:100], "average", "euclidean", memory_limit=limit)) == 99


@pytest.mark.parametrize(("method", "metric"), [("average", "cosine"), ("complete", "cosine"), ("ward", "euclidean")])
@pytest.mark.parametrize("duplicates", [0, 700])
def test_peak_memory_is_as_stated(
    method: Method,
    metric: Metric,
    duplicates: int,
    peak_bytes: Any,  # noqa: ANN401  # fixture
) -> None:
    n, d = 1500, 100
    points = RNG.standard_normal((n, d)).astype(np.float32)
    points[: duplicates // 2] = points[duplicates // 2 : 2 * (duplicates // 2)]
    n_distinct = n - duplicates // 2
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    ce.linkage(points, method, metric)
    with_sums = method != "complete"
    stated = linkage_bytes(n_distinct, d, n_copies=1, with_sums=with_sums)
    collapsed = 4 * d * (n_distinct + duplicates // 2) if duplicates else 0  # the distinct rows, and those looked up
    assert peak_bytes() - before <= stated + collapsed + 200_000


@pytest.mark.parametrize(("method", "metric"), [("average", "cosine"), ("ward", "euclidean"), ("single", "cosine")])
def test_peak_memory_without_a_matrix_is_as_planned(
    method: Method,
    metric: Metric,
    peak_bytes: Any,  # noqa: ANN401  # fixture
) -> None:
    n, d = 9_000, 64
    points = RNG.standard_normal((n, d)).astype(np.float32)
    plan = ce.plan(n, d, method, metric)
    assert plan.path != "matrix"
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    ce.linkage(points, method, metric)
    assert plan.memory_bytes / 3 < peak_bytes() - before <= plan.memory_bytes


@pytest.mark.parametrize("method", METHODS)
def test_given_distances_take_one_matrix(method: Method, peak_bytes: Any) -> None:  # noqa: ANN401  # fixture
    n = 1500
    square = np.ones((n, n), np.float32) - np.eye(n, dtype=np.float32)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    ce.linkage(square, method, "precomputed")
    assert peak_bytes() - before <= 1.1 * linkage_bytes(n, 0, n_copies=0, with_sums=False)


def test_progress_counts_both_phases_to_the_end() -> None:
    reports: list[Progress] = []
    points = RNG.standard_normal((6000, 2)).astype(np.float32)
    ce.linkage(points, "average", "euclidean", progress=reports.append)
    assert list(dict.fromkeys(report.phase for report in reports)) == ["pairwise", "linkage"]
    for phase in ("pairwise", "linkage"):
        done = [report.done for report in reports if report.phase == phase]
        assert done == sorted(done)
        assert len(done) > 2
        assert done[0] == 0
        assert done[-1] == next(report.total for report in reports if report.phase == phase)
    assert reports[-1].total == 5999
