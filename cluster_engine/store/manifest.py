"""The manifest: the one small file whose appearance is the commit of a version.

Owns its format and its checksums. Refuses to know where it is kept or how it is published.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass

from cluster_engine.errors import StoreCorruptError, StoreFormatError
from cluster_engine.store.tables import DETERMINISTIC_TABLE_NAMES, TABLE_NAMES

FORMAT = 1
"""The newest format of a store that this code reads and writes."""

_DIRECTORY = re.compile(r"versions/[0-9]{8,}(-[0-9a-f]+)?")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One Parquet file of a version: its table, size in bytes, rows, and SHA-256 in hexadecimal."""

    name: str
    n_bytes: int
    n_rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version is.

    Attributes
    ----------
    format
        The format of the store, `FORMAT` for what this code writes.
    version
        Number of the version, from 1.
    slot
        The batch that made it, or None. No two versions of a store have the same slot.
    engine_version
        The release of the package that wrote it.
    directory
        Where its files are, relative to the store.
    files
        One entry per table, in name order.
    """

    format: int
    version: int
    slot: str | None
    engine_version: str
    directory: str
    files: tuple[FileEntry, ...]

    @property
    def content_sha256(self) -> str:
        """Digest over the checksums of the deterministic tables: equal results have equal digests."""
        lines = [f"{file.name} {file.sha256}\n" for file in self.files if file.name in DETERMINISTIC_TABLE_NAMES]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def file(self, name: str) -> FileEntry:
        """Return the entry of the table ``name``."""
        return self.files[TABLE_NAMES.index(name)]

    def path(self, name: str) -> str:
        """Return the path of the table ``name``, relative to the store."""
        return f"{self.directory}/{name}.parquet"

    def encode(self) -> bytes:
        """Return the manifest as canonical JSON (sorted keys, one trailing newline) that carries its own checksum."""
        fields = asdict(self) | {"content_sha256": self.content_sha256}
        fields["manifest_sha256"] = hashlib.sha256(_canonical(fields)).hexdigest()
        return _canonical(fields)


def manifest_path(version: int) -> str:
    """Return the path of the manifest of ``version``, relative to the store."""
    return f"manifests/{version:08d}.json"


def decode_manifest(data: bytes, version: int, name: str) -> Manifest:
    """Return the manifest that ``data`` encodes.

    Parameters
    ----------
    data
        The content of the file.
    version
        The version that the file's name says.
    name
        The file, for errors.

    Raises
    ------
    StoreFormatError
        If a newer format is recorded; nothing else of it is looked at.
    StoreCorruptError
        If the content is not, byte for byte, what `Manifest.encode` wrote.
    """
    try:
        fields = json.loads(data)
        number = fields["format"]
        if isinstance(number, int) and number > FORMAT:
            raise StoreFormatError(
                f"{name} has store format {number}, and this code knows formats up to {FORMAT}; "
                "nothing was changed, use a newer cluster-engine"
            )
        manifest = _from_fields(fields)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorruptError(f"{name} is not a manifest: {error!r}") from error
    if manifest.encode() != data:
        raise StoreCorruptError(f"{name} does not match the checksum that it carries; restore it from a copy")
    if manifest.version != version or not _DIRECTORY.fullmatch(manifest.directory):
        raise StoreCorruptError(f"{name} says version {manifest.version} in {manifest.directory}")
    return manifest


def _from_fields(fields: dict[str, object]) -> Manifest:
    files = fields["files"]
    if not isinstance(files, list) or [file["name"] for file in files] != list(TABLE_NAMES):
        raise ValueError("its files are not the tables of a version")
    known = {key: value for key, value in fields.items() if key not in {"content_sha256", "manifest_sha256", "files"}}
    return Manifest(files=tuple(FileEntry(**file) for file in files), **known)  # type: ignore[arg-type] # the checksum vouches for the types


def _canonical(fields: dict[str, object]) -> bytes:
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()
