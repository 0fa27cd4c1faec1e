"""Vectors: from any list column to float32 rows, with the rows that cannot be compared.

Knows the layouts of Arrow lists and what float32 can hold. Refuses to know which dimension is the right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view

from cluster_engine.data.quarantine import Fault, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True, slots=True)
class VectorGroup:
    """The vectors of one length in a batch.

    Attributes
    ----------
    rows : numpy.ndarray
        ``(m,)`` int64, ascending positions in the batch.
    values : numpy.ndarray
        ``(m, length)`` float16, float32 or float64, NaN at null elements.
    nulls : numpy.ndarray or None
        ``(m, length)`` bool, True at null elements; None when the batch has none.
    """

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.floating[Any]]
    nulls: npt.NDArray[np.bool_] | None


def group_by_length(column: pa.Array[Any]) -> Iterator[VectorGroup]:
    """Split the non-null vectors of a list column by their length, shortest first.

    Parameters
    ----------
    column : pyarrow.Array
        Lists of any kind or one-dimensional fixed-shape tensors, of floats; already validated.

    Yields
    ------
    VectorGroup
        Together every non-null row, once. `values` views the column where its rows are adjacent.
    """
    storage: Any = column.storage if isinstance(column, pa.ExtensionArray) else column
    starts, lengths = _extents(storage)
    flat = storage.values
    if len(lengths):
        flat = flat.slice(starts[0], starts[-1] + lengths[-1] - starts[0])
        starts = starts - starts[0]
    values = flat.to_numpy(zero_copy_only=False)
    nulls = flat.is_null().to_numpy(zero_copy_only=False) if flat.null_count else None
    for rows in _rows_by_length(storage, lengths):
        length = int(lengths[rows[0]])
        missing = None if nulls is None else _windows(nulls, starts[rows], length)
        yield VectorGroup(rows, _windows(values, starts[rows], length), missing)


def check_vectors(group: VectorGroup) -> tuple[npt.NDArray[np.float32], list[Fault]]:
    """Convert vectors to float32 and find those without a usable direction or norm.

    One pass decides: a vector is good exactly when its squared norm, summed in float64, is a normal float32.
    The faults are told apart only for the others.

    Returns
    -------
    vectors : numpy.ndarray
        ``(m, length)`` float32; at faulty rows any value.
    faults : list of Fault
        In the order of `Reason`; a row may have several.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = group.values.astype(np.float32)
        squared_norms = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).astype(np.float32)
        good = (squared_norms >= _FLOAT32.tiny) & (squared_norms <= _FLOAT32.max)
    suspects = np.flatnonzero(~good)
    if not suspects.size:
        return vectors, []
    return vectors, _vector_faults(group, suspects, vectors[suspects], squared_norms[suspects])


def wrong_dimension(n_rows: int, length: int, dimension: int) -> list[str]:
    """Say, once a row, that vectors have another length than the dimension."""
    return [f"the vector has {length} elements, expected {dimension}"] * n_rows


def _extents(
    storage: pa.ListArray[Any] | pa.LargeListArray[Any] | pa.FixedSizeListArray[Any, Any],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each list starts in ``storage.values``, and how long it is."""
    if isinstance(storage, pa.FixedSizeListArray):
        width = storage.type.list_size
        starts = (storage.offset + np.arange(len(storage), dtype=np.int64)) * width
        return starts, np.full(len(storage), width, np.int64)
    offsets = storage.offsets.to_numpy().astype(np.int64)
    return offsets[:-1], np.diff(offsets)


def _rows_by_length(storage: pa.Array[Any], lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    rows = np.flatnonzero(storage.is_valid().to_numpy(zero_copy_only=False))
    if not rows.size:
        return []
    if np.all(lengths[rows] == lengths[rows[0]]):
        return [rows]
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    return np.split(ordered, np.flatnonzero(np.diff(lengths[ordered])) + 1)


def _windows(flat: npt.NDArray[Any], starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[Any]:
    """Gather ``flat[start : start + length]`` for every start; a view when they are adjacent."""
    if length == 0:
        return np.empty((len(starts), 0), flat.dtype)
    if np.all(np.diff(starts) == length):
        return flat[starts[0] : starts[0] + len(starts) * length].reshape(-1, length)
    return sliding_window_view(flat, length)[starts]


def _vector_faults(
    group: VectorGroup,
    suspects: npt.NDArray[np.int64],
    vectors: npt.NDArray[np.float32],
    squared_norms: npt.NDArray[np.float32],
) -> list[Fault]:
    """Name the faults of the `suspects` (positions in the group), given their float32 rows and squared norms."""
    rows, values = group.rows[suspects], group.values[suspects]
    if values.shape[1] == 0:
        return [Fault(Reason.WRONG_DIMENSION, rows, ["the vector has no elements"] * len(rows))]
    masks = {
        Reason.NOT_A_NUMBER: np.isnan(values),
        Reason.INFINITE: np.isinf(values),
        Reason.BEYOND_FLOAT32: np.isinf(vectors),
    }
    if group.nulls is not None:
        masks = {Reason.NULL_ELEMENT: group.nulls[suspects], **masks}
    faults = [_element_fault(reason, rows, values, mask) for reason, mask in masks.items()]
    norms = {
        Reason.ZERO_VECTOR: (np.abs(values) == 0).all(axis=1),
        Reason.NORM_UNDERFLOW: squared_norms < _FLOAT32.tiny,
        Reason.NORM_OVERFLOW: squared_norms > _FLOAT32.max,
    }
    for reason, bad in norms.items():
        details = [f"the squared norm is {norm} as float32" for norm in squared_norms[bad].tolist()]
        faults.append(Fault(reason, rows[bad], details))
    return faults


def _element_fault(
    reason: Reason, rows: npt.NDArray[np.int64], values: npt.NDArray[np.floating[Any]], mask: npt.NDArray[np.bool_]
) -> Fault:
    """Name the first marked element of each row that has one."""
    bad = np.flatnonzero(mask.any(axis=1))
    elements = mask[bad].argmax(axis=1).tolist()
    if reason is Reason.NULL_ELEMENT:
        details = [f"element {element} is null" for element in elements]
    else:
        details = [f"element {element} is {values[row, element]}" for row, element in zip(bad, elements, strict=True)]
    return Fault(reason, rows[bad], details)
