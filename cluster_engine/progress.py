"""What long work says about itself: the phase, the share done, the time left, the memory in use.

Owns the measurement; how it is shown (a bar, a JSON line) is the caller's business.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Progress:
    """One report from a running phase.

    Attributes
    ----------
    phase : str
        "read", "pairwise" (to a matrix) or "neighbours" (without), "linkage", "concepts" or "commit".
    done, total : int
        Units of work (rows, tiles, merges) finished and planned.
    elapsed_s, remaining_s : float
        Seconds spent in this phase, and expected to be left at its rate so far (NaN before the first unit).
    memory_bytes : int
        Resident memory of this process.
    """

    phase: str
    done: int
    total: int
    elapsed_s: float
    remaining_s: float
    memory_bytes: int


Reporter = Callable[[Progress], None]
_PUBLISH_INTERVAL_S = 0.5


@dataclass(slots=True)
class Published:
    """A reporter that also lets other processes see what it is told, twice a second at most.

    Attributes
    ----------
    publish : callable
        Called with what a report says, and who and when.
    slot : str or None
    reporter : callable or None
        Told of every report, too.
    """

    publish: Callable[[dict[str, Any]], None]
    slot: str | None
    reporter: Reporter | None = None
    _phase: str = ""
    _published_s: float = 0.0

    def __call__(self, report: Progress) -> None:
        """Pass a report on."""
        if self.reporter is not None:
            self.reporter(report)
        now_s = time.monotonic()
        if report.phase == self._phase and now_s - self._published_s < _PUBLISH_INTERVAL_S:
            return
        self._phase, self._published_s = report.phase, now_s
        who = {"pid": os.getpid(), "host": socket.gethostname(), "slot": self.slot}
        record = who | asdict(report) | {"updated": datetime.now(timezone.utc).isoformat()}
        record["remaining_s"] = None if math.isnan(report.remaining_s) else report.remaining_s
        self.publish(record)


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES


def peak_bytes() -> int:
    """Return the highest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")  # not ru_maxrss, which a child has from its parent
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@dataclass(frozen=True, slots=True)
class Spent:
    """What a phase took.

    Attributes
    ----------
    seconds : float
        Wall time.
    peak_bytes : int
        Highest resident memory of the process from its start to the end of the phase.
    """

    seconds: float
    peak_bytes: int


@contextmanager
def measured(phase: str, spent: dict[str, Spent]) -> Iterator[None]:
    """Add what a block takes to ``spent``, by the name of the phase."""
    start_s = time.perf_counter()
    yield
    before_s = spent[phase].seconds if phase in spent else 0.0
    spent[phase] = Spent(before_s + time.perf_counter() - start_s, peak_bytes())


@dataclass(slots=True)
class Phase:
    """A phase of ``total`` units that tells `reporter` (if any) how far it is."""

    name: str
    total: int
    reporter: Reporter | None = None
    done: int = 0
    _start_s: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.advance(0)

    def advance(self, units: int) -> None:
        """Add finished units and report."""
        self.advance_to(self.done + units, self.total)

    def advance_to(self, done: int, total: int | None) -> None:
        """Set the finished and, where it is known, the planned units, and report."""
        self.done, self.total = done, total if total is not None else max(self.total, done)
        if self.reporter is None:
            return
        elapsed_s = time.perf_counter() - self._start_s
        remaining_s = elapsed_s / self.done * (self.total - self.done) if self.done else float("nan")
        self.reporter(Progress(self.name, self.done, self.total, elapsed_s, remaining_s, resident_bytes()))
