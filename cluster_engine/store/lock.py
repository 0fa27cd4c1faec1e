"""One writer at a time on a local store: an exclusive ``flock`` that dies with its holder.

Owns the waiting. Refuses to know what is protected. It is a lock among processes of one host, and among hosts only
where the shared filesystem carries ``flock`` (NFS on Linux does).
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster_engine.errors import CommitConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL_S = 0.02  # chosen, not measured: well under the time of a commit


@contextmanager
def open_lock(path: Path) -> Iterator[int]:
    """Open the lock file ``path`` without taking the lock: proof that it could be taken."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def hold_lock(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the exclusive lock of the file ``path`` for the block. The file is made if missing, and never removed.

    Raises
    ------
    CommitConflictError
        If another process still holds it after ``timeout_s`` seconds.
    """
    with open_lock(path) as fd:
        _acquire(fd, path, timeout_s)
        try:
            yield
        finally:
            # Closing alone would leave the lock with a process forked meanwhile.
            fcntl.flock(fd, fcntl.LOCK_UN)


def _acquire(fd: int, path: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not _try_lock(fd):
        if time.monotonic() >= deadline:
            raise CommitConflictError(
                f"another writer has held {path} for {timeout_s:g} s; nothing was changed, try again later"
            )
        time.sleep(_POLL_S)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
