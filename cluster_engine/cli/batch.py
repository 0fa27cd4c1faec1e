"""Commands that run batches."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cluster_engine import change_tables, lookup, terminal
from cluster_engine.batch import slot_time
from cluster_engine.cli.app import Json, Store, app, make_console, print_json, terminable
from cluster_engine.config import Config, load_config, parse_config
from cluster_engine.data.adapters import FORMATS
from cluster_engine.driver import Preview, preview
from cluster_engine.driver import consolidate as run_batch
from cluster_engine.embedding.embedder import DEFAULT
from cluster_engine.errors import ConfigError
from cluster_engine.exit_codes import ExitCode
from cluster_engine.planning import plan_batch
from cluster_engine.store.catalog import current_version
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from cluster_engine.progress import Progress


DryRun = Annotated[bool, typer.Option("--dry-run", help="Do all but the commit, and say what would change.")]

T = TypeVar("T")

_SUMMARY_CONCEPTS = 10
_CHANGES_SHOWN = 50
_ENDINGS = {
    KeyboardInterrupt: ("interrupted", ExitCode.INTERRUPTED),
    SystemExit: ("terminated", ExitCode.TERMINATED),
}


@app.command()
def consolidate(
    *,
    inputs: Annotated[
        list[str], typer.Option("--input", metavar="PATH", help="File, directory, glob or URI of episodes; repeatable.")
    ],
    store: Store,
    config: Annotated[Path | None, typer.Option(help="YAML file; options given here override it.")] = None,
    slot: Annotated[
        str | None, typer.Option(help="Name of this batch; one that is committed is not run again.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Time of the cycle, ISO 8601; by default the slot's, or the newest episode's.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Cluster all episodes from scratch.")] = False,
    dry_run: DryRun = False,
    distance: Annotated[float | None, typer.Option(help="Cut the dendrogram at this distance.")] = None,
    groups: Annotated[int | None, typer.Option(help="Cut the dendrogram into so many groups.")] = None,
    min_episodes: Annotated[int | None, typer.Option(help="Episodes that a concept needs.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of ids.")] = None,
    vector_column: Annotated[str | None, typer.Option(help="Column of vectors.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    importance_column: Annotated[str | None, typer.Option(help="Column of importances.")] = None,
    evergreen_column: Annotated[str | None, typer.Option(help="Column of booleans: never to fade.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of texts.")] = None,
    dimension: Annotated[int | None, typer.Option(help="Dimension that vectors must have.")] = None,
    text: Annotated[bool, typer.Option("--text", help="The input is texts, to be embedded by a local model.")] = False,
    embedder: Annotated[str | None, typer.Option(help="Which model: a name, or module:attribute.")] = None,
    input_format: Annotated[
        str | None, typer.Option(help="The input is an export of another program.", metavar="|".join(FORMATS))
    ] = None,
    as_json: Json = False,
) -> None:
    """Fold episodes into the concepts of a store, on a local Ray unless RAY_ADDRESS is set."""
    options = {
        "cut.distance": distance,
        "cut.n_groups": groups,
        "cut.min_episodes": min_episodes,
        "input.id": id_column,
        "input.vector": vector_column,
        "input.time": time_column,
        "input.importance": importance_column,
        "input.evergreen": evergreen_column,
        "input.text": text_column,
        "input.dimension": dimension,
        "input.embedder": DEFAULT if text and embedder is None else embedder,
        "input.format": input_format,
    }
    settings = override_config(config, options)
    time = None if as_of is None else parse_time(as_of, "--as-of")
    batch: dict[str, Any] = {"slot": slot, "as_of": time, "rebuild": rebuild}
    if dry_run:
        show_preview(run_told(store, partial(preview, inputs, store, settings, **batch)), store, as_json=as_json)
        return
    report = run_told(store, partial(run_batch, inputs, store, settings, **batch))
    if as_json:
        print_json(asdict(report))
        return
    console = make_console()
    console.print(terminal.batch_summary(report, store))
    committed = ConceptStore.open(store, version=report.version)
    console.print(terminal.concept_table(lookup.concept_records(committed, _SUMMARY_CONCEPTS)))


def parse_time(text: str, option: str) -> datetime:
    """Return a time that an option gives.

    Raises
    ------
    ConfigError
        It is none, or has no zone.
    """
    time = slot_time(text)
    if time is None:
        raise ConfigError(f"{option} {text}: not a time in ISO 8601 with a zone, such as 2026-11-22T02:00Z")
    return time


def show_preview(found: Preview, store: str, *, as_json: bool) -> None:
    """Say what a batch would change."""
    if as_json:
        print_json(
            asdict(found.report) | {"difference": asdict(found.difference), "journal": found.journal.to_pylist()}
        )
        return
    console = make_console()
    console.print(terminal.batch_summary(found.report, store))
    titles = {row["concept_id"]: lookup.title(row) for row in found.concepts.to_pylist()}
    if current_version(store) is not None:
        titles = {
            row["concept_id"]: lookup.title(row) for row in ConceptStore.open(store).concepts().to_pylist()
        } | titles
    for part in change_tables.difference_tables(found.difference, titles, _CHANGES_SHOWN):
        console.print(part)


def run_told(store: str, run: Callable[..., T]) -> T:
    """Run a batch while its progress is shown; if it is interrupted, say what the store is, and exit."""
    before = current_version(store)
    try:
        with terminable() as termination, terminal.shown_progress(sys.stderr) as progress:

            def report(told: Progress) -> None:
                termination.check()
                progress(told)

            return run(progress=report)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != signal.SIGTERM:
            raise
        now = current_version(store)
        state = "the store is as it was" if now == before else f"the store is at version {now}"
        word, code = _ENDINGS[type(end)]
        typer.echo(f"{word}: {state}", err=True)
        raise typer.Exit(code) from None


@app.command()
def plan(
    *,
    inputs: Annotated[
        list[str], typer.Option("--input", metavar="PATH", help="File, directory, glob or URI of episodes; repeatable.")
    ],
    store: Store,
    config: Annotated[Path | None, typer.Option(help="YAML file.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="As if all episodes were clustered from scratch.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a batch would take: points, memory, seconds. Changes nothing; what does not fit is refused."""
    told = plan_batch(inputs, store, override_config(config, {}), rebuild=rebuild)
    if as_json:
        print_json(asdict(told))
    else:
        make_console().print(str(told), markup=False)


def override_config(path: Path | None, options: Mapping[str, object]) -> Config:
    """Return the configuration of a file (or the defaults), with options in place of its values.

    Parameters
    ----------
    path : Path, optional
    options : mapping of str to object
        By "section.key"; None leaves the value of the file. One rule for the cut replaces another.

    Raises
    ------
    ConfigError
        As `load_config`; a value that an option gives is validated like one in a file.
    """
    content = (load_config(path) if path is not None else Config()).model_dump()
    given = {key: value for key, value in options.items() if value is not None}
    if given.keys() & {"cut.distance", "cut.n_groups"}:
        content["cut"] |= {"distance": None, "n_groups": None}
    for key, value in given.items():
        section, name = key.split(".")
        content[section][name] = value
    return parse_config(content, "command line")
