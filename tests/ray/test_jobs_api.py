"""Batches as jobs of a cluster: once a slot, with the batch's exit code, under the right token; and on schedule."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from cluster_head import TIMEOUT_S, Head, run, start_head
from episode_files import clustered_vectors, write_episodes

from cluster_engine.scheduling.slots import slot_time
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLI = (sys.executable, "-m", "cluster_engine.cli")


@pytest.fixture(scope="module")
def head(ray_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with start_head(tmp_path_factory.mktemp("installed")) as started:
        yield started


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("input") / "episodes.parquet", clustered_vectors(600, 24))


@dataclass(frozen=True)
class Client:
    """Runs commands against a head, with a script in place of the cluster's Python unless the real one is asked for."""

    head: Head
    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def environment(self) -> dict[str, str]:
        return {**self.head.client(), "RAY_API_SERVER_ADDRESS": self.head.dashboard}

    def batches_do(self, shell: str) -> None:
        script = self.folder / "python"
        script.write_text(f'#!/bin/sh\necho "$@" >> {self.folder}/seen\n{shell}\n')
        script.chmod(0o755)

    def n_batches(self) -> int:
        seen = self.folder / "seen"
        return seen.read_text().count("\n") if seen.exists() else 0

    def submission(self, slot: str, *options: str) -> list[str]:
        own = ["submit", *options, "--json", "--python", str(self.folder / "python"), "--"]
        return [*CLI, *own, "--input", "none", "--store", str(self.store), "--slot", slot]

    def submit(self, slot: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self.safe(run(*self.submission(slot, *options), env=self.environment))

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.safe(run(*CLI, *args, env=self.environment))

    def job(self, *args: str) -> Any:  # noqa: ANN401  # parsed JSON
        done = self.command(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["job"]

    def safe(self, done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
        """Return a command that has ended, in whose output the token must not be."""
        assert self.head.token not in done.stdout + done.stderr
        return done


@pytest.fixture
def client(head: Head, tmp_path: Path) -> Client:
    made = Client(head, tmp_path)
    made.batches_do("echo done; exit 0")
    return made


def job_of(done: subprocess.CompletedProcess[str]) -> Any:  # noqa: ANN401  # parsed JSON
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return json.loads(done.stdout)["job"]


def test_a_scheduled_batch_is_run_by_the_cluster_once(client: Client, episodes: Path) -> None:
    options = ("--store", str(client.store), "--input", str(episodes), "--python", sys.executable)
    schedule = ("-m", "jobs.schedule", "--cron", "0 2 * * *", *options, "--address", client.head.dashboard, "--once")
    first, again = (client.safe(run(sys.executable, *schedule, env=client.environment)) for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0), first.stderr
    job = job_of(first)
    assert (job["status"], job["exit_code"]) == ("SUCCEEDED", 0)
    assert '"content_sha256"' in first.stderr
    assert again.stdout == ""
    versions = ConceptStore.open(client.store).history().to_pylist()
    assert [version["slot"] for version in versions] == [job["slot"]]
    time = slot_time(job["slot"])
    assert time is not None
    assert (time.hour, time.minute) == (2, 0)
    assert (datetime.now(timezone.utc) - time).total_seconds() < 86_400
    # Whoever submits that slot anew is told of the job that did it.
    assert job_of(client.submit(job["slot"], "--wait"))["submission_id"] == job["submission_id"]


def test_a_batch_that_fails_gives_its_code_and_can_be_submitted_again(client: Client) -> None:
    client.batches_do("echo why it failed; exit 3")
    failed = client.submit("night", "--wait")
    assert failed.returncode == 3
    job = job_of(failed)
    assert (job["status"], job["exit_code"], job["slot"], job["store"]) == ("FAILED", 3, "night", str(client.store))
    assert "why it failed" in failed.stderr
    assert client.job("status", job["submission_id"])["exit_code"] == 3
    logs = client.command("logs", job["submission_id"])
    assert (logs.returncode, "why it failed" in logs.stdout) == (0, True)
    client.batches_do("exit 0")
    mended = client.submit("night", "--wait")
    assert mended.returncode == 0
    assert job_of(mended)["submission_id"] == job["submission_id"] + "-2"
    assert job_of(client.submit("night"))["submission_id"] == job["submission_id"] + "-2"
    assert client.n_batches() == 2
    listed = json.loads(client.command("jobs", "--json").stdout)["jobs"]
    ours = [each["submission_id"] for each in listed if each["store"] == str(client.store)]
    assert ours == [job["submission_id"] + "-2", job["submission_id"]]
    assert job["submission_id"] in client.command("jobs").stdout


def test_a_slot_that_several_submit_at_once_is_one_job(client: Client) -> None:
    submitting = [
        subprocess.Popen(
            client.submission("night", "--wait"),
            env=client.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=TIMEOUT_S)[0] for process in submitting]
    assert [process.returncode for process in submitting] == [0, 0, 0]
    assert len({json.loads(output)["job"]["submission_id"] for output in outputs}) == 1
    assert client.n_batches() == 1


def test_without_a_slot_each_submission_is_a_job(client: Client) -> None:
    ids = set()
    for _ in range(2):
        command = client.submission("night", "--wait")
        ids.add(job_of(client.safe(run(*command[: command.index("--slot")], env=client.environment)))["submission_id"])
    assert len(ids) == client.n_batches() == 2


def test_a_job_is_stopped_and_who_waits_for_it_is_told(client: Client) -> None:
    ready = client.folder / "ready"
    os.mkfifo(ready)
    client.batches_do(f"echo begun; : > {ready}; while :; do sleep 0.1; done")
    with subprocess.Popen(
        client.submission("night", "--wait"), env=client.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as waiting:
        ready.read_bytes()  # ends when the batch has opened it
        listed = json.loads(client.command("jobs", "--json").stdout)["jobs"]
        (job,) = (each for each in listed if each["store"] == str(client.store))
        assert (job["status"], job["exit_code"]) == ("RUNNING", None)
        stopped = client.job("stop", job["submission_id"])
        assert (stopped["status"], stopped["exit_code"]) == ("STOPPED", 143)
        assert waiting.wait(TIMEOUT_S) == 143
    assert client.job("stop", job["submission_id"])["status"] == "STOPPED"
    followed = client.command("logs", "--follow", job["submission_id"])
    assert (followed.returncode, "begun" in followed.stdout) == (0, True)


def test_who_ends_the_waiting_does_not_end_the_job(client: Client) -> None:
    ready = client.folder / "ready"
    os.mkfifo(ready)
    client.batches_do(f": > {ready}; while :; do sleep 0.1; done")
    with subprocess.Popen(
        client.submission("night", "--wait"),
        env=client.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        ready.read_bytes()
        waiting.terminate()
        out, err = waiting.communicate(timeout=TIMEOUT_S)
    assert (waiting.returncode, out) == (143, "")
    assert "Traceback" not in err
    (told,) = (line for line in err.splitlines() if line.startswith("terminated: job "))
    job_id = told.split()[2]
    assert client.job("status", job_id)["status"] == "RUNNING"
    assert client.job("stop", job_id)["status"] == "STOPPED"


@pytest.mark.parametrize(("command", "job_id"), [("status", "../version"), ("logs", "none"), ("stop", "a/b?c")])
def test_a_job_that_the_cluster_does_not_know_is_told(command: str, job_id: str, client: Client) -> None:
    done = client.command(command, job_id)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"error: the cluster at {client.head.dashboard} knows no job {job_id!r}\n"


@pytest.mark.parametrize(("mode", "commands"), [("token", ["jobs", "submit"]), ("disabled", ["stop"])])
def test_a_wrong_token_or_none_is_told_and_never_printed(mode: str, commands: list[str], client: Client) -> None:
    wrong = secrets.token_hex(32)
    environment = client.environment | {"RAY_AUTH_TOKEN": wrong, "RAY_AUTH_MODE": mode}
    words = {"jobs": [*CLI, "--debug", "jobs"], "stop": [*CLI, "stop", "a"], "submit": client.submission("night")}
    for command in commands:
        done = client.safe(run(*words[command], env=environment))
        assert (done.returncode, done.stdout) == (6, "")
        assert "refuses this client's token" in done.stderr.splitlines()[-1]
        assert wrong not in done.stderr
    assert client.n_batches() == 0


def test_a_batch_on_schedule_that_is_cut_short_here_is_run_at_the_next_start(episodes: Path, tmp_path: Path) -> None:
    long = write_episodes(tmp_path / "episodes.parquet", clustered_vectors(4_000, 256))
    store = tmp_path / "store"
    command = ["-m", "jobs.schedule", "--cron", "0 2 * * *", "--store", str(store), "--input"]
    with subprocess.Popen([sys.executable, *command, str(long)], stderr=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stderr is not None
        assert any('"phase"' in line for line in scheduler.stderr)
        scheduler.send_signal(signal.SIGTERM)
        rest = scheduler.stderr.read()
        assert scheduler.wait(TIMEOUT_S) == 143
    assert "terminated: the store is as it was" in rest
    assert "it stays owed" in rest
    assert not list(store.glob("manifests/*.json"))
    first, again = (run(sys.executable, *command, str(episodes), "--once") for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0), first.stderr
    report = json.loads(first.stdout)
    assert (report["version"], report["repeated"], again.stdout) == (1, False, "")
    assert ConceptStore.open(store).slot == report["slot"]
