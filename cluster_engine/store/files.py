"""The system calls that change a local store: the only module of the package that makes them.

Owns durability: after a function here returns, what it says is on disk survives a loss of power. Every ``OSError`` that
leaves this module carries its path. Refuses to know what is in the files.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Buffer


PENDING = ".pending-"
"""How a name begins that readers do not look at, and that the next writer removes."""

_FILLED_BYTES = 1 << 18  # ahead of the end: some thousand small records between two syncs that are slow


@contextmanager
def create_file(path: Path, *, is_durable: bool = True) -> Iterator[Callable[[Buffer], None]]:
    """Create the file ``path``, which must not exist, and give a function that appends bytes to it.

    When the block ends without an error, the content is durable, unless that is not asked for; the name is durable
    after `sync_directory`.
    """
    with _naming(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            yield lambda data: _write_all(fd, data)
            if is_durable:
                os.fsync(fd)
        finally:
            os.close(fd)


class AppendedFile:
    """The file ``path``, which grows at its end while it is open.

    It is filled with zeros ahead of what is appended: to write over zeros changes no metadata, so that a sync costs a
    tenth of one after the file has grown. A reader meets the zeros where the writer died.

    Parameters
    ----------
    path : Path
    n_bytes : int or None
        What is kept of it, the rest is cut off; None to create it, which fails if it exists.

    Notes
    -----
    One thread appends or cuts at a time; any may `sync` meanwhile.
    """

    def __init__(self, path: Path, n_bytes: int | None) -> None:
        self.path = path
        self._n_bytes = self._n_filled_bytes = n_bytes or 0
        flags = os.O_CREAT | os.O_EXCL if n_bytes is None else 0
        with _naming(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o666)
            try:
                if n_bytes is not None:
                    os.ftruncate(self._fd, n_bytes)
                    os.fdatasync(self._fd)
            except BaseException:
                os.close(self._fd)
                raise

    def append(self, data: Buffer) -> None:
        """Write ``data`` at the end; some of it may be there when this fails."""
        end = self._n_bytes + memoryview(data).nbytes
        with _naming(self.path):
            if end > self._n_filled_bytes:
                _write_all(self._fd, bytes(end + _FILLED_BYTES - self._n_filled_bytes), self._n_filled_bytes)
                self._n_filled_bytes = end + _FILLED_BYTES
            _write_all(self._fd, data, self._n_bytes)
        self._n_bytes = end

    def cut(self, n_bytes: int) -> None:
        """Keep the first ``n_bytes`` only."""
        with _naming(self.path):
            os.ftruncate(self._fd, n_bytes)
        self._n_bytes = self._n_filled_bytes = n_bytes

    def sync(self) -> None:
        """Make durable what was appended before the call. After a failure, nobody knows what is on disk."""
        with _naming(self.path):
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file, without the zeros."""
        with _naming(self.path):
            try:
                os.ftruncate(self._fd, self._n_bytes)
            finally:
                os.close(self._fd)


def sync_directory(path: Path) -> None:
    """Make the names in the directory ``path`` durable."""
    with _naming(path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_directory(path: Path) -> None:
    """Make the directory ``path`` and its missing parents, durably; it may exist."""
    missing = [directory for directory in (path, *path.parents) if not directory.is_dir()]
    for directory in reversed(missing):
        try:
            os.mkdir(directory)  # noqa: PTH102 - every change goes through `os`, where the crash tests count them
        except FileExistsError:
            if not directory.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from None
        sync_directory(directory.parent)


def replace_file(path: Path, data: Buffer, *, is_durable: bool = True) -> None:
    """Give the file ``path`` this content; at any moment it has the old one or the new one.

    Unless that is asked for, it is not durable: a loss of power may leave anything. One process at a time may call: a
    pending file that is there was left by one that died.
    """
    pending = path.with_name(f"{PENDING}{path.name}")
    remove_file(pending)
    with create_file(pending, is_durable=is_durable) as write:
        write(data)
    os.rename(pending, path)  # noqa: PTH104 - see make_directory
    if is_durable:
        sync_directory(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target`` within one directory, durably."""
    os.rename(source, target)  # noqa: PTH104 - see make_directory
    sync_directory(target.parent)


def publish(source: Path, target: Path) -> None:
    """Give ``source`` the second name ``target``, durably; never replace what is there.

    A link is atomic, and unlike a rename it fails if the target exists.

    Raises
    ------
    FileExistsError
        If ``target`` exists and is not ``source``. (It is ``source`` when a network filesystem lost the reply to the
        first call and repeated it.)
    """
    try:
        os.link(source, target)
    except FileExistsError:
        if not source.samefile(target):
            raise
    sync_directory(target.parent)


def remove_file(path: Path) -> None:
    """Remove the file ``path``; it may be gone."""
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - see make_directory


def remove_directory(path: Path) -> None:
    """Remove the directory ``path`` and the files in it."""
    for file in sorted(path.iterdir()):
        remove_file(file)
    os.rmdir(path)  # noqa: PTH106 - see make_directory


def _write_all(fd: int, data: Buffer, offset: int | None = None) -> None:
    """Write all of ``data``, at the offset: a short write is continued, and shows its cause at the next call."""
    rest = memoryview(data).cast("B")
    while rest:
        n_bytes = os.write(fd, rest) if offset is None else os.pwrite(fd, rest, offset)
        if n_bytes == 0:
            raise OSError(errno.EIO, "a write made no progress")
        offset = None if offset is None else offset + n_bytes
        rest = rest[n_bytes:]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put ``path`` into an ``OSError`` of a call that only knew a descriptor."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
