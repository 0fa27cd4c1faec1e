"""Files of texts to episodes: read in batches, embedded, checked; bad rows quarantined.

Knows the order of the steps. Refuses to know formats and models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cluster_engine.data.adapters import EXPORTS, ExportFormat
from cluster_engine.data.assembly import EpisodeAssembly
from cluster_engine.data.formats import BATCH_ROWS
from cluster_engine.data.quarantine import Quarantine, Reason, first_faults, join_quarantines, quarantine_rows
from cluster_engine.data.schema import ColumnNames
from cluster_engine.data.sources import SourceBatch, agreed_id_type, count_rows, inspect_sources, read_sources
from cluster_engine.data.validation import TIME_TYPE, check_ids, check_rows, check_texts
from cluster_engine.data.writing import parquet_writer, vector_column, write_episodes
from cluster_engine.errors import ConfigError, VectorError
from cluster_engine.progress import Phase, Reporter

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cluster_engine.data.adapters.export import Export
    from cluster_engine.data.episodes import Episodes
    from cluster_engine.data.files import EpisodeInput
    from cluster_engine.embedding.embedder import Embedder

_DEFAULT_NAMES = ColumnNames()
_TEXTS_PER_CALL = 256  # so that progress is seen; chosen, not measured


@dataclass(frozen=True, slots=True)
class EmbeddedFile:
    """What `embed_files` wrote.

    Attributes
    ----------
    n_episodes : int
    dimension : int
    quarantine : Quarantine
        The rows that were left out.
    """

    n_episodes: int
    dimension: int
    quarantine: Quarantine


@dataclass(frozen=True, slots=True)
class _Texts:
    """Rows to embed, in batches.

    Attributes
    ----------
    files : list of str
        Names; batches refer to them by position.
    id_type : pyarrow.DataType
    roles : set of str
        What some batch has a column for.
    n_rows : int or None
    batches : iterator of SourceBatch
    """

    files: list[str]
    id_type: pa.DataType
    roles: set[str]
    n_rows: int | None
    batches: Iterator[SourceBatch]


@dataclass(frozen=True, slots=True)
class _Embedded:
    """The rows of a batch that have a text, with their vectors, and a record of the others."""

    file: int
    row_numbers: npt.NDArray[np.int64]
    columns: dict[str, pa.Array[Any]]
    quarantine: Quarantine


def embed_files(
    input: EpisodeInput,  # noqa: A002  # as in consolidate
    embedder: Embedder | None,
    output: str | os.PathLike[str],
    *,
    input_format: ExportFormat = "files",
    columns: ColumnNames = _DEFAULT_NAMES,
    progress: Reporter | None = None,
) -> EmbeddedFile:
    """Embed texts into a Parquet file of episodes, in the order of the input.

    Parameters
    ----------
    input : path, directory, glob, URI, or a sequence of those
        Parquet and Arrow files with ids and texts, or lines (``.jsonl``, ``.csv``, ``.txt``); or an export.
    embedder : Embedder or None
        None takes the vectors of an export as they are.
    output : path
        Appears when all is done, with columns id, vector, text, and time, importance and evergreen where the input has
        them.
    input_format : {"files", "graphrag", "mem0", "langmem"}
        What the input is; see `cluster_engine.data.adapters`.
    columns : ColumnNames
        What the input calls its columns; an export has names of its own.
    progress : callable, optional

    Returns
    -------
    EmbeddedFile
        Rows without an id or a text, or with a bad time, importance or vector, are not in the file but here. Ids that
        occur twice are both in the file: who reads it as episodes keeps one.

    Raises
    ------
    ConfigError
        The output cannot be written, or there is no embedder and no vectors either.
    InputError, EpisodeFileError, SchemaError
        As `read_episodes`.
    VectorError
        The embedder does not return a vector for each text.

    Notes
    -----
    One batch of rows is in memory at a time. Equal texts of a batch are embedded once.
    """
    if embedder is None:
        episodes, quarantine = read_texts(input, None, input_format=input_format, columns=columns, progress=progress)
        write_episodes(episodes, output)
        return EmbeddedFile(len(episodes), episodes.dimension, quarantine)
    texts = _open(input, input_format, columns)
    fields = [
        ("id", texts.id_type),
        ("time", TIME_TYPE),
        ("importance", pa.float32()),
        ("evergreen", pa.bool_()),
        ("text", pa.large_string()),
    ]
    kept = [field for field in fields if field[0] in texts.roles]
    schema = pa.schema([*kept, ("vector", pa.list_(pa.float32(), embedder.dimension))])
    n_episodes, quarantines = 0, []
    with parquet_writer(output, schema) as writer:
        for batch in _embed(texts, embedder, progress):
            checked = check_rows(batch.columns, texts.id_type, embedder.dimension)
            quarantines.append(batch.quarantine)
            for fault in checked.faults:
                places = [texts.files[batch.file]] * len(fault.rows), batch.row_numbers[fault.rows]
                ids = checked.scalars["id"].take(fault.rows)
                quarantines.append(quarantine_rows(*places, ids, fault.reason, fault.details))
            for rows, vectors in checked.vectors:
                if len(rows):
                    scalars = checked.scalars.take(rows)
                    arrays = [*(scalars[name] for name, _ in kept), vector_column(vectors)]
                    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
                    n_episodes += len(rows)
    return EmbeddedFile(n_episodes, embedder.dimension, join_quarantines(quarantines))


def read_texts(
    input: EpisodeInput,  # noqa: A002  # as in consolidate
    embedder: Embedder | None,
    *,
    input_format: ExportFormat = "files",
    columns: ColumnNames = _DEFAULT_NAMES,
    progress: Reporter | None = None,
) -> tuple[Episodes, Quarantine]:
    """Read texts as episodes, as `read_episodes` reads vectors.

    Parameters
    ----------
    input, embedder, input_format, columns, progress
        As of `embed_files`.

    Returns
    -------
    episodes : Episodes
        By ascending id, each id once.
    quarantine : Quarantine

    Raises
    ------
    ConfigError, InputError, EpisodeFileError, SchemaError, VectorError
        As `embed_files`.
    """
    texts = _open(input, input_format, columns)
    dimension = None if embedder is None else embedder.dimension
    assembly = EpisodeAssembly(texts.files, texts.id_type, dimension)
    if embedder is None:
        for rows in texts.batches:
            if "vector" not in rows.columns:
                raise ConfigError(f"{texts.files[rows.file]}: no vectors to take as they are; name an embedder")
            assembly.add(rows.columns, rows.file, rows.first_row + np.arange(len(rows)))
        return assembly.finish()
    quarantines = []
    for batch in _embed(texts, embedder, progress):
        quarantines.append(batch.quarantine)
        assembly.add(batch.columns, batch.file, batch.row_numbers)
    episodes, quarantine = assembly.finish()
    return episodes, join_quarantines([quarantine, *quarantines])


def _open(
    input: EpisodeInput,  # noqa: A002  # as in consolidate
    input_format: ExportFormat,
    columns: ColumnNames,
) -> _Texts:
    if input_format != "files":
        return _exported(EXPORTS[input_format](input))
    sources = inspect_sources(input, columns, content="text")
    roles = {role for source in sources for role in source.columns.present}
    batches = read_sources(sources, columns, "text")
    return _Texts([s.file.name for s in sources], agreed_id_type(sources), roles, count_rows(sources), batches)


def _exported(exports: Sequence[Export]) -> _Texts:
    batches = (
        SourceBatch(position, start, _columns(export.table.slice(start, BATCH_ROWS)))
        for position, export in enumerate(exports)
        for start in range(0, export.table.num_rows, BATCH_ROWS)
    )
    roles = {name for export in exports for name in export.table.column_names}
    n_rows = sum(export.table.num_rows for export in exports)
    return _Texts([export.name for export in exports], pa.large_string(), roles, n_rows, batches)


def _columns(table: pa.Table) -> dict[str, pa.Array[Any]]:
    return {name: table[name].combine_chunks() for name in table.column_names}


def _embed(texts: _Texts, embedder: Embedder, reporter: Reporter | None) -> Iterator[_Embedded]:
    """Yield the batches with the vectors of their texts."""
    phase = Phase("embed", texts.n_rows or 0, reporter)
    for batch in texts.batches:
        n_done = phase.done
        row_numbers = batch.first_row + np.arange(len(batch))
        ids, id_faults = check_ids(batch.columns["id"], texts.id_type)
        found, text_faults = check_texts(batch.columns["text"])
        faults, good = first_faults([*id_faults, *text_faults], len(batch))
        refused = [
            quarantine_rows(
                [texts.files[batch.file]] * len(fault.rows),
                row_numbers[fault.rows],
                ids.take(fault.rows),
                Reason(fault.reason),
                fault.details,
            )
            for fault in faults
        ]
        rows = np.flatnonzero(good)
        columns = {role: column.take(rows) for role, column in {**batch.columns, "text": found}.items()}
        columns["vector"] = vector_column(_embed_column(columns["text"], embedder, phase))
        phase.advance_to(n_done + len(batch), texts.n_rows)
        yield _Embedded(batch.file, row_numbers[rows], columns, join_quarantines(refused))


def _embed_column(texts: pa.Array[Any], embedder: Embedder, phase: Phase) -> npt.NDArray[np.float32]:
    """Return the vectors of a column of texts; equal ones are embedded once."""
    encoded = texts.dictionary_encode()
    distinct = [str(text) for text in encoded.dictionary.to_pylist()]
    repeats = len(texts) / max(1, len(distinct))
    start_row = phase.done
    vectors = np.empty((len(distinct), embedder.dimension), np.float32)
    for start in range(0, len(distinct), _TEXTS_PER_CALL):
        part = distinct[start : start + _TEXTS_PER_CALL]
        vectors[start : start + len(part)] = _checked(embedder.embed(part), part, embedder)
        phase.advance_to(start_row + int((start + len(part)) * repeats), None)
    rows: npt.NDArray[np.int32] = encoded.indices.to_numpy()
    return vectors[rows]


def _checked(vectors: npt.NDArray[np.float32], texts: Sequence[str], embedder: Embedder) -> npt.NDArray[np.float32]:
    found = np.asarray(vectors)
    if found.shape != (len(texts), embedder.dimension) or found.dtype.kind != "f":
        raise VectorError(
            f"{type(embedder).__name__}.embed returned {found.dtype} of shape {found.shape} for {len(texts)} texts of "
            f"{embedder.dimension} dimensions"
        )
    return np.asarray(found, np.float32)
