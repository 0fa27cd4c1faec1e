"""New versions of a store: of tables that changed, or of what an older version had.

Owns the conditions under which a version may be made. Refuses to know what the tables mean, and how it is published.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cluster_engine.errors import CommitConflictError
from cluster_engine.store import files
from cluster_engine.store.catalog import find_slot, newest_manifest, read_version
from cluster_engine.store.checking import check_sizes
from cluster_engine.store.composition import CreateFile, compose_version
from cluster_engine.store.lease import Fence, require_newest
from cluster_engine.store.location import Location, StoreUri, locate, store_errors
from cluster_engine.store.lock import hold_lock, open_lock
from cluster_engine.store.publication import (
    NextVersion,
    make_layout,
    pending_name,
    publish_local,
    publish_remote,
    remove_leftovers,
)
from cluster_engine.store.tables import check_tables, require_complete

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from cluster_engine.store.manifest import FileEntry, Manifest

    _Compose: TypeAlias = Callable[[Manifest | None, CreateFile], tuple[FileEntry, ...]]

logger = logging.getLogger(__name__)


def commit_version(
    uri: StoreUri,
    tables: Mapping[str, pa.Table],
    *,
    added: Mapping[str, pa.Table] | None = None,
    slot: str | None = None,
    expected_version: int | None = None,
    fence: Fence | None = None,
    lock_timeout_s: float = 10.0,
) -> int:
    """Commit the next version of the store, which is made if missing.

    Parameters
    ----------
    uri
        Where the store is.
    tables
        Those of `TABLE_NAMES` that are replaced as a whole, of plain types.
    added
        Rows for those of `GROWING_TABLE_NAMES` that grow: columns have the types that are there; of episodes, ids
        ascend, and none is there already. A table in neither is as in the version before, in the same files. The first
        version has all tables.
    slot
        The batch that made them; at most one version of a store, of all that it ever had, has a given slot.
    expected_version
        The version that the tables were made from, 0 for a new store; None for whatever is current.
    fence
        Of the lease under which they were made (`hold_lease`); None without one.
    lock_timeout_s
        How long to wait for another local writer, in seconds.

    Returns
    -------
    int
        The number of the new version.

    Raises
    ------
    ValueError
        If the tables are not those of a version, or do not fit those that are there.
    FencedError
        If another writer has taken the lease meanwhile.
    CommitConflictError
        If the current version is not ``expected_version``, the slot is committed already, or another writer is at work.
    StoreFormatError
        If the store has a newer format; it is left as it is.
    StoreCorruptError
        If a part that was to be rewritten together with the new rows is damaged.
    StoreError
        If the store cannot be written; names the path and the cause. The version before is as it was. Only where the
        message says so, the new version is published already and merely not known to be durable.
    """
    rows = added or {}
    check_tables(tables, rows)
    location = locate(uri)
    if newest_manifest(location) is None:
        require_complete(tables, rows)
    return _commit(
        location,
        lambda before, create: compose_version(location, before, tables, rows, create),
        _Conditions(slot, expected_version, fence),
        lock_timeout_s,
    )


def restore_version(
    uri: StoreUri,
    version: int,
    *,
    slot: str | None = None,
    expected_version: int | None = None,
    fence: Fence | None = None,
    lock_timeout_s: float = 10.0,
) -> int:
    """Commit a version that has exactly the files of an older one: what came between is undone. Copies nothing.

    Parameters
    ----------
    uri
        Where the store is.
    version
        The version to go back to. It stays, and so do those after it.
    slot, expected_version, fence, lock_timeout_s
        As for `commit_version`.

    Returns
    -------
    int
        The number of the new version, whose ``content_sha256`` is that of ``version``.

    Raises
    ------
    StoreError
        If there is no such version, and as `commit_version`.
    StoreCorruptError
        If a file of it is missing or has another size.
    """
    location = locate(uri)
    newest_manifest(location)  # a newer format is refused before even the lock file is made

    def compose(_: Manifest | None, __: CreateFile) -> tuple[FileEntry, ...]:
        entries = read_version(location, version).files
        check_sizes(location, entries)
        return entries

    return _commit(location, compose, _Conditions(slot, expected_version, fence), lock_timeout_s)


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
    name = pending_name()
    with store_errors(location, "write"):
        if not location.is_local:
            _probe_remote(location, f"{location.root}/{name}")
            return
        root = Path(location.root)
        make_layout(root)
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


@dataclass(frozen=True, slots=True)
class _Conditions:
    """Under which a version may be made; see `commit_version`."""

    slot: str | None
    expected_version: int | None
    fence: Fence | None


def _commit(location: Location, compose: _Compose, conditions: _Conditions, lock_timeout_s: float) -> int:
    with store_errors(location, "write"):
        if not location.is_local:
            planned = _plan(location, compose, conditions)
            publish_remote(location, planned)
        else:
            root = Path(location.root)
            make_layout(root)
            with hold_lock(root / ".lock", lock_timeout_s):
                planned = _plan(location, compose, conditions)
                remove_leftovers(location)
                publish_local(location, planned)
    logger.info("committed store=%s version=%d slot=%s", location.uri, planned.version, planned.slot)
    return planned.version


def _plan(location: Location, compose: _Compose, conditions: _Conditions) -> NextVersion:
    """Return the next version, or refuse it."""
    if conditions.fence is not None:
        require_newest(location, conditions.fence)
    newest = newest_manifest(location)
    current = 0 if newest is None else newest.version
    if conditions.expected_version not in {None, current}:
        raise CommitConflictError(
            f"the store {location.uri} is at version {current}, not {conditions.expected_version}: another writer was "
            "first; nothing was changed, start again from the current version"
        )
    slot = conditions.slot
    if slot is not None and (taken := find_slot(location, slot)) is not None:
        raise CommitConflictError(f"the store {location.uri} has slot {slot!r} already, as version {taken}")
    return NextVersion(current + 1, slot, lambda create: compose(newest, create))
