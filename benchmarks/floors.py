"""What no method can beat: measured by `floors.c`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.machine import ROOT
from benchmarks.native import ADDRESS, NUMBER, SECONDS, SIZE, compiled
from native_simd.isa import active_code

if TYPE_CHECKING:
    import ctypes

    from numpy.typing import NDArray

    from benchmarks.contest import Contender
    from native_simd.packing import PackedVectors

_LANES = {"avx2": 8, "avx512": 16}
_CHAINS, _STEPS = 12, 1 << 24  # of floors.c


@cache
def _floors() -> ctypes.CDLL:
    return compiled(
        [ROOT / "benchmarks/floors.c"],
        triangle_s=(SECONDS, NUMBER, ADDRESS, SIZE, SIZE, NUMBER),
        batch_s=(SECONDS, NUMBER, ADDRESS, ADDRESS, SIZE, SIZE, ADDRESS, SIZE),
        read_s=(SECONDS, ADDRESS, SIZE, NUMBER),
        multiply_s=(SECONDS, NUMBER, NUMBER),
    )


def triangle(packed: PackedVectors, threads: int) -> Contender:
    """Compute the similarities of all pairs with the library's kernels; nobody looks at them."""
    return lambda: float(_floors().triangle_s(active_code(), packed.panels.ctypes.data, packed.n, packed.d, threads))


def batch(isa: int, unit_query: NDArray[np.float32], packed: PackedVectors, calls: int) -> Contender:
    """Compare a query of unit norm with all vectors, so many times; returns the time of once."""
    out = np.empty(packed.n, np.float32)
    addresses = unit_query.ctypes.data, packed.panels.ctypes.data
    return lambda: float(_floors().batch_s(isa, *addresses, packed.n, packed.d, out.ctypes.data, calls))


def read(packed: PackedVectors, threads: int) -> Contender:
    """Read the vectors from start to end."""
    return lambda: float(_floors().read_s(packed.panels.ctypes.data, packed.panels.size, threads))


def multiply(threads: int) -> Contender:
    """Multiply and add in registers."""
    return lambda: float(_floors().multiply_s(active_code(), threads))


def multiply_flop(isa: str, threads: int) -> float:
    return 2.0 * _CHAINS * _STEPS * _LANES[isa] * threads
