"""Files of lines as record batches: JSON lines, CSV, and plain text, one text a line.

Knows how lines become columns. Refuses to know what an episode is.
"""

from __future__ import annotations

import io
from itertools import islice
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

import pyarrow as pa
from pyarrow import csv, json, types

from cluster_engine.data.formats import BATCH_ROWS, FileContent, failures_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cluster_engine.data.files import EpisodeFile
    from cluster_engine.data.schema import ColumnNames

_JSON = (".jsonl", ".ndjson")
LINE_EXTENSIONS = (*_JSON, ".csv", ".txt")
_BLOCK_BYTES = 8 << 20  # what a first look at a file sees, and the longest line; chosen, not measured
_TIME = pa.timestamp("us")
_ZONED_TIME = pa.timestamp("us", "UTC")
_PLAIN_SCHEMA = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])


def inspect_lines(file: EpisodeFile, columns: ColumnNames) -> FileContent:
    """Tell the columns of a file from its first lines.

    Ids of CSV are strings, so that ``007`` stays what it is; of JSON they are what the file says. Plain text has the
    columns ``id``, made of the file's base name and the number of the line (``notes.txt:1``), and ``text``.

    Raises
    ------
    EpisodeFileError
        If its first lines cannot be read.
    """
    name = file.path.lower()
    if name.endswith(".txt"):
        return FileContent(_PLAIN_SCHEMA, None)
    strings = {columns.id: pa.large_string(), columns.text: pa.large_string()}
    with failures_named(file), _opened(file) as source:
        found = (_open_json(source) if name.endswith(_JSON) else _open_csv(source, strings)).schema
    return FileContent(pa.schema([(field.name, _settled(field, columns)) for field in found]), None)


def read_lines(file: EpisodeFile, columns: ColumnNames, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read some columns of a file, in batches of at most `BATCH_ROWS`.

    Raises
    ------
    EpisodeFileError
        If a line does not hold what the first ones do.
    """
    schema = inspect_lines(file, columns).schema
    wanted = pa.schema([schema.field(name) for name in names])
    with failures_named(file), _opened(file) as source:
        for batch in _batches(file, source, wanted):
            for start in range(0, len(batch), BATCH_ROWS):
                yield batch.slice(start, BATCH_ROWS).select(wanted.names)


def _opened(file: EpisodeFile) -> IO[bytes]:
    return cast("IO[bytes]", file.filesystem.open_input_file(file.path))  # which pyarrow's readers take as such


def _batches(file: EpisodeFile, source: IO[bytes], wanted: pa.Schema) -> Iterable[pa.RecordBatch]:
    name = file.path.lower()
    if name.endswith(".txt"):
        return _plain_batches(source, PurePosixPath(file.path).name)
    if name.endswith(_JSON):
        return _open_json(source, wanted)
    return _open_csv(source, {field.name: field.type for field in wanted}, wanted.names)


def _open_json(source: IO[bytes], wanted: pa.Schema | None = None) -> pa.RecordBatchReader:
    options = json.ParseOptions(
        explicit_schema=wanted, unexpected_field_behavior="infer" if wanted is None else "ignore"
    )
    return json.open_json(source, json.ReadOptions(block_size=_BLOCK_BYTES), options)


def _open_csv(
    source: IO[bytes], column_types: Mapping[str, pa.DataType], names: Sequence[str] = ()
) -> pa.RecordBatchReader:
    return csv.open_csv(
        source,
        csv.ReadOptions(block_size=_BLOCK_BYTES),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(
            column_types=dict(column_types), include_columns=list(names), null_values=[""], strings_can_be_null=True
        ),
    )


def _settled(field: pa.Field[Any], columns: ColumnNames) -> pa.DataType:
    """Return a type for a column that also fits lines beyond the first ones."""
    found: pa.DataType = field.type
    if field.name == columns.text and (types.is_string(found) or types.is_null(found)):
        return pa.large_string()
    if field.name == columns.importance and (types.is_integer(found) or types.is_null(found)):
        return pa.float64()
    if field.name == columns.time and isinstance(found, pa.TimestampType):
        return _TIME if found.tz is None else _ZONED_TIME
    if field.name == columns.time and types.is_null(found):
        return _TIME
    return found


def _plain_batches(source: IO[bytes], base_name: str) -> Iterator[pa.RecordBatch]:
    """Yield the lines of a plain text that are not blank, each with its number, from 1."""
    lines = enumerate(io.TextIOWrapper(source, encoding="utf-8-sig", newline="\n"), start=1)
    rows = ((f"{base_name}:{number}", line.rstrip("\r\n")) for number, line in lines if not line.isspace())
    while chunk := list(islice(rows, BATCH_ROWS)):
        ids, texts = zip(*chunk, strict=True)
        yield pa.record_batch(
            [pa.array(ids, pa.large_string()), pa.array(texts, pa.large_string())], schema=_PLAIN_SCHEMA
        )
