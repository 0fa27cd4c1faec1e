"""Parquet and Arrow IPC files as record batches of the columns asked for.

Knows the containers and how they fail. Refuses to know what an episode is. Plain pyarrow only: no reader here runs
anything that a file says.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import ipc
from pyarrow import parquet as pq

from cluster_engine.errors import EpisodeFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cluster_engine.data.files import EpisodeFile

BATCH_ROWS = 8192  # 24 MiB of float32 at 768 dimensions; chosen, not measured
_READ_AHEAD_BYTES = 8 << 20  # pages are decoded as they arrive instead of after a whole column chunk
# What pyarrow raises on a file that is truncated, corrupt, unreadable or claims absurd sizes.
_FAILURES = (pa.ArrowException, OSError, MemoryError, UnicodeError)
_MAGIC_BYTES = 6


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a file says about itself.

    Attributes
    ----------
    schema : pyarrow.Schema
        All its columns.
    n_rows : int or None
        Rows according to a Parquet footer; Arrow files do not say.
    """

    schema: pa.Schema
    n_rows: int | None


def inspect_file(file: EpisodeFile) -> FileContent:
    """Read the schema of a file, and no data.

    Raises
    ------
    EpisodeFileError
        If the file cannot be opened or is neither Parquet nor Arrow IPC.
    """
    with failures_named(file), file.filesystem.open_input_file(file.path) as source:
        container = _container(source, file)
        if container == "parquet":
            parquet = _open_parquet(source)
            content = FileContent(parquet.schema_arrow, parquet.metadata.num_rows)
        else:
            content = FileContent(_open_ipc(source, container).schema, None)
        _ = content.schema.names  # decodes the names, so that a corrupt one fails here
        return content


def read_batches(file: EpisodeFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read some columns of a file.

    Parameters
    ----------
    file : EpisodeFile
        The file.
    columns : sequence of str
        Top-level columns; each must be there once. Others are not decoded.

    Yields
    ------
    pyarrow.RecordBatch
        At most `BATCH_ROWS` rows, columns in the order asked for, fully validated: offsets, lengths, dictionary
        indices and UTF-8 are sound.

    Raises
    ------
    EpisodeFileError
        If the file cannot be read to its end.
    """
    with failures_named(file), file.filesystem.open_input_file(file.path) as source:
        container = _container(source, file)
        batches = (
            _parquet_batches(source, columns) if container == "parquet" else _ipc_batches(source, container, columns)
        )
        for batch in batches:
            chosen = batch.select(list(columns))
            chosen.validate(full=True)
            yield chosen


@contextmanager
def failures_named(file: EpisodeFile) -> Iterator[None]:
    """Raise `EpisodeFileError`, with the name of the file, for what pyarrow raises on one that it cannot read."""
    try:
        yield
    except _FAILURES as error:
        cause = str(error) or type(error).__name__
        raise EpisodeFileError(f"{file.name}: cannot be read: {cause}") from error


def _container(source: pa.NativeFile, file: EpisodeFile) -> str:
    """Tell the container from the first bytes; leaves the position at the start."""
    magic = source.read(_MAGIC_BYTES)
    source.seek(0)
    if magic.startswith(b"PAR"):  # PAR1, or PARE when the footer is encrypted
        return "parquet"
    if magic == b"ARROW1":
        return "ipc file"
    if magic.startswith(b"\xff\xff\xff\xff"):
        return "ipc stream"
    raise EpisodeFileError(f"{file.name}: neither Parquet nor Arrow IPC; it begins with {magic!r}")


def _open_parquet(source: pa.NativeFile) -> pq.ParquetFile:
    return pq.ParquetFile(source, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False, page_checksum_verification=True)


def _parquet_batches(source: pa.NativeFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    parquet = _open_parquet(source)
    n_rows = 0
    for batch in parquet.iter_batches(BATCH_ROWS, columns=list(columns)):
        n_rows += batch.num_rows
        yield batch
    if n_rows != parquet.metadata.num_rows:
        raise pa.ArrowInvalid(f"holds {n_rows} rows, but its footer says {parquet.metadata.num_rows}")


def _open_ipc(
    source: pa.NativeFile, container: str, included_fields: list[int] | None = None
) -> ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader:
    options = ipc.IpcReadOptions(included_fields=included_fields)
    opened = ipc.open_file if container == "ipc file" else ipc.open_stream
    return opened(source, options=options)


def _ipc_batches(source: pa.NativeFile, container: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    schema = _open_ipc(source, container).schema
    source.seek(0)
    reader = _open_ipc(source, container, [schema.get_field_index(name) for name in columns])
    for batch in _record_batches(reader):
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def _record_batches(reader: ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, ipc.RecordBatchFileReader):
        for position in range(reader.num_record_batches):
            yield reader.get_batch(position)
    else:
        yield from reader
