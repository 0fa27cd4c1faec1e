"""Commands that prepare episodes: before any batch, without a store."""

from __future__ import annotations

import sys
from pathlib import Path  # Typer reads the annotations
from typing import Annotated, cast, get_args

import numpy as np
import typer

from cluster_engine import terminal
from cluster_engine.cli.app import Json, app, make_console, print_json
from cluster_engine.data.adapters import FORMATS, ExportFormat
from cluster_engine.data.quarantine import Quarantine  # noqa: TC001  # as above
from cluster_engine.data.reading import read_episodes
from cluster_engine.data.schema import ColumnNames
from cluster_engine.data.writing import write_episodes, write_table
from cluster_engine.deduplication import Preference, find_duplicates, group_table
from cluster_engine.embedding.embedder import DEFAULT, load_embedder
from cluster_engine.embedding.files import embed_files
from cluster_engine.errors import ConfigError
from cluster_engine.progress import Phase

_NO_EMBEDDER = "none"
_PREFERENCES: tuple[str, ...] = get_args(Preference)
_Refused = Annotated[Path | None, typer.Option("--quarantine", help="Write the refused rows here.", metavar="FILE")]


@app.command()
def embed(
    *,
    inputs: Annotated[
        list[str], typer.Option("--input", metavar="PATH", help="File, directory, glob or URI of texts; repeatable.")
    ],
    output: Annotated[Path, typer.Option(help="Parquet file of episodes to write.", metavar="FILE")],
    embedder: Annotated[
        str, typer.Option(help="A name, module:attribute, or none to take the vectors of an export.")
    ] = DEFAULT,
    input_format: Annotated[str, typer.Option(help="What the input is.", metavar="|".join(FORMATS))] = "files",
    quarantine: _Refused = None,
    id_column: Annotated[str, typer.Option(help="Column of ids.")] = "id",
    time_column: Annotated[str, typer.Option(help="Column of times.")] = "time",
    importance_column: Annotated[str, typer.Option(help="Column of importances.")] = "importance",
    text_column: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    as_json: Json = False,
) -> None:
    """Turn texts into episodes by a local embedding model; nothing is downloaded."""
    columns = ColumnNames(id=id_column, time=time_column, importance=importance_column, text=text_column)
    wanted = cast("ExportFormat", _one_of(FORMATS, input_format, "--input-format"))
    model = None if embedder == _NO_EMBEDDER else load_embedder(embedder)
    with terminal.shown_progress(sys.stderr) as progress:
        written = embed_files(inputs, model, output, input_format=wanted, columns=columns, progress=progress)
    _write_refused(written.quarantine, quarantine)
    facts = {
        "output": str(output),
        "n_episodes": written.n_episodes,
        "n_quarantined": len(written.quarantine),
        "dimension": written.dimension,
    }
    if as_json:
        print_json(facts)
        return
    console = make_console()
    console.print(f"{written.n_episodes:,} episodes of {written.dimension} dimensions: {output}", markup=False)
    console.print(_refused(written.quarantine), end="", style="yellow")


@app.command("deduplicate")
def deduplicate_episodes(
    *,
    inputs: Annotated[
        list[str], typer.Option("--input", metavar="PATH", help="File, directory, glob or URI of episodes; repeatable.")
    ],
    output: Annotated[Path, typer.Option(help="Parquet file of groups to write.", metavar="FILE")],
    eps: Annotated[float, typer.Option(help="Cosine distance up to which two episodes say the same.")] = 0.05,
    keep: Annotated[
        str, typer.Option(help="Which episode to keep of those that say the same.", metavar="|".join(_PREFERENCES))
    ] = "first",
    write_kept: Annotated[
        Path | None, typer.Option(help="Write the episodes to keep here, as Parquet.", metavar="FILE")
    ] = None,
    quarantine: _Refused = None,
    id_column: Annotated[str, typer.Option(help="Column of ids.")] = "id",
    vector_column: Annotated[str, typer.Option(help="Column of vectors.")] = "vector",
    time_column: Annotated[str, typer.Option(help="Column of times.")] = "time",
    importance_column: Annotated[str, typer.Option(help="Column of importances.")] = "importance",
    text_column: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    as_json: Json = False,
) -> None:
    """Group near-duplicates and say which one to keep of each group; the input stays as it is."""
    preference = cast("Preference", _one_of(_PREFERENCES, keep, "--keep"))
    if not 0 <= eps < 1:
        raise ConfigError(f"--eps must be at least 0 and below 1, got {eps!r}")
    columns = ColumnNames(
        id=id_column, vector=vector_column, time=time_column, importance=importance_column, text=text_column
    )
    with terminal.shown_progress(sys.stderr) as progress:
        phase = Phase("read", 0, progress)
        episodes, refused = read_episodes(inputs, columns=columns, progress=phase.advance_to)
        found = find_duplicates(episodes, eps, preference, progress=progress)
    write_table(group_table(episodes, found), output)
    if write_kept is not None:
        write_episodes(episodes.take(found.kept), write_kept)
    _write_refused(refused, quarantine)
    n_groups = len(np.unique(found.representatives[found.representatives != np.arange(len(episodes))]))
    facts = {
        "output": str(output),
        "n_episodes": len(episodes),
        "n_quarantined": len(refused),
        "n_kept": len(found.kept),
        "n_groups": n_groups,
        "eps": eps,
    }
    if as_json:
        print_json(facts)
        return
    console = make_console()
    n_duplicates = len(episodes) - len(found.kept)
    console.print(
        f"{n_duplicates:,} of {len(episodes):,} episodes say the same as one of {n_groups:,} others, within {eps:g}: "
        f"{len(found.kept):,} to keep; groups: {output}",
        markup=False,
    )
    console.print(_refused(refused), end="", style="yellow")


def _one_of(allowed: tuple[str, ...], value: str, option: str) -> str:
    if value not in allowed:
        raise ConfigError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def _write_refused(quarantine: Quarantine, path: Path | None) -> None:
    if path is not None:
        write_table(quarantine.table, path)


def _refused(quarantine: Quarantine) -> str:
    """Say how many rows were refused, and why; nothing if none was."""
    counts = ", ".join(f"{count:,} {reason.value}" for reason, count in quarantine.counts().items())
    return f"{len(quarantine):,} rows were refused ({counts})\n" if len(quarantine) else ""
