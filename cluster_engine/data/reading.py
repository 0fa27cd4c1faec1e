"""Episodes from Parquet and Arrow files: the one way in for data from outside.

Knows the order of the steps. Refuses to know any step's detail, what a store holds, and the wall clock.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.data.assembly import EpisodeAssembly
from cluster_engine.data.sampling import IdSample, choose_rows
from cluster_engine.data.schema import ColumnNames
from cluster_engine.data.sources import (
    Source,
    agreed_dimension,
    agreed_id_type,
    count_rows,
    inspect_sources,
    read_sources,
)
from cluster_engine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyarrow import fs

    from cluster_engine.data.episodes import Episodes
    from cluster_engine.data.files import EpisodeInput
    from cluster_engine.data.quarantine import Quarantine

_log = logging.getLogger(__name__)
_DEFAULT_NAMES = ColumnNames()


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
    sources = _inspect(input, columns, dimension, filesystem)
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
    sources = _inspect(input, columns, dimension, filesystem)
    n_read = 0

    def count(n_done: int, n_total: int | None) -> None:
        nonlocal n_read
        n_read = n_done
        if progress is not None:
            progress(n_done, n_total)

    episodes, _ = _read(sources, columns, dimension, IdSample(n_rows), count)
    return episodes.take(choose_rows(episodes.ids, n_rows)), n_read


def _inspect(
    input: EpisodeInput,  # noqa: A002 the public name
    columns: ColumnNames,
    dimension: int | None,
    filesystem: fs.FileSystem | None,
) -> list[Source]:
    if dimension is not None and dimension < 1:
        raise ConfigError(f"dimension must be at least 1, not {dimension}")
    return inspect_sources(input, columns, filesystem=filesystem)


def _read(
    sources: Sequence[Source],
    columns: ColumnNames,
    dimension: int | None,
    sample: IdSample | None,
    progress: Callable[[int, int | None], None] | None,
) -> tuple[Episodes, Quarantine]:
    """Assemble the rows, or those that a sample admits."""
    names = [source.file.name for source in sources]
    assembly = EpisodeAssembly(names, agreed_id_type(sources), agreed_dimension(sources, dimension))
    n_read, n_total = 0, count_rows(sources)
    for batch in read_sources(sources, columns):
        rows, chosen = np.arange(len(batch)), batch.columns
        if sample is not None:
            rows = sample.admit(chosen["id"])
            chosen = {role: column.take(rows) for role, column in chosen.items()}
        assembly.add(chosen, batch.file, batch.first_row + rows)
        n_read += len(batch)
        if progress is not None:
            progress(n_read, n_total)
    episodes, quarantine = assembly.finish()
    if not any("text" in source.columns.present for source in sources):
        episodes = replace(episodes, texts=None)
    return episodes, quarantine
