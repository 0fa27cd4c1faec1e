"""The rows that are not episodes: where each was, and why it was refused.

Knows reasons and their record. Refuses to know how a fault is found.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


class Reason(str, Enum):
    """Why a row is quarantined; a row with several faults gets the first one in this order."""

    NULL_ID = "null_id"
    """The id is null."""
    ID_OUT_OF_RANGE = "id_out_of_range"
    """An unsigned id beyond the range of int64."""
    NO_TEXT = "no_text"
    """The text, which was to be embedded, is null, empty or white space."""
    NULL_VECTOR = "null_vector"
    """The vector is null."""
    NULL_ELEMENT = "null_element"
    """An element of the vector is null."""
    NOT_A_NUMBER = "not_a_number"
    """An element of the vector is NaN."""
    INFINITE = "infinite"
    """An element of the vector is infinite."""
    BEYOND_FLOAT32 = "beyond_float32"
    """A finite element of the vector, such as 1e300, is infinite as float32."""
    ZERO_VECTOR = "zero_vector"
    """Every element of the vector is zero, so it has no direction."""
    NORM_UNDERFLOW = "norm_underflow"
    """The squared norm is too small for a normal float32."""
    NORM_OVERFLOW = "norm_overflow"
    """The squared norm is too large for a float32."""
    BAD_IMPORTANCE = "bad_importance"
    """The importance is NaN or outside [0, 1]."""
    BAD_TIME = "bad_time"
    """The time is outside the years 1 to 9999."""
    WRONG_DIMENSION = "wrong_dimension"
    """The vector has another length than the input's dimension."""
    DUPLICATE_ID = "duplicate_id"
    """Another row of the input with this id was kept."""
    CONFLICTING_ID = "conflicting_id"
    """The store holds an episode with this id and other content."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Rows of a batch that share a fault.

    Attributes
    ----------
    reason : Reason
        What is wrong.
    rows : numpy.ndarray
        int64, ascending positions in the batch.
    details : sequence of str
        One a row, for people.
    """

    reason: Reason
    rows: npt.NDArray[np.int64]
    details: Sequence[str]


def first_faults(faults: Sequence[Fault], n_rows: int) -> tuple[list[Fault], npt.NDArray[np.bool_]]:
    """Leave every faulty row its first fault in the order of `Reason`.

    Parameters
    ----------
    faults : sequence of Fault
        In any order; a row may be in several.
    n_rows : int
        Rows in the batch.

    Returns
    -------
    faults : list of Fault
        Each faulty row once; none is empty.
    good : numpy.ndarray
        ``(n_rows,)`` bool, True where a row has no fault.
    """
    precedence = list(Reason)
    good = np.ones(n_rows, bool)
    first = []
    for fault in sorted(faults, key=lambda fault: precedence.index(fault.reason)):
        fresh = np.flatnonzero(good[fault.rows])
        if fresh.size:
            first.append(Fault(fault.reason, fault.rows[fresh], [fault.details[i] for i in fresh.tolist()]))
            good[fault.rows] = False
    return first, good


_FIELDS: list[tuple[str, pa.DataType]] = [
    ("file", pa.large_string()),
    ("row_number", pa.int64()),
    ("episode_id", pa.large_string()),
    ("reason", pa.large_string()),
    ("detail", pa.large_string()),
]
SCHEMA = pa.schema(_FIELDS)
_BY_PLACE: list[tuple[str, Literal["ascending", "descending"]]] = [
    ("file", "ascending"),
    ("row_number", "ascending"),
    ("episode_id", "ascending"),
]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Rows that were refused, one record each.

    Attributes
    ----------
    table : pyarrow.Table
        Columns `SCHEMA`: file, row_number (0-based within the file), episode_id (as text, null where the id is null or
        beyond int64), reason (a value of `Reason`) and detail (for people). File and row number are null for conflicts
        with a store, where the row is no longer tied to a file.
    """

    table: pa.Table

    @classmethod
    def empty(cls) -> Quarantine:
        """Return one without rows."""
        return cls(SCHEMA.empty_table())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def counts(self) -> dict[Reason, int]:
        """Count the rows of each reason that occurs, in the order of `Reason`."""
        found = Counter(self.table["reason"].to_pylist())
        return {reason: found[reason.value] for reason in Reason if reason.value in found}


def quarantine_rows(
    files: Sequence[str | None],
    row_numbers: npt.NDArray[np.int64] | Sequence[int | None],
    ids: pa.Array[Any] | pa.ChunkedArray[Any],
    reason: Reason,
    details: Sequence[str],
) -> Quarantine:
    """Record rows refused for one reason; all parameters but `reason` have one entry a row."""
    table = pa.table(
        [
            pa.array(files, pa.large_string()),
            pa.array(row_numbers, pa.int64()),
            ids.cast(pa.large_string()),
            pa.repeat(pa.scalar(reason.value, pa.large_string()), len(ids)),
            pa.array(details, pa.large_string()),
        ],
        schema=SCHEMA,
    )
    return Quarantine(table)


def join_quarantines(parts: Sequence[Quarantine]) -> Quarantine:
    """Join records into one, ordered by file, row number and id, nulls last."""
    table = pa.concat_tables([SCHEMA.empty_table(), *(part.table for part in parts)])
    return Quarantine(table.take(pc.sort_indices(table, sort_keys=_BY_PLACE)).combine_chunks())
