"""The moments at which batches come due: a cron expression in a time zone, read by ``cronsim``.

``cronsim`` follows Debian's cron where clocks change: a fixed time (``30 2 * * *``) in the hour that a clock skips
comes due when that hour would have begun, and one in the hour that a clock repeats comes due once. Of the other
maintained readers, ``croniter`` 7 and the cron trigger of ``APScheduler`` 3.11 run a fixed time twice in a repeated
hour, which for a nightly batch is a cycle too many. ``cronsim`` is typed, has no dependencies, and is small enough to
read. Its flaws known here concern a starred minute or hour: a midnight that a clock skips comes due like a fixed
time, and on Lord Howe Island, whose clocks change by half an hour, half an hour of the day after can be missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from cluster_engine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_OVERLAP = timedelta(days=1)  # longer than any clock was ever set back
_SPANS = tuple(timedelta(days=days) for days in (1, 32, 366, 366 * 9, 366 * 50))  # "29 February" waits up to 8 years


@dataclass(frozen=True)
class Schedule:
    """When slots come due. Moments are in UTC, strictly ascending, and a moment has one slot.

    Attributes
    ----------
    expression : str
        Five fields of cron: minute, hour, day of month, month, day of week.
    zone : ZoneInfo
        Whose clocks the expression means.
    """

    expression: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the moments strictly after ``moment``, for ever.

        Where a clock repeats an hour, ``cronsim`` takes a start within it for one in its first half, and so may begin
        before the start; therefore it begins well before, and what is not after ``moment`` is left out.
        """
        last = moment
        for local in CronSim(self.expression, (moment - _OVERLAP).astimezone(self.zone)):
            due = local.astimezone(timezone.utc)
            if due > last:
                yield due
                last = due

    def next_after(self, moment: datetime) -> datetime:
        """Return the first moment strictly after ``moment``."""
        return next(self.after(moment))

    def latest(self, moment: datetime) -> datetime | None:
        """Return the last moment at or before ``moment``, or None if there was none within fifty years."""
        for span in _SPANS:
            found = None
            for due in self.after(moment - span):
                if due > moment:
                    break
                found = due
            if found is not None:
                return found
        return None


def parse_schedule(expression: str, time_zone: str) -> Schedule:
    """Return the schedule of a cron expression in a time zone.

    Parameters
    ----------
    expression : str
        Five fields, as in ``"0 2 * * *"``; names of months and days, ranges, steps, ``L`` and ``#`` as in ``cronsim``.
    time_zone : str
        Its name in the IANA database, as ``Europe/Berlin``.

    Raises
    ------
    ConfigError
        The expression is not one, or no moment ever matches it; or this machine knows no such time zone.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"time zone {time_zone!r} is not known here: give a name as Europe/Berlin, or install the package tzdata"
        ) from error
    n_fields = len(expression.split())
    if n_fields != len(_FIELDS):
        raise ConfigError(f"cron expression {expression!r}: {n_fields} fields instead of five: {', '.join(_FIELDS)}")
    schedule = Schedule(expression, zone)
    try:
        schedule.next_after(datetime.now(timezone.utc))
    except CronSimError as error:
        raise ConfigError(f"cron expression {expression!r}: {error}".replace("Bad", "bad")) from error
    except StopIteration:
        raise ConfigError(f"cron expression {expression!r}: no moment of the next fifty years matches it") from None
    return schedule
