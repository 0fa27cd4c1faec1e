"""Names of jobs, what their ends mean, and addresses at which there is no cluster."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.job_submission import JobDetails, JobStatus, JobType

from cluster_engine import submission
from cluster_engine.errors import ClusterConnectionError, ConfigError
from cluster_engine.submission import Jobs, _describe, check_store, submission_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

CONNECT = "import sys; from cluster_engine.cli import main; main(['--debug', 'jobs', '--address', sys.argv[1]])"


@contextmanager
def http_server(status: int, body: bytes) -> Iterator[str]:
    """Answer every request alike, and give the address."""
    with answering(lambda _: (status, body)) as address:
        yield address


@contextmanager
def answering(answer: Callable[[str], tuple[int, bytes] | None]) -> Iterator[str]:
    """Answer a request by its path with a status and a body, or hang up; give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = answer(self.path)
            if given is None:
                self.close_connection = True
                return
            status, body = given
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def listener() -> Iterator[tuple[str, socket.socket]]:
    """Take connections, as a kernel does, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", server


def refusal(address: str) -> str:
    """Return why an address cannot be used."""
    with pytest.raises(ClusterConnectionError) as refused:
        Jobs.connect(address)
    return str(refused.value)


def details(status: JobStatus, **fields: object) -> JobDetails:
    return JobDetails(type=JobType.SUBMISSION, submission_id="a", status=status, entrypoint="e", **fields)


class Head:
    """A head that says how a job stands, one status a question; None is a head that is away. It streams no logs."""

    def __init__(self, *statuses: JobStatus | str | None) -> None:
        self.statuses = list(statuses)

    def __call__(self, path: str) -> tuple[int, bytes] | None:
        if path == "/api/version":
            return 200, b'{"ray_version": "2.60.0"}'
        if path != "/api/jobs/a":
            return 404, b"no such page"
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status is None:
            return None
        if status == "forgotten":
            return 404, b"Job a does not exist"
        return 200, details(JobStatus(status), driver_exit_code=3).model_dump_json().encode()


class TestNames:
    def test_a_slot_of_a_store_has_one_name_however_the_store_is_written(self) -> None:
        name = submission_id("/data/memory", "2026-11-22T02:00Z")
        assert re.fullmatch(r"consolidate-2026-11-22T02-00Z-[0-9a-f]{16}", name)
        assert {
            submission_id(f"/data/{path}", "2026-11-22T02:00Z") for path in ("memory/", "./memory", "x/../memory")
        } == {name}
        assert submission_id("s3://b/m/", "night") == submission_id("s3://b/m", "night")

    def test_other_slots_and_stores_have_other_names(self) -> None:
        pairs = [("/a", "b"), ("/a", "c"), ("/b", "b"), ("s3://a", "b"), ("/a b", ""), ("/a", "b "), ("/a", "B")]
        assert len({submission_id(*pair) for pair in pairs}) == len(pairs)

    @given(store=st.text(min_size=1), slot=st.text())
    def test_a_name_is_part_of_a_url_and_of_a_file_name(self, store: str, slot: str) -> None:
        assert re.fullmatch(r"[A-Za-z0-9-]{1,80}", submission_id(store, slot))

    @pytest.mark.parametrize("store", ["memory", "./memory", "../x", "a/b"])
    def test_a_store_in_a_working_directory_is_refused(self, store: str) -> None:
        with pytest.raises(ConfigError, match="absolute"):
            check_store(store)

    @pytest.mark.parametrize("store", ["/data/memory", "s3://bucket/memory", "file:///data/memory"])
    def test_a_store_that_every_host_knows_is_not(self, store: str) -> None:
        check_store(store)


class TestEnds:
    @pytest.mark.parametrize(
        ("status", "code", "expected"),
        [
            (JobStatus.PENDING, None, None),
            (JobStatus.RUNNING, None, None),
            (JobStatus.SUCCEEDED, 0, 0),
            (JobStatus.STOPPED, None, 143),
            (JobStatus.STOPPED, 0, 143),
            (JobStatus.FAILED, 3, 3),
            (JobStatus.FAILED, 7, 7),
            (JobStatus.FAILED, -9, 137),
            (JobStatus.FAILED, None, 6),
        ],
    )
    def test_a_job_ends_with_the_batchs_code_or_what_comes_nearest(
        self, status: JobStatus, code: int | None, expected: int | None
    ) -> None:
        assert _describe(details(status, driver_exit_code=code)).exit_code == expected

    def test_a_message_is_one_line_and_times_are_utc(self) -> None:
        job = _describe(details(JobStatus.FAILED, message="failed, last logs:\nsecret\n", start_time=1_000, end_time=0))
        assert job.message == "failed, last logs:"
        assert job.started is not None
        assert job.started.isoformat() == "1970-01-01T00:00:01+00:00"
        assert job.ended is None


@pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")  # in Ray's client
class TestWaiting:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(submission, "_POLL_S", 0.01)

    def test_a_job_is_waited_for_though_its_logs_and_its_head_are_away_for_a_while(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with answering(Head("PENDING", "PENDING", None, "RUNNING", None, None, "FAILED")) as address:
            job = Jobs.connect(address).wait("a", lambda _: None)
        assert (job.status, job.exit_code) == ("FAILED", 3)
        assert "broke off" in caplog.text

    def test_a_head_that_stays_away_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(submission, "_LOST_S", 0.2)
        with answering(Head("RUNNING", None)) as address:
            jobs = Jobs.connect(address)
            with pytest.raises(ClusterConnectionError):
                jobs.wait("a", lambda _: None)

    def test_a_head_that_has_forgotten_the_job_is_told(self) -> None:
        with answering(Head("RUNNING", "RUNNING", "forgotten")) as address:
            jobs = Jobs.connect(address)
            with pytest.raises(ClusterConnectionError, match="knows job 'a' no more"):
                jobs.wait("a", lambda _: None)


class SilentClient:
    """Ray's client on a connection that has died without a word: one line of logs, and never an end."""

    def __init__(self, *statuses: JobStatus) -> None:
        self.statuses = list(statuses)
        self.asked = 0

    def get_job_info(self, _: str) -> JobDetails:
        self.asked += 1
        return details(self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0], driver_exit_code=3)

    async def tail_job_logs(self, _: str) -> AsyncIterator[str]:
        yield "one line\n"
        await asyncio.Event().wait()


def test_logs_that_fall_silent_are_not_waited_for_after_the_job_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_SILENT_S", 0.02)
    client = SilentClient(JobStatus.PENDING, JobStatus.RUNNING, JobStatus.RUNNING, JobStatus.FAILED)
    written: list[str] = []
    job = Jobs("http://head:8265", cast("Any", client)).wait("a", written.append)
    assert (job.exit_code, written) == (3, ["one line\n"])
    assert client.asked == 5  # once at first, while it was silent, and at the end


class TestAddresses:
    @pytest.mark.parametrize(
        "address", ["127.0.0.1:6379", "auto", "ray://head:10001", "http://", "file:///etc", "head:8265", "anyscale://x"]
    )
    def test_what_is_no_dashboard_is_refused_by_its_form(self, address: str) -> None:
        assert "http://head:8265" in refusal(address)

    def test_nobody_there(self) -> None:
        with listener() as (address, server):
            server.close()
            assert address in refusal(address)

    def test_somebody_who_never_answers(self) -> None:
        with listener() as (address, _):
            assert "read timeout=3.0" in refusal(address)

    @pytest.mark.parametrize(
        ("status", "body"), [(404, b""), (500, b"oops"), (200, b"<html>"), (200, b"{}"), (200, b'"x"'), (200, b"[]")]
    )
    def test_something_else_that_answers(self, status: int, body: bytes) -> None:
        with http_server(status, body) as address:
            assert address in refusal(address)

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_cluster_that_asks_for_another_token(self, status: int) -> None:
        with http_server(status, b"Forbidden") as address:
            assert "refuses this client's token" in refusal(address)

    def test_a_password_in_an_address_is_not_told(self) -> None:
        with listener() as (address, server):
            server.close()
            text = refusal(address.replace("http://", "http://me:secret@"))
        assert "secret" not in text

    def test_an_address_is_that_of_the_option_before_that_of_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
        with http_server(200, b'{"ray_version": "2.60.0"}') as here, listener() as (elsewhere, _):
            monkeypatch.setenv("RAY_API_SERVER_ADDRESS", elsewhere)
            assert Jobs.connect(f"{here}/").address == here
            assert os.environ["RAY_API_SERVER_ADDRESS"] == elsewhere
            assert os.environ["RAY_ADDRESS"] == "127.0.0.1:6379"
            monkeypatch.setenv("RAY_API_SERVER_ADDRESS", here)
            assert Jobs.connect().address == here

    @pytest.mark.parametrize("kind", ["with a line break\nin it", "beyond Latin-1 \N{SNOWMAN}"])
    def test_a_token_that_cannot_be_sent_is_not_told(self, kind: str) -> None:
        token = f"{secrets.token_hex(16)} {kind}"
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        with http_server(200, b'{"ray_version": "2.60.0"}') as address:
            done = subprocess.run(
                [sys.executable, "-c", CONNECT, address],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        assert done.returncode == 6, done.stderr
        assert token[:32] not in done.stdout + done.stderr

    @pytest.mark.parametrize("content", [None, "", "\n"])
    def test_a_token_file_that_has_no_token_is_told(self, content: str | None, tmp_path: Path) -> None:
        path = tmp_path / "token"
        if content is not None:
            path.write_text(content)
        environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
        done = subprocess.run(
            [sys.executable, "-m", "cluster_engine.cli", "jobs", "--address", "http://127.0.0.1:1"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 6, done.stderr
        assert done.stderr.startswith(f"error: RAY_AUTH_TOKEN_PATH={path}: ")
        assert done.stderr.count("\n") == 1
