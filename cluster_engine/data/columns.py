"""A column of vectors as rows of an array.

Knows what makes a column rectangular. Refuses to know what the vectors are for.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster_engine.data.schema import holds_vectors
from cluster_engine.data.vectors import VectorGroup, group_by_length
from cluster_engine.errors import SchemaError, VectorError

if TYPE_CHECKING:
    from collections.abc import Iterator


def as_rows(X: npt.ArrayLike) -> npt.ArrayLike:
    """Return an Arrow column of vectors as rows of an array, by `as_matrix`; anything else as it is."""
    return as_matrix(X) if isinstance(X, (pa.Array, pa.ChunkedArray)) else X


def as_rows_or_numbers(X: npt.ArrayLike) -> npt.ArrayLike:
    """Return an Arrow column of vectors as rows of an array; anything else, so also a column of numbers, as it is."""
    return as_rows(X) if isinstance(X, (pa.Array, pa.ChunkedArray)) and holds_vectors(X.type) else X


def as_matrix(column: pa.Array[Any] | pa.ChunkedArray[Any]) -> npt.NDArray[np.floating[Any]]:
    """Return a column of vectors of one length as rows: a view where it has one chunk.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
        Lists of any kind, or one-dimensional fixed-shape tensors, of float16, float32 or float64.

    Returns
    -------
    numpy.ndarray
        ``(n, d)``, of the type of the elements.

    Raises
    ------
    SchemaError
        The column holds something else.
    VectorError
        A vector or an element is null, or vectors differ in length; names the row.
    """
    if not holds_vectors(column.type):
        raise SchemaError(f"a column of type {column.type} holds no vectors; want lists of floats")
    if column.null_count:
        raise VectorError(f"row {np.flatnonzero(np.asarray(column.is_null()))[0]}: the vector is null")
    groups = sorted(_groups_by_chunk(column), key=lambda group: int(group.rows[0]))
    for group in groups:
        _require_complete(group, groups[0].values.shape[1])
    if len(groups) == 1:
        return groups[0].values
    return np.concatenate([group.values for group in groups]) if groups else np.empty((0, 1), np.float32)


def _groups_by_chunk(column: pa.Array[Any] | pa.ChunkedArray[Any]) -> Iterator[VectorGroup]:
    """Yield the vectors of each chunk by their length; rows count from the start of the column."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    starts = accumulate((len(chunk) for chunk in chunks), initial=0)
    for start, chunk in zip(starts, chunks, strict=False):  # the last start is the end
        for group in group_by_length(chunk):
            yield VectorGroup(group.rows + start, group.values, group.nulls)


def _require_complete(group: VectorGroup, length: int) -> None:
    if group.values.shape[1] != length:
        raise VectorError(f"row {group.rows[0]}: the vector has {group.values.shape[1]} elements, row 0 has {length}")
    if group.nulls is not None and group.nulls.any():
        row, element = np.argwhere(group.nulls)[0]
        raise VectorError(f"row {group.rows[row]}: element {element} is null")
