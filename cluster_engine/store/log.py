"""The log: a file of records that grows at its end, made durable in groups, and read back after a crash.

Owns the format, its checksums, and what a reader makes of a damaged file. Refuses to know what the records mean.

A file begins with `_PREFIX`, which names the format, and 8 random bytes, the token. Records follow, each a multiple of
8 bytes, all numbers little-endian::

    marker   4 bytes
    crc      uint32  CRC-32 of the token and of all that follows
    offset   uint64  of this record in the file
    durable  uint64  length of the file that was known to be on disk when the record was written
    n_bytes  uint64  of the body, padding included
    body             uint32 length, then JSON: kind, fields, columns (name, dtype, length); zeros up to a multiple of 8;
                     the columns, each filled up with zeros to a multiple of 8

So damage has a meaning. What no valid record follows is the torn end of a write that nobody was promised, and is cut
off. So is a record that is damaged before a valid one that was written without knowing it on disk: a disk may have
written the later first. Any other damage is of what was promised, and is a `StoreCorruptError`. A flipped bit in the
very last records looks like a torn end: only a later record vouches for them.
"""

from __future__ import annotations

import json
import mmap
import secrets
import struct
import threading
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster_engine.errors import StoreCorruptError, StoreError, StoreFormatError
from cluster_engine.store import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self

LOG_FORMAT = 1
"""The newest format of a log file that this code reads and writes."""

_PREFIX = struct.Struct("<6sH8s")  # what it is, format, token
_SIGNATURE = b"\x89CELOG"
_MARKER = b"\xe5rec"
_RECORD = struct.Struct("<4sIQQQ")
_CRC_START = 8  # the checksum covers what follows it
_JSON_LENGTH = struct.Struct("<I")
_DTYPES = {"<i8", "<u8", "<f4", "|u1"}


@dataclass(frozen=True, slots=True)
class Record:
    """A kind, plain fields, and arrays.

    Attributes
    ----------
    kind : str
    fields : mapping of str to what JSON knows
    columns : mapping of str to ndarray of int64, uint64, float32 or uint8
        Any shape is written flat.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class LogWriter:
    """Appends records to one file. Made by `create_log` and `resume_log`.

    Attributes
    ----------
    n_bytes : int
        Length of the file.
    n_syncs : int
        Calls of the disk since it was opened.
    sync_s : float
        Seconds they took.

    Notes
    -----
    One thread appends or cuts at a time, any number wait in `sync`: one system call serves all that wait.
    """

    def __init__(self, file: files.AppendedFile, token: bytes, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self.n_syncs = 0
        self.sync_s = 0.0
        self._file = file
        self._token = token
        self._durable_bytes = n_bytes
        self._syncing = threading.Lock()
        self._broken: OSError | None = None

    def append(self, record: Record) -> int:
        """Write a record at the end, and return the length of the file then.

        Raises
        ------
        StoreError
            It cannot be written; the log is as before.
        """
        self._require_whole()
        data = _encode(record, self._token, self.n_bytes, self._durable_bytes)
        try:
            self._file.append(data)
        except OSError as error:
            self.cut(self.n_bytes)
            raise StoreError(
                f"cannot append to the log {self._file.path}: {error.strerror}; nothing was changed"
            ) from error
        self.n_bytes += len(data)
        return self.n_bytes

    def cut(self, n_bytes: int) -> None:
        """Take back what was appended since the log had this length."""
        try:
            self._file.cut(n_bytes)
        except OSError as error:
            self.refuse(error)
            self._require_whole()
        self.n_bytes = n_bytes

    def sync(self, n_bytes: int) -> None:
        """Return when the first ``n_bytes`` are on disk.

        Raises
        ------
        StoreError
            It is not known what is on disk. From now on, every call raises this.
        """
        with self._syncing:
            if self._durable_bytes >= n_bytes:
                return
            self._require_whole()
            written = self.n_bytes
            began_s = time.perf_counter()
            try:
                self._file.sync()
            except OSError as error:
                self.refuse(error)
                self._require_whole()
            self._durable_bytes = written
            self.n_syncs += 1
            self.sync_s += time.perf_counter() - began_s

    def rename(self, path: Path) -> None:
        """Give the file another name in its directory, durably.

        Raises
        ------
        OSError
            Either name may be the one.
        """
        files.rename(self._file.path, path)
        self._file.path = path

    def refuse(self, cause: OSError) -> None:
        """Take nothing more: for this cause, nobody knows what a reader would find."""
        self._broken = cause

    def close(self) -> None:
        """Close the file; what was not synced may be lost."""
        self._file.close()

    def _require_whole(self) -> None:
        if self._broken is not None:
            raise StoreError(
                f"the log {self._file.path} failed ({self._broken.strerror}) and takes nothing more, for what is on "
                "disk is not known; free the disk and start the service again"
            ) from self._broken


def create_log(path: Path, records: list[Record]) -> LogWriter:
    """Create the file ``path`` with these records, at least one; they are on disk then, the name is not."""
    token = secrets.token_bytes(8)
    n_bytes = _PREFIX.size
    file = files.AppendedFile(path, None)
    try:
        file.append(_PREFIX.pack(_SIGNATURE, LOG_FORMAT, token))
        for record in records:
            data = _encode(record, token, n_bytes, 0)
            file.append(data)
            n_bytes += len(data)
        file.sync()
    except BaseException:
        file.close()
        raise
    return LogWriter(file, token, n_bytes)


def resume_log(path: Path, n_bytes: int) -> LogWriter:
    """Go on with a log of which so many bytes are valid; its torn end is cut off."""
    with LogFile(path) as log:
        token = log.token
    return LogWriter(files.AppendedFile(path, n_bytes), token, n_bytes)


class LogFile:
    """A log file, to be read. Use as a context manager.

    Raises
    ------
    StoreFormatError
        A newer format; nothing else of it is looked at.
    StoreCorruptError
        Not a log.
    FileNotFoundError
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_valid_bytes = 0
        with path.open("rb") as file:
            head = file.read(_PREFIX.size)
            if len(head) < _PREFIX.size or not head.startswith(_SIGNATURE):
                raise StoreCorruptError(f"{path}, offset 0: this is not a log of mutations")
            _, number, self.token = _PREFIX.unpack(head)
            if number > LOG_FORMAT:
                raise StoreFormatError(
                    f"{path} has log format {number}, and this code knows formats up to {LOG_FORMAT}; nothing was "
                    "changed, use a newer cluster-engine"
                )
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yield the offset of each record and the record; `n_valid_bytes` is the end of the last one so far.

        Raises
        ------
        StoreCorruptError
            Naming the file and the offset, where a promised record is damaged.
        """
        offset = self.n_valid_bytes = _PREFIX.size
        while (end := self._end_of(offset)) is not None:
            self.n_valid_bytes = end
            yield offset, self._decode(offset, end)
            offset = end
        self._require_torn(offset)

    def corrupt(self, offset: int, what: str) -> StoreCorruptError:
        """Return the error of the record at this offset."""
        return StoreCorruptError(
            f"{self.path}, offset {offset}: {what}; restore the file from a copy, or move it away to start without the "
            "mutations of this log"
        )

    def _end_of(self, offset: int) -> int | None:
        """Return where the record at this offset ends, or None if there is no valid one."""
        if offset + _RECORD.size > len(self._data):
            return None
        marker, crc, own_offset, _, n_bytes = _RECORD.unpack_from(self._data, offset)
        end: int = offset + _RECORD.size + n_bytes
        if marker != _MARKER or own_offset != offset or end > len(self._data):
            return None
        with memoryview(self._data) as whole, whole[offset + _CRC_START : end] as covered:
            return end if crc == zlib.crc32(covered, zlib.crc32(self.token)) else None

    def _require_torn(self, offset: int) -> None:
        """Refuse damage at this offset if a later record vouches that it was on disk."""
        at = self._data.find(_MARKER, offset + 1)
        while at != -1:
            if self._end_of(at) is not None and _RECORD.unpack_from(self._data, at)[3] > offset:
                raise self.corrupt(offset, f"a record is damaged, and the one at offset {at} says it was on disk")
            at = self._data.find(_MARKER, at + 1)

    def _decode(self, offset: int, end: int) -> Record:
        try:
            return _decode_body(self._data[offset + _RECORD.size : end])
        except (ValueError, TypeError, KeyError, struct.error) as error:
            raise self.corrupt(offset, f"a record has the right checksum but no meaning ({error!r})") from error


def _encode(record: Record, token: bytes, offset: int, durable: int) -> bytes:
    columns = {name: np.ascontiguousarray(column).reshape(-1) for name, column in record.columns.items()}
    head = {
        "kind": record.kind,
        "fields": dict(record.fields),
        "columns": [[name, column.dtype.str, len(column)] for name, column in columns.items()],
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    parts: list[Any] = [_JSON_LENGTH.pack(len(text)), text, _padding(_JSON_LENGTH.size + len(text))]
    for column in columns.values():
        parts += [column.data, _padding(column.nbytes)]
    body = b"".join(parts)
    covered = _RECORD.pack(_MARKER, 0, offset, durable, len(body))[_CRC_START:]
    crc = zlib.crc32(body, zlib.crc32(covered, zlib.crc32(token)))
    return b"".join((_MARKER, crc.to_bytes(4, "little"), covered, body))


def _decode_body(body: bytes) -> Record:
    (n_json,) = _JSON_LENGTH.unpack_from(body)
    at = _JSON_LENGTH.size + n_json
    head = json.loads(body[_JSON_LENGTH.size : at])
    at += len(_padding(at))
    columns = {}
    for name, dtype, length in head["columns"]:
        if dtype not in _DTYPES:
            raise ValueError(f"column {name} of type {dtype}")
        column = np.frombuffer(body, dtype, length, at)
        columns[name] = column
        at += column.nbytes + len(_padding(column.nbytes))
    return Record(head["kind"], head["fields"], columns)


def _padding(n_bytes: int) -> bytes:
    return bytes(-n_bytes % 8)
