"""When slots come due: beside a search through every minute, above all where clocks change."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.errors import ConfigError
from cluster_engine.scheduling.cron import Schedule, parse_schedule
from cluster_engine.scheduling.slots import slot_name, slot_time

UTC = timezone.utc


def day(year: int, month: int, number: int) -> datetime:
    return datetime(year, month, number, tzinfo=UTC)


MINUTE = timedelta(minutes=1)
# Zones and a day on which their clocks change, by an hour, by half of one, at midnight, and over a whole day.
CHANGES: list[tuple[str, datetime]] = [
    ("Europe/Berlin", day(2026, 3, 29)),
    ("Europe/Berlin", day(2026, 10, 25)),
    ("America/New_York", day(2026, 3, 8)),
    ("America/New_York", day(2026, 11, 1)),
    ("Australia/Lord_Howe", day(2026, 4, 5)),
    ("Australia/Lord_Howe", day(2026, 10, 4)),
    ("America/Sao_Paulo", day(2017, 10, 15)),
    ("Pacific/Apia", day(2011, 12, 30)),
    ("Asia/Kathmandu", day(2026, 5, 1)),
]

STUMBLES = {"Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia"}  # over which a star does; see the module


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def between(schedule: Schedule, begin: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda due: due <= end, schedule.after(begin)))


def names(schedule: Schedule, begin: str, n: int) -> list[str]:
    return [slot_name(due) for due in islice(schedule.after(utc(begin)), n)]


def is_imaginary(local: datetime) -> bool:
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None)


def search(zone: ZoneInfo, begin: datetime, end: datetime, fields: list[set[int] | None]) -> list[datetime]:
    """Return what comes due in (begin, end] as cron's manual has it, looking at every minute; None is a star."""
    minutes, hours, days, months, weekdays = fields

    def matches(local: datetime) -> bool:
        by_day = days is None or local.day in days
        by_weekday = weekdays is None or local.isoweekday() % 7 in weekdays
        of_week = by_day or by_weekday if days is not None and weekdays is not None else by_day and by_weekday
        return (
            (minutes is None or local.minute in minutes)
            and (hours is None or local.hour in hours)
            and (months is None or local.month in months)
            and of_week
        )

    found = set()
    if minutes is None or hours is None:  # jobs with a star follow the clock on the wall, minute by minute
        moment = begin.replace(second=0, microsecond=0) - MINUTE
        while (moment := moment + MINUTE) <= end:
            if moment > begin and matches(moment.astimezone(zone)):
                found.add(moment)
        return sorted(found)
    wall = (begin - timedelta(days=2)).astimezone(zone).replace(tzinfo=None, second=0, microsecond=0)
    while wall <= (end + timedelta(days=2)).astimezone(zone).replace(tzinfo=None):
        if matches(wall):
            local = wall.replace(tzinfo=zone)
            while is_imaginary(local):
                local += MINUTE
            found.add(local.astimezone(UTC))
        wall += MINUTE
    return sorted(due for due in found if begin < due <= end)


def field(low: int, high: int) -> st.SearchStrategy[set[int] | None]:
    return st.none() | st.sets(st.integers(low, high), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    change=st.sampled_from(CHANGES),
    fields=st.tuples(field(0, 59), field(0, 4), field(1, 31), st.none(), field(0, 6)),
    begin_hours=st.integers(-30, 10),
)
def test_moments_are_those_of_a_search_through_every_minute(
    change: tuple[str, datetime], fields: tuple[set[int] | None, ...], begin_hours: int
) -> None:
    zone = ZoneInfo(change[0])
    begin = change[1] + timedelta(hours=begin_hours, minutes=7)
    end = begin + timedelta(hours=40)
    if change[0] in STUMBLES:
        fields = (fields[0] or {0, 15}, fields[1] or {0, 1, 2, 3}, *fields[2:])
    expression = " ".join("*" if chosen is None else ",".join(map(str, sorted(chosen))) for chosen in fields)
    expected = search(zone, begin, end, list(fields))
    schedule = Schedule(expression, zone)
    assert between(schedule, begin, end) == expected
    if expected:
        assert schedule.next_after(begin) == expected[0]
        assert schedule.latest(end) == expected[-1]
        assert schedule.latest(expected[-1]) == expected[-1]
        assert schedule.next_after(expected[-1]) > expected[-1]


def test_a_night_whose_clock_is_set_forward_has_one_slot() -> None:
    schedule = parse_schedule("30 2 * * *", "Europe/Berlin")
    assert names(schedule, "2026-03-27T12:00", 3) == ["2026-03-28T01:30Z", "2026-03-29T01:00Z", "2026-03-30T00:30Z"]


def test_a_night_whose_clock_is_set_back_has_one_slot() -> None:
    schedule = parse_schedule("30 2 * * *", "Europe/Berlin")
    assert names(schedule, "2026-10-24T12:00", 2) == ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]


@pytest.mark.parametrize("begin", ["2026-10-25T00:30", "2026-10-25T00:45", "2026-10-25T01:15", "2026-10-25T01:45"])
def test_from_within_the_repeated_hour_the_night_is_over(begin: str) -> None:
    schedule = parse_schedule("30 2 * * *", "Europe/Berlin")
    assert names(schedule, begin, 1) == ["2026-10-26T01:30Z"]
    assert schedule.latest(utc(begin)) == utc("2026-10-25T00:30")


def test_hourly_slots_go_on_through_both_changes() -> None:
    schedule = parse_schedule("0 * * * *", "Europe/Berlin")
    for begin in ("2026-03-28T20:00", "2026-10-24T20:00"):
        due = list(islice(schedule.after(utc(begin)), 12))
        assert due == [utc(begin) + timedelta(hours=hour) for hour in range(1, 13)]


def test_rare_moments_are_found_in_both_directions() -> None:
    schedule = parse_schedule("0 0 29 2 *", "UTC")
    assert schedule.next_after(utc("2096-03-01T00:00")) == utc("2104-02-29T00:00")
    assert schedule.latest(utc("2104-02-28T00:00")) == utc("2096-02-29T00:00")


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("61 * * * *", "bad minute"),
        ("* * * *", "4 fields"),
        ("* * * * * *", "6 fields"),
        ("@daily", "1 fields"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 2 * * FUNDAY", "bad day-of-week"),
        ("", "0 fields"),
    ],
)
def test_what_is_no_expression_is_refused_with_what_is_wrong(expression: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_schedule(expression, "UTC")


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../../etc/passwd", "", "/etc/localtime"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(ConfigError, match="time zone"):
        parse_schedule("0 2 * * *", zone)


@given(st.datetimes(timezones=st.timezones(), min_value=datetime(1971, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001  # as Hypothesis wants it
def test_a_slot_is_the_utc_minute_and_can_be_read_back(time: datetime) -> None:
    name = slot_name(time)
    assert slot_time(name) == time.astimezone(UTC).replace(second=0, microsecond=0)
    assert name == f"{time.astimezone(UTC):%Y-%m-%dT%H:%M}Z"


@pytest.mark.parametrize(
    ("slot", "time"),
    [
        ("2026-11-22T02:00Z", "2026-11-22T02:00"),
        ("2026-11-22T02:00:00+00:00", "2026-11-22T02:00"),
        ("2026-11-22T03:00:00+01:00", "2026-11-22T02:00"),
        ("2026-11-22T02:00", None),
        ("night 1", None),
        ("Z", None),
        ("", None),
        (None, None),
    ],
)
def test_slots_of_other_schedulers_are_times_if_they_have_an_offset(slot: str | None, time: str | None) -> None:
    assert slot_time(slot) == (None if time is None else utc(time))
