"""What no method can beat: `floors.c`, compiled with the library's own sources."""

from __future__ import annotations

import ctypes
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from native_simd import _build as build
from native_simd.isa import active_code

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.contest import Contender
    from native_simd.packing import PackedVectors

_CSRC = Path(build.__file__).parent / "csrc"
_LANES = {"avx2": 8, "avx512": 16}
_CHAINS, _STEPS = 12, 1 << 24  # of floors.c


@cache
def _floors() -> ctypes.CDLL:
    flags = [flag for flag in build.COMPILE_ARGS if flag != "-fvisibility=hidden"]
    sources = [str(_CSRC / name) for name in build.SOURCES]
    with TemporaryDirectory() as folder:
        library = Path(folder) / "floors.so"
        command = ["gcc", *flags, "-Wno-psabi", "-shared", "-fPIC", f"-I{_CSRC}", *sources]
        subprocess.run([*command, str(Path(__file__).with_name("floors.c")), "-o", str(library), "-lm"], check=True)
        floors = ctypes.CDLL(str(library))
    address, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    for name, arguments in (
        ("triangle_s", [number, address, size, size, number]),
        ("batch_s", [number, address, address, size, size, address, size]),
        ("read_s", [address, size, number]),
        ("multiply_s", [number, number]),
    ):
        getattr(floors, name).argtypes, getattr(floors, name).restype = arguments, ctypes.c_double
    return floors


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
