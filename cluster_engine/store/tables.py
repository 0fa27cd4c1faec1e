"""The tables of a version as Parquet files: which there are, and how equal tables become equal bytes.

Owns the writer's settings. Refuses to know what the columns mean, but for the two that `search` reads.

Bytes are equal for equal tables, however they are chunked or sliced, within one release of pyarrow: Parquet records
the library that wrote it.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from typing_extensions import Buffer

TABLE_NAMES = ("bindings", "concepts", "dendrogram", "episodes", "hierarchy", "quarantine", "report")
"""Every table of a version, in name order."""
DETERMINISTIC_TABLE_NAMES = tuple(name for name in TABLE_NAMES if name != "report")
"""The tables that equal input makes equal; the report holds times."""

ROW_GROUP_ROWS = 32_768  # 96 MiB of 768-dimensional vectors: what a writer holds at once
_PAGE_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 20
_ZSTD_LEVEL = 1  # on vectors, level 3 takes twice the time for the same size


_AnyList: TypeAlias = "pa.ListType[Any] | pa.LargeListType[Any] | pa.FixedSizeListType[Any, Any]"


def check_tables(tables: Mapping[str, pa.Table]) -> None:
    """Refuse tables that are not exactly those of a version, or not made of plain types.

    Plain types are booleans, integers, floats, strings, timestamps and lists of them: what every Parquet reader knows.

    Raises
    ------
    ValueError
        Naming the table and the column.
    """
    if missing := sorted(set(TABLE_NAMES) - set(tables)):
        raise ValueError(f"a version needs the tables {', '.join(TABLE_NAMES)}; missing: {', '.join(missing)}")
    if unknown := sorted(set(tables) - set(TABLE_NAMES)):
        raise ValueError(f"a version has the tables {', '.join(TABLE_NAMES)}; unknown: {', '.join(unknown)}")
    for name, table in tables.items():
        _check_columns(name, table.schema)
    concepts = tables["concepts"].schema
    _check_column(concepts, "concept_id", "int64", lambda kind: kind == pa.int64())
    _check_column(
        concepts,
        "centroid",
        "fixed_size_list<float>",
        lambda kind: pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32(),
    )


def write_table(table: pa.Table, write: Callable[[Buffer], object]) -> tuple[int, str]:
    """Write ``table`` as Parquet through ``write``, which takes bytes in order.

    Holds one row group of `ROW_GROUP_ROWS` rows at a time, beside the table.

    Returns
    -------
    tuple of int and str
        The bytes written and their SHA-256 in hexadecimal.
    """
    sink = _ChecksumSink(write)
    schema = _canonical_schema(table.schema)
    strings = [field.name for field in schema if _is_string(field.type)]
    flat = [field.name for field in schema if not _is_list(field.type)]
    with (
        pa.BufferedOutputStream(pa.PythonFile(sink, mode="w"), _BUFFER_BYTES) as stream,
        pq.ParquetWriter(
            stream,
            schema,
            version="2.6",
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            data_page_size=_PAGE_BYTES,
            use_dictionary=strings,  # type: ignore[arg-type] # the stub knows only the bool
            write_statistics=flat,
            write_page_index=True,
        ) as writer,
    ):
        for first_row in range(0, table.num_rows, ROW_GROUP_ROWS):
            # Pages follow the chunks of a table; equal tables may be chunked differently.
            rows = table.slice(first_row, ROW_GROUP_ROWS).combine_chunks().cast(schema)
            writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
    return sink.n_bytes, sink.sha256.hexdigest()


def read_table(data: pa.Buffer, columns: list[str] | None = None) -> pa.Table:
    """Return the table of a Parquet file, or some columns of it.

    Raises
    ------
    pyarrow.ArrowException or OSError
        If ``data`` is not Parquet.
    """
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return file.read(columns=columns)


def read_schema(data: pa.Buffer) -> pa.Schema:
    """Return the names and types of the columns of a Parquet file; raises what `read_table` does."""
    return pq.read_schema(pa.BufferReader(data))


def read_batches(data: pa.Buffer, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a Parquet file, `ROW_GROUP_ROWS` rows at a time; raises what `read_table` does."""
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        yield from file.iter_batches(ROW_GROUP_ROWS, columns=columns)


class _ChecksumSink(io.RawIOBase):
    """A file that hashes and counts what passes through it."""

    def __init__(self, write: Callable[[Buffer], object]) -> None:
        super().__init__()
        self.n_bytes = 0
        self.sha256 = hashlib.sha256()
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        view = memoryview(data)
        self.n_bytes += view.nbytes
        self.sha256.update(view)
        self._write(view)
        return view.nbytes


def _check_columns(name: str, schema: pa.Schema) -> None:
    for field in schema:
        if not _is_plain(field.type):
            raise ValueError(
                f"table {name}, column {field.name}: {field.type} is not a plain type; "
                "use booleans, integers, floats, strings, timestamps or lists of them"
            )


def _check_column(schema: pa.Schema, column: str, wanted: str, accepts: Callable[[pa.DataType], bool]) -> None:
    if column not in schema.names:
        raise ValueError(f"table concepts needs a column {column} of type {wanted}")
    if not accepts(schema.field(column).type):
        raise ValueError(f"table concepts, column {column}: want {wanted}, got {schema.field(column).type}")


def _is_list(kind: pa.DataType) -> TypeGuard[_AnyList]:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_plain(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if _is_list(kind):
        return _is_plain(kind.value_type)
    return (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_float32(kind)
        or pa.types.is_float64(kind)
        or pa.types.is_timestamp(kind)
        or _is_string(kind)
    )


def _canonical_schema(schema: pa.Schema) -> pa.Schema:
    """Drop what does not change the values but would change the bytes: metadata, null flags, names of list items."""
    return pa.schema([pa.field(field.name, _canonical_type(field.type)) for field in schema])


def _canonical_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        size: int = kind.list_size
        return pa.list_(_canonical_type(kind.value_type), size)
    if pa.types.is_large_list(kind):
        return pa.large_list(_canonical_type(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(_canonical_type(kind.value_type))
    return kind
