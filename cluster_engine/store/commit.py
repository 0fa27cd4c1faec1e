"""How a version is committed: files first, made durable, then one manifest that appears atomically.

Owns the commit protocol and the removal of what a crashed writer left. Refuses to know what the tables mean.

On a local filesystem a commit is atomic and durable, one writer commits at a time, and a version is never replaced:

1. take the exclusive lock of ``.lock``; remove what crashed writers left;
2. write the Parquet files into ``versions/.pending-<token>/``, sync them and the directory;
3. rename it to ``versions/<number>/``, sync ``versions/``;
4. write ``manifests/.pending-<token>``, sync it;
5. link it to ``manifests/<number>.json``, which fails if that exists, and sync ``manifests/``. This is the commit.

Readers start from a manifest, so they see nothing of steps 2 to 4, and everything after step 5.

On any other ``pyarrow.fs`` filesystem, files go into ``versions/<number>-<token>/``, and the manifest is written last,
refused if it is there. Guaranteed: a reader sees a whole version or none of it, if a file becomes visible as a whole
when it is closed (S3, GCS and Azure do that); writers never mix their files; a failed commit leaves the last version
as it was. *Not* guaranteed: ``pyarrow.fs`` has no conditional put, so of two writers that publish the same number
within the same instant both may believe they won, and the store holds the one that wrote last. Run one writer at a
time there. Files of a crashed writer stay until removed by hand: without a lock, they look like those of a live one.
"""

from __future__ import annotations

import logging
import re
import secrets
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import fs

from cluster_engine.errors import CommitConflictError, StoreError
from cluster_engine.store import files
from cluster_engine.store.catalog import find_slot, list_versions, newest_manifest
from cluster_engine.store.location import Location, StoreUri, locate, store_errors
from cluster_engine.store.lock import hold_lock, open_lock
from cluster_engine.store.manifest import FORMAT, FileEntry, Manifest, manifest_path
from cluster_engine.store.tables import TABLE_NAMES, check_tables, write_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

logger = logging.getLogger(__name__)

_VERSION_NAME = re.compile(r"[0-9]{8,}")
_PENDING = ".pending-"


def commit_version(
    uri: StoreUri,
    tables: Mapping[str, pa.Table],
    *,
    slot: str | None = None,
    expected_version: int | None = None,
    lock_timeout_s: float = 10.0,
) -> int:
    """Commit ``tables`` as the next version of the store, which is made if missing.

    Parameters
    ----------
    uri
        Where the store is.
    tables
        Exactly the tables of `TABLE_NAMES`, of plain types.
    slot
        The batch that made them; at most one version of a store has a given slot.
    expected_version
        The version that the tables were made from, 0 for a new store; None for whatever is current.
    lock_timeout_s
        How long to wait for another local writer, in seconds.

    Returns
    -------
    int
        The number of the new version.

    Raises
    ------
    ValueError
        If the tables are not those of a version.
    CommitConflictError
        If the current version is not ``expected_version``, the slot is committed already, or another writer is at work.
    StoreFormatError
        If the store has a newer format; it is left as it is.
    StoreError
        If the store cannot be written; names the path and the cause. The version before is as it was. Only where the
        message says so, the new version is published already and merely not known to be durable.
    """
    check_tables(tables)
    location = locate(uri)
    with store_errors(location, "write"):
        if not location.is_local:
            return _commit_remote(location, tables, slot, expected_version)
        newest_manifest(location)  # a newer format is refused before even the lock file is made
        root = Path(location.root)
        _make_layout(root)
        with hold_lock(root / ".lock", lock_timeout_s):
            return _commit_local(location, tables, slot, expected_version)


def check_writable(uri: StoreUri) -> None:
    """Make the directory of the store and prove that it can be written, before a long job starts.

    Raises
    ------
    StoreError
        Naming the path and the cause: no permission, a read-only filesystem, not a directory, no space.
    StoreFormatError
        If the store has a newer format; it is left as it is.
    """
    location = locate(uri)
    newest_manifest(location)
    name = f"{_PENDING}{secrets.token_hex(8)}"
    with store_errors(location, "write"):
        if not location.is_local:
            _probe_remote(location, f"{location.root}/{name}")
            return
        root = Path(location.root)
        _make_layout(root)
        with open_lock(root / ".lock"):
            pass
        for probe in (root / "versions" / name, root / "manifests" / name):
            with files.create_file(probe) as write:
                write(b"probe")
            files.remove_file(probe)


def _probe_remote(location: Location, path: str) -> None:
    location.filesystem.create_dir(location.root, recursive=True)
    with location.filesystem.open_output_stream(path) as stream:
        stream.write(b"probe")
    location.filesystem.delete_file(path)


def _next_version(location: Location, slot: str | None, expected_version: int | None) -> int:
    newest = newest_manifest(location)
    current = 0 if newest is None else newest.version
    if expected_version not in {None, current}:
        raise CommitConflictError(
            f"the store {location.uri} is at version {current}, not {expected_version}: another writer was first; "
            "nothing was changed, start again from the current version"
        )
    if slot is not None and (taken := find_slot(location, slot)) is not None:
        raise CommitConflictError(f"the store {location.uri} has slot {slot!r} already, as version {taken}")
    return current + 1


def _commit_local(
    location: Location, tables: Mapping[str, pa.Table], slot: str | None, expected_version: int | None
) -> int:
    """Commit under the lock."""
    root = Path(location.root)
    version = _next_version(location, slot, expected_version)
    _remove_leftovers(location)
    try:
        entries = _write_files(root, version, tables)
        _publish(root, _manifest(version, slot, f"versions/{version:08d}", entries))
    finally:
        # On success this removes the pending name of the manifest; on failure, all that was written.
        try:
            _remove_leftovers(location)
        except (OSError, StoreError) as error:
            logger.warning("leftovers stay until the next commit store=%s cause=%s", location.uri, error)
    logger.info("committed store=%s version=%d slot=%s", location.uri, version, slot)
    return version


def _make_layout(root: Path) -> None:
    for directory in (root, root / "versions", root / "manifests"):
        files.make_directory(directory)
    files.sync_directory(root)  # who made the two may have died before making their names durable


def _write_files(root: Path, version: int, tables: Mapping[str, pa.Table]) -> list[FileEntry]:
    pending = root / "versions" / f"{_PENDING}{secrets.token_hex(8)}"
    files.make_directory(pending)
    entries = []
    for name in TABLE_NAMES:
        with files.create_file(pending / f"{name}.parquet") as write:
            n_bytes, sha256 = write_table(tables[name], write)
        entries.append(FileEntry(name, n_bytes, tables[name].num_rows, sha256))
    files.sync_directory(pending)
    files.rename(pending, root / "versions" / f"{version:08d}")
    return entries


def _publish(root: Path, manifest: Manifest) -> None:
    pending = root / "manifests" / f"{_PENDING}{secrets.token_hex(8)}"
    target = root / manifest_path(manifest.version)
    with files.create_file(pending) as write:
        write(manifest.encode())
    try:
        files.publish(pending, target)
    except FileExistsError:
        raise CommitConflictError(f"another writer published {target} first; nothing was changed") from None
    except OSError as error:
        if target.exists():
            raise StoreError(
                f"version {manifest.version} is published as {target}, but is not known to be durable: {error}"
            ) from error
        raise


def _remove_leftovers(location: Location) -> None:
    """Remove what has no manifest. Only under the lock: then no writer that made it is alive."""
    root = Path(location.root)
    published = {f"{version:08d}" for version in list_versions(location)}
    for path in (root / "versions").iterdir():
        if path.name.startswith(_PENDING) or (_VERSION_NAME.fullmatch(path.name) and path.name not in published):
            (files.remove_directory if path.is_dir() else files.remove_file)(path)
    for path in (root / "manifests").glob(f"{_PENDING}*"):
        files.remove_file(path)


def _commit_remote(
    location: Location, tables: Mapping[str, pa.Table], slot: str | None, expected_version: int | None
) -> int:
    version = _next_version(location, slot, expected_version)
    directory = f"versions/{version:08d}-{secrets.token_hex(8)}"
    path = f"{location.root}/{manifest_path(version)}"
    try:
        entries = _upload_files(location, directory, tables)
        location.filesystem.create_dir(f"{location.root}/manifests", recursive=True)
        _refuse_published(location, path)
    except BaseException:
        _discard_remote(location, directory)
        raise
    # From here on the files stay: a manifest whose writing failed may be there all the same.
    with location.filesystem.open_output_stream(path) as stream:
        stream.write(_manifest(version, slot, directory, entries).encode())
    logger.info("committed store=%s version=%d slot=%s", location.uri, version, slot)
    return version


def _refuse_published(location: Location, path: str) -> None:
    if location.filesystem.get_file_info(path).type != fs.FileType.NotFound:
        raise CommitConflictError(f"another writer published {path} first; nothing was changed")


def _discard_remote(location: Location, directory: str) -> None:
    try:
        location.filesystem.delete_dir(f"{location.root}/{directory}")
    except OSError as error:
        logger.warning("leftovers stay store=%s directory=%s cause=%s", location.uri, directory, error)


def _upload_files(location: Location, directory: str, tables: Mapping[str, pa.Table]) -> list[FileEntry]:
    location.filesystem.create_dir(f"{location.root}/{directory}", recursive=True)
    entries = []
    for name in TABLE_NAMES:
        with location.filesystem.open_output_stream(f"{location.root}/{directory}/{name}.parquet") as stream:
            n_bytes, sha256 = write_table(tables[name], stream.write)
        entries.append(FileEntry(name, n_bytes, tables[name].num_rows, sha256))
    return entries


def _manifest(version: int, slot: str | None, directory: str, entries: list[FileEntry]) -> Manifest:
    return Manifest(FORMAT, version, slot, metadata.version("cluster-engine"), directory, tuple(entries))
