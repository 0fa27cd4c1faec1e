"""The command that runs batches when they come due."""

from __future__ import annotations

import logging
import re
import signal
import sys
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from cluster_engine.cli.app import Json, Store, app, parse_options, print_json
from cluster_engine.cli.jobs import Python, WorkingDir  # noqa: TC001  # Typer reads the annotations
from cluster_engine.errors import ConfigError
from cluster_engine.exit_codes import ExitCode
from cluster_engine.scheduling.cron import Schedule, parse_schedule
from cluster_engine.scheduling.history import StoreHistory
from cluster_engine.scheduling.policy import CatchUp, Policy, owed_slot
from cluster_engine.scheduling.process import BatchProcess, stopped_by_signals
from cluster_engine.scheduling.retries import Retries
from cluster_engine.scheduling.scheduler import Scheduler, SystemClock
from cluster_engine.scheduling.slots import slot_name
from cluster_engine.submission import check_store, check_working_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOG = logging.getLogger(__name__)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PROBE = "2026-11-22T02:00Z"  # any slot: options are read once before a batch is due


def parse_duration(text: str) -> timedelta:
    """Return the time span that ``"90m"``, ``"6h"`` or ``"1d12h"`` says.

    Raises
    ------
    ValueError
        It says none.
    """
    if not re.fullmatch(r"([0-9]{1,6}[smhd])+", text):
        raise ValueError(f"{text!r} is no time span, as 90m, 6h or 1d12h")
    return sum((timedelta(**{_UNITS[part[-1]]: int(part[:-1])}) for part in re.findall(r"[0-9]+.", text)), timedelta())


@app.command()
def schedule(
    *,
    cron: Annotated[
        str, typer.Option(metavar="EXPRESSION", help="When batches come due: minute, hour, day, month, day of week.")
    ],
    store: Store,
    inputs: Annotated[
        list[str], typer.Option("--input", metavar="PATH", help="File, directory, glob or URI of episodes; repeatable.")
    ],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="-- OPTIONS", help="Other options of consolidate.", show_default=False)
    ] = None,
    time_zone: Annotated[str, typer.Option("--timezone", help="Whose clocks the expression means.")] = "UTC",
    catch_up: Annotated[CatchUp, typer.Option(help="What becomes of slots that were missed.")] = CatchUp.LATEST,
    max_lateness: Annotated[
        timedelta | None,
        typer.Option(parser=parse_duration, metavar="SPAN", help="A slot is not started later than that, as 6h."),
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a batch that failed is tried again.")] = 3,
    retry_delay: Annotated[
        timedelta,
        typer.Option(parser=parse_duration, metavar="SPAN", help="Before the first retry; doubles each time."),
    ] = "30s",  # type: ignore[assignment]  # Typer parses it
    once: Annotated[bool, typer.Option("--once", help="Run what is due, and end.")] = False,
    dry_run: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Run nothing: print what is owed, and the next N slots.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A cluster's dashboard, to run batches as its jobs; else this machine does."),
    ] = None,
    working_dir: WorkingDir = None,
    python: Python = "python",
    as_json: Json = False,
) -> None:
    """Run a batch whenever one comes due, each slot once, until Ctrl-C or SIGTERM."""
    timetable = parse_schedule(cron, time_zone)
    policy = Policy(catch_up, max_lateness)
    if once and catch_up is CatchUp.NONE:
        raise ConfigError("--once with --catch-up none would never run anything: what is due then was always missed")
    batch = [*(word for path in inputs for word in ("--input", path)), "--store", store, *(options or [])]
    _check_batch(batch, store, on_cluster=address is not None)
    check_working_dir(working_dir)
    if dry_run is not None:
        _print_slots(timetable, policy, StoreHistory(store), dry_run, as_json=as_json)
        return
    if address is None:
        prefix = ["--verbose", "consolidate", "--json"]
    else:
        prefix = ["--verbose", "submit", "--wait", "--json", "--address", address, "--python", python]
        prefix += [*([] if working_dir is None else ["--working-dir", working_dir]), "--"]
    with stopped_by_signals() as stop:
        scheduler = Scheduler(
            timetable,
            policy,
            Retries(retries, retry_delay),
            StoreHistory(store),
            BatchProcess(_command([*prefix, *batch]), stop),
            SystemClock(stop),
        )
        code = scheduler.run_due() if once else scheduler.run_forever()
    was_interrupted = code == ExitCode.TERMINATED and stop.number == signal.SIGINT
    raise typer.Exit(ExitCode.INTERRUPTED if was_interrupted else code)


def _command(words: Sequence[str]) -> Callable[[str], list[str]]:
    return lambda slot: [sys.executable, "-m", "cluster_engine.cli", *words, "--slot", slot]


def _check_batch(batch: Sequence[str], store: str, *, on_cluster: bool) -> None:
    """Read the options of the batches now, rather than when the first is due.

    Raises
    ------
    ConfigError
        They say what the scheduler itself does, or a cluster could not reach the store.
    """
    values = parse_options("consolidate", [*batch, "--slot", _PROBE])
    if values["store"] != store or any(word.partition("=")[0] == "--slot" for word in batch):
        raise ConfigError("--store and --slot are not among the other options: the scheduler gives each batch its slot")
    if on_cluster:
        check_store(store)


def _print_slots(timetable: Schedule, policy: Policy, history: StoreHistory, n: int, *, as_json: bool) -> None:
    now = datetime.now(timezone.utc)
    owed = owed_slot(timetable, policy, newest=history.newest(), started=now, now=now).slot
    if owed is not None and history.has(slot_name(owed)):
        owed = None
    coming = list(islice(timetable.after(now), n))
    if as_json:
        print_json({"owed": owed and slot_name(owed), "slots": [slot_name(due) for due in coming]})
        return
    for due, note in [*([] if owed is None else [(owed, "  owed now")]), *((due, "") for due in coming)]:
        typer.echo(f"{slot_name(due)}  {due.astimezone(timetable.zone):%a %Y-%m-%d %H:%M %Z}{note}")
