"""Commands that watch a batch at work."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live

from cluster_engine import monitor
from cluster_engine.cli.app import Json, Store, app, make_console, print_json
from cluster_engine.store.catalog import read_history
from cluster_engine.store.location import locate
from cluster_engine.store.work import read_status

if TYPE_CHECKING:
    from cluster_engine.lookup import Record

_N_COMMITS = 8


@app.command()
def top(
    *,
    store: Store,
    once: Annotated[bool, typer.Option("--once", help="One picture, then end; so also where no terminal is.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two pictures.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Watch the batch that runs on a store: phase, share done, time left, memory. Ctrl-C ends the watching."""
    if as_json:
        print_json({"store": store, **monitor.facts(*_look(store))})
        return
    console = make_console()
    if once or not sys.stdout.isatty():
        console.print(monitor.frame(*_look(store)))
        return
    with Live(console=console, auto_refresh=False, screen=True) as live:
        monitor.watch(
            lambda: monitor.frame(*_look(store)),
            lambda picture: live.update(picture, refresh=True),
            lambda: time.sleep(interval),
        )


def _look(store: str) -> tuple[monitor.Running | None, list[Record]]:
    status = read_status(store)
    running = None if status is None else monitor.read_running(status, datetime.now(timezone.utc))
    return running, read_history(locate(store)).to_pylist()[-_N_COMMITS:]
