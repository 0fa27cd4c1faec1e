"""How many CPUs and how much memory there are, and the refusal to start what will not fit.

Knows sizes in bytes only, nothing of what they hold.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from cluster_engine.errors import CapacityError

if TYPE_CHECKING:
    from collections.abc import Callable

_CGROUP_V2 = Path("/sys/fs/cgroup")
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def available_bytes(cgroup: Path = _CGROUP_V2) -> int:
    """Return the memory a new allocation can use: what the host has available, within the cgroup's limit (v2).

    Cached files that the kernel gives back under pressure count as available.
    """
    available = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return available
    if limit == "max":
        return available
    return min(available, max(0, int(limit) - used + int(statistics.get("inactive_file", 0))))


def count_threads(threads: int | None = None) -> int:
    """Return the threads to use: as many as are asked for, or one for each CPU that this process may use."""
    return threads if threads is not None else len(os.sched_getaffinity(0))


def format_bytes(n_bytes: int) -> str:
    """Return a size as people read it, in the largest unit that it reaches, with the exact count.

    Examples
    --------
    >>> format_bytes(3 * 2**29)
    '1.50 GiB (1,610,612,736 bytes)'
    >>> format_bytes(1000)
    '1,000 bytes'
    """
    for unit_bytes, unit in _UNITS:
        if n_bytes >= unit_bytes:
            return f"{n_bytes / unit_bytes:.2f} {unit} ({n_bytes:,} bytes)"
    return f"{n_bytes:,} bytes"


def largest_fitting(need_bytes: Callable[[int], int], limit_bytes: int) -> int:
    """Return the largest n with ``need_bytes(n) <= limit_bytes``, for a non-decreasing need."""
    low, high = 0, 1
    while need_bytes(high) <= limit_bytes:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need_bytes(middle) <= limit_bytes else (low, middle)
    return low


def require_fit(what: str, n: int, need_bytes: Callable[[int], int], limit_bytes: int) -> None:
    """Raise `CapacityError` if ``need_bytes(n)`` exceeds the limit, naming the bytes and the n that would fit."""
    need = need_bytes(n)
    if need > limit_bytes:
        raise CapacityError(
            f"{what} of {n:,} vectors needs {format_bytes(need)}, but only {format_bytes(limit_bytes)} may be used; "
            f"{largest_fitting(need_bytes, limit_bytes):,} vectors would fit"
        )
