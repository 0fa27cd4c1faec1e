"""The command line, `cluster-engine`: options in, an answer on stdout, an exit code.

Answers go to stdout, for people or (``--json``) as exactly one line of JSON; progress, logs and errors go to stderr.
"""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from importlib import metadata
from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from cluster_engine import lookup, terminal
from cluster_engine.concepts.hierarchy import HierarchyNode
from cluster_engine.config import Config, load_config, parse_config
from cluster_engine.dendrogram import Dendrogram
from cluster_engine.doctor import examine
from cluster_engine.driver import consolidate as run_batch
from cluster_engine.errors import ConfigError, InputError
from cluster_engine.exit_codes import EXPECTED_ERRORS, ExitCode, exit_code_of, message_of
from cluster_engine.linkage.criterion import METHODS, METRICS
from cluster_engine.store.catalog import current_version
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cluster_engine.lookup import Record

_LOG = logging.getLogger("cluster_engine.cli")  # also when run as a module
_PIPE_COLUMNS = 160  # width of a table where no terminal says one
_SUMMARY_CONCEPTS = 10
_ENDINGS = {
    KeyboardInterrupt: ("interrupted", ExitCode.INTERRUPTED),
    SystemExit: ("terminated", ExitCode.TERMINATED),
}

app = typer.Typer(
    help="Turn embedded episodes into lasting concepts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Store = Annotated[str, typer.Option("--store", help="The concept store: a directory or a URI.", metavar="DIR")]
Version = Annotated[int | None, typer.Option("--version", help="Version to read; by default the current one.")]
Json = Annotated[bool, typer.Option("--json", help="Answer with one line of JSON.")]


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and end the process with one of `cluster_engine.exit_codes.ExitCode`.

    Parameters
    ----------
    args : sequence of str, optional
        By default those of the process.
    """
    try:
        app(args, prog_name="cluster-engine")
    except EXPECTED_ERRORS as error:
        _LOG.debug("where it came from:", exc_info=error)
        typer.echo(f"error: {message_of(error)}", err=True)
        sys.exit(exit_code_of(error))


@app.callback()
def configure_logs(
    *,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log what happens.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything, and the traceback of an error.")] = False,
) -> None:
    """Turn embedded episodes into lasting concepts."""
    is_terminal = sys.stderr.isatty()
    handler = RichHandler(console=Console(stderr=True), show_path=False) if is_terminal else logging.StreamHandler()
    layout = "%(message)s" if is_terminal else "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(format=layout, handlers=[handler], level=logging.WARNING)
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.getLogger("cluster_engine").setLevel(level)
    # That a local Ray asks for a token, which it makes itself, is its default and not news.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


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
    distance: Annotated[float | None, typer.Option(help="Cut the dendrogram at this distance.")] = None,
    groups: Annotated[int | None, typer.Option(help="Cut the dendrogram into so many groups.")] = None,
    min_episodes: Annotated[int | None, typer.Option(help="Episodes that a concept needs.")] = None,
    method: Annotated[str | None, typer.Option(metavar="|".join(METHODS), help="Linkage.")] = None,
    metric: Annotated[str | None, typer.Option(metavar="|".join(METRICS), help="Distance between vectors.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of ids.")] = None,
    vector_column: Annotated[str | None, typer.Option(help="Column of vectors.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    importance_column: Annotated[str | None, typer.Option(help="Column of importances.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of texts.")] = None,
    dimension: Annotated[int | None, typer.Option(help="Dimension that vectors must have.")] = None,
    as_json: Json = False,
) -> None:
    """Turn episodes into concepts and commit them to a store, on a local Ray unless RAY_ADDRESS is set."""
    options = {
        "cut.distance": distance,
        "cut.n_groups": groups,
        "cut.min_episodes": min_episodes,
        "linkage.method": method,
        "linkage.metric": metric,
        "input.id": id_column,
        "input.vector": vector_column,
        "input.time": time_column,
        "input.importance": importance_column,
        "input.text": text_column,
        "input.dimension": dimension,
    }
    settings = override_config(config, options)
    before = current_version(store)
    try:
        with _terminable(), terminal.shown_progress(sys.stderr) as progress:
            report = run_batch(inputs, store, settings, slot=slot, progress=progress)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != signal.SIGTERM:
            raise
        now = current_version(store)
        state = "the store is as it was" if now == before else f"the store is at version {now}"
        word, code = _ENDINGS[type(end)]
        typer.echo(f"{word}: {state}", err=True)
        raise typer.Exit(code) from None
    if as_json:
        _print_json(asdict(report))
        return
    committed = ConceptStore.open(store, version=report.version)
    console = _console()
    console.print(terminal.batch_summary(report, committed.uri))
    console.print(terminal.concept_table(lookup.concept_records(committed, _SUMMARY_CONCEPTS)))


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM leave the block by a SystemExit: from the start, as Ray's own handler does once it is connected."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


@app.command()
def search(
    *,
    store: Store,
    vector_file: Annotated[Path | None, typer.Option(help="File with one vector.", metavar="FILE.npy")] = None,
    query_row: Annotated[
        tuple[str, int] | None, typer.Option(help="File of episodes, and a row of it, from 0.", metavar="FILE ROW")
    ] = None,
    like: Annotated[str | None, typer.Option(help="An episode of the store.", metavar="EPISODE_ID")] = None,
    vector_column: Annotated[str, typer.Option(help="Column of vectors, for --query-row.")] = "vector",
    k: Annotated[int, typer.Option("-k", min=1, help="How many concepts.")] = 10,
    version: Version = None,
    as_json: Json = False,
) -> None:
    """Find the concepts nearest to a vector, by cosine."""
    if [vector_file, query_row, like].count(None) != 2:
        raise ConfigError("give one of --vector-file, --query-row and --like")
    opened = ConceptStore.open(store, version=version)
    vector: NDArray[Any]
    if vector_file is not None:
        vector = lookup.read_vector_file(vector_file)
    elif query_row is not None:
        vector = lookup.read_row_vector(*query_row, vector_column)
    else:
        vector = lookup.episode_vector(opened, str(like))
    found = lookup.nearest_concepts(opened, vector, k)
    if as_json:
        _print_json({"store": opened.uri, "version": opened.version, "concepts": found})
    else:
        _console().print(terminal.concept_table(found))


@app.command()
def show(
    *,
    store: Store,
    concept_id: Annotated[int | None, typer.Argument(metavar="[CONCEPT_ID]", help="One concept.")] = None,
    version: Version = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
    history: Annotated[bool, typer.Option("--history", help="The versions of the store.")] = False,
    dendrogram: Annotated[
        Path | None, typer.Option(help="Draw the hierarchy of the largest concepts.", metavar="FILE.png|svg|pdf")
    ] = None,
    newick: Annotated[
        Path | None, typer.Option(help="Write the tree of all episodes as Newick text.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the concepts of a store, one concept with its episodes, or the store's versions."""
    if [concept_id, history or None, dendrogram or newick].count(None) < 2:
        raise ConfigError("--dendrogram and --newick go with neither CONCEPT_ID nor --history, nor these together")
    opened = ConceptStore.open(store, version=version)
    facts = {"store": opened.uri, "version": opened.version, "slot": opened.slot}
    if history:
        _show_history(opened, facts, as_json=as_json)
    elif concept_id is not None:
        _show_concept(lookup.concept_detail(opened, concept_id, limit), facts, as_json=as_json)
    else:
        if dendrogram is not None:
            facts |= {"dendrogram": str(dendrogram), "n_drawn": _draw(opened, dendrogram)}
        if newick is not None:
            facts |= {"newick": str(newick), "n_leaves": _write_newick(opened, newick)}
        _show_concepts(opened, limit, facts, as_json=as_json)


def _show_history(store: ConceptStore, facts: Record, *, as_json: bool) -> None:
    versions = store.history().to_pylist()
    if as_json:
        _print_json({"store": facts["store"], "versions": versions})
    else:
        _console().print(terminal.history_table(versions))


def _show_concept(concept: Record, facts: Record, *, as_json: bool) -> None:
    if as_json:
        _print_json(facts | {"concept": concept})
        return
    console = _console()
    console.print(terminal.concept_table([concept]))
    for table in terminal.detail_tables(concept):
        console.print()
        console.print(table)


def _show_concepts(store: ConceptStore, limit: int, facts: Record, *, as_json: bool) -> None:
    concepts = lookup.concept_records(store, limit)
    if as_json:
        _print_json(facts | {"n_concepts": store.manifest.file("concepts").n_rows, "concepts": concepts})
        return
    console = _console()
    console.print(terminal.concept_table(concepts))
    n_concepts, n_episodes = (store.manifest.file(name).n_rows for name in ("concepts", "episodes"))
    console.print(f"{len(concepts):,} of {n_concepts:,} concepts, {n_episodes:,} episodes", style="dim")
    if "dendrogram" in facts:
        console.print(f"dendrogram of {facts['n_drawn']:,} concepts: {facts['dendrogram']}", markup=False)
    if "newick" in facts:
        console.print(f"tree of {facts['n_leaves']:,} episodes: {facts['newick']}", markup=False)


def _draw(store: ConceptStore, path: Path) -> int:
    """Draw the hierarchy and return the number of concepts drawn."""
    try:
        from cluster_engine import plot  # noqa: PLC0415  # needs an extra, which this command alone asks for
    except ModuleNotFoundError as missing:
        raise ConfigError(f"drawing needs the plot extra: pip install 'cluster-engine[plot]' ({missing})") from missing
    if path.suffix not in plot.FORMATS:
        raise ConfigError(f"--dendrogram {path}: the name must end with one of {', '.join(plot.FORMATS)}")
    concepts = lookup.concept_records(store)
    if len(concepts) < 2:
        raise InputError(f"a dendrogram needs two concepts, and version {store.version} has {len(concepts)}")
    nodes = [HierarchyNode(**row) for row in store.hierarchy().to_pylist()]
    heading = f"{len(concepts):,} concepts of {store.manifest.file('episodes').n_rows:,} episodes"
    try:
        return plot.draw_hierarchy(path, concepts, nodes, heading)
    except OSError as error:
        raise ConfigError(f"--dendrogram {path}: cannot be written: {error.strerror}") from error


def _write_newick(store: ConceptStore, path: Path) -> int:
    """Write the tree of all episodes and return their number."""
    tree = Dendrogram.from_tables(store.dendrogram(), store.episodes())
    try:
        with path.open("w", encoding="utf-8") as file:
            tree.to_newick(file)
    except OSError as error:
        raise ConfigError(f"--newick {path}: cannot be written: {error.strerror}") from error
    return tree.n


@app.command()
def doctor(*, as_json: Json = False) -> None:
    """Say what this machine offers, and what would keep the engine from using it."""
    checks = list(examine())
    is_broken = any(check.status == "broken" for check in checks)
    if as_json:
        _print_json({"ok": not is_broken, "checks": [asdict(check) for check in checks]})
    else:
        _console().print(terminal.check_table(checks))
    raise typer.Exit(ExitCode.UNEXPECTED if is_broken else ExitCode.OK)


@app.command()
def serve(
    *,
    store: Store,
    namespace: Annotated[str, typer.Option(help="Name of the service, by which others find it.")] = "default",
    host: Annotated[str, typer.Option(help="Address to listen on; other than loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that requests must carry.", metavar="FILE")
    ] = None,
) -> None:
    """Serve a store's concepts and bindings over HTTP, until Ctrl-C or SIGTERM."""
    try:
        from cluster_engine.serving import server  # noqa: PLC0415  # needs an extra, which this command alone asks for
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"serving needs the serve extra: pip install 'cluster-engine[serve]' ({missing})"
        ) from missing
    stdout = sys.stdout
    with redirect_stdout(sys.stderr):  # where Ray's last words go, too
        server.serve_store(
            store,
            namespace,
            host,
            port,
            server.read_digest(token_file),
            ready=lambda facts: typer.echo(terminal.json_line(facts), file=stdout),
        )


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"cluster-engine {metadata.version('cluster-engine')}")


def _print_json(record: Record) -> None:
    typer.echo(terminal.json_line(record))


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)


if __name__ == "__main__":
    main()
