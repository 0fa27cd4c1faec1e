"""Good rows gathered into episodes: the dimension settled, sorted by id, duplicates refused.

Knows rows of all files. Refuses to know file formats and what makes a row good. Which episodes come out does not depend
on the order in which rows arrive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.data.episodes import Episodes
from cluster_engine.data.quarantine import Quarantine, Reason, join_quarantines, quarantine_rows
from cluster_engine.data.validation import TIME_TYPE, check_rows
from cluster_engine.data.vector_buffer import VectorBuffer
from cluster_engine.data.vectors import wrong_dimension

if TYPE_CHECKING:
    from collections.abc import Sequence

_SMALLEST_FIRST: list[tuple[str, Literal["ascending", "descending"]]] = [
    ("id", "ascending"),
    ("time", "ascending"),
    ("importance", "ascending"),
    ("evergreen", "ascending"),
    ("vector", "ascending"),
    ("text", "ascending"),
]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Good rows whose vectors have one length, in the order in which they came."""

    vectors: VectorBuffer
    scalars: list[pa.RecordBatch] = field(default_factory=list)


class EpisodeAssembly:
    """Takes rows batch by batch and ends as episodes.

    Parameters
    ----------
    files : sequence of str
        Names of the input's files, sorted; rows refer to them by position.
    id_type : pyarrow.DataType
        int64 or large_string.
    dimension : int or None
        Length that vectors must have. Without it, the most common length among the rows without any other fault;
        the larger one of equally common ones.
    """

    def __init__(self, files: Sequence[str], id_type: pa.DataType, dimension: int | None) -> None:
        self._files = files
        self._dimension = dimension
        facts: list[tuple[str, pa.DataType]] = [
            ("id", id_type),
            ("time", TIME_TYPE),
            ("importance", pa.float32()),
            ("evergreen", pa.bool_()),
            ("text", pa.large_string()),
        ]
        self._schema = pa.schema([*facts, ("file", pa.int64()), ("row_number", pa.int64())])
        self._by_length: dict[int, _Rows] = {}
        self._quarantines: list[Quarantine] = []

    def add(self, columns: dict[str, pa.Array[Any]], file: int, row_numbers: npt.NDArray[np.int64]) -> None:
        """Check a batch of rows, keep the good ones and quarantine the others.

        Parameters
        ----------
        columns : dict of str to pyarrow.Array
            By role, as `check_rows` takes them.
        file : int
            Position of their file in `files`.
        row_numbers : numpy.ndarray
            int64, of each row in the file.
        """
        checked = check_rows(columns, self._schema.field("id").type, self._dimension)
        n_rows = checked.scalars.num_rows
        places = [np.full(n_rows, file), row_numbers]
        arrays = [*checked.scalars.columns, *(pa.array(place) for place in places)]
        scalars = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        for fault in checked.faults:
            self._refuse(scalars.take(fault.rows), fault.reason, fault.details)
        for rows, vectors in checked.vectors:
            if len(rows):
                length = vectors.shape[1]
                kept = self._by_length.setdefault(length, _Rows(VectorBuffer(length)))
                kept.vectors.append(vectors)
                kept.scalars.append(scalars.take(rows))  # a copy, so that the batch can be freed

    def finish(self) -> tuple[Episodes, Quarantine]:
        """Settle the dimension, sort by id, refuse duplicates; call once, after the last `add`.

        Of the rows with one id the smallest is kept, by time (null last), importance, evergreen, bytes of the float32
        vector and text (null last). Rows equal in all of these give the same episode; the record then names all but the
        first by file and row number.

        Returns
        -------
        episodes : Episodes
            `texts` is all null when no row had one.
        quarantine : Quarantine
            All refused rows.

        Notes
        -----
        O(n log n). Peak memory: the vectors and a sixteenth of them, twice the other columns.
        """
        dimension = self._settle_dimension()
        kept = self._by_length.pop(dimension, None) or _Rows(VectorBuffer(dimension))
        for length, others in sorted(self._by_length.items()):
            for batch in others.scalars:
                self._refuse(batch, Reason.WRONG_DIMENSION, wrong_dimension(len(batch), length, dimension))
        self._by_length.clear()
        table = pa.Table.from_batches(kept.scalars, self._schema).combine_chunks()
        kept.scalars.clear()
        rows = self._refuse_duplicates(table, _sort(table, kept.vectors))
        return _episodes(table.take(rows), kept.vectors.select(rows)), join_quarantines(self._quarantines)

    def _settle_dimension(self) -> int:
        if self._dimension is not None:
            return self._dimension
        n_rows = {length: sum(map(len, rows.scalars)) for length, rows in self._by_length.items()}
        return max(n_rows, key=lambda length: (n_rows[length], length), default=0)

    def _refuse_duplicates(self, scalars: pa.Table, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the first row of every id in sorted order; quarantine the others."""
        ids = scalars["id"].take(order).combine_chunks()
        first = np.ones(len(order), bool)
        first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        kept = order[first]
        winners = scalars.take(kept[np.cumsum(first)[~first] - 1])
        row_numbers = winners["row_number"].to_pylist()
        places = zip(self._names(winners), row_numbers, strict=True)
        details = [f"row {row_number} of {name} is kept" for name, row_number in places]
        self._refuse(scalars.take(order[~first]), Reason.DUPLICATE_ID, details)
        return kept

    def _refuse(self, scalars: pa.Table | pa.RecordBatch, reason: Reason, details: Sequence[str]) -> None:
        row_numbers = scalars["row_number"].to_numpy()
        self._quarantines.append(quarantine_rows(self._names(scalars), row_numbers, scalars["id"], reason, details))

    def _names(self, scalars: pa.Table | pa.RecordBatch) -> list[str]:
        return [self._files[file] for file in scalars["file"].to_numpy().tolist()]


def _sort(scalars: pa.Table, vectors: VectorBuffer) -> npt.NDArray[np.int64]:
    """Order rows by id, those with one id so that the one to keep is first; stable, so equal rows keep file order."""
    table = scalars.append_column("vector", vectors.as_binary())
    order = pc.sort_indices(table, sort_keys=_SMALLEST_FIRST)
    return order.to_numpy().astype(np.int64)


def _episodes(scalars: pa.Table, vectors: npt.NDArray[np.float32]) -> Episodes:
    names = ("id", "time", "importance", "evergreen", "text")
    ids, times, importances, evergreen, texts = (scalars[name].combine_chunks() for name in names)
    return Episodes(ids, vectors, times, importances.to_numpy(), evergreen.to_numpy(zero_copy_only=False), texts)
