"""Similarity and linkage kernels with the same bits on every instruction set.

This module is the typed face of the C library in ``csrc/`` (placement calls are in :mod:`native_simd.placement`): it
checks shapes, types and memory layout once, owns the choice of instruction set, and knows nothing of episodes,
concepts or Ray. Every call releases the GIL. ``README.md`` beside it states the kernel contract.
"""

from __future__ import annotations

import os
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

# `ray job submit --working-dir .` puts a source tree, which has no compiled extension, ahead of the installed package
# on a worker's path: look for the extension in every `native_simd` on the path.
__path__ = pkgutil.extend_path(__path__, __name__)

try:
    from native_simd._simd import ffi, lib
except ModuleNotFoundError as missing:
    raise ImportError(
        f"native_simd is not compiled in {list(__path__)}: run `pip install .` in the project"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]

__all__ = [
    "LANES",
    "TILE_ROWS",
    "ChainCounters",
    "IsaUnavailableError",
    "NearestNeighbourChain",
    "PackedVectors",
    "RowError",
    "active_isa",
    "available_isas",
    "count_tiles",
    "norms",
    "pack",
    "pairwise",
    "pairwise_symmetric",
    "similarity",
]

_ABI = 1
if _ABI != lib.NS_ABI:
    raise ImportError(f"native_simd needs version {_ABI} of its compiled extension, found {lib.NS_ABI}: reinstall")

LANES: int = int(lib.NS_LANES)
TILE_ROWS: int = int(lib.NS_TILE_ROWS)

Metric = Literal["dot", "cosine", "sqeuclidean", "euclidean"]
Method = Literal["average", "complete", "single", "weighted", "ward"]

_METRICS: dict[str, int] = {name: code for code, name in enumerate(get_args(Metric))}
_METHODS: dict[str, int] = {name: code for code, name in enumerate(get_args(Method))}
_ALIGNMENT_BYTES = 64


class IsaUnavailableError(RuntimeError):
    """``CLUSTER_ENGINE_ISA`` names an instruction set that this build, CPU or operating system does not offer."""


class RowError(ValueError):
    """A vector cannot be packed: it is not finite, too large, or too small (zero) where a direction is needed.

    Attributes
    ----------
    row : int
        Index of the first such vector.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(row, reason)
        self.row = row
        self.reason = reason

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"


def _isa_names() -> tuple[str, ...]:
    return tuple(ffi.string(lib.ns_isa_name(isa)).decode() for isa in range(lib.NS_N_ISAS))


def available_isas() -> tuple[str, ...]:
    """Return the instruction sets that this build, CPU and operating system offer, slowest first."""
    return tuple(name for isa, name in enumerate(_isa_names()) if lib.ns_isa_available(isa))


def active_isa() -> str:
    """Return the instruction set in use: the fastest available, or the one that ``CLUSTER_ENGINE_ISA`` names.

    Raises
    ------
    IsaUnavailableError
        If the variable names one that is not available; there is no silent fallback.
    """
    forced = os.environ.get("CLUSTER_ENGINE_ISA")
    offered = available_isas()
    if not forced:
        return offered[-1]
    if forced not in offered:
        raise IsaUnavailableError(
            f"CLUSTER_ENGINE_ISA={forced!r} is not available here; available: {', '.join(offered)}"
        )
    return forced


def _isa() -> int:
    return _isa_names().index(active_isa())


def _pointer(array: NDArray[np.generic], ctype: str) -> object:
    return ffi.cast(ctype, array.ctypes.data)


def _check(status: int) -> None:
    if status == lib.NS_E_MEMORY:
        raise MemoryError("the native library could not start a thread or allocate its scratch memory")
    if status != lib.NS_OK:
        raise AssertionError(f"native call refused its arguments (status {status}): the typed layer let them through")


def _vectors(x: object, name: str) -> Float32Array:
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim != 2:
        kind = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"{name} must be a float32 array of shape (n, d), got {kind}")
    if x.shape[1] < 1:
        raise ValueError(f"{name} must have at least one dimension, got shape {x.shape}")
    return x if _rows_are_contiguous(x) else np.array(x, order="C")


def _rows_are_contiguous(x: NDArray[np.generic]) -> bool:
    """Whether rows are contiguous and lie one after the other: what a pointer and one stride can say."""
    row_bytes = x.itemsize * x.shape[1]
    strided = x.strides[1] == x.itemsize and x.strides[0] >= row_bytes and x.strides[0] % x.itemsize == 0
    return x.flags.aligned and (x.flags.c_contiguous or strided)


def _threads(threads: int) -> int:
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be a positive integer, got {threads!r}")
    return threads


def _metric(metric: str) -> int:
    if metric not in _METRICS:
        raise ValueError(f"metric must be one of {', '.join(_METRICS)}, got {metric!r}")
    return _METRICS[metric]


def _output(out: object, shape: tuple[int, int], name: str) -> Float32Array:
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.shape != shape:
        kind = f"{out.dtype} of shape {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise TypeError(f"{name} must be a float32 array of shape {shape}, got {kind}")
    if not (out.flags.writeable and _rows_are_contiguous(out)):
        raise ValueError(f"{name} must be writeable and aligned, with contiguous rows one after the other")
    return out


def _stride(array: Float32Array) -> int:
    return int(max(array.strides[0] // array.itemsize, array.shape[1]))


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

    def rows(self, start: int, stop: int) -> PackedVectors:
        """Return a view of rows ``start:stop``; ``start`` must be a multiple of 16."""
        if start % LANES or not 0 <= start <= stop <= self.n:
            raise ValueError(f"rows {start}:{stop} of {self.n} are not a range that starts at a panel")
        end = -(-stop // LANES) * LANES
        return PackedVectors(
            self.panels[start * self.d : end * self.d], self.norms[start:stop], stop - start, self.d, self.unit
        )


def _aligned(n_elements: int) -> Float32Array:
    spare = _ALIGNMENT_BYTES // 4
    buffer = np.empty(n_elements + spare, np.float32)
    offset = -buffer.ctypes.data % _ALIGNMENT_BYTES // 4
    return buffer[offset : offset + n_elements]


def pack(vectors: Float32Array, *, unit: bool = False, threads: int = 1) -> PackedVectors:
    """Pack vectors into panels of 16, with their float64 norms.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        Copied first unless its rows are contiguous.
    unit : bool
        Divide each vector by its norm (in float64, rounded once): what metric "cosine" needs.
    threads : int
        Threads to use, at least 1.

    Raises
    ------
    RowError
        For the first row that is not finite or whose norm is out of range: above 2**52 (nothing computed from the
        rest can overflow) or, with ``unit``, zero or below the float32 range.
    """
    x = _vectors(vectors, "vectors")
    n, d = x.shape
    panels = _aligned(-(-n // LANES) * LANES * d)
    norms_ = _packed(x, panels, unit=unit, threads=threads)
    return PackedVectors(panels, norms_, n, d, unit)


def norms(vectors: Float32Array, *, unit: bool = False, threads: int = 1) -> Float64Array:
    """Return the Euclidean norms of the rows, float64, summed in dimension order; same checks as :func:`pack`.

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
    return _packed(_vectors(vectors, "vectors"), None, unit=unit, threads=threads)


def _packed(x: Float32Array, panels: Float32Array | None, *, unit: bool, threads: int) -> Float64Array:
    n, d = x.shape
    norms_ = np.empty(n, np.float64)
    bad_row = ffi.new("int64_t *")
    status = lib.ns_pack(
        _pointer(x, "float *"),
        n,
        d,
        _stride(x),
        int(unit),
        ffi.NULL if panels is None else _pointer(panels, "float *"),
        _pointer(norms_, "double *"),
        bad_row,
        _threads(threads),
    )
    if status == lib.NS_E_ROW:
        row = int(bad_row[0])
        raise RowError(row, _row_fault(x[row], float(norms_[row])))
    _check(status)
    return norms_


def _row_fault(row: Float32Array, norm: float) -> str:
    if not np.isfinite(row).all():
        column = int(np.flatnonzero(~np.isfinite(row))[0])
        return f"element {column} is {row[column]}, not a finite number"
    if not row.any():
        return "the vector is zero and has no direction"
    return f"the norm {norm:.3g} of the vector is outside the range that float32 similarities can hold"


def pairwise(
    a: PackedVectors,
    b: PackedVectors,
    *,
    metric: Metric = "cosine",
    out: Float32Array,
    mirror: Float32Array | None = None,
    threads: int = 1,
) -> None:
    """Write the similarities of each vector of ``a`` with each of ``b``.

    Larger is closer: "sqeuclidean" and "euclidean" are negated distances. Each value is one chain of correctly rounded
    float32 operations over the dimensions, so it depends on the two vectors alone.

    Parameters
    ----------
    a, b : PackedVectors
        Packed with ``unit=True`` for metric "cosine".
    out : ndarray of float32, shape (a.n, b.n)
        Rows must be contiguous; they may be part of a larger matrix.
    mirror : ndarray of float32, shape (b.n, a.n), optional
        Receives the transpose.
    """
    if a.d != b.d:
        raise ValueError(f"a has {a.d} dimensions and b has {b.d}")
    _require_unit(metric, a, b)
    out = _output(out, (a.n, b.n), "out")
    reverse = None if mirror is None else _output(mirror, (b.n, a.n), "mirror")
    _check(
        lib.ns_pairwise(
            _isa(),
            _metric(metric),
            _pointer(a.panels, "float *"),
            a.n,
            _pointer(b.panels, "float *"),
            b.n,
            a.d,
            _pointer(out, "float *"),
            _stride(out),
            ffi.NULL if reverse is None else _pointer(reverse, "float *"),
            0 if reverse is None else _stride(reverse),
            _threads(threads),
        )
    )


def _require_unit(metric: str, *packed: PackedVectors) -> None:
    _metric(metric)
    if metric == "cosine" and not all(p.unit for p in packed):
        raise ValueError('metric "cosine" needs vectors packed with unit=True')


def count_tiles(n: int) -> int:
    """Return the number of tiles of the upper triangle of an (n, n) matrix."""
    rows = -(-n // TILE_ROWS)
    return rows * (rows + 1) // 2


def pairwise_symmetric(
    a: PackedVectors,
    *,
    metric: Metric = "cosine",
    out: Float32Array,
    tiles: tuple[int, int] | None = None,
    threads: int = 1,
) -> None:
    """Write the similarities of the vectors of ``a`` with each other, each pair computed once.

    Parameters
    ----------
    out : ndarray of float32, shape (a.n, a.n)
        Both halves are written.
    tiles : (int, int), optional
        Compute only tiles ``first`` to ``stop`` (exclusive) of :func:`count_tiles`, to pass in slices.
    """
    _require_unit(metric, a)
    out = _output(out, (a.n, a.n), "out")
    first, stop = tiles if tiles is not None else (0, count_tiles(a.n))
    if not 0 <= first <= stop <= count_tiles(a.n):
        raise ValueError(f"tiles {first}:{stop} are outside 0:{count_tiles(a.n)}")
    _check(
        lib.ns_pairwise_symmetric(
            _isa(),
            _metric(metric),
            _pointer(a.panels, "float *"),
            a.n,
            a.d,
            first,
            stop - first,
            _pointer(out, "float *"),
            _stride(out),
            _threads(threads),
        )
    )


def similarity(
    a: Float32Array,
    b: Float32Array,
    metric: Metric = "cosine",
    out: Float32Array | None = None,
    threads: int = 1,
) -> Float32Array:
    """Return the similarities of the rows of ``a`` with the rows of ``b``; larger is closer.

    Parameters
    ----------
    a, b : ndarray of float32, shapes (m, d) and (n, d)
    metric : {"cosine", "dot", "sqeuclidean", "euclidean"}
        The last two are negated distances.
    out : ndarray of float32, shape (m, n), optional
        Where to write the result.
    threads : int
        Threads to use, at least 1.

    Returns
    -------
    ndarray of float32, shape (m, n)

    Raises
    ------
    RowError
        A row is not finite or, under "cosine", zero.

    Notes
    -----
    Against exact arithmetic the error of a dot product is at most ``g(d) * sum(abs(a * b))``,
    ``g(d) = d u / (1 - d u)``, ``u = 2**-24`` (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
    section 3.1).
    """
    unit = metric == "cosine"
    packed_a, packed_b = pack(a, unit=unit, threads=threads), pack(b, unit=unit, threads=threads)
    result = np.empty((packed_a.n, packed_b.n), np.float32) if out is None else out
    pairwise(packed_a, packed_b, metric=metric, out=result, threads=threads)
    return result


@dataclass(frozen=True, slots=True)
class ChainCounters:
    """Work done by a chain: row scans, candidates compared in float64, entries fetched late, compactions."""

    scans: int
    compared: int
    fetched: int
    compactions: int


class NearestNeighbourChain:
    """Linkage of a similarity matrix by nearest-neighbour chain; consumes the matrix.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, n)
        Symmetric similarities, larger is closer, not NaN; the diagonal is not read. Its rows must be contiguous.
        Overwritten.
    method : {"average", "complete", "single", "weighted", "ward"}
        For "ward" the matrix holds negated squared Euclidean distances.
    counts : ndarray of float64, shape (n,)
        Members of each leaf.
    sums : ndarray of float64, shape (n, d), optional
        Sum of the members of each leaf (for "weighted", their mean). With it, merge similarities are recomputed in
        float64 from the sums. Overwritten.
    value_error, value_bound : float, optional
        With ``sums`` and method "average" or "weighted": the matrix differs from the inner products of the means by at
        most ``value_error`` and is at most ``value_bound`` large. All decisions are then those of float64 arithmetic.

    Notes
    -----
    O(n^2) time and no memory beyond the matrix and O(n); about three sweeps of the matrix.
    """

    def __init__(
        self,
        matrix: Float32Array,
        method: Method,
        counts: Float64Array,
        *,
        sums: Float64Array | None = None,
        value_error: float | None = None,
        value_bound: float = 0.0,
    ) -> None:
        if method not in _METHODS:
            raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
        n = len(matrix)
        self._matrix = _output(matrix, (n, n), "matrix")
        self._counts = np.ascontiguousarray(counts, np.float64)
        if n < 1 or self._counts.shape != (n,) or not ((self._counts > 0) & np.isfinite(self._counts)).all():
            raise ValueError(f"counts must hold a positive number for each of {n} leaves")
        if sums is not None:
            _check_sums(sums, n, method)
        certify = value_error is not None
        if certify and (sums is None or method not in ("average", "weighted")):
            raise ValueError("value_error needs sums and method average or weighted")
        if not (0 <= (value_error or 0.0) < np.inf and 0 <= value_bound < np.inf):
            raise ValueError(f"value_error and value_bound must be finite and >= 0, got {value_error}, {value_bound}")
        self._sums = sums
        self.n_leaves = n
        handle = lib.ns_chain_create(
            _isa(),
            _METHODS[method],
            _pointer(matrix, "float *"),
            n,
            _stride(matrix),
            _pointer(self._counts, "double *"),
            ffi.NULL if sums is None else _pointer(sums, "double *"),
            0 if sums is None else sums.shape[1],
            int(certify),
            value_error or 0.0,
            value_bound,
        )
        if handle == ffi.NULL:
            raise MemoryError(f"no memory for the chain over {n} leaves")
        self._handle = ffi.gc(handle, lib.ns_chain_destroy)

    def advance(self, max_merges: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Float64Array]:
        """Perform up to ``max_merges`` merges; return (first, second, similarity) of each, in the order found.

        A cluster is named by its smallest leaf and ``first < second``. Empty arrays mean that the tree is complete.

        Raises
        ------
        ValueError
            The matrix is not symmetric, or off by more than ``value_error``.
        """
        first, second = np.empty(max_merges, np.int64), np.empty(max_merges, np.int64)
        values = np.empty(max_merges, np.float64)
        done = lib.ns_chain_advance(
            self._handle,
            max_merges,
            _pointer(first, "int64_t *"),
            _pointer(second, "int64_t *"),
            _pointer(values, "double *"),
        )
        if done == lib.NS_E_ARGUMENT:
            raise ValueError("the matrix is not symmetric, or differs from the sums by more than value_error")
        return first[:done], second[:done], values[:done]

    def counters(self) -> ChainCounters:
        """Return the work done so far."""
        values = ffi.new("int64_t[4]")
        lib.ns_chain_counters(self._handle, values)
        return ChainCounters(*_integers(values))


def _check_sums(sums: Float64Array, n: int, method: str) -> None:
    if method in ("complete", "single"):
        raise ValueError(f"method {method} has no use for sums")
    good = sums.dtype == np.float64 and sums.ndim == 2 and len(sums) == n and sums.shape[1] > 0
    if not (good and sums.flags.c_contiguous and sums.flags.writeable and sums.flags.aligned):
        raise ValueError(f"sums must be a writeable C-contiguous float64 array of {n} rows")


def _integers(values: Sequence[int]) -> list[int]:
    return [int(value) for value in values]
