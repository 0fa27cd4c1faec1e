"""Row checks: the columns of a batch as the values that episodes hold, and the rows that cannot be one.

Knows values of one batch. Refuses to know files, other batches and what becomes of a fault. Every check is vectorised;
only faulty rows are touched one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime, timedelta, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from cluster_engine.data.quarantine import Fault, Reason, first_faults
from cluster_engine.data.vectors import check_vectors, group_by_length, wrong_dimension

TIME_TYPE = pa.timestamp("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_US = (datetime(MINYEAR, 1, 1, tzinfo=timezone.utc) - _EPOCH) // timedelta(microseconds=1)
_LAST_US = (datetime(MAXYEAR, 12, 31, 23, 59, 59, 999999, timezone.utc) - _EPOCH) // timedelta(microseconds=1)
_UNIT_US = {"day": 86_400_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
_US_NS = 1_000
_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """A batch after its checks.

    Attributes
    ----------
    scalars : pyarrow.RecordBatch
        Columns id, time, importance, evergreen and text, one row a row of the batch; at faulty rows any value.
    vectors : list of (rows, vectors)
        The good rows, grouped by the length of their vectors: ``(m,)`` int64 positions and ``(m, length)`` float32.
    faults : list of Fault
        Every other row once.
    """

    scalars: pa.RecordBatch
    vectors: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]
    faults: list[Fault]


def check_rows(columns: dict[str, pa.Array[Any]], id_type: pa.DataType, dimension: int | None) -> CheckedRows:
    """Check a batch of rows.

    Parameters
    ----------
    columns : dict of str to pyarrow.Array
        By role: id and vector, and those of time, importance, evergreen and text that there are; of types that
        `resolve_columns` accepts, already validated.
    id_type : pyarrow.DataType
        int64 or large_string.
    dimension : int or None
        Length that vectors must have; None accepts every length but zero.
    """
    vector = columns["vector"]
    n_rows = len(vector)
    absent = pa.nulls(n_rows)
    ids, id_faults = check_ids(columns["id"], id_type)
    times, time_faults = check_times(columns.get("time", absent))
    importances, importance_faults = check_importances(columns.get("importance", absent))
    evergreen = columns.get("evergreen", absent).cast(pa.bool_()).fill_null(False)  # noqa: FBT003 the value
    texts = _decoded(columns.get("text", absent)).cast(pa.large_string())
    faults = [*id_faults, *time_faults, *importance_faults]
    faults.append(_fault(Reason.NULL_VECTOR, vector.is_null(), "the vector is null"))
    checked = []
    for group in group_by_length(vector):
        vectors, vector_faults = check_vectors(group)
        faults += vector_faults
        if dimension not in (None, vectors.shape[1]):
            details = wrong_dimension(len(group.rows), vectors.shape[1], dimension)
            faults.append(Fault(Reason.WRONG_DIMENSION, group.rows, details))
        checked.append((group.rows, vectors))
    faults, good = first_faults(faults, n_rows)
    scalars = [ids, times, pa.array(importances), evergreen, texts]
    batch = pa.record_batch(scalars, names=["id", "time", "importance", "evergreen", "text"])
    return CheckedRows(batch, [(rows[good[rows]], vectors[good[rows]]) for rows, vectors in checked], faults)


def check_ids(column: pa.Array[Any], id_type: pa.DataType) -> tuple[pa.Array[Any], list[Fault]]:
    """Convert ids to int64 or large_string.

    Parameters
    ----------
    column : pyarrow.Array
        Integers, strings, or a dictionary of those.
    id_type : pyarrow.DataType
        int64 or large_string.

    Returns
    -------
    ids : pyarrow.Array
        Of `id_type`, null at faulty rows.
    faults : list of Fault
        Null ids and unsigned ids beyond int64.
    """
    ids = _decoded(column)
    faults = [_fault(Reason.NULL_ID, ids.is_null(), "the id is null")]
    if types.is_uint64(ids.type):
        large = pc.greater(ids, pa.scalar(_INT64.max, pa.uint64()))
        rows = np.flatnonzero(large.fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003 the fill value
        details = [f"the id {ids[row]} is beyond {_INT64.max}" for row in rows.tolist()]
        faults.append(Fault(Reason.ID_OUT_OF_RANGE, rows, details))
        ids = pc.if_else(large, pa.scalar(None, ids.type), ids)
    return ids.cast(id_type), faults


def check_texts(column: pa.Array[Any]) -> tuple[pa.Array[Any], list[Fault]]:
    """Convert texts that are to be embedded to large_string.

    Returns
    -------
    texts : pyarrow.Array
    faults : list of Fault
        Null, empty and blank texts.
    """
    texts = _decoded(column).cast(pa.large_string())
    has_words = pc.match_substring_regex(texts, r"\S").fill_null(False)  # noqa: FBT003 the fill value
    return texts, [_fault(Reason.NO_TEXT, pc.invert(has_words), "there is no text to embed")]


def check_importances(column: pa.Array[Any]) -> tuple[npt.NDArray[np.float32], list[Fault]]:
    """Convert importances to float32; null means not given, so 1.0.

    Returns
    -------
    importances : numpy.ndarray
        ``(n,)`` float32 in [0, 1]; at faulty rows any value.
    faults : list of Fault
        NaN, and what is outside [0, 1] in the column's own precision.
    """
    if types.is_null(column.type):
        return np.ones(len(column), np.float32), []
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = column.to_numpy(zero_copy_only=False).astype(np.float64)
    values[column.is_null().to_numpy(zero_copy_only=False)] = 1.0
    rows = np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))
    details = [f"the importance {values[row]} is not in [0, 1]" for row in rows.tolist()]
    values[rows] = 0.0  # beyond float32 it would overflow in the conversion
    importances = values.astype(np.float32) + np.float32(0.0)  # -0.0 becomes 0.0
    return importances, [Fault(Reason.BAD_IMPORTANCE, rows, details)]


def check_times(column: pa.Array[Any]) -> tuple[pa.Array[Any], list[Fault]]:
    """Convert times to microseconds UTC, rounding nanoseconds down.

    Returns
    -------
    times : pyarrow.TimestampArray
        ``timestamp("us", "UTC")``, null where the column is; at faulty rows any value.
    faults : list of Fault
        Times outside the years 1 to 9999.
    """
    if types.is_null(column.type):
        return pa.nulls(len(column), TIME_TYPE), []
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    counts = column.view(pa.int32() if types.is_date32(column.type) else pa.int64())
    ticks = counts.fill_null(0).to_numpy().astype(np.int64)
    unit = _unit(column.type)
    if unit == "ns":  # int64 nanoseconds end in the year 2262
        return _times(ticks // _US_NS, nulls), []
    tick_us = _UNIT_US[unit]
    bad = (ticks < _FIRST_US // tick_us) | (ticks > _LAST_US // tick_us)
    rows = np.flatnonzero(bad)
    details = [f"the time {ticks[row]} ({column.type}) is outside the years 1 to 9999" for row in rows.tolist()]
    return _times(np.where(bad, 0, ticks) * tick_us, nulls), [Fault(Reason.BAD_TIME, rows, details)]


def _fault(reason: Reason, mask: pa.Array[Any], detail: str) -> Fault:
    rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    return Fault(reason, rows, [detail] * len(rows))


def _decoded(column: pa.Array[Any]) -> pa.Array[Any]:
    if not isinstance(column, pa.DictionaryArray):
        return column
    values = column.dictionary
    if types.is_string_view(values.type):  # which pyarrow cannot `take` from
        values = values.cast(pa.large_string())
    return values.take(column.indices)


def _unit(data_type: pa.DataType) -> str:
    if isinstance(data_type, pa.TimestampType):
        return str(data_type.unit)
    return "day" if types.is_date32(data_type) else "ms"


def _times(times_us: npt.NDArray[np.int64], nulls: npt.NDArray[np.bool_]) -> pa.Array[Any]:
    return pa.array(times_us, mask=nulls).view(TIME_TYPE)
