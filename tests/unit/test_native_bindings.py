"""The typed face of the binding kernels: what it refuses, with which error, and what its special values mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import native_simd

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Call = Callable[[], None]

NAN, INF = float("nan"), float("inf")
DAY = 86_400_000_000
TODAY = 20_000 * DAY


def ones(n: int = 3) -> NDArray[np.float32]:
    return np.ones(n, np.float32)


def fans(*values: int) -> NDArray[np.uint32]:
    return np.array(values, np.uint32)


def times(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def read_only() -> NDArray[np.float32]:
    array = ones()
    array.flags.writeable = False
    return array


def unaligned(dtype: type[np.generic]) -> NDArray[Any]:
    return np.zeros(3 * np.dtype(dtype).itemsize + 1, np.uint8)[1:].view(dtype)


TYPE_MISUSE: dict[str, Call] = {
    "strengths must be a float32 array": lambda: native_simd.decay(np.ones(3), ones(), 1.0),  # type: ignore[arg-type]
    "strengths must be a float32 array of shape \\(n,\\), got list": lambda: native_simd.decay(
        [1.0],  # type: ignore[arg-type]
        ones(1),
        1.0,
    ),
    "got float32 of shape \\(3, 1\\)": lambda: native_simd.decay(ones().reshape(3, 1), ones(), 1.0),
    "rates must be a float32 array": lambda: native_simd.decay(ones(), np.ones(3), 1.0),  # type: ignore[arg-type]
    "rates must have the shape of strengths, \\(3,\\), got \\(4,\\)": lambda: native_simd.decay(ones(), ones(4), 1.0),
    "last_touched must be a int64 array": lambda: native_simd.decay_half_life(ones(), ones(), 0, 1.0),  # type: ignore[arg-type]
    "now must be an integer": lambda: native_simd.decay_half_life(ones(), times(0, 0, 0), 1.5, 1.0),  # type: ignore[arg-type]
    "fan_out must be a uint32 array": lambda: native_simd.fan_effect(ones(), times(1, 1, 1)),  # type: ignore[arg-type]
    "fan_out must have the shape of activations": lambda: native_simd.fan_effect(ones(), fans(1)),
}


@pytest.mark.parametrize("message", TYPE_MISUSE)
def test_wrong_types_are_type_errors(message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TYPE_MISUSE[message]()


VALUE_MISUSE: dict[str, Call] = {
    "strengths must be writeable": lambda: native_simd.decay(read_only(), ones(), 1.0),
    "strengths must be contiguous and aligned": lambda: native_simd.decay(ones(6)[::2], ones(), 1.0),
    "rates must be contiguous and aligned": lambda: native_simd.decay(ones(), unaligned(np.float32), 1.0),
    "last_touched must be contiguous": lambda: native_simd.decay_half_life(ones(), unaligned(np.int64), 0, 1.0),
    "activations must be contiguous": lambda: native_simd.fan_effect(ones()[::-1], fans(1, 1, 1)),
    "law must be one of sqrt, linear, log, got 'cube'": lambda: native_simd.fan_effect(
        ones(),
        fans(1, 1, 1),
        "cube",  # type: ignore[arg-type]
    ),
    "now must fit into 64 bits": lambda: native_simd.decay_half_life(ones(), times(0, 0, 0), 2**63, 1.0),
    "threads must be a positive integer": lambda: native_simd.decay(ones(), ones(), 1.0, threads=0),
}


@pytest.mark.parametrize("message", VALUE_MISUSE)
def test_wrong_arrays_and_names_are_value_errors(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VALUE_MISUSE[message]()


@pytest.mark.parametrize("dt", [-1e-9, -INF, INF, NAN, 2.0**127 * 1.01])
def test_time_that_cannot_pass_is_refused_and_changes_nothing(dt: float) -> None:
    strengths = ones()
    with pytest.raises(ValueError, match="dt must be between 0"):
        native_simd.decay(strengths, ones(), dt)
    assert (strengths == 1).all()


@pytest.mark.parametrize("half_life", [0.0, -1.0, NAN])
def test_half_life_must_be_positive(half_life: float) -> None:
    with pytest.raises(ValueError, match="half_life must be above 0"):
        native_simd.decay_half_life(ones(), times(0, 0, 0), 0, half_life)


@pytest.mark.parametrize("floor", [-0.1, NAN, INF, 1e39])
def test_floor_must_be_a_strength(floor: float) -> None:
    with pytest.raises(ValueError, match="floor must be at least 0"):
        native_simd.decay_half_life(ones(), times(0, 0, 0), 0, 1.0, floor)


def test_arrays_that_share_memory_are_refused() -> None:
    both = ones(6)
    with pytest.raises(ValueError, match="must not share memory"):
        native_simd.decay(both[:4], both[2:], 1.0)
    native_simd.decay(both[:3], both[3:], 0.0)  # side by side is fine


def test_nothing_to_decay_is_fine() -> None:
    native_simd.decay(ones(0), ones(0), 1.0)
    native_simd.decay_half_life(ones(0), times(), 0, 1.0)
    native_simd.fan_effect(ones(0), fans())


def test_special_rates() -> None:
    rates = np.array([0, -0.0, INF, 3e38, 1e-45, NAN, -1e-45, -INF], np.float32)
    strengths = ones(8)
    native_simd.decay(strengths, rates, 1.0)
    np.testing.assert_array_equal(strengths, [1, 1, 0, 0, 1, NAN, NAN, NAN])
    strengths = ones(8)
    native_simd.decay(strengths, rates, 0.0)
    np.testing.assert_array_equal(strengths, [1, 1, 0, 1, 1, NAN, NAN, NAN])


def test_longest_time_leaves_what_does_not_decay() -> None:
    strengths = ones(2)
    native_simd.decay(strengths, np.array([0, 1e-30], np.float32), 2.0**127)
    assert strengths.tolist() == [1, 0]


def test_half_lives_halve_and_clocks_that_go_backwards_do_not_grow() -> None:
    last_touched = times(TODAY, TODAY - DAY, TODAY - 3 * DAY, TODAY + DAY, 2**63 - 1, -(2**63))
    strengths = ones(6)
    native_simd.decay_half_life(strengths, last_touched, TODAY, DAY)
    assert strengths.tolist() == [1, 0.5, 0.125, 1, 1, 0]


def test_ages_past_63_bits_do_not_wrap() -> None:
    strengths = ones(2)
    native_simd.decay_half_life(strengths, times(-(2**63), 2**63 - 1), 2**63 - 1, 2.0**63)
    assert strengths.tolist() == [0.25, 1]


def test_floor_stops_decay_and_lifts_nothing() -> None:
    strengths = np.array([1, 0.25, 0.2, 0.1, 0], np.float32)
    native_simd.decay_half_life(strengths, np.zeros(5, np.int64), 2 * DAY, DAY, 0.2)
    np.testing.assert_array_equal(strengths, np.array([0.25, 0.2, 0.2, 0.1, 0], np.float32))


def test_five_years_of_nightly_decay_end_at_the_floor_and_evergreen_stays() -> None:
    strengths = np.linspace(0.05, 1, 40, dtype=np.float32)
    evergreen = strengths.copy()
    for night in range(5 * 365):
        touched = np.full(40, night * DAY)
        native_simd.decay_half_life(strengths, touched, (night + 1) * DAY, 30 * DAY, 0.05)
        native_simd.decay_half_life(evergreen, touched, (night + 1) * DAY, INF)
    assert (strengths == np.float32(0.05)).all()
    np.testing.assert_array_equal(evergreen, np.linspace(0.05, 1, 40, dtype=np.float32))


@pytest.mark.parametrize(("law", "expected"), [("sqrt", 0.5), ("linear", 0.25), ("log", 1 / (1 + np.log(4)))])
def test_laws(law: native_simd.FanLaw, expected: float) -> None:
    activations = ones(3)
    native_simd.fan_effect(activations, fans(0, 1, 4), law)
    assert activations.tolist() == [1, 1, np.float32(expected)]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_work(threads: int) -> None:
    n = 100_001
    strengths, rates = ones(n), np.linspace(0, 9, n, dtype=np.float32)
    native_simd.decay(strengths, rates, 0.5, threads=threads)
    np.testing.assert_allclose(strengths, np.exp(-rates.astype(np.float64) / 2), rtol=2e-7)
    native_simd.fan_effect(strengths, np.full(n, 4, np.uint32), threads=threads)
    native_simd.decay_half_life(strengths, np.zeros(n, np.int64), 1, 1, threads=threads)
    np.testing.assert_allclose(strengths, np.exp(-rates.astype(np.float64) / 2) / 4, rtol=2e-7)
