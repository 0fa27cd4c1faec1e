"""How a version is published: files first, made durable, then one manifest that appears atomically.

Owns the protocol and the removal of what a crashed writer left. Refuses to know what is in the files.

A version names files: those that it wrote, and those of older versions that it leaves as they are. On a local
filesystem a commit is atomic and durable, one writer commits at a time, and a version is never replaced:

1. take the exclusive lock of ``.lock``; remove what crashed writers left;
2. write the new Parquet files into ``versions/.pending-<token>/``, sync them and the directory;
3. rename it to ``versions/<number>/``, sync ``versions/``;
4. write ``manifests/.pending-<token>``, sync it;
5. link it to ``manifests/<number>.json``, which fails if that exists, and sync ``manifests/``. This is the commit.

Readers start from a manifest, so they see nothing of steps 2 to 4, and everything after step 5. A version without a new
file has steps 1, 4 and 5.

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
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import fs

from cluster_engine.errors import CommitConflictError, StoreError
from cluster_engine.store import files
from cluster_engine.store.catalog import list_versions, read_manifests
from cluster_engine.store.manifest import FORMAT, Manifest, manifest_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from cluster_engine.store.composition import CreateFile
    from cluster_engine.store.location import Location
    from cluster_engine.store.manifest import FileEntry

logger = logging.getLogger(__name__)

_VERSION_NAME = re.compile(r"[0-9]{8,}")


@dataclass(frozen=True, slots=True)
class NextVersion:
    """A version that is to be published.

    Attributes
    ----------
    version : int
    slot : str or None
        The batch that makes it.
    compose : callable
        Makes its new files, and returns all that it has.
    """

    version: int
    slot: str | None
    compose: Callable[[CreateFile], tuple[FileEntry, ...]]

    def manifest(self, entries: tuple[FileEntry, ...]) -> Manifest:
        """Return its manifest."""
        return Manifest(FORMAT, self.version, self.slot, metadata.version("cluster-engine"), entries)


def pending_name() -> str:
    """Return a name that readers do not look at, and that the next writer removes."""
    return f"{files.PENDING}{secrets.token_hex(8)}"


def make_layout(root: Path) -> None:
    """Make the directories of a local store, durably; they may exist."""
    for directory in (root, root / "versions", root / "manifests"):
        files.make_directory(directory)
    files.sync_directory(root)  # who made the two may have died before making their names durable


def publish_local(location: Location, planned: NextVersion) -> None:
    """Publish a version on a local filesystem, under the lock."""
    root = Path(location.root)
    pending, directory = root / "versions" / pending_name(), f"versions/{planned.version:08d}"

    @contextmanager
    def create(name: str) -> Iterator[tuple[str, Callable[[Buffer], None]]]:
        files.make_directory(pending)
        with files.create_file(pending / f"{name}.parquet") as write:
            yield f"{directory}/{name}.parquet", write

    try:
        entries = planned.compose(create)
        if pending.is_dir():
            files.sync_directory(pending)
            files.rename(pending, root / directory)
        _publish_manifest(root, planned.manifest(entries))
    finally:
        # On success this removes the pending name of the manifest; on failure, all that was written.
        try:
            remove_leftovers(location)
        except (OSError, StoreError) as error:
            logger.warning("leftovers stay until the next commit store=%s cause=%s", location.uri, error)


def _publish_manifest(root: Path, manifest: Manifest) -> None:
    pending = root / "manifests" / pending_name()
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


def remove_leftovers(location: Location) -> None:
    """Remove what no manifest names. Only under the lock: then no writer that made it is alive.

    The directory of a version that is published has nothing else; manifests are read only if there is another one.
    """
    root = Path(location.root)
    published = {f"{version:08d}" for version in list_versions(location)}
    orphans = []
    for path in sorted((root / "versions").iterdir()):
        if path.name.startswith(files.PENDING):
            _remove(path)
        elif _VERSION_NAME.fullmatch(path.name) and path.name not in published:
            orphans.append(path)
    if orphans:
        named = {root / file.path for manifest in read_manifests(location) for file in manifest.files}
        for path in orphans:
            _remove_unnamed(path, named)
    for path in sorted([*root.glob(f"{files.PENDING}*"), *(root / "manifests").glob(f"{files.PENDING}*")]):
        files.remove_file(path)


def _remove_unnamed(directory: Path, named: set[Path]) -> None:
    if not any(path.parent == directory for path in named):
        _remove(directory)
        return
    for path in sorted(directory.glob("*.parquet")):
        if path not in named:
            files.remove_file(path)


def _remove(path: Path) -> None:
    (files.remove_directory if path.is_dir() else files.remove_file)(path)


def publish_remote(location: Location, planned: NextVersion) -> None:
    """Publish a version on any other filesystem."""
    directory = f"versions/{planned.version:08d}-{secrets.token_hex(8)}"
    path = f"{location.root}/{manifest_path(planned.version)}"

    @contextmanager
    def create(name: str) -> Iterator[tuple[str, Callable[[Buffer], object]]]:
        location.filesystem.create_dir(f"{location.root}/{directory}", recursive=True)
        with location.filesystem.open_output_stream(f"{location.root}/{directory}/{name}.parquet") as stream:
            yield f"{directory}/{name}.parquet", stream.write

    try:
        entries = planned.compose(create)
        location.filesystem.create_dir(f"{location.root}/manifests", recursive=True)
        _refuse_published(location, path)
    except BaseException:
        _discard_remote(location, directory)
        raise
    # From here on the files stay: a manifest whose writing failed may be there all the same.
    with location.filesystem.open_output_stream(path) as stream:
        stream.write(planned.manifest(entries).encode())


def _refuse_published(location: Location, path: str) -> None:
    if location.filesystem.get_file_info(path).type != fs.FileType.NotFound:
        raise CommitConflictError(f"another writer published {path} first; nothing was changed")


def _discard_remote(location: Location, directory: str) -> None:
    path = f"{location.root}/{directory}"
    try:
        if location.filesystem.get_file_info(path).type != fs.FileType.NotFound:
            location.filesystem.delete_dir(path)
    except OSError as error:
        logger.warning("leftovers stay store=%s directory=%s cause=%s", location.uri, directory, error)
