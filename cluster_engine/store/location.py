"""Where a store is: a local directory, or a directory of any ``pyarrow.fs`` filesystem.

Owns the reading of store URIs and the reading of files, and turns operating-system errors into `StoreError`.
Refuses to know what the files mean, and never writes.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
from pyarrow import fs

from cluster_engine.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Location:
    """A directory of a filesystem that holds a store, or will.

    Pass one instead of a URI where the filesystem needs settings that a URI cannot carry (credentials, a proxy).

    Attributes
    ----------
    uri
        What the user gave; named in errors.
    filesystem
        Any ``pyarrow.fs`` filesystem. A local one is read through memory maps.
    root
        The path of the store within ``filesystem``, without a trailing slash.
    """

    uri: str
    filesystem: fs.FileSystem
    root: str

    @property
    def is_local(self) -> bool:
        """Whether the store is on a local filesystem, where a commit is atomic and durable."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def names(self, directory: str) -> list[str]:
        """Return the names in ``directory`` (relative to the root), sorted; none if there is no such directory."""
        selector = fs.FileSelector(f"{self.root}/{directory}", allow_not_found=True)
        with store_errors(self, "list"):
            return sorted(info.base_name for info in self.filesystem.get_file_info(selector))

    def sizes_bytes(self, paths: list[str]) -> list[int | None]:
        """Return the size of each file of ``paths`` (relative to the root), or None where there is no such file."""
        with store_errors(self, "read"):
            infos = self.filesystem.get_file_info([f"{self.root}/{path}" for path in paths])
        return [info.size if info.is_file else None for info in infos]

    def read(self, path: str) -> pa.Buffer:
        """Return the bytes of the file ``path`` (relative to the root): memory-mapped if local, else in memory.

        A device error below a memory map is a SIGBUS, not an exception: the price of not copying the file.
        """
        with self.open(path) as file:
            return file.read_buffer()

    @contextmanager
    def open(self, path: str) -> Iterator[pa.NativeFile]:
        """Open the file ``path`` (relative to the root) to read parts of it."""
        with store_errors(self, "read"), self.filesystem.open_input_file(f"{self.root}/{path}") as file:
            yield file


StoreUri: TypeAlias = str | os.PathLike[str] | Location
"""A path, a ``pyarrow.fs`` URI such as ``s3://bucket/memory``, or a `Location`."""


def locate(uri: StoreUri) -> Location:
    """Return the location that ``uri`` names; nothing is opened.

    Raises
    ------
    StoreError
        If ``uri`` is empty or ``pyarrow.fs`` has no filesystem for it.
    """
    if isinstance(uri, Location):
        return uri
    text = os.fspath(uri)
    if not text:
        raise StoreError("a store needs a path or a URI, and it is empty")
    if "://" not in text:
        return _local(text, text)
    try:
        filesystem, root = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ImportError) as error:
        raise StoreError(f"no filesystem for the store {text}: {error}") from error
    if isinstance(filesystem, fs.LocalFileSystem):
        return _local(text, root)
    return Location(text, filesystem, root.rstrip("/"))


def _local(uri: str, path: str) -> Location:
    return Location(uri, fs.LocalFileSystem(use_mmap=True), str(Path(path).absolute()))


@contextmanager
def store_errors(location: Location, action: str) -> Iterator[None]:
    """Turn an OSError inside the block into a `StoreError` that names the store, the path and the cause."""
    try:
        yield
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, type(error).__name__)
        path = f" at {os.fspath(error.filename)!r}" if isinstance(error.filename, (str, os.PathLike)) else ""
        cause = error.strerror or str(error)
        raise StoreError(f"cannot {action} the store {location.uri}: {cause} ({code}){path}") from error
