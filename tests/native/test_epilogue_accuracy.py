"""The epilogue against float64: within its stated bounds, on every instruction set of this machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import assert_same_bits

import native_simd
from native_simd import Sigmoid, Temporal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FADE, SIGMOID = 2e-7, 2.5e-7
FADE_FLOOR, SIGMOID_FLOOR = 2.0**-99, 2.0**-127
LONGEST = 2000  # half-lives, or units of the exponent, beyond which float64 has nothing left either
EXAMPLES = settings(max_examples=200, deadline=None)
any_time = st.integers(-(2**63), 2**63 - 1)
any_cosine = st.floats(-1, 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
X_AXIS = np.array([[1, 0]], np.float32)


@pytest.fixture(params=native_simd.available_isas(), autouse=True, scope="module")
def every_isa(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUSTER_ENGINE_ISA", str(request.param))
        yield


def vectors_with_cosines(cosines: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return unit vectors whose cosines with the x axis are about these."""
    return np.stack([cosines, np.sqrt(1 - cosines**2)], 1).astype(np.float32)


def times(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def exact_sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


@EXAMPLES
@given(cosine=any_cosine, t_a=any_time, t_b=any_time, half_lives=st.floats(1e-6, 1e4))
def test_any_cosine_fades_within_its_bound(cosine: float, t_a: int, t_b: int, half_lives: float) -> None:
    gap = abs(t_a - t_b)
    half_life = max(gap, 1) / half_lives
    b = vectors_with_cosines(np.array([cosine]))
    plain = float(native_simd.similarity(X_AXIS, b)[0, 0])
    got = float(native_simd.similarity(X_AXIS, b, temporal=Temporal(half_life, times(t_a), times(t_b)))[0, 0])
    exact = plain * 2.0 ** -min(gap / half_life, LONGEST)
    assert abs(got - exact) <= FADE * abs(exact) + FADE_FLOOR


@pytest.mark.parametrize("half_life", [1.0, 997.0, 86_400e6, 1e17])
def test_dense_gaps(half_life: float) -> None:
    b = vectors_with_cosines(np.linspace(-1, 1, 100_001))
    gaps = np.minimum(np.linspace(0, 160 * half_life, len(b)), 9e18).astype(np.int64)
    start = -(2**62)
    plain = native_simd.similarity(X_AXIS, b)
    got = native_simd.similarity(X_AXIS, b, temporal=Temporal(half_life, times(start), start + gaps))
    exact = plain * np.exp2(-gaps / half_life)
    assert (np.abs(got - exact) <= FADE * np.abs(exact) + FADE_FLOOR).all()
    assert not got[0, gaps >= 100 * half_life].any()


@EXAMPLES
@given(cosine=any_cosine, slope=st.floats(1e-6, 1e6), midpoint=st.floats(-2, 2))
def test_any_sigmoid_is_within_its_bound(cosine: float, slope: float, midpoint: float) -> None:
    b = vectors_with_cosines(np.array([cosine]))
    plain = float(native_simd.similarity(X_AXIS, b)[0, 0])
    got = float(native_simd.similarity(X_AXIS, b, sigmoid=Sigmoid(slope, midpoint))[0, 0])
    exact = exact_sigmoid(max(slope * (plain - midpoint), -LONGEST))
    assert abs(got - exact) <= SIGMOID * exact + SIGMOID_FLOOR


@pytest.mark.parametrize(("slope", "midpoint"), [(0.1, 0.0), (10.0, 0.5), (60.0, -0.9), (120.0, 0.0)])
def test_dense_exponents(slope: float, midpoint: float) -> None:
    b = vectors_with_cosines(np.linspace(-1, 1, 100_001))
    plain = native_simd.similarity(X_AXIS, b).astype(np.float64)
    got = native_simd.similarity(X_AXIS, b, sigmoid=Sigmoid(slope, midpoint))
    exact = 1 / (1 + np.exp(-slope * (plain - midpoint)))
    assert (np.abs(got - exact) <= SIGMOID * exact + SIGMOID_FLOOR).all()


@EXAMPLES
@given(cosine=any_cosine, slope=numbers.filter(lambda x: x > 0), midpoint=numbers)
def test_no_sigmoid_leaves_zero_to_one(cosine: float, slope: float, midpoint: float) -> None:
    b = vectors_with_cosines(np.array([cosine]))
    plain = float(native_simd.similarity(X_AXIS, b)[0, 0])
    got = float(native_simd.similarity(X_AXIS, b, sigmoid=Sigmoid(slope, midpoint))[0, 0])
    assert 0 <= got <= 1
    assert got == 0.5 or (got > 0.5) == (plain > midpoint)


def test_both_are_the_sigmoid_of_the_faded_cosine() -> None:
    """24 hours of decay, slope 10 and midpoint 0.5: identical vectors 15.7 hours apart end near 0.55."""
    hours = np.arange(0, 2000)
    half_life = 24 * math.log(2) * 3600e6
    b = np.repeat(X_AXIS, len(hours), axis=0)
    temporal = Temporal(half_life, times(0), hours * 3_600_000_000)
    faded = native_simd.similarity(X_AXIS, b, temporal=temporal)
    got = native_simd.similarity(X_AXIS, b, temporal=temporal, sigmoid=Sigmoid(10, 0.5))
    exact = np.array([exact_sigmoid(10 * (float(s) - 0.5)) for s in faded[0]])
    assert (np.abs(got[0] - exact) <= SIGMOID * exact).all()
    assert [int(h) for h in hours if got[0, h] >= 0.55] == list(range(16))


def test_equal_times_and_endless_half_lives_change_no_bit() -> None:
    b = vectors_with_cosines(np.linspace(-1, 1, 999))
    plain = native_simd.similarity(X_AXIS, b)
    now = np.full(999, 2**63 - 1)
    for temporal in (Temporal(5e-324, times(2**63 - 1), now), Temporal(math.inf, times(-(2**63)), now)):
        assert_same_bits(native_simd.similarity(X_AXIS, b, temporal=temporal), plain)


def test_times_apart_by_more_than_63_bits_do_not_wrap() -> None:
    ends = times(-(2**63), 2**63 - 1)
    ones = np.repeat(X_AXIS, 2, axis=0)
    got = native_simd.similarity(ones, ones, temporal=Temporal(2.0**63, ends, ends))
    assert got.tolist() == [[1, 0.25], [0.25, 1]]
