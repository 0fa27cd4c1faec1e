"""What a batch has finished before it is committed: kept beside the store, so that one that is killed goes on.

Owns the files of it. Refuses to know what the phases are.

``work/<key>/`` is the work of one batch, named after all that its outcome depends on: another input, another version
or other settings have another key and find nothing. A phase is some tables, ``<phase>.<table>.parquet``, and
``<phase>.json`` with their sizes and checksums, which is written last: without it, or with anything that differs from
it, the phase was never done. Only the holder of the store's lease may write here.
"""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster_engine.errors import StoreError
from cluster_engine.store import files
from cluster_engine.store.checking import parquet_errors, read_file
from cluster_engine.store.location import StoreUri, locate, store_errors
from cluster_engine.store.manifest import FileEntry
from cluster_engine.store.sealed import seal, unseal
from cluster_engine.store.tables import read_table, write_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

logger = logging.getLogger(__name__)

WORK = "work"
"""The directory of unfinished work, relative to the store."""
_STATUS = "status.json"
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]*")


class Work:
    """The work of one batch on a store.

    Parameters
    ----------
    uri : path, URI or Location
        The store. One that is not local keeps no work: phases are never there, and saving does nothing.
    key : str
        Digest of all that the outcome depends on; letters, digits, ``-`` and ``_``.

    Raises
    ------
    ValueError
        The key is not made of these.
    """

    def __init__(self, uri: StoreUri, key: str) -> None:
        self._location = locate(uri)
        self._directory = f"{WORK}/{_require_name(key)}"
        self._is_begun = False

    def load(self, phase: str) -> dict[str, pa.Table] | None:
        """Return what was saved of a phase, or None if it was not, or not wholly, or is damaged."""
        seal_path = f"{self._directory}/{_require_name(phase)}.json"
        if not self._location.is_local or self._location.sizes_bytes([seal_path]) == [None]:
            return None
        try:
            fields = unseal(self._location.read(seal_path).to_pybytes(), seal_path)
            return {entry["name"]: self._read(FileEntry(**entry)) for entry in fields["files"]}
        except (StoreError, KeyError, TypeError) as error:
            logger.warning("phase counts as not done phase=%s cause=%s", phase, error)
            return None

    def save(self, phase: str, tables: Mapping[str, pa.Table]) -> None:
        """Save a phase, durably: until this returns, it is not done.

        Raises
        ------
        StoreError
            It cannot be written.
        """
        if not self._location.is_local:
            return
        root, entries = Path(self._location.root), []
        seal_path = root / self._directory / f"{_require_name(phase)}.json"
        with store_errors(self._location, "keep work beside"):
            self._begin()
            files.remove_file(seal_path)
            for name, table in tables.items():
                path = f"{self._directory}/{phase}.{_require_name(name)}.parquet"
                files.remove_file(root / path)
                with files.create_file(root / path) as write:
                    n_bytes, sha256 = write_table(table, write)
                entries.append(FileEntry(name, path, n_bytes, table.num_rows, sha256))
            files.sync_directory(seal_path.parent)
            files.replace_file(seal_path, seal({"files": [asdict(entry) for entry in entries]}))

    def clear(self) -> None:
        """Remove the work of this batch, and the status; whatever is left of it counts as not done.

        Raises
        ------
        StoreError
            It cannot be removed.
        """
        if not self._location.is_local:
            return
        directory = Path(self._location.root, self._directory)
        with store_errors(self._location, "clear work beside"):
            for path in (directory.parent / _STATUS, directory.parent / f"{files.PENDING}{_STATUS}"):
                files.remove_file(path)
            if directory.is_dir():
                files.remove_directory(directory)
        self._is_begun = False

    def publish_status(self, record: Mapping[str, Any]) -> None:
        """Let other processes see how far the batch is, with `read_status`. Not durable, so cheap.

        Parameters
        ----------
        record : mapping of str to what JSON knows

        Raises
        ------
        StoreError
            It cannot be written.
        """
        if not self._location.is_local:
            return
        with store_errors(self._location, "publish the status of"):
            self._begin()
            data = json.dumps(dict(record), sort_keys=True).encode()
            files.replace_file(Path(self._location.root, WORK, _STATUS), data, is_durable=False)

    def _begin(self) -> None:
        """Make the directory, and remove the work of others, once."""
        if self._is_begun:
            return
        directory = Path(self._location.root, self._directory)
        files.make_directory(directory)
        for other in sorted(directory.parent.iterdir()):
            if other.is_dir() and other != directory:
                files.remove_directory(other)
        self._is_begun = True

    def _read(self, entry: FileEntry) -> pa.Table:
        data = read_file(self._location, entry)
        with parquet_errors(self._location, entry):
            return read_table(data)


def read_status(uri: StoreUri) -> dict[str, Any] | None:
    """Return what the batch at work on a store has published last; None if none is at work, or the store is not local.

    Raises
    ------
    StoreError
        It cannot be read.
    """
    location = locate(uri)
    if not location.is_local:
        return None
    path = Path(location.root, WORK, _STATUS)
    with store_errors(location, "read the status of"), suppress(FileNotFoundError, ValueError):
        record = json.loads(path.read_bytes())
        return record if isinstance(record, dict) else None
    return None  # there is none, or a loss of power left something else


def _require_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"want letters, digits, - and _, got {name!r}")
    return name
