"""The scalar kernels against exact arithmetic: each value is the stated chain and lies within its proven bound."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import hostile_rows
from kernel_library import pack_rows

import native_simd

if TYPE_CHECKING:
    from numpy.typing import NDArray

U = 2.0**-24  # unit roundoff of float32
SUBNORMAL_STEP = 2.0**-149
DIMENSIONS = [1, 2, 3, 16, 97, 192, 193, 769]
EXAMPLES = settings(max_examples=40, deadline=None)
Rows = list[list[float]]


def gamma(n: int) -> float:
    return n * U / (1 - n * U)


@pytest.fixture(autouse=True)
def scalar_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", "scalar")


def sample(d: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng([d, seed])
    a, b = hostile_rows(rng, 9, d), hostile_rows(rng, 7, d)
    a[0], b[0] = a[1], -a[1]  # far from and next to one another
    b[1] = np.nextafter(a[1], np.float32(np.inf))
    a[:, 0] += np.float32(2)
    b[:, 0] -= np.float32(2)
    return a, b


def nearest_float32(exact: Fraction) -> np.float32:
    """Round to nearest, ties to even, by looking at the neighbours: float() alone would round twice."""
    guess = np.float32(float(exact))
    candidates = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(np.uint32)) & 1))


@pytest.mark.parametrize("metric", ["dot", "sqeuclidean"])
@pytest.mark.parametrize("d", [1, 2, 5, 33])
def test_value_is_one_chain_of_fused_steps(metric: native_simd.Metric, d: int) -> None:
    a, b = sample(d, 0)
    got = native_simd.similarity(a, b, metric)
    for i, j in ((0, 0), (1, 1), (2, 3), (8, 6)):
        acc = np.float32(0)
        for x, y in zip(a[i], b[j], strict=True):
            if metric == "sqeuclidean":
                x = y = nearest_float32(Fraction(float(x)) - Fraction(float(y)))  # noqa: PLW2901 - t squared
            acc = nearest_float32(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(acc)))
        assert got[i, j] == (-acc if metric == "sqeuclidean" else acc)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_dot_product_is_within_its_bound(d: int) -> None:
    for seed in range(3):
        a, b = sample(d, seed)
        got = native_simd.similarity(a, b, "dot")
        for i, x in enumerate(a.astype(np.float64)):
            for j, y in enumerate(b.astype(np.float64)):
                bound = gamma(d) * math.fsum(abs(x * y)) + d * SUBNORMAL_STEP  # float32 products are exact in float64
                assert abs(float(got[i, j]) - math.fsum(x * y)) <= bound


@pytest.mark.parametrize("d", DIMENSIONS)
def test_squared_distance_is_within_its_relative_bound(d: int) -> None:
    """One rounding of the difference, squared, and at most d of the sum of positive terms: (1 + u)^(d + 2)."""
    a, b = sample(d, 1)
    squared = native_simd.similarity(a, b, "sqeuclidean")
    distance = native_simd.similarity(a, b, "euclidean")
    for i, x in enumerate(a.tolist()):
        for j, y in enumerate(b.tolist()):
            exact = sum((Fraction(p) - Fraction(q)) ** 2 for p, q in zip(x, y, strict=True))
            slack = Fraction(gamma(d + 2)) * exact + Fraction(d * SUBNORMAL_STEP)
            assert abs(-Fraction(float(squared[i, j])) - exact) <= slack
            root, one_more = Fraction(float(distance[i, j])), Fraction(U)
            assert (exact - slack) * (1 - one_more) ** 2 <= root**2 <= (exact + slack) * (1 + one_more) ** 2


@pytest.mark.parametrize("d", DIMENSIONS)
def test_cosine_is_within_its_bound_and_in_range(d: int) -> None:
    a, b = sample(d, 2)
    got = native_simd.similarity(a, b, "cosine")
    assert (abs(got) <= 1).all()
    for i, x in enumerate(a.astype(np.float64)):
        for j, y in enumerate(b.astype(np.float64)):
            exact = math.fsum(x * y) / math.sqrt(math.fsum(x * x)) / math.sqrt(math.fsum(y * y))
            # two roundings of unit vectors (u each, and 3 covers their product), then the chain
            assert abs(float(got[i, j]) - exact) <= gamma(d) * (1 + 3 * U) + 3 * U + d * SUBNORMAL_STEP


@EXAMPLES
@given(n=st.integers(1, 40), d=st.integers(1, 200), seed=st.integers(0, 99))
def test_norms_are_float64_sums(n: int, d: int, seed: int) -> None:
    x = hostile_rows(np.random.default_rng([n, d, seed]), n, d)
    expected = [math.sqrt(math.fsum(row * row)) for row in x.astype(np.float64)]
    np.testing.assert_allclose(native_simd.norms(x), expected, rtol=(d + 2) * 2.0**-53, atol=0)


@EXAMPLES
@given(n=st.integers(1, 70), d=st.integers(1, 140), seed=st.integers(0, 99))
def test_panels_hold_the_vectors_and_zeros(n: int, d: int, seed: int) -> None:
    x = hostile_rows(np.random.default_rng([n, d, seed]), n, d)
    packed = native_simd.pack(x)
    np.testing.assert_array_equal(packed.panels.view(np.uint32), pack_rows(x).view(np.uint32))
    assert packed.panels.ctypes.data % 64 == 0


@EXAMPLES
@given(n=st.integers(1, 40), d=st.integers(1, 100), seed=st.integers(0, 99))
def test_unit_panels_are_rounded_quotients(n: int, d: int, seed: int) -> None:
    x = hostile_rows(np.random.default_rng([n, d, seed]), n, d)
    x[:, 0] += np.float32(1.5)
    expected = pack_rows((x / native_simd.norms(x)[:, np.newaxis]).astype(np.float32))
    np.testing.assert_array_max_ulp(native_simd.pack(x, unit=True).panels, expected, maxulp=1)


def test_zeros_keep_no_sign_and_subnormals_are_not_flushed() -> None:
    x = np.array([[-0.0, 0.0], [1e-45, -0.0], [3e-23, 0.0]], np.float32)
    dots = native_simd.similarity(x, x, "dot")
    assert not np.signbit(dots).any()
    assert dots[2, 2] == np.float32(float(x[2, 0]) ** 2) > 0  # a subnormal product
    assert native_simd.similarity(x, x, "euclidean")[0, 1] == 0  # 1e-45 squared underflows


def test_largest_vectors_stay_finite() -> None:
    x = np.zeros((2, 3), np.float32)
    x[0], x[1] = (0, 2.0**52, 0), (0, -(2.0**52), 0)
    assert np.isfinite(native_simd.similarity(x, x, "sqeuclidean")).all()
    assert native_simd.similarity(x, x, "euclidean")[0, 1] == -(2.0**53)


def test_cosine_takes_any_magnitude_that_float32_holds() -> None:
    x = np.array([[3e38, 3e38], [2e-38, 2e-38], [1, 1]], np.float32)
    assert native_simd.similarity(x, x, "cosine") == pytest.approx(np.ones((3, 3)), abs=3 * U)
