"""Unit vectors by cell: groups around centres, of which a search compares the nearest, or exactly all.

Owns the 8-bit copy that is read first and the memory order of cells. Refuses to know where cells come from: any
division gives right similarities, a good one finds more of the nearest in fewer cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from native_simd.arguments import require_integer, require_threads
from native_simd.arrays import (
    check_status,
    empty_aligned,
    first_row,
    kind_of,
    require_apart,
    require_contiguous,
    require_output,
    require_vectors,
    row_stride,
)
from native_simd.isa import active_code, ffi, lib
from native_simd.packing import LANES, norms
from native_simd.ranking import require_k, require_rankable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Int64Array = NDArray[np.int64]

_MOST_ROWS = 2**62


@dataclass(frozen=True, slots=True)
class Cells:
    """Unit vectors by cell, ready for :func:`search_cells`; made by :func:`divide`.

    A search is right only where the copies are what :func:`divide` made of ``rows``.

    Attributes
    ----------
    rows : ndarray of float32, shape (n, d)
        The vectors, divided by their norms, in the order in which they were given.
    numbers : ndarray of int64, shape (16 p,)
        Which vector is in each position of ``p`` panels; -1: none.
    starts : ndarray of int64, shape (n_cells + 1,)
        The first panel of each cell, and ``p``.
    digits : ndarray of int8, shape (32 p ceil(d / 2),)
        Element ``k`` of position ``i`` is about ``scales[i]`` times that at
        ``(i // 16) * 32 * ceil(d / 2) + (k // 2) * 32 + (i % 16) * 2 + k % 2``.
    scales, errors : ndarray of float32, shape (16 p,)
        From 0 to 1. Errors are at least the norm of what rounding took away.
    centre_digits : ndarray of int8
        The same of the centres, in panels of their own.
    centre_scales : ndarray of float32, shape (16 ceil(n_cells / 16),)
    """

    rows: Float32Array
    numbers: Int64Array
    starts: Int64Array
    digits: NDArray[np.int8]
    scales: Float32Array
    errors: Float32Array
    centre_digits: NDArray[np.int8]
    centre_scales: Float32Array
    handle: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = require_vectors(self.rows, "rows")
        if not (self.rows.flags.c_contiguous and self.rows.flags.aligned):
            raise ValueError("rows must be contiguous and aligned: pass numpy.ascontiguousarray(rows)")
        starts = require_contiguous(self.starts, np.int64, "starts")
        if not len(starts) or starts[0] != 0 or (starts[1:] < starts[:-1]).any():
            raise ValueError("starts must begin with 0 and not fall")
        n_positions, n_centres = int(starts[-1]) * LANES, _in_panels(len(starts) - 1)
        width = -(-rows.shape[1] // 2) * 2
        for name, dtype, size in (
            ("numbers", np.int64, n_positions),
            ("digits", np.int8, n_positions * width),
            ("scales", np.float32, n_positions),
            ("errors", np.float32, n_positions),
            ("centre_digits", np.int8, n_centres * width),
            ("centre_scales", np.float32, n_centres),
        ):
            if len(require_contiguous(getattr(self, name), dtype, name)) != size:
                raise ValueError(f"{name} of these starts must have {size} elements, got {len(getattr(self, name))}")
        for name in ("scales", "errors", "centre_scales"):
            values = np.asarray(getattr(self, name))
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError(f"{name} must be from 0 to 1")
        numbers = np.asarray(self.numbers)  # of a masked one, all that it holds
        if not np.array_equal(np.sort(numbers[numbers != -1]), np.arange(len(rows))):
            raise ValueError(f"numbers must hold each of the {len(rows)} rows once, and else -1")
        object.__setattr__(self, "handle", _handle(self))

    def __reduce__(self) -> tuple[type[Cells], tuple[Any, ...]]:
        return Cells, tuple(getattr(self, part.name) for part in fields(self) if part.init)

    @property
    def n(self) -> int:
        """Number of vectors."""
        return len(self.rows)

    @property
    def d(self) -> int:
        """Dimension."""
        return int(self.rows.shape[1])

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.starts) - 1

    @property
    def n_bytes(self) -> int:
        """Memory of all arrays."""
        return sum(getattr(self, part.name).nbytes for part in fields(self) if part.init)


def divide(
    vectors: Float32Array,
    cell_of: Int64Array,
    centres: Float32Array,
    *,
    rows: Float32Array | None = None,
    threads: int = 1,
) -> Cells:
    """Return vectors by cell.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    cell_of : ndarray of int64, shape (n,)
        The cell of each, from 0 to c - 1. Within a cell they stay in order.
    centres : ndarray of float32, shape (c, d)
        Of each cell: cells are compared in the order of the cosines of their centres with a query.
    rows : ndarray of float32, shape (n, d), optional
        Where the unit vectors are written, contiguous: a memory-mapped file, say. Default, new memory.
    threads : int
        At least 1.

    Raises
    ------
    RowError
        A vector or centre is not finite or zero.
    TypeError, ValueError
        An argument does not fit.

    Notes
    -----
    O(n d) time. Beside the float32 rows, a quarter of their size.
    """
    x, middles, threads = (
        require_vectors(vectors, "vectors"),
        require_vectors(centres, "centres"),
        require_threads(threads),
    )
    cells: Int64Array = require_contiguous(cell_of, np.int64, "cell_of")
    require_rankable(len(x))
    if middles.shape[1] != x.shape[1]:
        raise ValueError(f"centres have {middles.shape[1]} dimensions and vectors have {x.shape[1]}")
    if len(cells) != len(x):
        raise ValueError(f"cell_of must hold one number for each of {len(x)} vectors, got {len(cells)}")
    if len(x) and not (cells.min() >= 0 and cells.max() < len(middles)):
        raise ValueError(f"cell_of must be from 0 to {len(middles) - 1}, one for each of the centres")
    counts = np.bincount(cells, minlength=len(middles))
    starts = np.concatenate([[0], np.cumsum(-(-counts // LANES))]).astype(np.int64)
    numbers = np.full(int(starts[-1]) * LANES, -1, np.int64)
    firsts = LANES * starts[:-1] - (np.cumsum(counts) - counts)  # what a cell's positions are ahead of its ranks
    order = np.argsort(cells, kind="stable")
    numbers[np.arange(len(x)) + firsts[cells[order]]] = order
    centre_units = _unit_rows(middles)
    if rows is None:
        units = _unit_rows(x)
    else:
        norms(x, unit=True)  # raises before anything is written
        units = require_output(rows, (len(x), x.shape[1]), "rows")
        if not units.flags.c_contiguous:
            raise ValueError("rows must be contiguous: pass an array of its own")
        require_apart(units, "rows", {"vectors": x, "centres": middles, "cell_of": cells})
        _unit_rows(x, units)
    ranks = np.full(_in_panels(len(middles)), -1, np.int64)
    ranks[: len(middles)] = np.arange(len(middles))
    centre_digits, centre_scales, _ = _rounded(centre_units, ranks, threads)
    return Cells(units, numbers, starts, *_rounded(units, numbers, threads), centre_digits, centre_scales)


def search_cells(
    queries: Float32Array,
    cells: Cells,
    k: int,
    *,
    least_rows: int | None = None,
    allowed: NDArray[np.bool_] | None = None,
    threads: int = 1,
) -> tuple[Int64Array, Float32Array, Int64Array]:
    """Return the ``k`` nearest of what is compared with each query: similarity descending, then smaller index.

    Parameters
    ----------
    queries : ndarray of float32, shape (q, d)
    cells : Cells
    k : int
        At least 1.
    least_rows : int, optional
        Cells are compared, the nearest first, until so many vectors are, at least 0; all of them unless given: then the
        answer is that of :func:`top_k`, to the bit.
    allowed : ndarray of bool, shape (n,), optional
        Which vectors count: no other is found, nor counts for ``least_rows``. All unless given.
    threads : int
        To divide the queries among, at least 1.

    Returns
    -------
    ids : ndarray of int64, shape (q, min(k, n))
        -1 where fewer were compared.
    similarities : ndarray of float32, shape (q, min(k, n))
        The bits of :func:`top_k`; -infinity where fewer were compared.
    n_compared : ndarray of int64, shape (q,)

    Raises
    ------
    RowError
        A query is not finite or zero.
    TypeError, ValueError
        An argument does not fit.
    """
    rows = require_vectors(queries, "queries")
    if not isinstance(cells, Cells):
        raise TypeError(f"cells must be Cells, got {kind_of(cells)}: pass native_simd.divide(...)")
    (q, d), n = rows.shape, len(cells.rows)
    if d != cells.d:
        raise ValueError(f"queries have {d} dimensions and cells have {cells.d}")
    n_rows = _MOST_ROWS if least_rows is None else min(require_integer(least_rows, "least_rows", least=0), _MOST_ROWS)
    n_kept = min(require_k(k), n)
    ids, similarities = np.empty((q, n_kept), np.int64), np.empty((q, n_kept), np.float32)
    n_compared = np.zeros(q, np.int64)
    status = lib.ns_search_cells(
        active_code(),
        first_row(rows),
        q,
        row_stride(rows),
        cells.handle,
        ffi.NULL if allowed is None else ffi.from_buffer("uint8_t[]", _require_mask(allowed, n)),
        n_rows,
        n_kept,
        ffi.from_buffer("int64_t[]", ids),
        ffi.from_buffer("float[]", similarities),
        ffi.from_buffer("int64_t[]", n_compared),
        require_threads(threads),
    )
    if status == lib.NS_E_ROW:
        norms(rows, unit=True)  # raises the RowError that names the row and its fault
    check_status(status)
    return ids, similarities, n_compared


def _require_mask(allowed: object, n: int) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = require_contiguous(allowed, np.bool_, "allowed")
    if len(mask) != n:
        raise ValueError(f"allowed must hold one value for each of {n} vectors, got {len(mask)}")
    return mask


def _in_panels(n: int) -> int:
    return -(-n // LANES) * LANES


def _unit_rows(x: Float32Array, out: Float32Array | None = None) -> Float32Array:
    n, d = x.shape
    units = empty_aligned((n, d), np.float32) if out is None else out
    status = lib.ns_unit_rows(first_row(x), n, d, row_stride(x), ffi.from_buffer("float[]", units))
    if status == lib.NS_E_ROW:
        norms(x, unit=True)
    check_status(status)
    return units


def _rounded(
    rows: Float32Array, numbers: Int64Array, threads: int
) -> tuple[NDArray[np.int8], Float32Array, Float32Array]:
    n, d = len(numbers), rows.shape[1]
    digits = empty_aligned((n * -(-d // 2) * 2,), np.int8)
    scales, errors = np.empty(n, np.float32), np.empty(n, np.float32)
    status = lib.ns_round_to_bytes(
        ffi.from_buffer("float[]", rows),
        ffi.from_buffer("int64_t[]", numbers),
        n,
        d,
        ffi.from_buffer("int8_t[]", digits),
        ffi.from_buffer("float[]", scales),
        ffi.from_buffer("float[]", errors),
        threads,
    )
    check_status(status)
    return digits, scales, errors


def _handle(cells: Cells) -> object:
    """Return the C struct of the arrays, which keeps their addresses: they live as long as `cells` does."""
    return ffi.new(
        "ns_cells *",
        {
            "n": cells.n,
            "d": cells.d,
            "n_cells": cells.n_cells,
            "rows": ffi.from_buffer("float[]", cells.rows),
            "numbers": ffi.from_buffer("int64_t[]", cells.numbers),
            "starts": ffi.from_buffer("int64_t[]", cells.starts),
            "bytes": ffi.from_buffer("int8_t[]", cells.digits),
            "scales": ffi.from_buffer("float[]", cells.scales),
            "errors": ffi.from_buffer("float[]", cells.errors),
            "centre_bytes": ffi.from_buffer("int8_t[]", cells.centre_digits),
            "centre_scales": ffi.from_buffer("float[]", cells.centre_scales),
        },
    )
