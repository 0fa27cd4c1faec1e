"""Which slot a store is owed: what came due since its newest slot, less what the policy lets go.

Pure: a function of the schedule, the store's newest slot and the time. So it survives any restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster_engine.scheduling.cron import Schedule

_INSTANT = timedelta(microseconds=1)  # `Schedule.after` leaves its start out


class CatchUp(str, Enum):
    """What becomes of slots that came due while no scheduler ran, or while a batch ran or failed.

    Example: nightly slots, the newest in the store is of Monday, and it is Thursday noon.
    """

    ALL = "all"
    """Each is run, oldest first: Tuesday, Wednesday, Thursday. One that fails keeps the others waiting."""

    LATEST = "latest"
    """The newest makes up for the others: Thursday."""

    NONE = "none"
    """Only what comes due while a scheduler runs: nothing before Friday, if it was started on Thursday noon."""


@dataclass(frozen=True)
class Policy:
    """What is run late.

    Attributes
    ----------
    catch_up : CatchUp
    max_lateness : timedelta or None
        A slot that came due longer ago is not started any more.
    """

    catch_up: CatchUp
    max_lateness: timedelta | None = None


@dataclass(frozen=True)
class Skipped:
    """Slots that came due and will not be run: the first, the last, and why. There may be others between."""

    first: datetime
    last: datetime
    reason: str


@dataclass(frozen=True)
class Owed:
    """The slot to run now, if there is one, and those that are let go before it."""

    slot: datetime | None = None
    skipped: Skipped | None = None


def owed_slot(schedule: Schedule, policy: Policy, *, newest: datetime | None, started: datetime, now: datetime) -> Owed:
    """Return the slot to run next.

    Parameters
    ----------
    schedule : Schedule
    policy : Policy
    newest : datetime or None
        When the newest slot of the store came due; None for a store without one, which is owed the newest slot alone.
    started : datetime
        When the scheduler was started.
    now : datetime

    Returns
    -------
    Owed
        Its slot is later than ``newest`` and not later than ``now``; so a clock that is set back repeats none.
    """
    if policy.catch_up is CatchUp.NONE:
        since, reason = _later(newest, started), "no scheduler ran"
    elif policy.catch_up is CatchUp.ALL and newest is not None:
        since, reason = newest, ""
    elif (latest := schedule.latest(now)) is not None:
        since, reason = _later(newest, latest - _INSTANT), "a later one makes up for it"
    else:
        return Owed()
    begin = since if newest is None else newest
    if policy.max_lateness is not None and (oldest := now - policy.max_lateness - _INSTANT) > since:
        since, reason = oldest, f"more than {policy.max_lateness} late"
    due = schedule.next_after(since)
    return Owed(due if due <= now else None, _skipped(schedule, begin, min(since, now), reason))


def _later(newest: datetime | None, other: datetime) -> datetime:
    return other if newest is None else max(newest, other)


def _skipped(schedule: Schedule, begin: datetime, end: datetime, reason: str) -> Skipped | None:
    """Return the slots after ``begin`` up to ``end``, if there are any."""
    first, last = schedule.next_after(begin), schedule.latest(end)
    return Skipped(first, last, reason) if last is not None and first <= last else None
