"""The typed face of the epilogue of the pairwise pass: what it refuses, with which error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import native_simd
from native_simd import Sigmoid, Temporal

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NAN, INF = float("nan"), float("inf")
ROWS = np.eye(3, dtype=np.float32)
PACKED = native_simd.pack(ROWS, unit=True)


def times(n: int = 3) -> NDArray[np.int64]:
    return np.zeros(n, np.int64)


def square() -> NDArray[np.float32]:
    return np.empty((3, 3), np.float32)


@pytest.mark.parametrize("half_life", [0.0, -0.0, -1.0, -INF, NAN])
def test_half_life_must_be_above_zero(half_life: float) -> None:
    with pytest.raises(ValueError, match=f"half_life must be above 0, got {half_life}"):
        Temporal(half_life, times())


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (np.zeros(3), TypeError),
        (np.zeros(3, np.int32), TypeError),
        (np.zeros(3, "datetime64[us]"), TypeError),
        (np.zeros((3, 1), np.int64), TypeError),
        ([0, 1, 2], TypeError),
        (times(6)[::2], ValueError),
        (np.zeros(25, np.uint8)[1:].view(np.int64), ValueError),
    ],
)
def test_times_must_be_contiguous_int64(bad: Any, error: type[Exception]) -> None:  # noqa: ANN401 - misuse
    with pytest.raises(error, match="times_a must be"):
        Temporal(1.0, bad)
    with pytest.raises(error, match="times_b must be"):
        Temporal(1.0, times(), bad)


@pytest.mark.parametrize("slope", [0.0, -1.0, INF, NAN])
def test_slope_must_keep_larger_closer(slope: float) -> None:
    with pytest.raises(ValueError, match="slope must be above 0 and finite"):
        Sigmoid(slope, 0.5)


@pytest.mark.parametrize("midpoint", [INF, -INF, NAN])
def test_midpoint_must_be_finite(midpoint: float) -> None:
    with pytest.raises(ValueError, match="midpoint must be finite"):
        Sigmoid(10.0, midpoint)


@pytest.mark.parametrize(
    ("temporal", "error", "message"),
    [
        (Temporal(1.0, times()), TypeError, "needs times_b"),
        (Temporal(1.0, times(2), times()), ValueError, "needs 3 times_a and 3 times_b, one a vector; it has 2 and 3"),
        (Temporal(1.0, times(), times(4)), ValueError, "needs 3 times_a and 3 times_b, one a vector; it has 3 and 4"),
    ],
)
def test_two_sets_of_vectors_have_two_arrays_of_times(temporal: Temporal, error: type[Exception], message: str) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: native_simd.pairwise(PACKED, PACKED, temporal=temporal, out=square()),
        lambda: native_simd.similarity(ROWS, ROWS, temporal=temporal),
    )
    for call in calls:
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    ("temporal", "message"),
    [
        (Temporal(1.0, times(), times()), "must have no times_b"),
        (Temporal(1.0, times(4)), "needs 3 times_a, one a vector; it has 4"),
    ],
)
def test_one_set_of_vectors_has_one_array_of_times(temporal: Temporal, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native_simd.pairwise_symmetric(PACKED, temporal=temporal, out=square())


@pytest.mark.parametrize("metric", ["dot", "sqeuclidean", "euclidean"])
def test_the_epilogue_follows_cosines_alone(metric: native_simd.Metric) -> None:
    packed, both = native_simd.pack(ROWS), Temporal(1.0, times(), times())
    calls: tuple[Callable[[], object], ...] = (
        lambda: native_simd.pairwise(packed, packed, metric=metric, temporal=both, out=square()),
        lambda: native_simd.pairwise_symmetric(packed, metric=metric, sigmoid=Sigmoid(1, 0), out=square()),
        lambda: native_simd.similarity(ROWS, ROWS, metric, sigmoid=Sigmoid(1, 0)),
    )
    for call in calls:
        with pytest.raises(ValueError, match='temporal and sigmoid follow metric "cosine"'):
            call()


def test_no_vectors_have_no_times() -> None:
    none = native_simd.pack(np.empty((0, 3), np.float32), unit=True)
    native_simd.pairwise_symmetric(none, temporal=Temporal(1.0, times(0)), out=np.empty((0, 0), np.float32))
    some = Temporal(1.0, times(), times(0))
    native_simd.pairwise(PACKED, none, temporal=some, sigmoid=Sigmoid(1, 0), out=np.empty((3, 0), np.float32))
