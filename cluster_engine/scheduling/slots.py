"""The names of slots: the UTC time at which a batch came due, to the minute, as ``2026-11-22T02:00Z``.

So who starts a batch, how often and in which order does not change its name, and a store runs a slot once.
"""

from __future__ import annotations

from datetime import datetime, timezone

_LAYOUT = "%Y-%m-%dT%H:%MZ"


def slot_name(due: datetime) -> str:
    """Return the name of the slot that came due then; ``due`` is an aware time of a whole minute."""
    return due.astimezone(timezone.utc).strftime(_LAYOUT)


def slot_time(slot: str | None) -> datetime | None:
    """Return when a slot came due, or None if its name is no time.

    Any ISO 8601 time with an offset is one, for other schedulers have their own ways to write it.
    """
    if slot is None:
        return None
    try:
        time = datetime.fromisoformat(slot.removesuffix("Z") + ("+00:00" if slot.endswith("Z") else ""))
    except ValueError:
        return None
    return None if time.tzinfo is None else time.astimezone(timezone.utc)
