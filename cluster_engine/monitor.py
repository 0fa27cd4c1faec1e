"""What `top` shows: the batch that runs on a store as it says itself, and the last commits.

Owns the reading of a status and its rendering. Refuses to know who publishes it.
"""

from __future__ import annotations

import math
import socket
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import psutil
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster_engine.terminal import history_table, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cluster_engine.lookup import Record

QUIET_S = 60.0
"""Seconds without a word after which a batch of another host may be dead; chosen: twelve times what progress takes."""
_MIB = 1 << 20
_BAR_COLUMNS = 40


@dataclass(frozen=True, slots=True)
class Running:
    """A batch at work.

    Attributes
    ----------
    pid : int
    host : str
    slot : str or None
    phase : str
    done, total : int
        Units of work of the phase.
    elapsed_s, remaining_s : float or None
        Seconds spent in the phase, and expected to be left; None where that is not known yet.
    memory_bytes : int
        Resident memory of its driver.
    n_actors : int or None
        Shard actors at work; None where it does not say.
    quiet_s : float
        Seconds since it last said something.
    is_gone : bool
        Its process is not there any more: it was killed, and what it says is its last word.
    """

    pid: int
    host: str
    slot: str | None
    phase: str
    done: int
    total: int
    elapsed_s: float | None
    remaining_s: float | None
    memory_bytes: int
    n_actors: int | None
    quiet_s: float
    is_gone: bool


def read_running(status: Record, now: datetime) -> Running:
    """Return a batch from the status that it published.

    Parameters
    ----------
    status : Record
        As `cluster_engine.store.work.read_status` returns it.
    now : datetime
        With a time zone.
    """
    updated = datetime.fromisoformat(status["updated"])
    return Running(
        pid=status["pid"],
        host=status["host"],
        slot=status.get("slot"),
        phase=status["phase"],
        done=status["done"],
        total=status["total"],
        elapsed_s=_number(status.get("elapsed_s")),
        remaining_s=_number(status.get("remaining_s")),
        memory_bytes=status["memory_bytes"],
        n_actors=status.get("n_actors"),
        quiet_s=max(0.0, (now - updated.replace(tzinfo=updated.tzinfo or timezone.utc)).total_seconds()),
        is_gone=status["host"] == socket.gethostname() and not psutil.pid_exists(status["pid"]),
    )


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def frame(running: Running | None, versions: Sequence[Record]) -> Group:
    """Return one picture: the batch at work, if any, above the last commits."""
    head = Text("nothing runs on this store\n", style="dim") if running is None else _picture(running)
    commits = history_table(versions) if versions else Text("nothing was committed yet", style="dim")
    return Group(head, commits)


def _picture(running: Running) -> Group:
    share = running.done / running.total if running.total else 0.0
    of = f"{running.done:,} of {running.total:,}" if running.total else f"{running.done:,}"
    lines = Table.grid(padding=(0, 2))
    lines.add_row(
        "batch", Text(f"{shorten(running.slot or 'without a slot', 60)} (process {running.pid} on {running.host})")
    )
    lines.add_row("phase", Text.assemble((running.phase, "bold cyan"), f"  {of}"))
    if running.total:
        bar = Table.grid(padding=(0, 2))
        bar.add_row(ProgressBar(total=1.0, completed=share, width=_BAR_COLUMNS), f"{share:.0%}")
        lines.add_row("done", bar)
    lines.add_row("time", f"{_span(running.elapsed_s)} so far, {_span(running.remaining_s)} left in this phase")
    lines.add_row("memory", f"{running.memory_bytes / _MIB:,.0f} MiB")
    if running.n_actors is not None:
        lines.add_row("actors", f"{running.n_actors:,}")
    if running.is_gone:
        lines.add_row("state", Text("it ended without a word: its process is gone", style="bold red"))
    elif running.quiet_s > QUIET_S:
        lines.add_row("state", Text(f"it has said nothing for {_span(running.quiet_s)}", style="yellow"))
    return Group(lines, Text())


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def facts(running: Running | None, versions: Sequence[Record]) -> Record:
    """Return one picture as a record."""
    return {"running": None if running is None else asdict(running), "versions": list(versions)}


def watch(look: Callable[[], Group], show: Callable[[Group], object], wait: Callable[[], object]) -> None:
    """Show one picture after another, until somebody interrupts."""
    try:
        while True:
            show(look())
            wait()
    except KeyboardInterrupt:
        return
