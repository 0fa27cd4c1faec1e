"""Removing old versions of a store, which happens only when somebody asks for it.

Owns what goes and in which order. Refuses to know how a version is made.

1. The batches (slots) of the versions that go are written to ``removed.json``: none of them is ever run again.
2. Their manifests are removed, the oldest first, and that is made durable. From here on, nobody opens these versions.
3. Files that no manifest names any more are removed. Where a crash comes before, the next commit does it.

So at any moment every version that has a manifest has all its files. Who has a removed version open can read what was
read before, and is told of the removal by anything else.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cluster_engine.store import files
from cluster_engine.store.catalog import (
    REMOVED,
    encode_removed,
    list_versions,
    newest_manifest,
    read_manifest,
    read_manifests,
    removed_slots,
)
from cluster_engine.store.location import Location, StoreUri, locate, store_errors
from cluster_engine.store.lock import hold_lock
from cluster_engine.store.manifest import manifest_path
from cluster_engine.store.publication import remove_leftovers
from cluster_engine.store.segments import LOG_DIRECTORY, list_segments

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

_DIRECTORY = re.compile(r"([0-9]{8,})-[0-9a-f]+")


def remove_versions(uri: StoreUri, keep: int, *, lock_timeout_s: float = 10.0) -> list[int]:
    """Remove all versions but the newest, and those that the log of a binding service follows.

    Numbers and slots of those that are removed are not used again.

    Parameters
    ----------
    uri
        Where the store is.
    keep
        How many versions stay, at least 1: the current one is never removed.
    lock_timeout_s
        How long to wait for another local writer, in seconds.

    Returns
    -------
    list of int
        The versions that were removed.

    Raises
    ------
    ValueError
        If ``keep`` is less than 1.
    CommitConflictError
        If another writer is at work.
    StoreError
        If the store cannot be read or written. Some versions may be gone then; all that have a manifest are whole.

    Notes
    -----
    On a filesystem that is not local there is no lock: run it while nobody commits. It also removes what crashed
    writers left there.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, for the current version stays; got {keep}")
    location = locate(uri)
    if newest_manifest(location) is None:
        return []
    with store_errors(location, "remove versions of"):
        if not location.is_local:
            removed = list_versions(location)[:-keep]
            _remove_remote(location, removed)
        else:
            with hold_lock(Path(location.root) / ".lock", lock_timeout_s):
                followed = _followed(Path(location.root, LOG_DIRECTORY))
                removed = [version for version in list_versions(location)[:-keep] if version not in followed]
                _remove_local(location, removed)
    logger.info("removed versions store=%s versions=%s", location.uri, removed)
    return removed


def _followed(log: Path) -> set[int]:
    """Return the versions without which a log cannot be read."""
    segments = list_segments(log) if log.is_dir() else []
    return {segment.follows.version for segment in segments if segment.follows is not None}


def _remove_local(location: Location, versions: Sequence[int]) -> None:
    """Remove versions, under the lock."""
    root = Path(location.root)
    if versions:
        files.replace_file(root / REMOVED, _removed(location, versions))
        for version in versions:
            files.remove_file(root / manifest_path(version))
        files.sync_directory(root / "manifests")
    remove_leftovers(location)


def _remove_remote(location: Location, versions: Sequence[int]) -> None:
    if versions:
        removed = _removed(location, versions)
        with location.filesystem.open_output_stream(f"{location.root}/{REMOVED}") as stream:
            stream.write(removed)
        for version in versions:
            location.filesystem.delete_file(f"{location.root}/{manifest_path(version)}")
    named = {file.path for manifest in read_manifests(location) for file in manifest.files}
    newest = list_versions(location)[-1]
    for name in location.names("versions"):
        match = _DIRECTORY.fullmatch(name)
        if match is not None and int(match[1]) <= newest:  # a writer that may yet publish has a later number
            _remove_unnamed(location, f"versions/{name}", named)


def _remove_unnamed(location: Location, directory: str, named: set[str]) -> None:
    paths = {f"{directory}/{name}" for name in location.names(directory)}
    if not paths & named:
        location.filesystem.delete_dir(f"{location.root}/{directory}")
        return
    for path in sorted(paths - named):
        location.filesystem.delete_file(f"{location.root}/{path}")


def _removed(location: Location, versions: Sequence[int]) -> bytes:
    """Return the batches of the versions that are gone, with those that go now."""
    going = [read_manifest(location, version) for version in versions]
    return encode_removed(
        removed_slots(location) | {manifest.slot: manifest.version for manifest in going if manifest.slot is not None}
    )
