"""One growing array of vectors, sorted without a second copy.

Knows memory. Refuses to know which rows are selected, and why.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_COPY_PARTS = 16  # an in-place selection copies one sixteenth of the vectors at a time ...
_CACHE_LINE_FLOATS = 16  # ... but never less than a cache line of a row


class VectorBuffer:
    """Rows of float32 that grow, and are then selected and permuted, without a second copy.

    Growing by ``realloc`` moves pages instead of copying them (Linux, `mremap(2)`).
    """

    def __init__(self, dimension: int) -> None:
        self._rows: npt.NDArray[np.float32] = np.empty((0, dimension), np.float32)

    def append(self, vectors: npt.NDArray[np.float32]) -> None:
        """Add rows ``(m, d)`` at the end."""
        start = len(self._rows)
        # refcheck=False: the rows leave this object only through `select` and `as_binary`, after the last append
        self._rows.resize((start + len(vectors), self._rows.shape[1]), refcheck=False)
        self._rows[start:] = vectors

    def as_binary(self) -> pa.Array[Any]:
        """View each row as its bytes, which sort in a total order (unlike floats) and need no copy."""
        n_rows, dimension = self._rows.shape
        row_type = pa.binary(dimension * self._rows.itemsize)
        return pa.Array.from_buffers(row_type, n_rows, [None, pa.py_buffer(self._rows.data)])

    def select(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Give up the buffer as ``buffer[rows]``, built in place; no row may be selected twice.

        Peak memory is the buffer and about one sixteenth of it (one cache line a row, if that is more).
        """
        dimension = self._rows.shape[1]
        width = max(_CACHE_LINE_FLOATS, -(-dimension // _COPY_PARTS))
        for start in range(0, dimension, width):
            stripe = self._rows[:, start : start + width]
            stripe[: len(rows)] = stripe[rows]
        selected, self._rows = self._rows, np.empty((0, dimension), np.float32)
        selected.resize((len(rows), dimension), refcheck=False)
        return selected
