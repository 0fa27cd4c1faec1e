"""The loop: wait until a slot comes due, run its batch, try again within bounds, and start over from the store.

Keeps no state that a restart would miss: what was done is in the store's history, what is due follows from the clock.
Every decision is made anew from both, so neither a crash nor a clock that jumps loses a slot or runs one twice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Protocol

from cluster_engine.errors import StoreError
from cluster_engine.exit_codes import ExitCode
from cluster_engine.scheduling.policy import owed_slot
from cluster_engine.scheduling.slots import slot_name

if TYPE_CHECKING:
    from cluster_engine.scheduling.cron import Schedule
    from cluster_engine.scheduling.policy import Policy
    from cluster_engine.scheduling.process import Stop
    from cluster_engine.scheduling.retries import Retries

_LOG = logging.getLogger(__name__)
_NAP = timedelta(seconds=30)  # the clock is read that often: it may be set, or the machine sleep, while nobody looks


class Clock(Protocol):
    """The time of day, and the waiting, which can be ended from outside."""

    def now(self) -> datetime:
        """Return the time of day, aware."""
        ...

    def wait(self, duration: timedelta) -> bool:
        """Wait, and return whether the end was asked for, which ends any waiting at once."""
        ...


class History(Protocol):
    """The slots that were committed; see `StoreHistory`."""

    def newest(self) -> datetime | None:
        """Return when the newest one came due."""
        ...

    def has(self, slot: str) -> bool:
        """Return whether there is a slot of that name."""
        ...


class Batches(Protocol):
    """What runs a batch; see `BatchProcess`."""

    def run(self, slot: str) -> int:
        """Run the batch of a slot and return its exit code; cut it short when the end is asked for."""
        ...


@dataclass(frozen=True)
class SystemClock:
    """The clock of this machine.

    Attributes
    ----------
    stop : Stop
        What ends the waiting.
    """

    stop: Stop

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(timezone.utc)

    def wait(self, duration: timedelta) -> bool:
        """Wait by a clock that nobody sets."""
        return self.stop.wait(duration.total_seconds())


@dataclass
class Scheduler:
    """Runs the batches of a schedule against one store.

    Attributes
    ----------
    schedule, policy, retries
        What is due, what of it is run late, and how often it is tried.
    history : History
    batches : Batches
    clock : Clock
    started : datetime
        When this scheduler was started; set back if the clock is.
    done : datetime or None
        The newest slot whose batch ended well here.
    """

    schedule: Schedule
    policy: Policy
    retries: Retries
    history: History
    batches: Batches
    clock: Clock
    started: datetime = field(init=False)
    done: datetime | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.started = self.clock.now()

    def run_due(self) -> int:
        """Run what is due now, and return 0 or the exit code of the batch that failed.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        begun = self.clock.now()
        while (slot := self._owed(self.clock.now())) is not None and slot <= begun:
            code = self._run(slot)
            if code or self._is_ending():
                return code
        return ExitCode.OK

    def run_forever(self) -> int:
        """Run what is due and what comes due, until the end is asked for.

        Returns
        -------
        int
            The exit code of the batch that was cut short, or 0 if none was.

        Raises
        ------
        StoreError
            The store cannot be read at the start. Later on this is tried again, at the latest for the next slot.
        """
        self.history.newest()
        while True:
            now = self.clock.now()
            try:
                slot = self._owed(now)
            except StoreError as error:
                _LOG.error("the store cannot be read until the next slot comes due: %s", error)
                slot = None
            code = ExitCode.OK if slot is None else self._run(slot)
            if self._is_ending():
                return code
            if (slot is None or code) and self._wait_for_next(now):
                return ExitCode.OK

    def _is_ending(self) -> bool:
        return self.clock.wait(timedelta())

    def _owed(self, now: datetime) -> datetime | None:
        """Return the slot that is owed, patient with a store that cannot be read."""
        n_failures = 0
        while True:
            try:
                return self._read_owed(now)
            except StoreError as error:
                n_failures += 1
                delay = self.retries.wait_after(ExitCode.STORE, n_failures)
                if delay is None:
                    raise
                _LOG.warning("the store cannot be read; another try in %s: %s", delay, error)
            if self.clock.wait(delay):
                return None

    def _read_owed(self, now: datetime) -> datetime | None:
        """Return the slot that is owed, and say which are let go."""
        newest = self.history.newest()
        if self.done is not None:
            newest = self.done if newest is None else max(newest, self.done)
        while True:
            owed = owed_slot(self.schedule, self.policy, newest=newest, started=self.started, now=now)
            if owed.slot is None or not self.history.has(slot_name(owed.slot)):
                break
            newest = owed.slot  # committed by a version that is gone
        if newest is not None and newest > now:
            _LOG.warning("the clock says %s, but slot %s was run already", now.isoformat(), slot_name(newest))
        if (skipped := owed.skipped) is not None:
            first, last = slot_name(skipped.first), slot_name(skipped.last)
            _LOG.warning("skipped slots=%s reason=%s", first if first == last else f"{first}..{last}", skipped.reason)
        return owed.slot

    def _run(self, slot: datetime) -> int:
        """Run one batch until it ends well or there is no other try, and return its last exit code."""
        name, n_failures = slot_name(slot), 0
        while True:
            _LOG.info("run slot=%s try=%d", name, n_failures + 1)
            code = self.batches.run(name)
            if code == ExitCode.OK:
                self._finish(slot, name)
                return code
            if self._is_ending():
                _LOG.warning("cut short slot=%s code=%d; it stays owed", name, code)
                return code
            n_failures += 1
            delay = self.retries.wait_after(code, n_failures)
            if delay is None or self._is_late(slot, delay):
                _LOG.error("failed slot=%s code=%d tries=%d; it stays owed", name, code, n_failures)
                return code
            _LOG.warning("failed slot=%s code=%d; another try in %s", name, code, delay)
            if self.clock.wait(delay):
                return code

    def _finish(self, slot: datetime, name: str) -> None:
        self.done = slot
        try:
            is_committed = self.history.has(name)
        except StoreError as error:
            _LOG.warning("the store cannot be read after slot=%s: %s", name, error)
            return
        if is_committed:
            _LOG.info("done slot=%s", name)
        else:
            _LOG.warning("slot=%s ended well but is not in the store", name)

    def _is_late(self, slot: datetime, delay: timedelta) -> bool:
        lateness = self.policy.max_lateness
        return lateness is not None and self.clock.now() + delay - slot > lateness

    def _wait_for_next(self, since: datetime) -> bool:
        """Wait until a slot after ``since`` comes due, and return whether the end was asked for."""
        due, seen = self.schedule.next_after(since), since
        while (now := self.clock.now()) < due:
            if now < seen:
                _LOG.warning("the clock was set back by %s", seen - now)
                due = self.schedule.next_after(now)
                self.started = min(self.started, now)
            seen = now
            if self.clock.wait(min(due - now, _NAP)):
                return True
        return False
