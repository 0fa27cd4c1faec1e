"""Nearest neighbours by sketches: 8-bit integers rule most pairs out, and only the rest are computed.

Owns the digits of vectors in a basis, and the pass over them. Refuses to know where a basis comes from: any one gives
the same lists, a good one sooner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_threads
from native_simd.arrays import check_status, empty_aligned, kind_of, require_contiguous, require_vectors
from native_simd.isa import active_code, ffi, lib
from native_simd.neighbours import Neighbours
from native_simd.packing import LANES, PackedVectors, pack, require_packed
from native_simd.pairs import count_tiles, pairwise, require_tiles
from native_simd.ranking import empty_lists, ranked, require_k, require_rankable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]

_REACH = 3.3  # root mean squares of a coordinate that digits reach; what is beyond is cut off, and counted
_MOST_LEFT, _MOST_RIGHT, _MOST_STEPS = 63, 127, 126
_LEAST_UNIT = 2.0**-14
_GROUP = 4
_N_TERMS = int(lib.NS_N_TERMS)
_MOST_DIMENSIONS = int(lib.NS_MOST_DIMENSIONS)
_U = 2.0**-24
_TINY = 2.0**-149


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Unit vectors in a basis.

    Attributes
    ----------
    values : ndarray of float32, shape (n, h)
    rounding : float
        At most the length of what exact arithmetic would change of a vector's values.
    skew : float
        At most the spectral norm of what the basis lacks to be orthonormal.
    """

    values: Float32Array
    rounding: float
    skew: float


def project(packed: PackedVectors, basis: Float32Array, threads: int = 1) -> Coordinates:
    """Return vectors in the basis whose rows are given, which should be nearly orthonormal.

    Parameters
    ----------
    packed : PackedVectors
        Packed with ``unit=True``.
    basis : ndarray of float32, shape (h, d)
    threads : int
        At least 1.
    """
    require_packed(packed, "packed")
    if not packed.unit:
        raise ValueError("packed must be packed with unit=True")
    h = require_vectors(basis, "basis")
    if not 1 <= len(h) <= h.shape[1] == packed.d:
        raise ValueError(f"basis must have 1 to {packed.d} rows of {packed.d} dimensions, got shape {h.shape}")
    values = np.empty((packed.n, len(h)), np.float32)
    pairwise(packed, pack(h, threads=threads), metric="dot", out=values, threads=threads)
    exact = h.astype(np.float64)
    lacks = exact @ exact.T
    lacks[np.diag_indices(len(h))] -= 1.0
    skew = float(np.linalg.norm(lacks)) + 2.0**-40
    chain = packed.d * _U / (1 - packed.d * _U) * float(np.linalg.norm(exact))  # README.md: `dot`
    rounding = 1.01 * (chain + 2 * _U * (1 + skew)) + packed.d * _TINY * len(h)
    if not (skew <= 1 and rounding <= 1):
        raise ValueError("the rows of basis are far from orthonormal")
    return Coordinates(values, rounding, skew)


@dataclass(frozen=True, slots=True)
class Sketch:
    """Digits of 8 bits of each vector, in panels of 16: what the header of the library says.

    Attributes
    ----------
    left, right : ndarray of uint8 and of int8
    offsets : ndarray of int32
    order : ndarray of int64, shape (n,)
        Which vector is in which position.
    groups : int
        Of four digits, in each vector.
    unit : float
        What the integer product counts.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.int8]
    offsets: NDArray[np.int32]
    order: NDArray[np.int64]
    groups: int
    unit: float

    @property
    def n(self) -> int:
        """Number of vectors."""
        return len(self.order)


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
    """
    values, threads = coordinates.values, require_threads(threads)
    n, h = values.shape
    require_contiguous(order, np.int64, "order")
    if not np.array_equal(np.sort(order), np.arange(n)):
        raise ValueError(f"order must hold each of the numbers 0 to {n - 1} once")
    root_mean_square = float(np.sqrt(np.vdot(values, values) / max(values.size, 1)))
    left_unit, right_unit = (_REACH * root_mean_square / most for most in (_MOST_LEFT, _MOST_RIGHT))
    if right_unit < _LEAST_UNIT:
        raise ValueError("the basis has next to nothing of the vectors")
    unit = left_unit * right_unit
    digits = ffi.new("ns_digits *", {"n": n, "h": h, "left_unit": left_unit, "right_unit": right_unit})
    digits.rounding, digits.skew = coordinates.rounding, coordinates.skew
    terms = np.empty((n, 2 * _N_TERMS))
    z, t = ffi.from_buffer("float[]", values), ffi.from_buffer("double[]", terms)
    check_status(lib.ns_sketch_terms(digits, z, t, threads))
    largest = terms.max(axis=0, initial=0.0)
    for term in range(_N_TERMS):
        copies = max(1, int(np.ceil(largest[term] * largest[_N_TERMS + term] / (unit * _MOST_STEPS**2))))
        digits.copies[term] = copies
        digits.left_steps[term] = largest[term] / _MOST_STEPS
        digits.right_steps[term] = copies * unit / digits.left_steps[term] * (1 - 2.0**-40)
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


class SketchedPass:
    """The nearest-neighbour pass under "cosine", in slices of tiles as :class:`native_simd.NeighbourPass`.

    Once all tiles are through, the lists have the bits of that pass, whatever the sketch, the order of tiles, the
    number of threads and the instruction set. Before, they have seen other pairs: its tiles are other ones.

    Parameters
    ----------
    packed : PackedVectors
        Packed with ``unit=True``.
    sketch : Sketch
        Of the same vectors.
    k : int
        Neighbours to keep of each row, at least 1.
    threads : int
        To copy the vectors with, at least 1.

    Notes
    -----
    O(n^2 h) operations on 8-bit integers, and O(d) for each pair that they do not rule out. Besides the lists 4 n d
    bytes: the vectors in the order of the sketch.
    """

    def __init__(self, packed: PackedVectors, sketch: Sketch, k: int, threads: int = 1) -> None:
        require_packed(packed, "packed")
        require_rankable(packed.n)
        k, threads = require_k(k), require_threads(threads)
        if not isinstance(sketch, Sketch):
            raise TypeError(f"sketch must be a Sketch, got {kind_of(sketch)}")
        if sketch.n != packed.n or not packed.unit:
            raise ValueError(
                f"sketch is of {sketch.n} vectors and packed has {packed.n} (unit={packed.unit}): they must be the "
                "same, packed with unit=True"
            )
        if packed.d > _MOST_DIMENSIONS:
            raise ValueError(f"packed must have at most {_MOST_DIMENSIONS} dimensions, got {packed.d}")
        self._sketch, self._d = sketch, packed.d
        self._rows = empty_aligned((packed.n, packed.d), np.float32)
        positions = np.empty(packed.n, np.int64)
        positions[sketch.order] = np.arange(packed.n)
        check_status(
            lib.ns_unpack(
                ffi.from_buffer("float[]", packed.panels),
                packed.n,
                packed.d,
                ffi.from_buffer("int64_t[]", positions),
                ffi.from_buffer("float[]", self._rows),
                threads,
            )
        )
        n_others = max(packed.n - 1, 0)
        self._n_kept = min(k, n_others)
        self._lists = empty_lists(packed.n, min(k + 1, n_others))  # one more than is asked for: the bound
        self.n_tiles = count_tiles(packed.n)

    def run(self, tiles: tuple[int, int] | None = None, threads: int = 1) -> None:
        """Compute tiles ``first`` to ``stop`` (exclusive) of :attr:`n_tiles`, all of them by default."""
        first, stop = require_tiles(tiles, self._sketch.n)
        threads = require_threads(threads)
        if not self._lists.size:
            return
        digits = self._sketch
        c_sketch = ffi.new(
            "ns_sketch *",
            {
                "n": digits.n,
                "groups": digits.groups,
                "unit": digits.unit,
                "left": ffi.from_buffer("uint8_t[]", digits.left),
                "right": ffi.from_buffer("int8_t[]", digits.right),
                "offsets": ffi.from_buffer("int32_t[]", digits.offsets),
                "order": ffi.from_buffer("int64_t[]", digits.order),
            },
        )
        check_status(
            lib.ns_neighbours_sketched(
                active_code(),
                c_sketch,
                ffi.from_buffer("float[]", self._rows),
                self._d,
                first,
                stop - first,
                ffi.from_buffer("uint64_t[]", self._lists),
                self._lists.shape[1],
                threads,
            )
        )

    @property
    def lists(self) -> NDArray[np.uint64]:
        """As of :attr:`native_simd.NeighbourPass.lists`."""
        n_places = self._lists.shape[1]
        return self._lists if n_places > self._n_kept else np.pad(self._lists, ((0, 0), (0, 1)))

    def result(self) -> Neighbours:
        """Return the neighbours among the tiles run so far: -1 and -infinity where a list is not full yet."""
        return Neighbours(*ranked(self._lists, self._n_kept))
