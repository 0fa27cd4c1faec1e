"""Laws of forgetting: one at first, never rising, never below the floor, the same however often cycles run."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.concepts.fading import DAY_US, FADING_LAWS, Fading, FadingLaw, faded

laws = st.builds(
    Fading,
    law=st.sampled_from(FADING_LAWS),
    half_life_days=st.floats(1e-3, 1e4),
    exponent=st.floats(0.01, 3),
    fast_half_life_days=st.floats(1e-3, 1e3),
    fast_share=st.floats(0, 1),
    floor=st.floats(0, 1),
)
ages = st.integers(-10 * DAY_US, 40_000 * DAY_US)


@given(laws, ages, ages)
def test_what_is_left_starts_at_one_and_never_rises_nor_falls_below_the_floor(fading: Fading, a: int, b: int) -> None:
    assert fading.left_after(0) == pytest.approx(1, abs=1e-15)
    assert fading.left_after(-DAY_US) == fading.left_after(0)  # a clock that went back
    earlier, later = sorted((a, b))
    assert fading.left_after(earlier) >= fading.left_after(later) - 1e-15
    assert fading.floor <= fading.left_after(later) <= 1 + 1e-15


@pytest.mark.parametrize(
    ("law", "days", "left"),
    [
        ("exponential", 10, Fraction(1, 2)),
        ("exponential", 30, Fraction(1, 8)),
        ("power", 30, Fraction(1, 2)),  # (1 + 3)^-1/2
        ("two-component", 10, Fraction(1, 4) * Fraction(1, 32) + Fraction(3, 4) * Fraction(1, 2)),
        ("none", 10_000, Fraction(1)),
    ],
)
def test_each_law_is_its_formula(law: FadingLaw, days: int, left: Fraction) -> None:
    fading = Fading(law, 10.0, 0.5, 2.0, 0.25, 0.0)
    assert fading.left_after(days * DAY_US) == pytest.approx(float(left), rel=1e-14)


@given(laws, st.lists(st.tuples(st.floats(0, 1, width=32), ages, st.booleans()), max_size=20), ages)
def test_bindings_fade_by_their_own_age(fading: Fading, bindings: list[tuple[float, int, bool]], now: int) -> None:
    initial = np.array([strength for strength, _, _ in bindings], np.float32)
    touched = np.array([moment for _, moment, _ in bindings], np.int64)
    evergreen = np.array([flag for _, _, flag in bindings], np.bool_)
    found = faded(initial, touched, evergreen, now, fading)
    assert found.dtype == np.float32
    for strength, moment, flag, result in zip(
        initial.tolist(), touched.tolist(), evergreen, found.tolist(), strict=True
    ):
        expected = strength if flag else strength * fading.left_after(now - moment)
        assert math.isclose(result, expected, rel_tol=2e-7, abs_tol=1e-45)
