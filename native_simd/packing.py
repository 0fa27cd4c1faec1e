"""Vectors in panels of 16, and their norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_flag, require_integer, require_threads
from native_simd.arrays import (
    check_status,
    empty_aligned,
    first_row,
    kind_of,
    require_contiguous,
    require_vectors,
    row_stride,
)
from native_simd.isa import ffi, lib
from native_simd.placement import empty_placed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from native_simd.placement import MemoryPolicy

    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]

LANES: int = int(lib.NS_LANES)


class RowError(ValueError):
    """A row is refused, and nothing was done: a vector that cannot be packed, a binding that cannot be changed.

    Attributes
    ----------
    row : int
        Index of the first such row.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(row, reason)
        self.row = row
        self.reason = reason

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PackedVectors:
    """Vectors in panels of 16, ready for :func:`pairwise`.

    Attributes
    ----------
    panels : ndarray of float32
        ``ceil(n / 16) * 16 * d`` elements, 64-byte aligned; element ``k`` of vector ``v`` is at
        ``(v // 16) * 16 * d + k * 16 + v % 16``, padding lanes are zero.
    norms : ndarray of float64, shape (n,)
        Euclidean norms of the vectors before packing.
    n, d : int
        Number of vectors, and dimension.
    unit : bool
        Whether the vectors were divided by their norms.
    """

    panels: Float32Array
    norms: Float64Array
    n: int
    d: int
    unit: bool

    def __post_init__(self) -> None:
        n, d = require_integer(self.n, "n", least=0), require_integer(self.d, "d", least=1)
        require_flag(self.unit, "unit")
        for name, array, dtype, size in (
            ("panels", self.panels, np.float32, -(-n // LANES) * LANES * d),
            ("norms", self.norms, np.float64, n),
        ):
            require_contiguous(array, dtype, name)
            if len(array) != size:
                raise ValueError(f"{name} of {n} vectors of {d} dimensions must have {size} elements, got {len(array)}")

    def rows(self, start: int, stop: int) -> PackedVectors:
        """Return a view of rows ``start:stop``; ``start`` must be a multiple of 16."""
        start, stop = require_integer(start, "start"), require_integer(stop, "stop")
        if start % LANES or not 0 <= start <= stop <= self.n:
            raise ValueError(f"rows {start}:{stop} of {self.n} are not a range that starts at a panel")
        end = -(-stop // LANES) * LANES
        return PackedVectors(
            self.panels[start * self.d : end * self.d], self.norms[start:stop], stop - start, self.d, self.unit
        )


def pack(
    vectors: Float32Array, *, unit: bool = False, threads: int = 1, memory: MemoryPolicy | None = None
) -> PackedVectors:
    """Pack vectors into panels of 16, with their float64 norms.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        Copied first unless its rows are contiguous.
    unit : bool
        Divide each vector by its norm (in float64, rounded once): what metric "cosine" needs.
    threads : int
        Threads to use, at least 1.
    memory : MemoryPolicy, optional
        Where the panels go; default, where the memory policies of the packing threads say.

    Raises
    ------
    RowError
        For the first row that is not finite or whose norm is out of range: above 2**52 (nothing computed from the
        rest can overflow) or, with ``unit``, zero or below the float32 range.
    OSError
        The kernel refuses `memory` (:func:`native_simd.placement.empty_placed`).
    """
    x = require_vectors(vectors, "vectors")
    n, d = x.shape
    unit = require_flag(unit, "unit")
    shape = (-(-n // LANES) * LANES * d,)
    panels = empty_aligned(shape, np.float32) if memory is None else empty_placed(shape, np.float32, memory)
    norms_ = _packed(x, panels, unit=unit, threads=threads)
    return PackedVectors(panels, norms_, n, d, unit)


def norms(vectors: Float32Array, *, unit: bool = False, threads: int = 1) -> Float64Array:
    """Return the Euclidean norms of the rows, float64; same checks as :func:`pack`.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    unit : bool
        Refuse rows that cannot be divided by their norm.

    Raises
    ------
    RowError
        As :func:`pack`.
    """
    return _packed(require_vectors(vectors, "vectors"), None, unit=require_flag(unit, "unit"), threads=threads)


def require_packed(value: object, name: str) -> PackedVectors:
    """Return vectors that were packed."""
    if not isinstance(value, PackedVectors):
        raise TypeError(f"{name} must be PackedVectors, got {kind_of(value)}: pass native_simd.pack({name})")
    return value


def require_unit_vectors(packed: PackedVectors) -> PackedVectors:
    """Return vectors that were packed with ``unit=True``."""
    if not packed.unit:
        raise ValueError('metric "cosine" needs vectors packed with unit=True')
    return packed


def _packed(x: Float32Array, panels: Float32Array | None, *, unit: bool, threads: int) -> Float64Array:
    n, d = x.shape
    norms_ = np.empty(n, np.float64)
    bad_row = ffi.new("int64_t *")
    status = lib.ns_pack(
        first_row(x),
        n,
        d,
        row_stride(x),
        int(unit),
        ffi.NULL if panels is None else ffi.from_buffer("float[]", panels),
        ffi.from_buffer("double[]", norms_),
        bad_row,
        require_threads(threads),
    )
    if status == lib.NS_E_ROW:
        row = int(bad_row[0])
        raise RowError(row, _row_fault(x[row], float(norms_[row])))
    check_status(status)
    return norms_


def _row_fault(row: Float32Array, norm: float) -> str:
    if not np.isfinite(row).all():
        column = int(np.flatnonzero(~np.isfinite(row))[0])
        return f"element {column} is {row[column]}, not a finite number"
    if not row.any():
        return "the vector is zero and has no direction"
    return f"the norm {norm:.3g} of the vector is outside the range that float32 similarities can hold"
