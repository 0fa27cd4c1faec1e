"""The tables of a version as Parquet files: which there are, and how equal tables become equal bytes.

Owns the writer's settings, and the columns that code reads by name. Refuses to know what they mean.

Bytes are equal for equal tables, however they are chunked or sliced, within one release of pyarrow: Parquet records
the library that wrote it.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from typing_extensions import Buffer

TABLE_NAMES = (
    "bindings",
    "concepts",
    "cycle",
    "episodes",
    "hierarchy",
    "journal",
    "moments",
    "quarantine",
    "report",
)
"""Every table of a version, in name order."""
GROWING_TABLE_NAMES = ("episodes", "journal")
"""The tables to which a version may add rows, and whose rows no version changes."""
DETERMINISTIC_TABLE_NAMES = tuple(name for name in TABLE_NAMES if name != "report")
"""The tables that equal input makes equal; the report holds times."""

ROW_GROUP_ROWS = 32_768  # 96 MiB of 768-dimensional vectors: what a writer holds at once
_PAGE_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 20
_ZSTD_LEVEL = 1  # on vectors, level 3 takes twice the time for the same size


_AnyList: TypeAlias = "pa.ListType[Any] | pa.LargeListType[Any] | pa.FixedSizeListType[Any, Any]"


def check_tables(tables: Mapping[str, pa.Table], added: Mapping[str, pa.Table]) -> None:
    """Refuse tables that are not those of a version, not made of plain types, or lack a column that code reads.

    Plain types are booleans, integers, floats, strings, timestamps and lists of them: what every Parquet reader knows.

    Parameters
    ----------
    tables, added : mapping of str to Table
        Those to be replaced, and rows for those that grow.

    Raises
    ------
    ValueError
        Naming the table and the column.
    """
    if unknown := sorted({*tables, *added} - set(TABLE_NAMES)):
        raise ValueError(f"a version has the tables {', '.join(TABLE_NAMES)}; unknown: {', '.join(unknown)}")
    if fixed := sorted(set(added) - set(GROWING_TABLE_NAMES)):
        raise ValueError(f"rows are added to {' and '.join(GROWING_TABLE_NAMES)} only, not to {', '.join(fixed)}")
    if twice := sorted(set(added) & set(tables)):
        raise ValueError(f"a table is replaced or grows, not both: {', '.join(twice)}")
    for name, table in [*tables.items(), *added.items()]:
        _check_columns(name, table.schema)
    if "cycle" in tables and tables["cycle"].num_rows != 1:
        raise ValueError(f"table cycle has one row, not {tables['cycle'].num_rows}")
    for given in (tables, added):
        if "episodes" in given and not _is_ascending(given["episodes"]["episode_id"]):
            raise ValueError("table episodes: rows are not in ascending order of episode_id, each once")


def require_complete(tables: Mapping[str, pa.Table], added: Mapping[str, pa.Table]) -> None:
    """Refuse a first version that lacks a table.

    Raises
    ------
    ValueError
        Naming it.
    """
    if missing := sorted(set(TABLE_NAMES) - {*tables, *added}):
        raise ValueError(f"a first version needs the tables {', '.join(TABLE_NAMES)}; missing: {', '.join(missing)}")


def write_table(table: pa.Table, write: Callable[[Buffer], object]) -> tuple[int, str]:
    """Write ``table`` as Parquet through ``write``, which takes bytes in order.

    Holds one row group of `ROW_GROUP_ROWS` rows at a time, beside the table.

    Returns
    -------
    tuple of int and str
        The bytes written and their SHA-256 in hexadecimal.
    """
    starts = range(0, table.num_rows, ROW_GROUP_ROWS)
    return write_row_groups(table.schema, (table.slice(start, ROW_GROUP_ROWS) for start in starts), write)


def write_row_groups(
    schema: pa.Schema, groups: Iterable[pa.Table], write: Callable[[Buffer], object]
) -> tuple[int, str]:
    """Write a table that comes in groups of `ROW_GROUP_ROWS` rows, the last with the rest; see `write_table`."""
    sink = _ChecksumSink(write)
    schema = canonical_schema(schema)
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
        for group in groups:
            # Pages follow the chunks of a table; equal tables may be chunked differently.
            writer.write_table(group.combine_chunks().cast(schema), row_group_size=ROW_GROUP_ROWS)
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


def read_schema(file: pa.NativeFile) -> pa.Schema:
    """Return the columns of an open Parquet file, without reading their rows.

    Raises
    ------
    pyarrow.ArrowException or OSError
        If it is not Parquet.
    """
    return pq.read_schema(file)


def read_batches(data: pa.Buffer, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a Parquet file, `ROW_GROUP_ROWS` rows at a time; raises what `read_table` does."""
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        yield from file.iter_batches(ROW_GROUP_ROWS, columns=columns)


def require_same_types(name: str, schema: pa.Schema, before: pa.Schema) -> None:
    """Refuse rows for a table whose columns have other types than those that are there; a column may be missing.

    Raises
    ------
    ValueError
        Naming the table and the column.
    """
    for field in schema:
        if field.name in before.names and before.field(field.name).type != field.type:
            wanted = before.field(field.name).type
            raise ValueError(f"table {name}, column {field.name}: want {wanted} as in the store, got {field.type}")


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
    for column, (wanted, accepts) in _READ_BY_NAME.get(name, {}).items():
        if column not in schema.names:
            raise ValueError(f"table {name} needs a column {column} of type {wanted}")
        if not accepts(schema.field(column).type):
            raise ValueError(f"table {name}, column {column}: want {wanted}, got {schema.field(column).type}")


def _is_ascending(ids: pa.ChunkedArray[Any]) -> bool:
    n_pairs = max(len(ids) - 1, 0)
    is_less = pc.less(ids.slice(0, n_pairs), ids.slice(len(ids) - n_pairs))
    return not ids.null_count and pc.all(is_less, min_count=0).as_py() is True


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


def canonical_schema(schema: pa.Schema) -> pa.Schema:
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


_Accepted: TypeAlias = "tuple[str, Callable[[pa.DataType], bool]]"


def _exactly(kind: pa.DataType) -> _Accepted:
    return str(kind), lambda given: bool(given == kind)


def _vectors_of(kind: pa.DataType) -> _Accepted:
    return f"fixed_size_list<{kind}>", lambda given: pa.types.is_fixed_size_list(given) and given.value_type == kind


_INTEGER, _FLOAT, _DOUBLE = _exactly(pa.int64()), _exactly(pa.float32()), _exactly(pa.float64())
_TIME = _exactly(pa.timestamp("us", "UTC"))
_STRING: _Accepted = "string", _is_string
_ID: _Accepted = "int64 or string", lambda kind: kind == pa.int64() or _is_string(kind)
_READ_BY_NAME: dict[str, dict[str, _Accepted]] = {
    "bindings": {
        "concept_id": _INTEGER,
        "episode_id": _ID,
        "strength": _FLOAT,
        "initial": _FLOAT,
        "touched": _TIME,
    },
    "concepts": {"concept_id": _INTEGER, "state": _STRING, "centroid": _vectors_of(pa.float32())},
    "cycle": {"cycle": _INTEGER, "as_of": _TIME},
    "episodes": {"episode_id": _ID, "vector": _vectors_of(pa.float32())},
    "hierarchy": {
        "node_id": _INTEGER,
        "left_id": _INTEGER,
        "right_id": _INTEGER,
        "distance": _DOUBLE,
        "n_episodes": _INTEGER,
    },
    "journal": {"cycle": _INTEGER, "as_of": _TIME, "concept_id": _INTEGER, "kind": _STRING},
    "moments": {"concept_id": _INTEGER, "weight": _DOUBLE, "sum": _vectors_of(pa.float64())},
}
