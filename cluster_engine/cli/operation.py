"""Commands about this machine, this package, and a store that is served."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib import metadata
from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import Annotated

import typer

from cluster_engine import terminal
from cluster_engine.cli.app import Json, Store, app, make_console, print_json
from cluster_engine.doctor import examine
from cluster_engine.errors import ConfigError
from cluster_engine.exit_codes import ExitCode


@app.command()
def doctor(*, as_json: Json = False) -> None:
    """Say what this machine offers, and what would keep the engine from using it."""
    checks = list(examine())
    is_broken = any(check.status == "broken" for check in checks)
    if as_json:
        print_json({"ok": not is_broken, "checks": [asdict(check) for check in checks]})
    else:
        make_console().print(terminal.check_table(checks))
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
    memory_limit_bytes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="What bindings and centroids of an actor may take in memory; the rest lies on disk.",
            metavar="N",
        ),
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
            memory_limit_bytes=memory_limit_bytes,
            ready=lambda facts: typer.echo(terminal.json_line(facts), file=stdout),
        )


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"cluster-engine {metadata.version('cluster-engine')}")
