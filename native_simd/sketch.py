"""Sketches: of unit vectors a few 8-bit digits, whose integer products are bounds on the cosines.

Owns the digits of vectors in a basis, and that the bounds hold. Refuses to know where a basis comes from: any one gives
bounds, a good one close ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from native_simd.arguments import require_integer, require_real, require_threads
from native_simd.arrays import check_status, kind_of, require_contiguous, require_vectors
from native_simd.isa import ffi, lib
from native_simd.packing import LANES, PackedVectors, pack, require_packed
from native_simd.pairs import pairwise, require_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]

_REACH = 3.3  # root mean squares of a coordinate that digits reach; what is beyond is cut off, and counted
_MOST_LEFT, _MOST_RIGHT, _MOST_STEPS = 63, 127, 126
_LEAST_UNIT = 2.0**-14
_MOST_LENGTH = 3.0  # of coordinates: 1 + rounding, and for a skew of 1 the root of 2
_GROUP = 4
_MOST_COORDINATES, _MOST_GROUPS = int(lib.NS_MOST_COORDINATES), int(lib.NS_MOST_GROUPS)
_N_TERMS = int(lib.NS_N_TERMS)
_U = 2.0**-24
_TINY = 2.0**-149


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Unit vectors in a basis; made by :func:`project`.

    A pass is right only where ``rounding`` and ``skew`` are no less than they say.

    Attributes
    ----------
    values : ndarray of float32, shape (n, h)
        h from 1 to 4,096.
    rounding : float
        At most the length of what exact arithmetic would change of a vector's values; above 0, at most 1.
    skew : float
        At most the spectral norm of what the basis lacks to be orthonormal; from 0 to 1.
    """

    values: Float32Array
    rounding: float
    skew: float

    def __post_init__(self) -> None:
        values = self.values
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.ndim != 2 or not values.shape[1]:
            raise TypeError(f"values must be a float32 array of shape (n, h), got {kind_of(values)}")
        if not (values.flags.c_contiguous and values.flags.aligned):
            raise ValueError("values must be contiguous and aligned: pass numpy.ascontiguousarray(values)")
        values = np.asarray(values)
        if values.shape[1] > _MOST_COORDINATES:
            raise ValueError(f"values must have at most {_MOST_COORDINATES} columns, got {values.shape[1]}")
        if not 0 < require_real(self.rounding, "rounding") <= 1:
            raise ValueError(f"rounding must be above 0 and at most 1, got {self.rounding}")
        if not 0 <= require_real(self.skew, "skew") <= 1:
            raise ValueError(f"skew must be from 0 to 1, got {self.skew}")
        if len(values) and not float(np.einsum("ij,ij->i", values, values).max()) <= _MOST_LENGTH**2:
            raise ValueError("values must be of unit vectors in a nearly orthonormal basis, and finite")


def project(packed: PackedVectors, basis: Float32Array, threads: int = 1) -> Coordinates:
    """Return unit vectors in the basis whose rows are given.

    Parameters
    ----------
    packed : PackedVectors
        Packed with ``unit=True``.
    basis : ndarray of float32, shape (h, d)
        Nearly orthonormal rows, 1 to d of them and at most 4,096.
    threads : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; or the rows of the basis are far from orthonormal.
    """
    require_unit("cosine", require_packed(packed, "packed"))
    rows = np.asarray(require_vectors(basis, "basis"))  # of a masked array, all that it holds
    if not 1 <= len(rows) <= min(packed.d, _MOST_COORDINATES) or rows.shape[1] != packed.d:
        raise ValueError(
            f"basis must have 1 to {min(packed.d, _MOST_COORDINATES)} rows of the {packed.d} dimensions that packed "
            f"has, got shape {rows.shape}"
        )
    skew, rounding = _basis_errors(rows)
    if not (skew <= 1 and rounding <= 1):
        raise ValueError("the rows of basis must be nearly orthonormal")
    values = np.empty((packed.n, len(rows)), np.float32)
    pairwise(packed, pack(rows, threads=threads), metric="dot", out=values, threads=threads)
    return Coordinates(values, rounding, skew)


def _basis_errors(basis: Float32Array) -> tuple[float, float]:
    """Return skew and rounding; NaN or infinite where the basis is. README.md has the bound on `dot`."""
    with np.errstate(over="ignore", invalid="ignore"):
        exact = basis.astype(np.float64)
        h, d = exact.shape
        square = float(np.square(exact).sum())
        lacks = exact @ exact.T - np.eye(h)
        skew = float(np.linalg.norm(lacks)) + 1.01 * (d + 8) * 2.0**-53 * (square + h)  # the products are rounded
        chain = d * _U / (1 - d * _U) * float(np.sqrt(square))
        return skew, 1.01 * (chain + 2 * _U * (1 + skew)) + d * _TINY * h


@dataclass(frozen=True, slots=True)
class Sketch:
    """Digits of 8 bits of each vector, in panels of 16; made by :func:`sketch`.

    A pass is right only where they are what :func:`sketch` made of its vectors.

    Attributes
    ----------
    left, right : ndarray of uint8 and of int8
        ``ceil(n / 16) * 64 * groups`` elements: digit b of group g of position p is at
        ``p // 16 * 64 * groups + 64 * g + p % 16 * 4 + b``.
    offsets : ndarray of int32
        ``ceil(n / 16) * 16`` elements: what is added to the products with a position's right digits.
    order : ndarray of int64, shape (n,)
        Which vector is in which position.
    groups : int
        Of four digits, in each vector.
    unit : float
        What 1 of an integer product is of a cosine.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.int8]
    offsets: NDArray[np.int32]
    order: NDArray[np.int64]
    groups: int
    unit: float

    def __post_init__(self) -> None:
        groups = require_integer(self.groups, "groups", least=1)
        if groups > _MOST_GROUPS:
            raise ValueError(f"groups must be at most {_MOST_GROUPS}, got {groups}")
        if not _LEAST_UNIT**2 <= require_real(self.unit, "unit") <= 1:
            raise ValueError(f"unit must be from {_LEAST_UNIT**2} to 1, got {self.unit}")
        positions = -(-len(require_order(self.order)) // LANES) * LANES
        for name, array, dtype, size in (
            ("left", self.left, np.uint8, positions * groups * _GROUP),
            ("right", self.right, np.int8, positions * groups * _GROUP),
            ("offsets", self.offsets, np.int32, positions),
        ):
            require_contiguous(array, dtype, name)
            if len(array) != size:
                raise ValueError(f"{name} of {self.n} vectors in order must have {size} elements, got {len(array)}")

    @property
    def n(self) -> int:
        """Number of vectors."""
        return len(self.order)


def require_order(order: object) -> NDArray[np.int64]:
    """Return an array that holds each of the numbers below its length once."""
    numbers: NDArray[np.int64] = require_contiguous(order, np.int64, "order")
    if not np.array_equal(np.sort(numbers), np.arange(len(numbers))):
        raise ValueError(f"order must hold each of the numbers below {len(numbers)} once")
    return numbers


def sketch(coordinates: Coordinates, order: NDArray[np.int64], threads: int = 1) -> Sketch:
    """Return the digits of vectors.

    Parameters
    ----------
    coordinates : Coordinates
    order : ndarray of int64, shape (n,)
        All the vectors, each once, near ones near each other: the pass compares these first, so that it knows early
        what is near. Never changes the lists.
    threads : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; or the coordinates are hardly anything of the vectors, too little for digits.
    """
    if not isinstance(coordinates, Coordinates):
        raise TypeError(f"coordinates must be Coordinates, got {kind_of(coordinates)}")
    values, order, threads = np.asarray(coordinates.values), require_order(order), require_threads(threads)
    n, h = values.shape
    if len(order) != n:
        raise ValueError(f"order must hold one number for each of {n} vectors, got {len(order)}")
    size = _REACH * float(np.sqrt(np.vdot(values, values) / max(values.size, 1))) if n else 1.0
    left_unit, right_unit = size / _MOST_LEFT, size / _MOST_RIGHT
    if right_unit < _LEAST_UNIT:
        raise ValueError("coordinates must have more of the vectors: they are next to nothing")
    digits = ffi.new("ns_digits *", {"n": n, "h": h, "left_unit": left_unit, "right_unit": right_unit})
    digits.rounding, digits.skew = coordinates.rounding, coordinates.skew
    terms = np.empty((n, 2 * _N_TERMS))
    z, t = ffi.from_buffer("float[]", values), ffi.from_buffer("double[]", terms)
    check_status(lib.ns_sketch_terms(digits, z, t, threads))
    unit = left_unit * right_unit
    _count_terms(digits, terms.max(axis=0, initial=0.0), unit)
    groups = digits.groups = -(-(h + sum(digits.copies)) // _GROUP)
    positions = -(-n // LANES) * LANES
    left, right = (np.empty(positions * groups * _GROUP, dtype) for dtype in (np.uint8, np.int8))
    offsets = np.empty(positions, np.int32)
    check_status(
        lib.ns_sketch_digits(
            digits,
            z,
            t,
            ffi.from_buffer("int64_t[]", order),
            ffi.from_buffer("uint8_t[]", left),
            ffi.from_buffer("int8_t[]", right),
            ffi.from_buffer("int32_t[]", offsets),
            threads,
        )
    )
    return Sketch(left, right, offsets, order, groups, unit)


def _count_terms(digits: Any, largest: Float64Array, unit: float) -> None:  # noqa: ANN401 - a struct of C
    """Choose copies and steps of the products of terms, whose largest values are given: left ones, then right ones."""
    for term in range(_N_TERMS):
        left, right = largest[term], largest[_N_TERMS + term]
        copies = max(1, int(np.ceil(left * right / (unit * _MOST_STEPS**2))))
        step = left / _MOST_STEPS if left else 1.0
        digits.copies[term], digits.left_steps[term] = copies, step
        digits.right_steps[term] = copies * unit / step * (1 - 2.0**-40)  # pays for the roundings of quotients
