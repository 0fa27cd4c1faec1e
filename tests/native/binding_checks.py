"""Binding kernels of one instruction set against scalar, bit for bit, with every array against a guard page."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from guarded_memory import guarded_copy

if TYPE_CHECKING:
    from kernel_library import Kernels
    from numpy.typing import NDArray

LAWS = ("fan_sqrt", "fan_linear", "fan_log")
_NOW = 1_700_000_000_000_000
_ODD_STRENGTHS = np.array([0, -0.0, 1e-45, 1e-38, 2e-20, 1, -1, 3e38, np.inf, np.nan], np.float32)
_ODD_RATES = np.array([0, -0.0, 1e-45, 1e-38, 3e38, np.inf, -1e-45, -3e38, -np.inf, np.nan], np.float32)
_ODD_TIMES = np.array([_NOW, _NOW - 1, _NOW + 1, 0, -1, 2**63 - 1, -(2**63), _NOW - 2**53 - 1], np.int64)
_ODD_FANS = np.array([0, 1, 2, 3, 2**24 - 1, 2**24 + 1, 2**31 + 129, 2**32 - 1], np.uint32)


def decay_step(dt: float) -> NDArray[np.float32]:
    """Return an ns_decay_step, as ns_decay works it out."""
    exponent = dt / math.log(2)
    high = np.float32(exponent)
    return np.array([high, exponent - float(high), 152 / exponent if exponent else np.inf], np.float32)


def half_life_step(now: int, half_life: float, floor: float) -> NDArray[np.uint8]:
    """Return an ns_half_life_step."""
    return np.frombuffer(struct.pack("<qdf4x", now, 1 / half_life, floor), np.uint8).copy()


def _mixed(rng: np.random.Generator, usual: NDArray[Any], odd: NDArray[Any]) -> NDArray[Any]:
    """Replace a fifth of the usual values by odd ones."""
    where = rng.random(len(usual)) < 0.2
    usual[where] = rng.choice(odd, int(where.sum()))
    return usual


def _strengths(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    return _mixed(rng, rng.random(n).astype(np.float32), _ODD_STRENGTHS)


def _check(kernels: Kernels, scalar: Kernels, kernel: str, written: NDArray[np.float32], *rest: Any, at: str) -> None:  # noqa: ANN401 - an array and a step
    """Compare what the two leave in place; which NaN a NaN is, is not part of the contract."""
    results = []
    for table in (kernels, scalar):
        arrays = [guarded_copy(written, at=at), guarded_copy(rest[0], at=at)]
        table.run(getattr(table.lane_table, kernel), *arrays, len(written), *rest[1:])
        np.testing.assert_array_equal(arrays[1], rest[0])
        results.append(np.where(np.isnan(arrays[0]), np.float32(np.nan), arrays[0]).view(np.uint32))
    np.testing.assert_array_equal(results[0], results[1])


def check_decay(kernels: Kernels, scalar: Kernels, n: int, at: str) -> None:
    rng = np.random.default_rng(n)
    for dt in (0.0, 1e-30, 0.3, 86_400.0, 2.0**127):
        rates = _mixed(rng, (rng.uniform(0, 120, n) / max(dt, 1)).astype(np.float32), _ODD_RATES)
        _check(kernels, scalar, "decay", _strengths(rng, n), rates, decay_step(dt), at=at)


def check_half_life(kernels: Kernels, scalar: Kernels, n: int, at: str) -> None:
    rng = np.random.default_rng(n)
    for half_life, floor in ((1e-3, 0.0), (1.0, 0.0), (2.6e12, 0.0), (2.6e12, 0.3), (np.inf, 0.5), (2.0**63, 1e-45)):
        ages = (rng.random(n) ** 4 * min(160 * half_life, 2e18)).astype(np.int64)
        step = half_life_step(_NOW, half_life, floor)
        _check(
            kernels, scalar, "decay_half_life", _strengths(rng, n), _mixed(rng, _NOW - ages, _ODD_TIMES), step, at=at
        )


def check_fan_effect(kernels: Kernels, scalar: Kernels, n: int, at: str) -> None:
    rng = np.random.default_rng(n)
    for kernel in LAWS:
        fans = _mixed(rng, (2 ** rng.uniform(0, 32, n)).astype(np.uint32), _ODD_FANS)
        _check(kernels, scalar, kernel, _strengths(rng, n), fans, at=at)
