"""Episodes from Parquet and Arrow files: the one way in for data from outside.

Knows the order of the steps. Refuses to know any step's detail, what a store holds, and the wall clock.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.data.assembly import EpisodeAssembly
from cluster_engine.data.episodes import take_episodes
from cluster_engine.data.files import EpisodeFile, EpisodeInput, find_files
from cluster_engine.data.formats import inspect_file, read_batches
from cluster_engine.data.sampling import IdSample, choose_rows
from cluster_engine.data.schema import ColumnNames, EpisodeColumns, missing_column, resolve_columns
from cluster_engine.errors import ConfigError, EpisodeFileError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa
    from pyarrow import fs

    from cluster_engine.data.episodes import Episodes
    from cluster_engine.data.quarantine import Quarantine

_log = logging.getLogger(__name__)
_DEFAULT_NAMES = ColumnNames()


@dataclass(frozen=True, slots=True)
class _Source:
    """A file whose schema has been checked."""

    file: EpisodeFile
    columns: EpisodeColumns
    n_rows: int | None


def read_episodes(
    input: EpisodeInput,  # noqa: A002 the public name
    *,
    columns: ColumnNames = _DEFAULT_NAMES,
    dimension: int | None = None,
    filesystem: fs.FileSystem | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[Episodes, Quarantine]:
    """Read episodes; rows that cannot be one are quarantined, never repaired.

    Parameters
    ----------
    input : path, directory, glob, URI, or a sequence of those
        Parquet and Arrow IPC files (``.parquet``; ``.arrow``, ``.arrows``, ``.feather``, ``.ipc``), told apart by their
        content. See `find_files`.
    columns : ColumnNames
        What the input calls its columns.
    dimension : int, optional
        Length that vectors must have, at least 1. Without it: the length that a fixed-size type states, else the most
        common one among the rows without any other fault, the larger one of equally common ones.
    filesystem : pyarrow.fs.FileSystem, optional
        Where `input` is; without it the paths are local, or URIs.
    progress : callable, optional
        Called as ``progress(n_rows_read, n_rows_total)`` after every batch; the total is None when a file does not say.

    Returns
    -------
    episodes : Episodes
        Good rows by ascending id. Of rows with the same id one is kept, see `EpisodeAssembly.finish`. Row order, file
        order and the split into files make no difference.
    quarantine : Quarantine
        The other rows, by file and row number, each with one reason.

    Raises
    ------
    ConfigError
        If `dimension` is less than 1.
    InputError
        If no file matches.
    EpisodeFileError
        If a file cannot be read to its end; names the file and the cause.
    SchemaError
        If a column is missing, has a type that cannot hold it, or the files disagree; before any data is read.

    Notes
    -----
    O(n d + n log n). Memory stays near the size of the result: vectors are written once, into one array that is sorted
    in place (a sixteenth more, or 64 bytes a row); one batch of input is held beside it (of an Arrow file, one
    record batch as it was written).
    """
    sources = _inspect_all(input, columns, dimension, filesystem)
    episodes, quarantine = _read(sources, columns, dimension, None, progress)
    _log.info("read episodes n_files=%d n_episodes=%d n_quarantined=%d", len(sources), len(episodes), len(quarantine))
    return episodes, quarantine


def sample_episodes(
    input: EpisodeInput,  # noqa: A002 the public name
    n_rows: int,
    *,
    columns: ColumnNames = _DEFAULT_NAMES,
    dimension: int | None = None,
    filesystem: fs.FileSystem | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[Episodes, int]:
    """Read a few episodes, chosen by a hash of their ids; of all other rows the ids alone are looked at.

    Parameters
    ----------
    n_rows : int
        Rows to choose, at least 1; those that cannot be an episode are missing from the result.
    input, columns, dimension, filesystem, progress
        As of `read_episodes`.

    Returns
    -------
    episodes : Episodes
        By ascending id. Row order, file order and the split into files make no difference.
    n_read : int
        Rows of the input.

    Raises
    ------
    ConfigError, InputError
        As `read_episodes`.

    Notes
    -----
    Memory is that of ``n_rows * (1 + ln(N / n_rows))`` episodes of N, on average.
    """
    if n_rows < 1:
        raise ConfigError(f"a sample has at least 1 row, not {n_rows}")
    sources = _inspect_all(input, columns, dimension, filesystem)
    n_read = 0

    def count(n_done: int, n_total: int | None) -> None:
        nonlocal n_read
        n_read = n_done
        if progress is not None:
            progress(n_done, n_total)

    episodes, _ = _read(sources, columns, dimension, IdSample(n_rows), count)
    return take_episodes(episodes, choose_rows(episodes.ids, n_rows)), n_read


def _inspect_all(
    input: EpisodeInput,  # noqa: A002 the public name
    columns: ColumnNames,
    dimension: int | None,
    filesystem: fs.FileSystem | None,
) -> list[_Source]:
    if dimension is not None and dimension < 1:
        raise ConfigError(f"dimension must be at least 1, not {dimension}")
    sources = [_inspect(file, columns) for file in find_files(input, filesystem)]
    _require_names_asked_for(sources, columns)
    return sources


def _inspect(file: EpisodeFile, columns: ColumnNames) -> _Source:
    content = inspect_file(file)
    return _Source(file, resolve_columns(content.schema, columns, file.name), content.n_rows)


def _require_names_asked_for(sources: Sequence[_Source], columns: ColumnNames) -> None:
    """Refuse a name that someone chose and no file has: silently absent, it would be a typo that nobody sees."""
    present = {role for source in sources for role in source.columns.present}
    for field in fields(columns):
        name = getattr(columns, field.name)
        if field.name not in present and name != field.default:
            first = sources[0].file
            schema_names = inspect_file(first).schema.names
            raise SchemaError(missing_column(field.name, name, schema_names, f"{first.name} (and every other file)"))


def _agreed_id_type(sources: Sequence[_Source]) -> pa.DataType:
    first = sources[0]
    for source in sources:
        if source.columns.id_type != first.columns.id_type:
            raise SchemaError(
                f"{first.file.name} has {first.columns.id_type} ids, but {source.file.name} has "
                f"{source.columns.id_type} ids; write them with one type"
            )
    return first.columns.id_type


def _agreed_dimension(sources: Sequence[_Source], dimension: int | None) -> int | None:
    """Return the dimension asked for or stated by the types, None when neither says."""
    origin = "the dimension asked for"
    for source in sources:
        stated = source.columns.dimension
        if stated is None:
            continue
        if dimension not in (None, stated):
            raise SchemaError(f"{source.file.name} has vectors of {stated} elements, but {origin} is {dimension}")
        dimension, origin = stated, f"that of {source.file.name}"
    return dimension


def _read(
    sources: Sequence[_Source],
    columns: ColumnNames,
    dimension: int | None,
    sample: IdSample | None,
    progress: Callable[[int, int | None], None] | None,
) -> tuple[Episodes, Quarantine]:
    """Assemble the rows, or those that a sample admits."""
    names = [source.file.name for source in sources]
    assembly = EpisodeAssembly(names, _agreed_id_type(sources), _agreed_dimension(sources, dimension))
    counts = [source.n_rows for source in sources if source.n_rows is not None]
    n_total = sum(counts) if len(counts) == len(sources) else None
    n_read = 0
    for position, source in enumerate(sources):
        first_row = 0
        roles = source.columns.present
        for batch in read_batches(source.file, [getattr(columns, role) for role in roles]):
            if resolve_columns(batch.schema, columns, source.file.name) != source.columns:
                raise EpisodeFileError(f"{source.file.name}: changed while it was read")
            rows = np.arange(len(batch)) if sample is None else sample.admit(batch[columns.id])
            chosen = batch if len(rows) == len(batch) else batch.take(rows)
            assembly.add(dict(zip(roles, chosen.columns, strict=True)), position, first_row + rows)
            first_row += len(batch)
            n_read += len(batch)
            if progress is not None:
                progress(n_read, n_total)
    episodes, quarantine = assembly.finish()
    if not any("text" in source.columns.present for source in sources):
        episodes = replace(episodes, texts=None)
    return episodes, quarantine
