"""Linkage of a similarity matrix by nearest-neighbour chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from native_simd.arguments import require_code, require_integer, require_real
from native_simd.arrays import first_row, kind_of, require_apart, require_contiguous, require_output, row_stride
from native_simd.isa import active_code, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]

Method = Literal["average", "complete", "single", "weighted", "ward"]

_METHODS: dict[str, int] = {name: code for code, name in enumerate(get_args(Method))}


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
        For "ward" the matrix holds negated squared Euclidean distances, of leaves with a and b members times
        2 a b / (a + b).
    counts : ndarray of float64, shape (n,)
        Members of each leaf.
    sums : ndarray of float64, shape (n, d), optional
        For "average" the sum of the members of each leaf, for "weighted" their mean. With it, all decisions are those
        of float64 arithmetic. Overwritten.
    value_error, value_bound : float, optional
        With ``sums``, and only then: the matrix differs from the inner products of the means by at most
        ``value_error`` and is at most ``value_bound`` large.

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
        code = require_code(method, _METHODS, "method")
        n = _count_leaves(matrix, counts)
        if sums is not None:
            _check_sums(sums, n, method)
            require_apart(matrix, "matrix", {"sums": sums})
        if (sums is None) != (value_error is None):
            raise ValueError("sums and value_error must be given together")
        error = require_real(0.0 if value_error is None else value_error, "value_error")
        bound = require_real(value_bound, "value_bound")
        if not (0 <= error < np.inf and 0 <= bound < np.inf):
            raise ValueError(f"value_error and value_bound must be finite and >= 0, got {value_error}, {value_bound}")
        self._matrix, self._sums = matrix, sums
        self.n_leaves = n
        handle = lib.ns_chain_create(
            active_code(),
            code,
            first_row(matrix),
            n,
            row_stride(matrix),
            ffi.from_buffer("double[]", counts),
            ffi.NULL if sums is None else ffi.from_buffer("double[]", sums),
            0 if sums is None else sums.shape[1],
            error,
            bound,
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
        size = min(require_integer(max_merges, "max_merges", least=0), self.n_leaves)
        first, second, values = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.float64)
        done = lib.ns_chain_advance(
            self._handle,
            size,
            ffi.from_buffer("int64_t[]", first),
            ffi.from_buffer("int64_t[]", second),
            ffi.from_buffer("double[]", values),
        )
        if done == lib.NS_E_ARGUMENT:
            raise ValueError("the matrix is not symmetric, or differs from the sums by more than value_error")
        return first[:done], second[:done], values[:done]

    def counters(self) -> ChainCounters:
        """Return the work done so far."""
        values = ffi.new("int64_t[4]")
        lib.ns_chain_counters(self._handle, values)
        return ChainCounters(*_integers(values))


def _count_leaves(matrix: Float32Array, counts: Float64Array) -> int:
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
        raise TypeError(f"matrix must be a float32 array of shape (n, n), got {kind_of(matrix)}")
    n = len(matrix)
    require_output(matrix, (n, n), "matrix")
    members = require_contiguous(counts, np.float64, "counts")
    if n < 1 or len(members) != n or not ((members > 0) & np.isfinite(members)).all():
        raise ValueError(f"counts must hold a positive number for each of {n} leaves")
    return n


def _check_sums(sums: Float64Array, n: int, method: str) -> None:
    if method not in ("average", "weighted"):
        raise ValueError(f"method {method} has no use for sums")
    good = (
        isinstance(sums, np.ndarray)
        and sums.dtype == np.float64
        and sums.ndim == 2
        and len(sums) == n
        and sums.shape[1] > 0
    )
    if not (good and sums.flags.c_contiguous and sums.flags.writeable and sums.flags.aligned):
        raise ValueError(f"sums must be a writeable C-contiguous float64 array of {n} rows, got {kind_of(sums)}")


def _integers(values: Sequence[int]) -> list[int]:
    return [int(value) for value in values]
