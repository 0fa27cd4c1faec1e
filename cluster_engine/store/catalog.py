"""Which versions a store has. Reads manifests and nothing else."""

from __future__ import annotations

import re

import pyarrow as pa

from cluster_engine.errors import StoreError
from cluster_engine.store.location import Location, StoreUri, locate
from cluster_engine.store.manifest import Manifest, decode_manifest, manifest_path

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
    """Return the version that the batch ``slot`` committed, or None. Reads every manifest: O(versions).

    Raises
    ------
    StoreError
        As `current_version`.
    """
    versions = (manifest.version for manifest in read_manifests(locate(uri)) if manifest.slot == slot)
    return next(versions, None)


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
        If there is no such version; says which there are.
    """
    versions = list_versions(location)
    if not versions:
        raise StoreError(f"no store at {location.uri} yet: no version was committed there; run consolidate first")
    if version not in versions:
        raise StoreError(f"the store {location.uri} has no version {version}; it has {versions[0]} to {versions[-1]}")
    return read_manifest(location, version)


def newest_manifest(location: Location) -> Manifest | None:
    """Return the manifest of the current version, or None where nothing was committed yet."""
    versions = list_versions(location)
    return read_manifest(location, versions[-1]) if versions else None


def read_manifests(location: Location) -> list[Manifest]:
    """Return all manifests, ascending."""
    return [read_manifest(location, version) for version in list_versions(location)]


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
