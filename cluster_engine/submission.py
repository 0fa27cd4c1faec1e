"""Batches as jobs of a Ray cluster: the one module that speaks to its Jobs API.

Owns the names of jobs, which make a slot one job however often it is submitted, and what the end of a job says as an
exit code. A token is Ray's business (``RAY_AUTH_MODE``, ``RAY_AUTH_TOKEN``, ``RAY_AUTH_TOKEN_PATH``): it is read by Ray
alone and part of no message here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import posixpath
import re
import shlex
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp  # of ray[default], whose client speaks through it
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster_engine.errors import ClusterConnectionError, ConfigError, InputError
from cluster_engine.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ray.job_submission import JobDetails

_LOG = logging.getLogger(__name__)

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
_OVERRIDES = (ADDRESS_VARIABLE, "RAY_ADDRESS")  # Ray's client prefers them to the address that it is given
_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105  # a variable's name
_CONNECT_S = 3.0  # promised: an error within 5 s, of which the start of Python takes one or two
_ANSWER_S = 60.0  # the cluster answers only when the head's agent has taken the job
_POLL_S = 1.0
_SILENT_S = 30.0  # chosen, not measured: a batch tells its progress every five
_LOST_S = 60.0  # chosen, not measured: how long a head may be away while a job is waited for
_TAKEN = "already exists"
_UNKNOWN = "does not exist"
_STORE, _SLOT = "cluster_engine_store", "cluster_engine_slot"  # keys of a job's metadata
_SIGNALLED = 128


@dataclass(frozen=True)
class Job:
    """What a cluster knows of a job.

    Attributes
    ----------
    submission_id : str
    status : str
        PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
    exit_code : int or None
        What the batch ended with, or what comes nearest; None while it has not ended.
    store, slot : str or None
        Of a batch that was submitted here.
    started, ended : datetime or None
    message : str
        What the cluster says of the status, its first line: logs may follow.
    """

    submission_id: str
    status: str
    exit_code: int | None
    store: str | None
    slot: str | None
    started: datetime | None
    ended: datetime | None
    message: str


def submission_id(store: str, slot: str) -> str:
    """Return the name of the job that runs a slot of a store: the same one, wherever it is submitted from."""
    normal = store.rstrip("/") if "://" in store else posixpath.normpath(store)
    digest = sha256(f"{normal}\n{slot}".encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", slot).strip("-")[:40]
    return f"consolidate-{readable}-{digest}"


def numbered_id(name: str, n_tries: int) -> str:
    """Return the id of a slot's first, second, ... job."""
    return name if n_tries == 1 else f"{name}-{n_tries}"


def check_store(store: str) -> None:
    """Refuse a relative path, which would be a folder of the job's working directory, and go with it.

    Raises
    ------
    ConfigError
    """
    if "://" not in store and not Path(store).is_absolute():
        raise ConfigError(
            f"--store {store}: a job's working directory is removed after it; give an absolute path or a URI"
        )


def check_working_dir(path: str | None) -> None:
    """Refuse a local working directory that is none.

    Raises
    ------
    ConfigError
    """
    if path is not None and "://" not in path and not Path(path).is_dir():
        raise ConfigError(f"--working-dir {path}: there is no such directory")


class _Client(JobSubmissionClient):
    """Ray's client, which by itself would wait for an answer for ever."""

    timeout_s = (_CONNECT_S, _CONNECT_S)

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:  # noqa: ANN401  # as Ray has it
        return super()._do_request(method, endpoint, timeout=self.timeout_s, **options)


@dataclass(frozen=True)
class Jobs:
    """The jobs of one cluster. Every method raises `ClusterConnectionError` if the cluster does not answer.

    Attributes
    ----------
    address : str
        Of the dashboard, as ``http://head:8265``.
    """

    address: str
    _client: _Client

    @classmethod
    def connect(cls, address: str | None = None) -> Jobs:
        """Return the jobs of the cluster at an address, by default that of RAY_API_SERVER_ADDRESS or of this host.

        Raises
        ------
        ClusterConnectionError
            Nobody answers there within 3 s, or it is no dashboard of Ray, or it refuses this client's token.
        """
        chosen = (address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS).rstrip("/")
        shown = _without_password(chosen)
        if not re.match(r"https?://[^/]", chosen):
            raise ClusterConnectionError(
                f"address {shown!r}: a job is submitted to the dashboard, as http://head:8265, not to the GCS"
            )
        _check_token_file()
        with _speaking_to(shown), _without_overrides():
            client = _Client(chosen)
        client.timeout_s = (_CONNECT_S, _ANSWER_S)
        return cls(shown, client)

    def submit(self, command: Sequence[str], store: str, slot: str | None, working_dir: str | None = None) -> str:
        """Submit a batch, unless its slot has a job that waits, runs or succeeded, and return the job's id.

        Of a slot whose job failed or was stopped, the next try is another job, whose id ends with its number.

        Parameters
        ----------
        command : sequence of str
            The arguments of the entry point.
        store : str
        slot : str or None
            Without one, each submission is a new job.
        working_dir : str, optional
            A directory whose files the job shall find in its working directory.
        """
        metadata = {_STORE: store} | ({} if slot is None else {_SLOT: slot})
        runtime_env = {} if working_dir is None else {"working_dir": working_dir}
        name = None if slot is None else submission_id(store, slot)
        n_tries = 1
        while name is not None and (job := self._find(numbered_id(name, n_tries))) is not None:
            if job.status not in {JobStatus.FAILED, JobStatus.STOPPED}:
                _LOG.info("slot=%s has a job id=%s status=%s", slot, job.submission_id, job.status)
                return job.submission_id
            n_tries += 1
        chosen = None if name is None else numbered_id(name, n_tries)
        with _speaking_to(self.address):
            try:
                return self._client.submit_job(
                    entrypoint=shlex.join(command), submission_id=chosen, metadata=metadata, runtime_env=runtime_env
                )
            except RuntimeError as error:
                if chosen is None or _TAKEN not in str(error):
                    raise
                _LOG.info("another client has submitted slot=%s in the same moment id=%s", slot, chosen)
                return chosen

    def find(self, job_id: str) -> Job:
        """Return what the cluster knows of a job.

        Raises
        ------
        InputError
            It knows no such job.
        """
        job = self._find(job_id)
        if job is None:
            raise InputError(f"the cluster at {self.address} knows no job {job_id!r}")
        return job

    def _find(self, job_id: str) -> Job | None:
        if not re.fullmatch(r"[\w.-]+", job_id):  # it becomes part of a URL
            return None
        with _speaking_to(self.address):
            try:
                details = self._client.get_job_info(job_id)
            except RuntimeError as error:
                if _UNKNOWN in str(error):
                    return None
                raise
        return _describe(details) if details.submission_id else None

    def known(self) -> list[Job]:
        """Return the jobs that were submitted to the cluster, the newest first."""
        with _speaking_to(self.address):
            found = [_describe(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: (job.started is not None, job.started), reverse=True)

    def logs(self, job_id: str) -> str:
        """Return what a job wrote so far."""
        self.find(job_id)
        with _speaking_to(self.address):
            return self._client.get_job_logs(job_id)

    def wait(self, job_id: str, write: Callable[[str], object]) -> Job:
        """Hand a job's logs to ``write`` as they come, and return the job when it has ended.

        A head that does not answer for a minute is given up; so is a job that a restarted head knows no more.
        """
        self.find(job_id)
        try:
            asyncio.run(self._follow(job_id, write))
        except (OSError, RuntimeError, asyncio.TimeoutError, aiohttp.ClientError, ClusterConnectionError) as error:
            _LOG.warning("the logs of job id=%s broke off: %s", job_id, type(error).__name__)
        seen = time.monotonic()
        while True:
            try:
                job = self._find(job_id)
            except ClusterConnectionError:
                if time.monotonic() - seen > _LOST_S:
                    raise
            else:
                if job is None:
                    raise ClusterConnectionError(f"the cluster at {self.address} knows job {job_id!r} no more")
                if job.exit_code is not None:
                    return job
                seen = time.monotonic()
            time.sleep(_POLL_S)

    async def _follow(self, job_id: str, write: Callable[[str], object]) -> None:
        """Hand on logs until they end; a stream that is silent may be a dead one, so the job is asked for too."""
        logs = self._client.tail_job_logs(job_id)
        coming = asyncio.ensure_future(anext(logs, None))
        while True:
            await asyncio.wait({coming}, timeout=_SILENT_S)
            if coming.done():
                lines = coming.result()
                if lines is None:
                    return
                write(lines)
                coming = asyncio.ensure_future(anext(logs, None))
            elif (job := self._find(job_id)) is None or job.exit_code is not None:
                return

    def stop(self, job_id: str) -> Job:
        """Ask a job to end, wait until it has, and return it. One that has ended already stays as it is."""
        job = self.find(job_id)
        with _speaking_to(self.address):
            self._client.stop_job(job_id)
        deadline = time.monotonic() + _LOST_S
        while job.exit_code is None:
            if time.monotonic() > deadline:
                raise ClusterConnectionError(f"job {job_id} did not end within {_LOST_S:.0f} s: {job.message}")
            time.sleep(_POLL_S)
            job = self.find(job_id)
        return job


def _describe(details: JobDetails) -> Job:
    metadata = details.metadata or {}
    return Job(
        submission_id=details.submission_id or "",
        status=str(details.status),
        exit_code=_exit_code(details),
        store=metadata.get(_STORE),
        slot=metadata.get(_SLOT),
        started=_time(details.start_time),
        ended=_time(details.end_time),
        message=(details.message or "").strip().partition("\n")[0],
    )


def _exit_code(details: JobDetails) -> int | None:
    """Return the exit code of the batch; one that was stopped, or never ran, has none of its own."""
    if not details.status.is_terminal():
        return None
    if details.status == JobStatus.SUCCEEDED:
        return ExitCode.OK
    if details.status == JobStatus.STOPPED:
        return ExitCode.TERMINATED
    code = details.driver_exit_code
    if code is None:
        return ExitCode.CLUSTER
    return code if code >= 0 else _SIGNALLED - code


def _time(milliseconds: int | None) -> datetime | None:
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, timezone.utc)


def _check_token_file() -> None:
    """Refuse a token file that cannot be read, which would end the process within Ray."""
    path = os.environ.get(_TOKEN_PATH)
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" or os.environ.get("RAY_AUTH_TOKEN") or not path:
        return
    try:
        is_empty = not Path(path).read_bytes().strip()
    except OSError as error:
        raise ClusterConnectionError(f"{_TOKEN_PATH}={path}: {error.strerror}") from error
    if is_empty:
        raise ClusterConnectionError(f"{_TOKEN_PATH}={path}: the file is empty")


@contextmanager
def _without_overrides() -> Iterator[None]:
    """Hide the variables that Ray's client prefers to the address that it is given."""
    hidden = {name: os.environ.pop(name) for name in _OVERRIDES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _speaking_to(address: str) -> Iterator[None]:
    """Turn what Ray's client raises into one error that names the address.

    The cause of a refused or unusable token is left out: it can quote the header that carries the token.
    """
    try:
        yield
    except AuthenticationError:
        raise ClusterConnectionError(
            f"the cluster at {address} refuses this client's token; give the cluster's own with RAY_AUTH_MODE=token "
            "and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        ) from None
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ClusterConnectionError(f"the cluster at {address} cannot be used: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    if kind in {"InvalidHeader", "UnicodeEncodeError"}:
        return "the token cannot be sent: it has white space, controls or characters beyond Latin-1"
    if kind in {"KeyError", "TypeError", "JSONDecodeError"}:
        return "what answers there is no Ray dashboard"
    lines = str(error).strip().splitlines() or [kind]
    return _without_password(lines[-1] if "Traceback" in lines[0] else lines[0])  # of the head's traceback, its end


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
