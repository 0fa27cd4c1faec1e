"""What is owed, what is let go, and what is tried again."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.cli.schedule import parse_duration
from cluster_engine.exit_codes import ExitCode
from cluster_engine.scheduling.cron import Schedule
from cluster_engine.scheduling.policy import CatchUp, Policy, owed_slot
from cluster_engine.scheduling.retries import Retries

if TYPE_CHECKING:
    from cluster_engine.scheduling.policy import Owed

NIGHTLY = Schedule("0 2 * * *", ZoneInfo("UTC"))
HOURLY = Schedule("0 * * * *", ZoneInfo("UTC"))
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def may(day: int, hour: int = 2, minute: int = 0) -> datetime:
    return datetime(2026, 5, day, hour, minute, tzinfo=timezone.utc)


def owed(
    catch_up: CatchUp,
    newest: datetime | None,
    now: datetime,
    *,
    started: datetime | None = None,
    max_lateness: timedelta | None = None,
    schedule: Schedule = NIGHTLY,
) -> Owed:
    policy = Policy(catch_up, max_lateness)
    return owed_slot(schedule, policy, newest=newest, started=started or now, now=now)


class TestOwed:
    @pytest.mark.parametrize("catch_up", [CatchUp.ALL, CatchUp.LATEST])
    def test_a_new_store_is_owed_the_newest_slot_alone(self, catch_up: CatchUp) -> None:
        answer = owed(catch_up, None, may(5, 12))
        assert (answer.slot, answer.skipped) == (may(5), None)

    def test_all_takes_the_oldest_first(self) -> None:
        answer = owed(CatchUp.ALL, may(1), may(5, 12))
        assert (answer.slot, answer.skipped) == (may(2), None)

    def test_latest_lets_the_older_go(self) -> None:
        answer = owed(CatchUp.LATEST, may(1), may(5, 12))
        assert answer.slot == may(5)
        assert answer.skipped is not None
        assert (answer.skipped.first, answer.skipped.last) == (may(2), may(4))
        assert "later" in answer.skipped.reason

    def test_none_takes_only_what_came_due_since_the_start(self) -> None:
        answer = owed(CatchUp.NONE, may(1), may(5, 12), started=may(3, 12))
        assert answer.slot == may(4)
        assert answer.skipped is not None
        assert (answer.skipped.first, answer.skipped.last) == (may(2), may(3))
        assert owed(CatchUp.NONE, None, may(5, 12), started=may(5, 3)).slot is None

    @pytest.mark.parametrize("catch_up", list(CatchUp))
    def test_nothing_is_owed_before_the_moment_and_the_slot_from_it_on(self, catch_up: CatchUp) -> None:
        started = may(4, 12)
        assert owed(catch_up, may(4), may(5, 1, 59), started=started).slot is None
        assert owed(catch_up, may(4), may(5), started=started).slot == may(5)
        assert owed(catch_up, may(5), may(5), started=started).slot is None

    @pytest.mark.parametrize("catch_up", list(CatchUp))
    def test_a_clock_behind_the_newest_slot_owes_nothing(self, catch_up: CatchUp) -> None:
        answer = owed(catch_up, may(9), may(5, 12), started=may(5))
        assert (answer.slot, answer.skipped) == (None, None)

    def test_what_is_too_late_is_let_go(self) -> None:
        bounded = owed(CatchUp.ALL, may(1), may(5, 3), max_lateness=2 * DAY)
        assert bounded.slot == may(4)
        assert bounded.skipped is not None
        assert (bounded.skipped.first, bounded.skipped.last) == (may(2), may(3))
        assert bounded.skipped.reason == "more than 2 days, 0:00:00 late"
        assert owed(CatchUp.ALL, may(4), may(5, 8), max_lateness=6 * HOUR).slot == may(5)
        for catch_up in (CatchUp.ALL, CatchUp.LATEST):
            for newest in (may(4), None):
                answer = owed(catch_up, newest, may(5, 8, 1), max_lateness=6 * HOUR)
                assert answer.slot is None
                assert answer.skipped is not None
                assert (answer.skipped.first, answer.skipped.last) == (may(5), may(5))

    @given(
        catch_up=st.sampled_from(list(CatchUp)),
        newest_hours=st.none() | st.integers(-60, 60),
        started_hours=st.integers(-60, 0),
        lateness_hours=st.none() | st.integers(0, 60),
        minutes=st.integers(0, 59),
    )
    def test_owed_and_skipped_are_a_partition_of_what_came_due(
        self,
        catch_up: CatchUp,
        newest_hours: int | None,
        started_hours: int,
        lateness_hours: int | None,
        minutes: int,
    ) -> None:
        now = may(15, 12, minutes)
        newest = None if newest_hours is None else may(15, 12) + newest_hours * HOUR
        started = now + started_hours * HOUR
        lateness = None if lateness_hours is None else lateness_hours * HOUR
        answer = owed(catch_up, newest, now, started=started, max_lateness=lateness, schedule=HOURLY)
        due = [may(10, 0) + hours * HOUR for hours in range(24 * 6)]
        due = [slot for slot in due if slot <= now and (newest is None or slot > newest)]
        if catch_up is CatchUp.NONE:
            kept = [slot for slot in due if slot > started]
        elif newest is None or catch_up is CatchUp.LATEST:
            kept = due[-1:]
        else:
            kept = due
        kept = [slot for slot in kept if lateness is None or now - slot <= lateness]
        assert answer.slot == (kept[0] if kept else None)
        if newest is not None:
            let_go = [slot for slot in due if not kept or slot < kept[0]]
            bounds = None if answer.skipped is None else (answer.skipped.first, answer.skipped.last)
            assert bounds == ((let_go[0], let_go[-1]) if let_go else None)


class TestRetries:
    @pytest.mark.parametrize("code", [ExitCode.USAGE, ExitCode.INPUT, ExitCode.INTERRUPTED, ExitCode.TERMINATED])
    def test_what_a_retry_cannot_mend_is_not_tried_again(self, code: int) -> None:
        assert Retries(5, timedelta(seconds=30)).wait_after(code, 1) is None

    @pytest.mark.parametrize(
        "code", [ExitCode.UNEXPECTED, ExitCode.CAPACITY, ExitCode.STORE, ExitCode.CLUSTER, ExitCode.BUSY, 137, 99]
    )
    def test_the_delay_doubles_up_to_a_quarter_of_an_hour_and_tries_are_bounded(self, code: int) -> None:
        retries = Retries(7, timedelta(seconds=30))
        waits = [retries.wait_after(code, n) for n in range(1, 9)]
        assert [wait and wait.total_seconds() for wait in waits] == [30, 60, 120, 240, 480, 900, 900, None]
        assert Retries(0, timedelta(seconds=30)).wait_after(code, 1) is None

    def test_a_delay_beyond_the_bound_stays_as_it_is(self) -> None:
        retries = Retries(10_000, timedelta(hours=1))
        assert {retries.wait_after(ExitCode.STORE, n) for n in (1, 2, 9_999)} == {timedelta(hours=1)}


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("90m", 5400), ("6h", 21600), ("1d12h", 129600), ("0s", 0)])
def test_a_time_span_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "-6h", "6 h", "1.5h", "6w", "9999999d", "6hours"])
def test_what_is_no_time_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time span"):
        parse_duration(text)
