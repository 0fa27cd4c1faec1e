"""One batch at a time on a store, for longer than a commit takes: a lease that runs out, with a token that goes up.

Owns who holds it and until when. Refuses to know what the holder does.

``lease.json`` changes only under the lock of the store, which nobody holds for long. Who finds it free, given back or
run out takes it, with the next token, and renews it every third of its time. A commit with a fence is refused unless
the lease has the token of that fence, which is looked at under the lock of the commit. So of holders that follow each
other only the last can commit: one that was stopped, and wakes after another took its lease, is refused, however late.

Times are of the wall clock, the only one that hosts share. Where clocks differ, a lease may be taken too early or too
late by as much; the tokens, which know no time, still let only one commit.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from cluster_engine.errors import FencedError, LeaseHeldError, StoreCorruptError, StoreError
from cluster_engine.store import files
from cluster_engine.store.catalog import newest_manifest
from cluster_engine.store.location import locate, store_errors
from cluster_engine.store.lock import hold_lock
from cluster_engine.store.publication import make_layout
from cluster_engine.store.sealed import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster_engine.store.location import Location, StoreUri

logger = logging.getLogger(__name__)

LEASE = "lease.json"
"""The file of the lease, relative to the store."""
_POLL_S = 0.1  # chosen, not measured: a batch takes seconds at least
_LOCK_TIMEOUT_S = 10.0  # as for a commit


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of a lease, for commits.

    Attributes
    ----------
    token : int
        From 1; each time the lease is taken, the next.
    """

    token: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What ``lease.json`` says: who has the lease, or had it last, and until when (ISO 8601, UTC)."""

    token: int
    holder: str
    until: str


@contextmanager
def hold_lease(
    uri: StoreUri, holder: str | None = None, *, ttl_s: float = 20.0, wait_s: float = 0.0
) -> Iterator[Fence | None]:
    """Hold the lease of a store for the block; the store's directory is made if missing.

    Parameters
    ----------
    uri
        Where the store is.
    holder
        Who asks, for those who are told that it is held; by default this host and process.
    ttl_s
        Seconds after which others may take it where the holder stops renewing it, being killed, stopped or cut off.
    wait_s
        Seconds to wait for another holder.

    Yields
    ------
    Fence or None
        For the commits of the block. None on a store that is not local: ``pyarrow.fs`` cannot create a file only where
        there is none, so there is no lease there, and writers have ``expected_version`` alone.

    Raises
    ------
    ValueError
        If ``ttl_s`` is not positive.
    LeaseHeldError
        If another still holds it; says who and until when.
    CommitConflictError
        If the lock of the store cannot be had.
    FencedError
        In place of a `StoreError` of the block, if the lease was lost meanwhile.
    StoreError
        If the store cannot be written.
    """
    if ttl_s <= 0:
        raise ValueError(f"ttl_s must be positive, got {ttl_s:g}")
    location = locate(uri)
    newest_manifest(location)  # a newer format is refused before even the lock file is made
    if not location.is_local:
        yield None
        return
    fence = _take(location, holder or f"{socket.gethostname()}/{os.getpid()}", ttl_s, wait_s)
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(location, fence, ttl_s, ended), name="lease", daemon=True)
    renewal.start()
    try:
        yield fence
    except StoreError as error:
        _tell_loss(location, fence, error)
        raise
    finally:
        ended.set()
        renewal.join()
        _give_back(location, fence)


def require_newest(location: Location, fence: Fence) -> None:
    """Refuse a fence that is not of the newest lease. Only under the lock.

    Raises
    ------
    FencedError
        Saying who has it now.
    """
    lease = read_lease(location)
    if lease is None or lease.token != fence.token:
        now = "there is none" if lease is None else f"it has token {lease.token}, of {lease.holder}"
        raise FencedError(
            f"the lease of the store {location.uri} with token {fence.token} is lost: {now}; this writer was stopped "
            "for longer than it may be, and nothing was changed"
        )


def _tell_loss(location: Location, fence: Fence, error: StoreError) -> None:
    """Raise `FencedError` where the lease is lost: what failed is then what its new holder changed meanwhile."""
    if isinstance(error, FencedError):
        return
    with hold_lock(Path(location.root) / ".lock", _LOCK_TIMEOUT_S):
        try:
            require_newest(location, fence)
        except FencedError as loss:
            raise loss from error


def read_lease(location: Location) -> Lease | None:
    """Return the lease of a local store, as it was last written; None where it was never taken.

    Raises
    ------
    StoreCorruptError
        It is damaged.
    """
    if location.sizes_bytes([LEASE]) == [None]:
        return None
    name = f"{location.root}/{LEASE}"
    try:
        return Lease(**unseal(location.read(LEASE).to_pybytes(), name))
    except TypeError as error:
        raise StoreCorruptError(f"{name} is not a lease: {error}") from error


def _take(location: Location, holder: str, ttl_s: float, wait_s: float) -> Fence:
    deadline = time.monotonic() + wait_s
    root = Path(location.root)
    with store_errors(location, "take the lease of"):
        make_layout(root)
        while True:
            with hold_lock(root / ".lock", max(_LOCK_TIMEOUT_S, deadline - time.monotonic())):
                lease = read_lease(location)
                if lease is None or datetime.fromisoformat(lease.until) <= _now():
                    fence = Fence(1 if lease is None else lease.token + 1)
                    _write(location, fence, holder, ttl_s)
                    break
            if time.monotonic() >= deadline:
                raise LeaseHeldError(
                    f"the store {location.uri} is held by {lease.holder} until {lease.until}, and longer if that one "
                    f"renews it; waited {wait_s:g} s, nothing was changed"
                )
            time.sleep(_POLL_S)
    logger.info("took lease store=%s holder=%s token=%d", location.uri, holder, fence.token)
    return fence


def _renew(location: Location, fence: Fence, ttl_s: float, ended: threading.Event) -> None:
    """Renew a lease until it has ended or is another's."""
    is_held = True
    while is_held and not ended.wait(ttl_s / 3):
        is_held = _try_renewal(location, fence, ttl_s)


def _try_renewal(location: Location, fence: Fence, ttl_s: float) -> bool:
    """Renew a lease; return False if it is another's. What fails is tried again: meanwhile the store has its fence."""
    try:
        if _rewrite(location, fence, ttl_s, lock_timeout_s=ttl_s / 3):
            return True
    except StoreError as error:
        logger.warning("did not renew lease store=%s token=%d cause=%s", location.uri, fence.token, error)
        return True
    logger.warning("lost lease store=%s token=%d", location.uri, fence.token)
    return False


def _give_back(location: Location, fence: Fence) -> None:
    try:
        _rewrite(location, fence, 0.0, lock_timeout_s=_LOCK_TIMEOUT_S)
    except StoreError as error:
        logger.warning("lease runs out by itself store=%s token=%d cause=%s", location.uri, fence.token, error)


def _rewrite(location: Location, fence: Fence, ttl_s: float, *, lock_timeout_s: float) -> bool:
    """Let a lease last for so long from now; return False if it is another's."""
    with (
        store_errors(location, "renew the lease of"),
        hold_lock(Path(location.root) / ".lock", lock_timeout_s),
    ):
        lease = read_lease(location)
        if lease is None or lease.token != fence.token:
            return False
        _write(location, fence, lease.holder, ttl_s)
        return True


def _write(location: Location, fence: Fence, holder: str, ttl_s: float) -> None:
    lease = Lease(fence.token, holder, (_now() + timedelta(seconds=ttl_s)).isoformat())
    files.replace_file(Path(location.root) / LEASE, seal(asdict(lease)))


def _now() -> datetime:
    return datetime.now(timezone.utc)
