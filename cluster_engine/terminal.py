"""How the command line looks: tables for people, bars on a terminal, JSON lines for machines.

Owns the rendering. Refuses to know where the records come from.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from cluster_engine.lookup import title

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.progress import TaskID

    from cluster_engine import progress
    from cluster_engine.batch import BatchReport
    from cluster_engine.doctor import Check
    from cluster_engine.lookup import Record
    from cluster_engine.submission import Job

JSON_INTERVAL_S = 5.0
_MIB = 1 << 20


def json_line(record: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return a record as one line of JSON: times in ISO 8601, NaN as null."""
    return json.dumps(_plain(record), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: ANN401  # what a JSON document may hold
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def shorten(text: str, width: int) -> str:
    """Return the text on one line of at most `width` characters, without control characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


@contextmanager
def shown_progress(stream: TextIO) -> Iterator[progress.Reporter]:
    """Give a reporter that draws bars on a terminal, and writes JSON lines anywhere else."""
    if not stream.isatty():
        yield _JsonLines(stream)
        return
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=40),
        TaskProgressColumn(),
        TextColumn("{task.fields[time]:>12}", style="cyan"),
        TextColumn("{task.fields[memory]}", style="dim"),
    )
    with Progress(*columns, console=Console(file=stream)) as bars:
        yield _Bars(bars, {})


@dataclass(slots=True)
class _JsonLines:
    """Writes one line when a phase begins, one when it ends, and one every few seconds between."""

    stream: TextIO
    phase: str = ""
    written_s: float = 0.0

    def __call__(self, report: progress.Progress) -> None:
        is_new = report.phase != self.phase
        is_last = report.done == report.total > 0
        if not (is_new or is_last or report.elapsed_s - self.written_s >= JSON_INTERVAL_S):
            return
        self.phase, self.written_s = report.phase, report.elapsed_s
        fields = {
            "phase": report.phase,
            "done": report.done,
            "total": report.total,
            "elapsed_s": round(report.elapsed_s, 3),
            "remaining_s": round(report.remaining_s, 3),
            "memory_bytes": report.memory_bytes,
        }
        print(json_line(fields), file=self.stream, flush=True)


@dataclass(slots=True)
class _Bars:
    """One bar a phase; the time is what is left while it runs, and what it took when it is done."""

    bars: Progress
    tasks: dict[str, TaskID]

    def __call__(self, report: progress.Progress) -> None:
        if report.phase not in self.tasks:
            self.tasks[report.phase] = self.bars.add_task(report.phase, total=None, time="", memory="")
        is_done = report.done == report.total > 0
        time = f"{report.elapsed_s:.1f} s" if is_done else f"{_seconds(report.remaining_s)} left"
        self.bars.update(
            self.tasks[report.phase],
            completed=report.done,
            total=report.total or None,
            time=time,
            memory=f"{report.memory_bytes / _MIB:,.0f} MiB",
        )


def _seconds(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def batch_summary(report: BatchReport, uri: str) -> Text:
    """Return what a batch did, in a few lines."""
    if report.repeated:
        return Text(f"slot {report.slot!r} was committed before, as version {report.version}; nothing was changed\n")
    refused = f"{report.n_quarantined:,} rows were refused: the quarantine table says why\n"
    result = f"version {report.version} of {uri}" if report.version else "a dry run, nothing was committed"
    changes = ", ".join(f"{count:,} {kind}" for kind, count in report.changes.items()) or "no concept changed"
    way = "all clustered from scratch" if report.is_rebuild else "folded into the concepts there were"
    return Text.assemble(
        f"{report.n_episodes:,} episodes ({report.n_new_episodes:,} new), {way}, give {report.n_concepts:,} concepts "
        f"with {report.n_bindings:,} bindings, cut at distance {report.cut_distance:.3f}: {result}\n{changes}\n",
        (", ".join(f"{phase} {spent.seconds:.2f} s" for phase, spent in report.spent.items()) + "\n", "dim"),
        (refused if report.n_quarantined else "", "yellow"),
    )


def concept_table(concepts: Sequence[Record]) -> Table:
    """Return concepts as a table: id, size, coherence, time span, and what they are about."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    is_ranked = any("similarity" in concept for concept in concepts)
    if is_ranked:
        table.add_column("similarity", justify="right")
    table.add_column("concept", justify="right", style="dim", no_wrap=True)
    table.add_column("episodes", justify="right")
    table.add_column("coherence", justify="right")
    table.add_column("from", no_wrap=True)
    table.add_column("to", no_wrap=True)
    table.add_column("about", ratio=1, no_wrap=True, overflow="ellipsis")
    for concept in concepts:
        similarity = [f"{concept['similarity']:.3f}"] if is_ranked else []
        table.add_row(
            *similarity,
            str(concept["concept_id"]),
            f"{concept['n_episodes']:,}",
            f"{concept['coherence']:.2f}",
            day(concept["first_time"]),
            day(concept["last_time"]),
            Text(_about(concept)),
        )
    return table


def _about(concept: Record) -> str:
    """Return the label, if there is one, and the exemplars' texts, each once."""
    label = " ".join(concept.get("label") or ())
    texts = [text for text in concept.get("exemplar_texts") or [] if text] or [title(concept)]
    distinct: dict[str, str] = {}
    for line in (shorten(text, 70) for text in texts):
        distinct.setdefault(line.casefold().rstrip("."), line)
    return " · ".join([label, *distinct.values()] if label else distinct.values())


def day(time: datetime | None) -> str:
    """Return the day of a time, or a dash."""
    return "-" if time is None else time.date().isoformat()


def detail_tables(concept: Record) -> Iterator[Table]:
    """Yield a concept's strongest episodes, and the branches it joins further up."""
    bindings = Table(
        title="strongest episodes", title_justify="left", box=None, pad_edge=False, header_style="bold", expand=True
    )
    for name in ("strength", "day", "episode"):
        bindings.add_column(name, no_wrap=True, justify="right" if name == "strength" else "left")
    bindings.add_column("text", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in concept["bindings"]:
        bindings.add_row(
            f"{row['strength']:.3f}",
            day(row["time"]),
            Text(shorten(str(row["episode_id"]), 40)),
            Text(shorten(row.get("text") or "", 200)),
        )
    yield bindings
    ancestors = Table(
        title="further up it joins", title_justify="left", box=None, pad_edge=False, header_style="bold", expand=True
    )
    ancestors.add_column("distance", justify="right")
    ancestors.add_column("episodes then", justify="right")
    ancestors.add_column("branch of", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in concept["ancestors"]:
        ancestors.add_row(f"{row['distance']:.3f}", f"{row['n_episodes']:,}", Text(shorten(row["joined_title"], 100)))
    yield ancestors


def history_table(versions: Iterable[Record]) -> Table:
    """Return the versions of a store as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("version", "slot", "episodes", "concepts", "bindings", "quarantined", "MiB", "content sha256"):
        table.add_column(name, justify="left" if name in {"slot", "content sha256"} else "right", no_wrap=True)
    for row in versions:
        counts = [f"{row[name]:,}" for name in ("n_episodes", "n_concepts", "n_bindings", "n_quarantined")]
        table.add_row(
            str(row["version"]),
            Text(shorten(row["slot"] or "-", 40)),
            *counts,
            f"{row['n_bytes'] / _MIB:,.1f}",
            row["content_sha256"][:12],
        )
    return table


def check_table(checks: Iterable[Check]) -> Table:
    """Return a diagnosis as a table."""
    marks = {"ok": Text("ok", style="green"), "warning": Text("warning", style="yellow")}
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        table.add_row(marks.get(check.status, Text("BROKEN", style="bold red")), check.subject, Text(check.detail))
    return table


def job_table(jobs: Iterable[Job]) -> Table:
    """Return the jobs of a cluster as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "status", "code", "slot", "store", "started", "ended"):
        table.add_column(name, no_wrap=True, justify="right" if name == "code" else "left")
    for job in jobs:
        table.add_row(
            Text(job.submission_id),
            job.status,
            "-" if job.exit_code is None else str(int(job.exit_code)),
            Text(shorten(job.slot or "-", 40)),
            Text(shorten(job.store or "-", 60)),
            *("-" if time is None else f"{time:%Y-%m-%d %H:%M:%S}Z" for time in (job.started, job.ended)),
        )
    return table
