"""What `top` shows of a batch at work, of one that died, and of none."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console

from cluster_engine.monitor import QUIET_S, Running, facts, frame, read_running, watch

NOW = datetime(2026, 11, 22, 2, 0, 30, tzinfo=timezone.utc)
VERSION = {
    "version": 7,
    "slot": "night",
    "n_episodes": 1_234,
    "n_concepts": 5,
    "n_bindings": 6,
    "n_quarantined": 0,
    "n_bytes": 1 << 20,
    "content_sha256": "ab" * 32,
}


def status(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  # fields of a status
    told = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "slot": "2026-11-22T02:00Z",
        "phase": "linkage",
        "done": 250,
        "total": 1_000,
        "elapsed_s": 10.0,
        "remaining_s": 30.0,
        "memory_bytes": 512 << 20,
        "updated": (NOW - timedelta(seconds=1)).isoformat(),
    }
    return told | changes


def shown(running: Running | None, versions: list[dict[str, Any]] | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(frame(running, [VERSION] if versions is None else versions))
    return out.getvalue()


def test_a_batch_at_work_is_shown_with_its_share_time_and_memory() -> None:
    text = shown(read_running(status(n_actors=2), NOW))
    for words in (
        "2026-11-22T02:00Z",
        "linkage",
        "250 of 1,000",
        "25%",
        "10 s so far",
        "30 s left",
        "512 MiB",
        "actors",
    ):
        assert words in text
    assert "state" not in text
    assert "night" in text


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"slot": None}, "without a slot"),
        ({"remaining_s": None, "done": 0}, "? left"),
        ({"remaining_s": float("nan")}, "? left"),
        ({"remaining_s": 600.0}, "10 min left"),
        ({"remaining_s": 36_000.0}, "10.0 h left"),
        ({"total": 0, "done": 17}, "linkage  17"),
        ({"slot": "[bold]\x1b[31mx"}, "[bold] [31mx"),
    ],
)
def test_what_is_not_known_is_said_so(told: dict[str, Any], words: str) -> None:
    text = shown(read_running(status(**told), NOW))
    assert words in text
    assert "\x1b" not in text


def test_one_that_was_killed_is_told_from_one_that_is_slow() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    gone = read_running(status(pid=child.pid), NOW)
    assert gone.is_gone
    assert "its process is gone" in shown(gone)
    elsewhere = read_running(status(pid=child.pid, host="another"), NOW)
    assert not elsewhere.is_gone
    late = (NOW - timedelta(seconds=2 * QUIET_S)).isoformat()
    quiet = read_running(status(updated=late), NOW)
    assert quiet.quiet_s == 2 * QUIET_S
    assert "it has said nothing for 2 min" in shown(quiet)


@pytest.mark.parametrize("zone", ["", "+00:00", "+02:00"])
def test_times_are_compared_in_their_zones(zone: str) -> None:
    hours = 2 if zone == "+02:00" else 0
    updated = (NOW + timedelta(hours=hours, seconds=-5)).strftime("%Y-%m-%dT%H:%M:%S") + zone
    assert read_running(status(updated=updated), NOW).quiet_s == 5
    ahead = (NOW + timedelta(minutes=5)).isoformat()  # of a host whose clock is ahead
    assert read_running(status(updated=ahead), NOW).quiet_s == 0


def test_nothing_runs_and_nothing_was_committed() -> None:
    assert "nothing runs on this store" in shown(None)
    assert "night" in shown(None)
    assert "nothing was committed yet" in shown(None, [])


def test_a_picture_for_machines_has_the_same_facts() -> None:
    running = read_running(status(), NOW)
    told = facts(running, [VERSION])
    added = {"n_actors": None, "quiet_s": 1.0, "is_gone": False}
    assert told["running"] == {key: value for key, value in status().items() if key != "updated"} | added
    assert told["versions"] == [VERSION]
    assert facts(None, [])["running"] is None


def test_watching_ends_where_it_is_interrupted() -> None:
    pictures: list[object] = []

    def wait() -> None:
        if len(pictures) == 3:
            raise KeyboardInterrupt

    watch(lambda: frame(None, []), pictures.append, wait)
    assert len(pictures) == 3
