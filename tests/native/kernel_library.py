"""The C sources built for testing: all symbols visible, each kernel table callable, natively or on an emulated CPU."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from guarded_memory import guarded, guarded_copy

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray

_Integer = TypeVar("_Integer", np.int16, np.int8)

LANES = 16
TILE_ROWS = 192
SKETCH_GROUP, CHAINS_AT_A_TIME = 4, 8
CODES = {"scalar": 0, "neon": 1, "avx2": 2, "avx512": 3}
_HERE = Path(__file__).parent
_NATIVE = _HERE.parents[1] / "native_simd"


class Run(Protocol):
    """Calls a function by address; arrays are passed by reference."""

    def __call__(self, address: int, *arguments: NDArray[Any] | int) -> int: ...


class _Table(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("tile_dot", ctypes.c_void_p),
        ("tile_sqeuclidean", ctypes.c_void_p),
        ("transpose", ctypes.c_void_p),
        ("row_max", ctypes.c_void_p),
        ("row_at_least", ctypes.c_void_p),
        ("vector_dot", ctypes.c_void_p),
        ("vector_dot_of", ctypes.c_void_p),
        ("row_at_least_either", ctypes.c_void_p),
        ("quantized_dot", ctypes.c_void_p),
        ("bytes_dot", ctypes.c_void_p),
        ("row_dot_of", ctypes.c_void_p),
    )


class _SketchTable(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("sift", ctypes.c_void_p),
        ("estimate", ctypes.c_void_p),
        ("chains", ctypes.c_void_p),
    )


class _LaneTable(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("decay", ctypes.c_void_p),
        ("decay_half_life", ctypes.c_void_p),
        ("fan_sqrt", ctypes.c_void_p),
        ("fan_linear", ctypes.c_void_p),
        ("fan_log", ctypes.c_void_p),
        ("fade", ctypes.c_void_p),
        ("sigmoid", ctypes.c_void_p),
    )


def _build_settings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("native_build", _NATIVE / "_build.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(_NATIVE / "_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path) -> Path:
    """Compile the sources with the flags of the wheel and CFLAGS, but visible symbols; return the shared object."""
    settings = _build_settings()
    flags = [flag for flag in settings.COMPILE_ARGS if flag != "-fvisibility=hidden"]
    flags += shlex.split(os.environ.get("CFLAGS", ""))
    sources = [str(_NATIVE / "csrc" / name) for name in settings.SOURCES]
    target = folder / "kernels.so"
    command = ["gcc", *flags, "-shared", "-fPIC", f"-I{_NATIVE / 'csrc'}", *sources, str(_HERE / "shim.c")]
    bare = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # a sanitizer slows gcc down
    subprocess.run([*command, "-o", str(target), "-lm"], env=bare, check=True)
    return target


def run_natively(address: int, *arguments: NDArray[Any] | int) -> int:
    """Call on this machine's CPU."""
    passed = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
    function: Callable[..., int] = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(passed))(address)
    return function(*passed)


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of one instruction set, called through ``run``; outputs lie between guard pages."""

    library: ctypes.CDLL
    isa: str
    run: Run = run_natively

    def address(self, symbol: str) -> int:
        """Return the address of a function of the shared object."""
        return int(ctypes.cast(getattr(self.library, symbol), ctypes.c_void_p).value or 0)

    @property
    def table(self) -> _Table:
        return _Table.in_dll(self.library, f"ns_kernels_{self.isa}")

    @property
    def lane_table(self) -> _LaneTable:
        return _LaneTable.in_dll(self.library, f"ns_lane_kernels_{self.isa}")

    @property
    def sketch_table(self) -> _SketchTable:
        return _SketchTable.in_dll(self.library, f"ns_sketch_kernels_{self.isa}")

    def has_sketch_kernels(self) -> bool:
        """Return whether the CPU has the kernels of this set: those of AVX-512 need VNNI."""
        return self.isa != "avx512" or bool(self.run(self.address("ns_vnni_available")))

    def is_available(self) -> bool:
        """Return what the library itself says about the CPU it runs on."""
        return bool(self.run(self.address("ns_isa_available"), CODES[self.isa]))

    def tile(self, kernel: str, a: NDArray[np.float32], b: NDArray[np.float32], d: int) -> NDArray[np.float32]:
        """Return the raw accumulators of all panels of ``a`` with all of ``b``."""
        n_a, n_b = a.size // (LANES * d), b.size // (LANES * d)
        out = guarded((n_a * LANES - 1) * TILE_ROWS + n_b * LANES)
        out[:] = np.nan
        self.run(getattr(self.table, kernel), a, b, d, n_a, n_b, out)
        rows = np.lib.stride_tricks.as_strided(out, (n_a * LANES, n_b * LANES), (4 * TILE_ROWS, 4))
        gaps = out.size - rows.size
        assert np.isnan(out).sum() == np.isnan(rows).sum() + gaps
        return rows

    def transpose(
        self, values: NDArray[np.float32], rows: int, columns: int, out_stride: int, *, at: str = "end"
    ) -> NDArray[np.float32]:
        """Return the transposed ``rows`` x ``columns`` corner, and check that nothing else was written."""
        out = guarded((columns - 1) * out_stride + rows, at=at)
        out[:] = np.nan
        self.run(self.table.transpose, values, values.strides[0] // 4, rows, columns, out, out_stride)
        written = np.lib.stride_tricks.as_strided(out, (columns, rows), (4 * out_stride, 4))
        assert np.isnan(out).sum() == np.isnan(written).sum() + out.size - written.size
        return written

    def row_max(self, row: NDArray[np.float32], bias: NDArray[np.float32]) -> np.float32:
        best = np.empty(1, np.float32)
        table = ctypes.addressof(self.table)
        self.run(self.address("shim_row_max"), table, row, bias, len(row), best)
        return np.float32(best[0])

    def row_at_least(self, row: NDArray[np.float32], bias: NDArray[np.float32], threshold: float) -> NDArray[np.int32]:
        found, floor = guarded(len(row), np.int32), np.array([threshold], np.float32)
        table = ctypes.addressof(self.table)
        count = self.run(self.address("shim_row_at_least"), table, row, bias, len(row), floor, found)
        return found[:count].copy()

    def vector_dot(self, vector: NDArray[np.float32], panels: NDArray[np.float32], d: int) -> NDArray[np.float32]:
        """Return the raw accumulators of one vector with all panels."""
        out = guarded(panels.size // d)
        out[:] = np.nan
        self.run(self.table.vector_dot, vector, panels, d, out.size // LANES, out)
        return out

    def vector_dot_of(
        self, vector: NDArray[np.float32], panels: NDArray[np.float32], d: int, which: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the raw accumulators of one vector with some of the panels."""
        out = guarded(len(which) * LANES)
        out[:] = np.nan
        self.run(self.table.vector_dot_of, vector, panels, d, which, len(which), out)
        return out

    def quantized_dot(self, vector: NDArray[np.int16], panels: NDArray[np.int16], n_pairs: int) -> NDArray[np.int32]:
        """Return the inner products of integers of one vector with all panels."""
        sums = guarded(panels.size // (2 * n_pairs), np.int32)
        self.run(self.table.quantized_dot, vector, panels, n_pairs, sums.size // LANES, sums)
        return sums

    def bytes_dot(self, vector: NDArray[np.int16], panels: NDArray[np.int8], n_pairs: int) -> NDArray[np.int32]:
        """Return the same of panels of bytes."""
        sums = guarded(panels.size // (2 * n_pairs), np.int32)
        self.run(self.table.bytes_dot, vector, panels, n_pairs, sums.size // LANES, sums)
        return sums

    def row_dot_of(
        self, vector: NDArray[np.float32], rows: NDArray[np.float32], which: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the raw accumulators of one vector with some rows."""
        out = guarded(len(which))
        self.run(self.table.row_dot_of, vector, rows, len(vector), which, len(which), out)
        return out

    def row_at_least_either(
        self, row: NDArray[np.float32], thresholds: NDArray[np.float32], threshold: float
    ) -> NDArray[np.int32]:
        found, floor = guarded(len(row), np.int32), guarded_copy(np.array([threshold], np.float32))
        count = self.run(self.table.row_at_least_either, row, thresholds, len(row), floor, found)
        return found[:count].copy()

    def sift(
        self, left: NDArray[np.uint8], right: NDArray[np.int8], groups: int, levels: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Return the places that pass, ascending; levels: of rows, of columns, offsets of columns."""
        n_panels = np.array([left.size, right.size]) // (groups * SKETCH_GROUP * LANES)
        found = guarded(int(n_panels.prod()) * LANES * LANES, np.int32)
        count = self.run(self.sketch_table.sift, left, right, groups, guarded_copy(n_panels), levels, found)
        return np.sort(found[:count])

    def estimate(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the inner product of two vectors, in an array."""
        out = guarded(1)
        self.run(self.sketch_table.estimate, a, b, len(a), out)
        return out

    def chains(self, a: NDArray[np.float32], b: NDArray[np.float32], places: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the inner products of pairs of rows."""
        out = guarded(len(places))
        self.run(self.sketch_table.chains, a, b, a.shape[1], places, out)
        return out


def pack_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return panels of 16 in plain numpy: element k of vector v at ``(v // 16) * 16 * d + k * 16 + v % 16``."""
    n, d = rows.shape
    padded = np.zeros((-(-n // LANES) * LANES, d), np.float32)
    padded[:n] = rows
    return np.ascontiguousarray(padded.reshape(-1, LANES, d).transpose(0, 2, 1)).reshape(-1)


def pack_pairs(rows: NDArray[_Integer]) -> NDArray[_Integer]:
    """Return panels of 16 rows of pairs: those of pair ``p`` lie one row after the other, at ``32 * p``."""
    n, d = rows.shape
    return np.ascontiguousarray(rows.reshape(n // LANES, LANES, d // 2, 2).transpose(0, 2, 1, 3)).reshape(-1)
