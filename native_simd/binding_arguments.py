"""What the calls of a binding index check of their arguments, and how a refused mutation is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from native_simd.arguments import require_integer
from native_simd.arrays import check_status, require_contiguous
from native_simd.isa import lib
from native_simd.packing import RowError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]
    Float32Array = NDArray[np.float32]

_INT64 = np.iinfo(np.int64)


def is_applied(status: int, bad_row: Any = None, *columns: Int64Array) -> bool:  # noqa: ANN401 - a cffi pointer
    """Return whether a mutation was applied now; raise what refused it, naming the ids of its row."""
    if status == lib.NS_E_OUTSIDE:
        row = int(bad_row[0])
        raise RowError(row, f"the bindings of concept {columns[0][row]} are outside: admit them")
    if status in (lib.NS_E_TWICE, lib.NS_E_UNKNOWN):
        row = int(bad_row[0])
        ids = [int(column[row]) for column in columns]
        what = f"concept {ids[0]}" if len(ids) == 1 else f"binding ({ids[0]}, {ids[1]})"
        raise RowError(row, f"{what} {'occurs twice' if status == lib.NS_E_TWICE else 'is not here'}")
    if status == lib.NS_REPEATED:
        return False
    check_status(status)
    return True


def require_int64(value: object, name: str) -> int:
    """Return an integer that fits."""
    number = require_integer(value, name)
    if not _INT64.min <= number <= _INT64.max:
        raise ValueError(f"{name} must fit into 64 bits, got {number}")
    return number


def require_column(values: object, name: str, n: int) -> Float32Array:
    """Return a float32 column beside n concepts."""
    column = require_contiguous(values, np.float32, name)
    if len(column) != n:
        raise TypeError(f"{name} must have the shape of concept_ids, ({n},), got {column.shape}")
    return column
