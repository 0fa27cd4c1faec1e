"""Commands that prepare episodes: before any batch, without a store."""

from __future__ import annotations

import sys
from pathlib import Path  # Typer reads the annotations
from typing import Annotated, Literal

import typer

from cluster_engine import terminal
from cluster_engine.cli.app import Json, app, make_console, print_json
from cluster_engine.data.quarantine import Quarantine  # noqa: TC001  # as above
from cluster_engine.data.schema import ColumnNames
from cluster_engine.data.writing import write_table
from cluster_engine.embedding.embedder import DEFAULT, load_embedder
from cluster_engine.embedding.files import embed_files

_NO_EMBEDDER = "none"
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
    input_format: Annotated[
        Literal["files", "graphrag", "graphrag-entities", "mem0", "langmem"], typer.Option(help="What the input is.")
    ] = "files",
    quarantine: _Refused = None,
    id_column: Annotated[str, typer.Option(help="Column of ids.")] = "id",
    time_column: Annotated[str, typer.Option(help="Column of times.")] = "time",
    importance_column: Annotated[str, typer.Option(help="Column of importances.")] = "importance",
    text_column: Annotated[str, typer.Option(help="Column of texts.")] = "text",
    as_json: Json = False,
) -> None:
    """Turn texts into episodes by a local embedding model; nothing is downloaded."""
    columns = ColumnNames(id=id_column, time=time_column, importance=importance_column, text=text_column)
    model = None if embedder == _NO_EMBEDDER else load_embedder(embedder)
    with terminal.shown_progress(sys.stderr) as progress:
        written = embed_files(inputs, model, output, input_format=input_format, columns=columns, progress=progress)
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


def _write_refused(quarantine: Quarantine, path: Path | None) -> None:
    if path is not None:
        write_table(quarantine.table, path)


def _refused(quarantine: Quarantine) -> str:
    """Say how many rows were refused, and why; nothing if none was."""
    counts = ", ".join(f"{count:,} {reason.value}" for reason, count in quarantine.counts().items())
    return f"{len(quarantine):,} rows were refused ({counts})\n" if len(quarantine) else ""
