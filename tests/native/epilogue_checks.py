"""Epilogue kernels of one instruction set against scalar, bit for bit, with every array against a guard page."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import numpy as np
from guarded_memory import guarded_copy
from kernel_checks import assert_same_bits
from kernel_library import LANES

if TYPE_CHECKING:
    from kernel_library import Kernels
    from numpy.typing import NDArray

_TIME = 1_700_000_000_000_000
_ODD_COSINES = np.array([0, -0.0, 1e-45, -1e-38, 2e-20, 1, -1, 0.5], np.float32)
_ODD_TIMES = np.array([_TIME, _TIME - 1, _TIME + 1, 0, -1, 2**63 - 1, -(2**63)], np.int64)


def fade_step(time: int, half_life: float) -> NDArray[np.uint8]:
    """Return an ns_fade_step."""
    return np.frombuffer(struct.pack("<qd", time, 1 / half_life), np.uint8).copy()


def sigmoid_step(slope: float, midpoint: float) -> NDArray[np.float64]:
    """Return an ns_sigmoid_step."""
    return np.array([midpoint, slope / math.log(2)])


def _cosines(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    cosines = rng.uniform(-1, 1, n).astype(np.float32)
    where = rng.random(n) < 0.2
    cosines[where] = rng.choice(_ODD_COSINES, int(where.sum()))
    return cosines


def check_fade(kernels: Kernels, scalar: Kernels, n_panels: int, at: str) -> None:
    n = n_panels * LANES
    rng = np.random.default_rng(n)
    for time, half_life in ((_TIME, 1.0), (_TIME, 2.6e12), (_TIME, np.inf), (-(2**63), 2.0**63), (2**63 - 1, 1e-300)):
        gaps = (rng.random(n) ** 4 * min(160 * half_life, 2e18)).astype(np.int64)
        times = _TIME + rng.choice([-1, 1], n) * gaps
        where = rng.random(n) < 0.3
        times[where] = rng.choice(_ODD_TIMES, int(where.sum()))
        start, step, results = _cosines(rng, n), fade_step(time, half_life), []
        for table in (kernels, scalar):
            row, placed = guarded_copy(start, at=at), guarded_copy(times, at=at)
            table.run(table.lane_table.fade, row, placed, n, step)
            results.append(row)
            np.testing.assert_array_equal(placed, times)
        assert_same_bits(results[0], results[1])


def check_sigmoid(kernels: Kernels, scalar: Kernels, n_panels: int, at: str) -> None:
    n = n_panels * LANES
    rng = np.random.default_rng(n)
    for slope, midpoint in ((10.0, 0.5), (120.0, -0.3), (1e-30, 0.0), (1e308, 0.5), (3.0, -1e308)):
        start, step, results = _cosines(rng, n), sigmoid_step(slope, midpoint), []
        for table in (kernels, scalar):
            row = guarded_copy(start, at=at)
            table.run(table.lane_table.sigmoid, row, n, step)
            results.append(row)
        assert_same_bits(results[0], results[1])
