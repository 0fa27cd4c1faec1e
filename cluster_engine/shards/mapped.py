"""Tables in files without a name, memory-mapped: what does not fit into memory, and need not outlive the process.

Owns the files. They have no name even while they are written, so that whatever ends the process leaves none behind.
Refuses to know what the columns mean.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    Columns = tuple[NDArray[Any], ...]


def write_mapped(directory: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Write batches to a file without a name, and return them as a table that is read where it lies.

    An Arrow IPC file: what is not in the page cache is read from the disk when it is looked at, and a device error then
    is a SIGBUS, not an exception. The file goes with the table.

    Raises
    ------
    OSError
        The directory has no room.
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        # The table holds the map, which is closed when nobody looks at it any more.
        mapped = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return pa.ipc.open_file(mapped).read_all()


class MappedColumns:
    """Columns of numbers in such a file.

    Parameters
    ----------
    directory : path
    schema : Schema
    batches : iterable of tuple of ndarray
        The columns of some rows, in order; none empty.

    Attributes
    ----------
    batches : list of tuple of ndarray
        As given, and read-only.
    starts : ndarray of int64, shape (b + 1,)
        The first row of each batch, then the number of rows.
    n_bytes : int
    """

    def __init__(self, directory: Path, schema: pa.Schema, batches: Iterable[Columns]) -> None:
        table = write_mapped(directory, schema, (pa.record_batch(list(columns), schema) for columns in batches))
        parts = table.to_batches()
        self.batches: list[Columns] = [tuple(np.asarray(column) for column in part.columns) for part in parts]
        self.starts = np.cumsum([0, *(part.num_rows for part in parts)])
        self.n_bytes = table.nbytes

    @property
    def n_rows(self) -> int:
        """Rows of all batches."""
        return int(self.starts[-1])
