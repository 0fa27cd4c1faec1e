"""Files of a version, read and held against what its manifest says of them.

Owns what is said of a file that differs. Refuses to know what the tables mean.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster_engine.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cluster_engine.store.location import Location
    from cluster_engine.store.manifest import FileEntry


def check_sizes(location: Location, entries: Sequence[FileEntry]) -> None:
    """Raise `StoreCorruptError` if a file is missing or has another size."""
    sizes_bytes = location.sizes_bytes([entry.path for entry in entries])
    for entry, size_bytes in zip(entries, sizes_bytes, strict=True):
        _check_size(location, entry, size_bytes)


def read_file(location: Location, entry: FileEntry, *, is_verified: bool = False) -> pa.Buffer:
    """Return the bytes of a file.

    Parameters
    ----------
    location : Location
    entry : FileEntry
    is_verified : bool
        Its checksum was taken before: now look at the size only.

    Raises
    ------
    StoreCorruptError
        The size or the checksum differs.
    StoreError
        It cannot be read.
    """
    data = location.read(entry.path)
    _check_size(location, entry, data.size)
    if not is_verified and (got := hashlib.sha256(data).hexdigest()) != entry.sha256:
        raise StoreCorruptError(f"{location.root}/{entry.path}: want sha256 {entry.sha256}, got {got}")
    return data


@contextmanager
def parquet_errors(location: Location, entry: FileEntry) -> Iterator[None]:
    """Turn an error of Arrow inside the block into a `StoreCorruptError` that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise StoreCorruptError(f"{location.root}/{entry.path} is not Parquet: {error}") from error


def _check_size(location: Location, entry: FileEntry, size_bytes: int | None) -> None:
    if size_bytes != entry.n_bytes:
        got = "no file" if size_bytes is None else f"{size_bytes} bytes"
        raise StoreCorruptError(f"{location.root}/{entry.path}: want {entry.n_bytes} bytes, got {got}")
