"""The loop against a clock that jumps, batches that fail, and restarts: no slot twice, none lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.errors import StoreError
from cluster_engine.exit_codes import ExitCode
from cluster_engine.scheduling.cron import Schedule
from cluster_engine.scheduling.policy import CatchUp, Policy
from cluster_engine.scheduling.retries import Retries
from cluster_engine.scheduling.scheduler import Scheduler
from cluster_engine.scheduling.slots import slot_name, slot_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NIGHTLY = Schedule("0 2 * * *", ZoneInfo("Europe/Berlin"))
HOURLY = Schedule("0 * * * *", ZoneInfo("Europe/Berlin"))
QUICKLY = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


@dataclass
class World:
    """A clock on a wall, which is sometimes set, and a store. The true time goes on by waiting and by batches only.

    `settings` are (true time since the beginning, by how much the clock is set then), ascending.
    """

    wall: datetime
    life: timedelta
    settings: Sequence[tuple[timedelta, timedelta]] = ()
    outcome: Callable[[str, int], int] = lambda _slot, _try: ExitCode.OK
    takes: timedelta = QUICKLY
    true: timedelta = timedelta()
    committed: list[str] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)
    unreadable: Callable[[timedelta], bool] = lambda _true: False
    forgotten: set[str] = field(default_factory=set)

    def pass_time(self, duration: timedelta) -> None:
        for when, by in self.settings:
            if self.true < when <= self.true + duration:
                self.wall += by
        self.true += duration
        self.wall += duration

    # the clock
    def now(self) -> datetime:
        return self.wall

    def wait(self, duration: timedelta) -> bool:
        self.pass_time(min(duration, max(self.life - self.true, timedelta())))
        return self.true >= self.life

    # the history
    def newest(self) -> datetime | None:
        if self.unreadable(self.true):
            raise StoreError("away")
        times = [slot_time(slot) for slot in self.committed if slot not in self.forgotten]
        return max((time for time in times if time is not None), default=None)

    def has(self, slot: str) -> bool:
        if self.unreadable(self.true):
            raise StoreError("away")
        return slot in self.committed

    # the batches
    def run(self, slot: str) -> int:
        self.tries.append(slot)
        code = self.outcome(slot, self.tries.count(slot))
        self.pass_time(self.takes)
        if code == ExitCode.OK and slot not in self.committed:
            self.committed.append(slot)
        return code


def scheduler(
    world: World,
    schedule: Schedule = NIGHTLY,
    catch_up: CatchUp = CatchUp.ALL,
    *,
    retries: int = 2,
    max_lateness: timedelta | None = None,
) -> Scheduler:
    policy = Policy(catch_up, max_lateness)
    return Scheduler(schedule, policy, Retries(retries, timedelta(seconds=30)), world, world, world)


def due(schedule: Schedule, first: str, last: str) -> list[str]:
    """Return the slots from the first to the last."""
    begin = at(first.removesuffix("Z")) - timedelta(seconds=1)
    end = at(last.removesuffix("Z"))
    return [slot_name(moment) for moment in takewhile(lambda moment: moment <= end, schedule.after(begin))]


class TestForever:
    def test_each_slot_is_run_once_when_it_comes_due(self) -> None:
        world = World(at("2026-05-01T12:00"), timedelta(days=5), takes=hours(1.5))
        starts: list[datetime] = []
        world.outcome = lambda _slot, _try: (starts.append(world.wall), ExitCode.OK)[1]
        assert scheduler(world).run_forever() == 0
        assert world.tries == due(NIGHTLY, "2026-05-01T00:00Z", "2026-05-06T00:00Z")
        assert all(slot_name(start) == slot for start, slot in zip(starts[1:], world.tries[1:], strict=True))

    def test_a_batch_that_outlasts_its_interval_is_followed_by_what_came_due(self) -> None:
        for catch_up, expected in (
            (CatchUp.ALL, [0, 1, 2, 3]),
            (CatchUp.LATEST, [0, 2, 5]),
            (CatchUp.NONE, [0, 1, 2, 3]),
        ):
            world = World(at("2026-05-01T07:59"), hours(10), takes=hours(2.6))
            scheduler(world, HOURLY, catch_up).run_forever()
            first = at("2026-05-01T08:00") if catch_up is CatchUp.NONE else at("2026-05-01T07:00")
            got = [slot_time(slot) for slot in world.tries[: len(expected)]]
            if catch_up is CatchUp.LATEST:
                assert all(a is not None and b is not None and a < b for a, b in pairwise(got))
            else:
                assert got == [first + hours(number) for number in expected]

    def test_a_failed_batch_is_tried_again_within_bounds_and_stays_owed(self) -> None:
        world = World(at("2026-05-01T12:00"), timedelta(days=3), outcome=lambda _slot, n: 5 if n <= 4 else 0)
        world.committed.append("2026-05-01T00:00Z")
        scheduler(world, retries=2).run_forever()
        slots = due(NIGHTLY, "2026-05-02T00:00Z", "2026-05-04T00:00Z")
        # Three tries in the first night; two in the second, where it succeeds and the second night's own slot fails.
        assert world.tries[:5] == [slots[0]] * 5
        assert world.tries[5:8] == [slots[1]] * 3
        assert world.committed == ["2026-05-01T00:00Z", *slots[:2]]

    def test_latest_gives_up_a_failed_slot_for_the_next(self) -> None:
        world = World(at("2026-05-01T12:00"), timedelta(days=2), outcome=lambda slot, _: 5 if "05-02" in slot else 0)
        world.committed.append("2026-05-01T00:00Z")
        scheduler(world, catch_up=CatchUp.LATEST, retries=1).run_forever()
        assert world.tries == ["2026-05-02T00:00Z"] * 2 + ["2026-05-03T00:00Z"]
        assert world.committed == ["2026-05-01T00:00Z", "2026-05-03T00:00Z"]

    @pytest.mark.parametrize("code", [ExitCode.USAGE, ExitCode.INPUT])
    def test_what_no_retry_mends_is_tried_once_a_night(self, code: int) -> None:
        world = World(at("2026-05-01T12:00"), timedelta(days=3), outcome=lambda *_: code)
        scheduler(world, catch_up=CatchUp.LATEST).run_forever()
        assert world.tries == due(NIGHTLY, "2026-05-01T00:00Z", "2026-05-04T00:00Z")

    def test_a_slot_that_came_due_while_a_batch_failed_is_not_waited_past(self) -> None:
        world = World(at("2026-05-01T07:30"), hours(2), takes=hours(0.8))
        starts: list[datetime] = []
        world.outcome = lambda *_: (starts.append(world.wall), ExitCode.INPUT)[1]
        scheduler(world, HOURLY, CatchUp.LATEST).run_forever()
        assert world.tries == ["2026-05-01T07:00Z", "2026-05-01T08:00Z", "2026-05-01T09:00Z"]
        assert starts == [at("2026-05-01T07:30"), at("2026-05-01T08:18"), at("2026-05-01T09:06")]

    def test_a_retry_that_would_be_too_late_is_not_made(self) -> None:
        world = World(at("2026-05-01T23:59"), hours(8), outcome=lambda *_: 6)
        world.committed.append("2026-05-01T00:00Z")
        scheduler(world, retries=99, max_lateness=timedelta(minutes=10)).run_forever()
        assert 2 <= len(world.tries) <= 5
        assert set(world.tries) == {"2026-05-02T00:00Z"}

    def test_a_store_that_is_away_for_a_while_costs_no_slot(self) -> None:
        world = World(at("2026-05-01T12:00"), timedelta(days=1))
        world.unreadable = lambda true: hours(11.5) < true < hours(12.02)
        scheduler(world).run_forever()
        assert world.committed == due(NIGHTLY, "2026-05-01T00:00Z", "2026-05-02T00:00Z")

    def test_a_store_that_is_away_at_the_start_is_an_error(self) -> None:
        world = World(at("2026-05-01T12:00"), timedelta(days=1), unreadable=lambda _: True)
        with pytest.raises(StoreError):
            scheduler(world).run_forever()

    def test_a_batch_that_ends_well_without_a_commit_is_told_and_not_run_again(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = World(at("2026-05-01T12:00"), timedelta(days=1))
        world.run = lambda slot: (world.tries.append(slot), ExitCode.OK)[1]  # type: ignore[method-assign]
        scheduler(world).run_forever()
        assert world.tries == due(NIGHTLY, "2026-05-01T00:00Z", "2026-05-02T00:00Z")
        assert sum("not in the store" in record.message for record in caplog.records) == 2

    def test_a_slot_whose_version_is_gone_is_not_run_again(self) -> None:
        world = World(
            at("2026-05-01T12:00"), hours(1), committed=["2026-05-01T00:00Z"], forgotten={"2026-05-01T00:00Z"}
        )
        scheduler(world).run_forever()
        assert world.tries == []

    def test_the_end_cuts_a_batch_short_and_gives_its_code(self) -> None:
        world = World(at("2026-05-01T12:00"), QUICKLY, outcome=lambda *_: ExitCode.TERMINATED)
        assert scheduler(world).run_forever() == ExitCode.TERMINATED
        assert len(world.tries) == 1
        idle = World(at("2026-05-01T12:00"), hours(1), committed=["2026-05-01T00:00Z"])
        assert scheduler(idle).run_forever() == ExitCode.OK

    def test_skipped_slots_are_told(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World(at("2026-05-05T12:00"), hours(1), committed=["2026-05-01T00:00Z"])
        scheduler(world, catch_up=CatchUp.LATEST).run_forever()
        told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert told == ["skipped slots=2026-05-02T00:00Z..2026-05-04T00:00Z reason=a later one makes up for it"]


class TestOnce:
    def test_what_is_due_is_run_in_order_and_nothing_else(self) -> None:
        world = World(at("2026-05-04T12:00"), timedelta(days=9), committed=["2026-05-01T00:00Z"], takes=hours(7))
        assert scheduler(world).run_due() == 0
        assert world.tries == due(NIGHTLY, "2026-05-02T00:00Z", "2026-05-04T00:00Z")
        assert scheduler(world).run_due() == 0
        assert len(world.tries) == 4  # what came due meanwhile

    def test_a_failure_ends_it_with_the_batches_code(self) -> None:
        world = World(at("2026-05-04T12:00"), timedelta(days=9), committed=["2026-05-01T00:00Z"])
        world.outcome = lambda slot, _: ExitCode.BUSY if "05-03" in slot else ExitCode.OK
        assert scheduler(world, retries=1).run_due() == ExitCode.BUSY
        assert world.tries == ["2026-05-02T00:00Z", "2026-05-03T00:00Z", "2026-05-03T00:00Z"]

    def test_a_store_that_stays_away_is_an_error(self) -> None:
        world = World(at("2026-05-04T12:00"), timedelta(days=9), unreadable=lambda _: True)
        with pytest.raises(StoreError):
            scheduler(world).run_due()


class TestClocks:
    @pytest.mark.parametrize(
        ("begin", "days"), [("2026-03-27T12:00", 4), ("2026-10-23T12:00", 4)], ids=["forward", "back"]
    )
    def test_both_changes_of_the_clocks_have_one_slot_a_night(self, begin: str, days: int) -> None:
        world = World(at(begin), timedelta(days=days))
        scheduler(world, Schedule("30 2 * * *", ZoneInfo("Europe/Berlin"))).run_forever()
        nights = [time.astimezone(ZoneInfo("Europe/Berlin")).date() for time in map(slot_time, world.tries) if time]
        assert len(set(nights)) == len(nights) == days + 1

    def test_a_clock_set_back_over_a_slot_does_not_repeat_it(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World(at("2026-05-01T12:00"), timedelta(days=2), [(hours(13), -hours(3))])
        scheduler(world).run_forever()
        assert world.tries == due(NIGHTLY, "2026-05-01T00:00Z", "2026-05-03T00:00Z")
        assert any("was set back" in record.message for record in caplog.records)

    def test_a_clock_set_back_by_years_does_not_wait_for_years(self) -> None:
        world = World(
            at("2036-05-01T12:00"), timedelta(days=2), [(hours(1), at("2026-05-01T12:00") - at("2036-05-01T12:00"))]
        )
        scheduler(world, catch_up=CatchUp.NONE).run_forever()
        assert world.tries == due(NIGHTLY, "2026-05-02T00:00Z", "2026-05-03T00:00Z")

    def test_a_clock_set_forward_over_slots_loses_none(self) -> None:
        world = World(at("2026-05-01T12:00"), timedelta(days=2), [(hours(3), timedelta(days=3))])
        scheduler(world).run_forever()
        assert world.tries == due(NIGHTLY, "2026-05-01T00:00Z", "2026-05-06T00:00Z")

    @settings(max_examples=50, deadline=None)
    @given(
        catch_up=st.sampled_from(list(CatchUp)),
        begin_hours=st.integers(0, 24 * 250),
        jumps=st.lists(st.tuples(st.floats(0.1, 40), st.floats(-5, 5)), max_size=4),
        lives=st.lists(st.floats(0.5, 20), min_size=1, max_size=4),
        failing=st.sets(st.integers(0, 40), max_size=10),
        takes_minutes=st.integers(1, 20),
    )
    def test_whatever_happens_no_slot_is_run_twice_and_none_is_lost(  # noqa: PLR0917  # drawn by name
        self,
        catch_up: CatchUp,
        begin_hours: int,
        jumps: list[tuple[float, float]],
        lives: list[float],
        failing: set[int],
        takes_minutes: int,
    ) -> None:
        world = World(
            at("2026-03-01T00:00") + hours(begin_hours),
            timedelta(),
            sorted((hours(when), hours(by)) for when, by in jumps),
            takes=timedelta(minutes=takes_minutes),
        )
        world.outcome = lambda *_: ExitCode.CLUSTER if len(world.tries) in failing else ExitCode.OK
        for life in [*lives, 60.0]:  # the last is long enough for everything to settle
            world.life = world.true + hours(life)
            scheduler(world, HOURLY, catch_up).run_forever()
        times = [time for time in map(slot_time, world.committed) if time is not None]
        assert times == sorted(set(times))
        assert times
        newest_due = HOURLY.latest(world.wall)
        assert newest_due is not None
        assert times[-1] >= newest_due - hours(2)  # what is being run, or tried again, at the end
        if catch_up is CatchUp.ALL:
            assert world.committed == due(HOURLY, world.committed[0], world.committed[-1])
