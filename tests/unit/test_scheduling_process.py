"""Batches as children that end by themselves, by a signal, or not at all; the store's history; the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from store_tables import version_tables

from cluster_engine.cli import main
from cluster_engine.scheduling import process
from cluster_engine.scheduling.history import StoreHistory
from cluster_engine.scheduling.process import BatchProcess, Stop, stopped_by_signals
from cluster_engine.scheduling.slots import slot_name
from cluster_engine.store.commit import commit_version

if TYPE_CHECKING:
    from pathlib import Path

SAYS_READY = "import os, signal, sys; {before}; os.close(os.open(sys.argv[1], os.O_WRONLY)); signal.pause()"


def commit(store: Path, slot: str | None) -> None:
    commit_version(store, version_tables(), slot=slot)


class TestChild:
    @pytest.mark.parametrize(
        ("code", "expected"),
        [("pass", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137), ("os.abort()", 134)],
    )
    def test_its_exit_code_is_that_of_a_shell(self, code: str, expected: int) -> None:
        batches = BatchProcess(lambda _: [sys.executable, "-c", f"import os, sys; {code}"], Stop())
        assert batches.run("slot") == expected

    def test_its_slot_is_an_argument_and_its_stdin_empty(self, tmp_path: Path) -> None:
        code = "import sys; open(sys.argv[1], 'w').write(repr((sys.argv[2], sys.stdin.read())))"
        batches = BatchProcess(lambda slot: [sys.executable, "-c", code, str(tmp_path / "seen"), slot], Stop())
        assert batches.run("2026-11-22T02:00Z") == 0
        assert (tmp_path / "seen").read_text() == "('2026-11-22T02:00Z', '')"

    @pytest.mark.parametrize(
        ("before", "by", "code"),
        [
            ("signal.signal(15, lambda *_: sys.exit(143))", signal.SIGTERM, 143),
            ("signal.signal(2, lambda *_: sys.exit(130))", signal.SIGINT, 130),
            ("signal.signal(15, signal.SIG_IGN)", signal.SIGTERM, 137),
        ],
        ids=["ends", "interrupted", "ignores"],
    )
    def test_it_gets_the_signal_and_is_killed_if_it_does_not_mind(
        self, before: str, by: signal.Signals, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process, "_LOOK_S", 0.05)
        if code == 137:
            monkeypatch.setattr(process, "_GRACE_S", 0.1)
        ready = tmp_path / "ready"
        os.mkfifo(ready)
        stop = Stop()

        def ask_when_ready() -> None:
            os.close(os.open(ready, os.O_RDONLY))  # opens when the child does
            stop.ask(by)

        asking = threading.Thread(target=ask_when_ready)
        asking.start()
        command = [sys.executable, "-c", SAYS_READY.format(before=before), str(ready)]
        assert BatchProcess(lambda _: command, stop).run("slot") == code
        asking.join()

    def test_the_process_itself_is_asked_by_signals(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with stopped_by_signals() as stop:
            assert not stop.wait(0)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.wait(10)
            assert stop.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before


class TestHistory:
    def test_a_store_that_is_none_yet_has_no_slot(self, tmp_path: Path) -> None:
        history = StoreHistory(str(tmp_path / "store"))
        assert history.newest() is None
        assert not history.has("2026-11-22T02:00Z")
        assert not (tmp_path / "store").exists()

    def test_the_newest_slot_is_the_latest_time_whatever_was_committed_after(self, tmp_path: Path) -> None:
        for slot in (None, "2026-11-22T02:00Z", "2026-11-23T03:00+01:00", "2026-11-21T02:00Z", "by hand", None):
            commit(tmp_path, slot)
        history = StoreHistory(str(tmp_path))
        assert history.newest() == datetime(2026, 11, 23, 2, tzinfo=timezone.utc)
        assert history.has("2026-11-21T02:00Z")
        assert history.has("by hand")
        assert not history.has("2026-11-23T02:00Z")


@dataclass(frozen=True)
class FakePython:
    """A script in Python's place, which writes down its arguments and runs a line of shell."""

    script: Path

    def will(self, shell: str) -> None:
        self.script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" . >> {self.script}.seen\n{shell}\n')
        self.script.chmod(0o755)

    def calls(self) -> list[list[str]]:
        seen = self.script.with_suffix(".seen")
        return [call.splitlines() for call in seen.read_text().split(".\n") if call] if seen.exists() else []


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePython:
    python = FakePython(tmp_path / "python")
    python.will("exit 0")
    monkeypatch.setattr(sys, "executable", str(python.script))
    return python


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in args])
    return int(ended.value.code or 0)


def latest_night() -> str:
    now = datetime.now(timezone.utc)
    night = now.replace(hour=2, minute=0, second=0, microsecond=0)
    return slot_name(night if night <= now else night - timedelta(days=1))


class TestCommand:
    def schedule(self, store: Path, *args: object) -> int:
        return run("schedule", "--cron", "0 2 * * *", "--store", store, "--input", "a", "--input", "b c", *args)

    def test_what_is_due_is_run_with_its_slot(self, fake: FakePython, tmp_path: Path) -> None:
        store = tmp_path / "store"
        assert self.schedule(store, "--once", "--", "--distance", "0.4") == 0
        (args,) = fake.calls()
        assert args[:5] == ["-m", "cluster_engine.cli", "--verbose", "consolidate", "--json"]
        assert args[5:] == [
            *("--input", "a", "--input", "b c", "--store", str(store), "--distance", "0.4", "--slot", latest_night())
        ]

    def test_on_a_cluster_it_is_submitted_and_waited_for(self, fake: FakePython, tmp_path: Path) -> None:
        options = ("--address", "http://head:8265", "--working-dir", tmp_path, "--python", "/p")
        assert self.schedule(tmp_path, "--once", *options, "--", "--groups", "3") == 0
        (args,) = fake.calls()
        assert args[:6] == ["-m", "cluster_engine.cli", "--verbose", "submit", "--wait", "--json"]
        own, batch = args[6 : args.index("--")], args[args.index("--") + 1 :]
        assert dict(zip(own[::2], own[1::2], strict=True)) == {
            "--address": "http://head:8265",
            "--python": "/p",
            "--working-dir": str(tmp_path),
        }
        assert batch[-4:] == ["--groups", "3", "--slot", latest_night()]

    def test_a_slot_that_is_committed_is_not_run(self, fake: FakePython, tmp_path: Path) -> None:
        fake.will("exit 1")
        commit(tmp_path / "store", latest_night())
        assert self.schedule(tmp_path / "store", "--once") == 0
        assert fake.calls() == []

    @pytest.mark.parametrize(("code", "tries"), [(3, 1), (2, 1), (7, 3), (1, 3), (5, 3)])
    def test_a_failure_is_tried_again_by_its_code_which_ends_the_command(
        self, code: int, tries: int, fake: FakePython, tmp_path: Path
    ) -> None:
        fake.will(f"exit {code}")
        assert self.schedule(tmp_path / "store", "--once", "--retries", 2, "--retry-delay", "0s") == code
        assert len(fake.calls()) == tries

    @pytest.mark.parametrize(
        "options",
        [
            ["--cron", "61 * * * *"],
            ["--timezone", "Mars/Phobos"],
            ["--catch-up", "some"],
            ["--max-lateness", "soon"],
            ["--retries", "-1"],
            ["--once", "--catch-up", "none"],
            ["--dry-run", "0"],
            ["--working-dir", "/no/such/directory"],
            ["--bogus"],
            ["--", "--bogus"],
            ["--", "--slot", "mine"],
            ["--", "--slot=mine"],
            ["--", "--store", "elsewhere"],
            ["--", "--min-episodes", "many"],
        ],
    )
    def test_what_is_not_accepted_is_refused_before_a_slot_is_due(
        self, options: list[str], fake: FakePython, tmp_path: Path
    ) -> None:
        assert self.schedule(tmp_path / "store", *options) == 2
        assert fake.calls() == []

    def test_a_cluster_needs_a_store_that_it_can_reach(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = ("--input", "a", "--store", "memory", "--address", "http://head:8265", "--once")
        assert run("schedule", "--cron", "0 2 * * *", *options) == 2
        assert "absolute path" in capsys.readouterr().err

    def test_a_store_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        manifests = tmp_path / "manifests"
        manifests.mkdir()
        (manifests / "00000001.json").write_text("no manifest")
        assert self.schedule(tmp_path, "--once", "--retries", 0) == 5
        assert self.schedule(tmp_path, "--dry-run", 1) == 5

    def test_the_slots_to_come_are_printed_and_nothing_is_run(
        self, fake: FakePython, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.schedule(tmp_path / "store", "--dry-run", 2, "--json") == 0
        answer: Any = json.loads(capsys.readouterr().out)
        night = datetime.fromisoformat(latest_night().replace("Z", "+00:00"))
        assert answer == {
            "owed": latest_night(),
            "slots": [slot_name(night + timedelta(days=1)), slot_name(night + timedelta(days=2))],
        }
        assert self.schedule(tmp_path / "store", "--dry-run", 2, "--timezone", "Europe/Berlin") == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3
        assert lines[0].endswith("owed now")
        assert all(" 02:00 CE" in line for line in lines)
        assert fake.calls() == []
        assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("by", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_scheduler_that_is_told_to_end_passes_it_on_and_says_that_a_batch_was_cut_short(
    by: signal.Signals, code: int, tmp_path: Path
) -> None:
    ready, script = tmp_path / "ready", tmp_path / "python"
    os.mkfifo(ready)
    script.write_text(
        f"#!/bin/sh\ntrap 'exit 143' TERM\ntrap 'exit 130' INT\n: > {ready}\nwhile :; do sleep 0.1; done\n"
    )
    script.chmod(0o755)
    code_of_main = "import sys; sys.executable = sys.argv[1]; from cluster_engine.cli import main; main(sys.argv[2:])"
    options = ("--cron", "* * * * *", "--store", str(tmp_path / "store"), "--input", "a")
    command = [sys.executable, "-c", code_of_main, str(script), "--verbose", "schedule", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stderr is not None
        ready.read_bytes()  # ends when the batch has opened it, and so hears signals
        scheduler.send_signal(by)
        rest = scheduler.stderr.read()
        assert scheduler.wait(60) == code
    assert "cut short slot=" in rest
    assert "Traceback" not in rest


def test_an_idle_scheduler_that_is_told_to_end_ends_well(tmp_path: Path) -> None:
    commit(tmp_path, slot_name(datetime.now(timezone.utc) + timedelta(days=1)))
    command = [sys.executable, "-m", "jobs.schedule", "--cron", "* * * * *", "--store", str(tmp_path), "--input", "a"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stderr is not None
        assert "was run already" in scheduler.stderr.readline()
        scheduler.terminate()
        assert scheduler.wait(60) == 0
