"""Which versions a store has, and which batches made versions that it has no more."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster_engine.errors import StoreError
from cluster_engine.store.location import Location, StoreUri, locate
from cluster_engine.store.manifest import FORMAT, Manifest, decode_manifest, manifest_path, require_known
from cluster_engine.store.sealed import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REMOVED = "removed.json"
"""The file of the batches whose versions were removed, relative to the store."""
_MANIFEST_NAME = re.compile(r"([0-9]{8,})\.json")


def current_version(uri: StoreUri) -> int | None:
    """Return the number of the newest version, or None where nothing was committed yet.

    Raises
    ------
    StoreFormatError
        If the newest version has a format that this code does not know.
    StoreCorruptError
        If its manifest is damaged.
    StoreError
        If the directory cannot be read.
    """
    manifest = newest_manifest(locate(uri))
    return None if manifest is None else manifest.version


def find_slot(uri: StoreUri, slot: str) -> int | None:
    """Return the version that the batch ``slot`` committed, or None. It may have been removed since.

    Reads every manifest: O(versions).

    Raises
    ------
    StoreError
        As `current_version`.
    """
    location = locate(uri)
    versions = (manifest.version for manifest in read_manifests(location) if manifest.slot == slot)
    found = next(versions, None)
    return removed_slots(location).get(slot) if found is None else found  # in this order: a version may go meanwhile


def removed_slots(location: Location) -> dict[str, int]:
    """Return the batches of the versions that were removed, and these.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        The file of them is of a newer format, or damaged.
    """
    if location.sizes_bytes([REMOVED]) == [None]:
        return {}
    name = f"{location.root}/{REMOVED}"
    fields = unseal(location.read(REMOVED).to_pybytes(), name)
    require_known(fields["format"], name)
    slots: dict[str, int] = fields["slots"]
    return slots


def encode_removed(slots: Mapping[str, int]) -> bytes:
    """Return the content of the file `REMOVED`."""
    return seal({"format": FORMAT, "slots": dict(slots)})


def list_versions(location: Location) -> list[int]:
    """Return the numbers of the versions, ascending."""
    matches = (_MANIFEST_NAME.fullmatch(name) for name in location.names("manifests"))
    return sorted(int(match[1]) for match in matches if match)


def read_manifest(location: Location, version: int) -> Manifest:
    """Return the manifest of ``version``, which exists."""
    path = manifest_path(version)
    return decode_manifest(location.read(path).to_pybytes(), version, f"{location.root}/{path}")


def read_version(location: Location, version: int) -> Manifest:
    """Return the manifest of ``version``.

    Raises
    ------
    StoreError
        If there is no such version, or no more; says which there are.
    """
    versions = list_versions(location)
    if not versions:
        raise StoreError(f"no store at {location.uri} yet: no version was committed there; run consolidate first")
    there_are = f"it has {versions[0]} to {versions[-1]}"
    if version in versions:
        with removal_told(location, version):
            return read_manifest(location, version)
    if 1 <= version < versions[-1]:
        raise StoreError(f"version {version} of the store {location.uri} was removed; {there_are}")
    raise StoreError(f"the store {location.uri} has no version {version}; {there_are}")


@contextmanager
def removal_told(location: Location, version: int) -> Iterator[None]:
    """Say that a version was removed, where an error inside the block comes of that."""
    try:
        yield
    except StoreError as error:
        if location.sizes_bytes([manifest_path(version)]) != [None]:
            raise
        raise StoreError(
            f"version {version} of the store {location.uri} was removed; open the store again for the current version"
        ) from error


def newest_manifest(location: Location) -> Manifest | None:
    """Return the manifest of the current version, or None where nothing was committed yet."""
    while versions := list_versions(location):
        if manifest := _read_unless_removed(location, versions[-1]):
            return manifest
    return None


def read_manifests(location: Location) -> list[Manifest]:
    """Return all manifests, ascending, but for those that are removed meanwhile."""
    manifests = (_read_unless_removed(location, version) for version in list_versions(location))
    return [manifest for manifest in manifests if manifest]


def _read_unless_removed(location: Location, version: int) -> Manifest | None:
    """Return the manifest of a version that was there, or None if it is there no more."""
    try:
        return read_manifest(location, version)
    except StoreError:
        if version in list_versions(location):
            raise
        return None


def read_history(location: Location) -> pa.Table:
    """Return one row per version, ascending; see `ConceptStore.history`."""
    manifests = read_manifests(location)
    counted = {
        "n_episodes": "episodes",
        "n_concepts": "concepts",
        "n_bindings": "bindings",
        "n_quarantined": "quarantine",
    }
    columns = {
        "version": pa.array([manifest.version for manifest in manifests], pa.int64()),
        "slot": pa.array([manifest.slot for manifest in manifests], pa.large_string()),
        "engine_version": pa.array([manifest.engine_version for manifest in manifests], pa.large_string()),
        **{
            column: pa.array([manifest.n_rows(table) for manifest in manifests], pa.int64())
            for column, table in counted.items()
        },
        "n_bytes": pa.array([sum(file.n_bytes for file in manifest.files) for manifest in manifests], pa.int64()),
        "content_sha256": pa.array([manifest.content_sha256 for manifest in manifests], pa.large_string()),
    }
    return pa.table(columns)
