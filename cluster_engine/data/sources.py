"""The files of an input, their schemas checked, as batches of rows by role.

Knows which file holds which column. Refuses to know what makes a row good.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from cluster_engine.data.files import EXTENSIONS, EpisodeFile, EpisodeInput, find_files
from cluster_engine.data.formats import FileContent, inspect_file, read_batches
from cluster_engine.data.lines import LINE_EXTENSIONS, inspect_lines, read_lines
from cluster_engine.data.schema import ColumnNames, Content, EpisodeColumns, missing_column, resolve_columns
from cluster_engine.errors import EpisodeFileError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from pyarrow import fs


@dataclass(frozen=True, slots=True)
class Source:
    """A file whose schema has been checked.

    Attributes
    ----------
    file : EpisodeFile
    columns : EpisodeColumns
    n_rows : int or None
        None where the file does not say.
    """

    file: EpisodeFile
    columns: EpisodeColumns
    n_rows: int | None


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Some rows of a file.

    Attributes
    ----------
    file : int
        Position of the file among the sources.
    first_row : int
        Row number, in the file, of the first row.
    columns : dict of str to pyarrow.Array
        By role (an attribute of `ColumnNames`).
    """

    file: int
    first_row: int
    columns: dict[str, pa.Array[Any]]

    def __len__(self) -> int:
        return len(self.columns["id"])


def inspect_sources(
    input: EpisodeInput,  # noqa: A002 the public name
    columns: ColumnNames,
    *,
    content: Content = "vector",
    filesystem: fs.FileSystem | None = None,
) -> list[Source]:
    """Find the files of an input and check their schemas; no data is read.

    Parameters
    ----------
    input, filesystem
        As of `find_files`.
    columns : ColumnNames
    content : {"vector", "text"}
        What an episode must have besides its id. For texts, files of lines (`LINE_EXTENSIONS`) are understood too, and
        vectors are not looked at.

    Raises
    ------
    InputError, EpisodeFileError, SchemaError
        As `read_episodes`.
    """
    extensions = EXTENSIONS if content == "vector" else EXTENSIONS + LINE_EXTENSIONS
    sources = []
    files = find_files(input, filesystem, extensions)
    _require_distinct_ids(files, content)
    for file in files:
        found = _inspect(file, columns, content)
        sources.append(Source(file, resolve_columns(found.schema, columns, file.name, content), found.n_rows))
    _require_names_asked_for(sources, columns, content)
    return sources


def read_sources(sources: Sequence[Source], columns: ColumnNames, content: Content = "vector") -> Iterator[SourceBatch]:
    """Read the files one after another, in batches.

    Raises
    ------
    EpisodeFileError
        If a file cannot be read to its end, or is no longer what it was.
    """
    for position, source in enumerate(sources):
        first_row = 0
        roles = source.columns.present
        names = [getattr(columns, role) for role in roles]
        is_lines = _is_lines(source.file, content)
        batches = read_lines(source.file, columns, names) if is_lines else read_batches(source.file, names)
        for batch in batches:
            if resolve_columns(batch.schema, columns, source.file.name, content) != source.columns:
                raise EpisodeFileError(f"{source.file.name}: changed while it was read")
            yield SourceBatch(position, first_row, dict(zip(roles, batch.columns, strict=True)))
            first_row += len(batch)


def count_rows(sources: Sequence[Source]) -> int | None:
    """Return the rows of all files, None when one does not say."""
    counts = [source.n_rows for source in sources if source.n_rows is not None]
    return sum(counts) if len(counts) == len(sources) else None


def _is_lines(file: EpisodeFile, content: Content) -> bool:
    return content == "text" and file.path.lower().endswith(LINE_EXTENSIONS)


def _require_distinct_ids(files: Sequence[EpisodeFile], content: Content) -> None:
    """Refuse two plain texts of one base name, which the ids of their lines are made of."""
    named: dict[str, str] = {}
    for file in files:
        base_name = PurePosixPath(file.path).name
        if _is_lines(file, content) and base_name.lower().endswith(".txt"):
            other = named.setdefault(base_name, file.name)
            if other != file.name:
                raise SchemaError(f"{other} and {file.name}: lines are called after the base name; rename one")


def _inspect(file: EpisodeFile, columns: ColumnNames, content: Content) -> FileContent:
    return inspect_lines(file, columns) if _is_lines(file, content) else inspect_file(file)


def _require_names_asked_for(sources: Sequence[Source], columns: ColumnNames, content: Content) -> None:
    """Refuse a name that someone chose and no file has: silently absent, it would be a typo that nobody sees."""
    present = {role for source in sources for role in source.columns.present}
    for field in fields(columns):
        if content == "text" and field.name == "vector":
            continue
        name = getattr(columns, field.name)
        if field.name not in present and name != field.default:
            first = sources[0].file
            schema_names = _inspect(first, columns, content).schema.names
            raise SchemaError(missing_column(field.name, name, schema_names, f"{first.name} (and every other file)"))


def agreed_id_type(sources: Sequence[Source]) -> pa.DataType:
    """Return the type of ids in all files.

    Raises
    ------
    SchemaError
        They differ.
    """
    first = sources[0]
    for source in sources:
        if source.columns.id_type != first.columns.id_type:
            raise SchemaError(
                f"{first.file.name} has {first.columns.id_type} ids, but {source.file.name} has "
                f"{source.columns.id_type} ids; write them with one type"
            )
    return first.columns.id_type


def agreed_dimension(sources: Sequence[Source], dimension: int | None) -> int | None:
    """Return the dimension asked for or stated by the types, None when neither says.

    Raises
    ------
    SchemaError
        Two of these differ.
    """
    origin = "the dimension asked for"
    for source in sources:
        stated = source.columns.dimension
        if stated is None:
            continue
        if dimension not in (None, stated):
            raise SchemaError(f"{source.file.name} has vectors of {stated} elements, but {origin} is {dimension}")
        dimension, origin = stated, f"that of {source.file.name}"
    return dimension
