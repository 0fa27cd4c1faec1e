"""Tables in files without a name, memory-mapped: what does not fit into memory, and need not outlive the process.

Owns the files. They have no name even while they are written, so that whatever ends the process leaves none behind.
Refuses to know what the columns mean.
"""

from __future__ import annotations

import mmap
import tempfile
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


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
