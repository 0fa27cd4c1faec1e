"""Decay and the fan effect against float64: within their stated bounds, on every instruction set of this machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import native_simd

if TYPE_CHECKING:
    from collections.abc import Iterator

RELATIVE = 2e-7
SUBNORMAL_STEP = 2.0**-149
EXAMPLES = settings(max_examples=200, deadline=None)
positive_floats = st.floats(0, 2.0**127, width=32)


@pytest.fixture(params=native_simd.available_isas(), autouse=True, scope="module")
def every_isa(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUSTER_ENGINE_ISA", str(request.param))
        yield


def decay_one(strength: float, rate: float, dt: float) -> float:
    strengths = np.array([strength], np.float32)
    native_simd.decay(strengths, np.array([rate], np.float32), dt)
    return float(strengths[0])


def halve_one(strength: float, last_touched: int, now: int, half_life: float) -> float:
    strengths = np.array([strength], np.float32)
    native_simd.decay_half_life(strengths, np.array([last_touched], np.int64), now, half_life)
    return float(strengths[0])


def assert_decayed(got: float, exact: float, strength: float) -> None:
    assert abs(got - exact) <= RELATIVE * exact + (1 + strength) * SUBNORMAL_STEP


@EXAMPLES
@given(strength=positive_floats, rate=positive_floats, dt=st.one_of(st.just(0.0), st.floats(2.0**-100, 2.0**127)))
def test_any_decay_is_within_its_bound(strength: float, rate: float, dt: float) -> None:
    assert_decayed(decay_one(strength, rate, dt), strength * math.exp(-rate * dt), strength)


@EXAMPLES
@given(strength=st.floats(0, 1, width=32), exponent=st.floats(0, 110), dt=st.floats(1e-12, 1e12))
def test_useful_decay_is_within_its_bound(strength: float, exponent: float, dt: float) -> None:
    rate = float(np.float32(exponent / dt))
    assert_decayed(decay_one(strength, rate, dt), strength * math.exp(-rate * dt), strength)


@pytest.mark.parametrize("dt", [1.0, 0.1, 86_400.0, 1e-7])
def test_dense_exponents(dt: float) -> None:
    rates = (np.linspace(0, 110, 400_001) / dt).astype(np.float32)
    strengths = np.linspace(1, 0.1, len(rates), dtype=np.float32)
    exact = strengths.astype(np.float64) * np.exp(-rates.astype(np.float64) * dt)
    native_simd.decay(strengths, rates, dt)
    assert (np.abs(strengths - exact) <= RELATIVE * exact + SUBNORMAL_STEP).all()


def test_decay_never_rises_as_time_passes() -> None:
    """Neighbouring exponents may differ by an ulp of rounding, no more."""
    strengths = np.ones(1_000_001, np.float32)
    native_simd.decay(strengths, np.linspace(0, 110, len(strengths), dtype=np.float32), 1.0)
    assert (strengths <= 1).all()
    assert (strengths[1:] <= np.nextafter(strengths[:-1], np.float32(2))).all()


@EXAMPLES
@given(
    strength=positive_floats,
    now=st.integers(-(2**63), 2**63 - 1),
    last_touched=st.integers(-(2**63), 2**63 - 1),
    half_lives=st.floats(0.01, 1e4),
)
def test_any_half_life_is_within_its_bound(strength: float, now: int, last_touched: int, half_lives: float) -> None:
    age = max(now - last_touched, 0)
    half_life = max(age, 1) / half_lives
    exact = strength * 2.0 ** -min(age / half_life, 2000)
    assert_decayed(halve_one(strength, last_touched, now, half_life), exact, strength)


@pytest.mark.parametrize("half_life", [5e-324, 1e-308, 1 / 200, 1 / 140, 1 / 120, 1 / 76])
@pytest.mark.parametrize("age", [1, 2, 3, 2**62])
def test_half_lives_below_a_tick_are_within_their_bound(half_life: float, age: int) -> None:
    exact = 2.0**100 * 2.0 ** -min(age / half_life, 2000)
    assert_decayed(halve_one(2.0**100, -age, 0, half_life), exact, 2.0**100)


def test_dense_ages() -> None:
    ages = np.arange(400_001, dtype=np.int64) * 997
    strengths = np.ones(len(ages), np.float32)
    native_simd.decay_half_life(strengths, 10**15 - ages, 10**15, 2.7e6)
    exact = np.exp2(-ages / 2.7e6)
    assert (np.abs(strengths - exact) <= RELATIVE * exact + SUBNORMAL_STEP).all()


@pytest.mark.parametrize("law", ["sqrt", "linear", "log"])
def test_fans_are_within_their_bound(law: native_simd.FanLaw) -> None:
    rng = np.random.default_rng(1)
    fans = np.concatenate([np.arange(1, 2**19), rng.integers(1, 2**32, 2**19), 2 ** np.arange(32) + 1, [2**32 - 1]])
    activations = rng.uniform(-2, 2, len(fans)).astype(np.float32)
    divisors = {"sqrt": np.sqrt(fans), "linear": fans.astype(np.float64), "log": 1 + np.log(fans)}[law]
    exact = activations / divisors
    native_simd.fan_effect(activations, fans.astype(np.uint32), law)
    assert (np.abs(activations - exact) <= RELATIVE * np.abs(exact)).all()
