"""The manifest: the one small file whose appearance is the commit of a version.

Owns its format and its checksums. Refuses to know where it is kept or how it is published.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from itertools import groupby

from cluster_engine.errors import StoreCorruptError, StoreFormatError
from cluster_engine.store.sealed import seal
from cluster_engine.store.tables import DETERMINISTIC_TABLE_NAMES, GROWING_TABLE_NAMES, TABLE_NAMES

FORMAT = 1
"""The newest format of a store that this code reads and writes."""

_PATH = re.compile(r"versions/([0-9]{8,})(-[0-9a-f]+)?/([a-z]+)\.parquet")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One Parquet file of a version.

    Attributes
    ----------
    name
        The table that it is, or is a part of.
    path
        Where it is, relative to the store: below the version that wrote it, which may be an older one.
    n_bytes, n_rows
        Its size.
    sha256
        In hexadecimal.
    """

    name: str
    path: str
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
    files
        One entry per table, in name order; of a growing table one per part, in the order of its rows.
    """

    format: int
    version: int
    slot: str | None
    engine_version: str
    files: tuple[FileEntry, ...]

    @property
    def content_sha256(self) -> str:
        """Digest over the checksums of the deterministic tables: equal results have equal digests."""
        lines = [f"{file.name} {file.sha256}\n" for file in self.files if file.name in DETERMINISTIC_TABLE_NAMES]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def parts(self, name: str) -> tuple[FileEntry, ...]:
        """Return the entries of the table ``name``: one, or of a growing table at least one."""
        return tuple(file for file in self.files if file.name == name)

    def n_rows(self, name: str) -> int:
        """Return the number of rows of the table ``name``."""
        return sum(file.n_rows for file in self.parts(name))

    def encode(self) -> bytes:
        """Return the manifest as canonical JSON that carries its own checksum."""
        return seal(asdict(self) | {"content_sha256": self.content_sha256})


def manifest_path(version: int) -> str:
    """Return the path of the manifest of ``version``, relative to the store."""
    return f"manifests/{version:08d}.json"


def require_known(number: object, name: str) -> None:
    """Raise `StoreFormatError` if the file ``name`` has a newer format than this code knows."""
    if isinstance(number, int) and number > FORMAT:
        raise StoreFormatError(
            f"{name} has store format {number}, and this code knows formats up to {FORMAT}; "
            "nothing was changed, use a newer cluster-engine"
        )


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
        require_known(fields["format"], name)
        manifest = _from_fields(fields)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorruptError(f"{name} is not a manifest: {error!r}") from error
    if manifest.encode() != data:
        raise StoreCorruptError(f"{name} does not match the checksum that it carries; restore it from a copy")
    if manifest.version != version:
        raise StoreCorruptError(f"{name} says version {manifest.version}")
    for file in manifest.files:
        match = _PATH.fullmatch(file.path)
        if match is None or int(match[1]) > version or match[3] != file.name:
            raise StoreCorruptError(f"{name} says that table {file.name} is in {file.path}")
    return manifest


def _from_fields(fields: dict[str, object]) -> Manifest:
    files = fields["files"]
    known = {key: value for key, value in fields.items() if key not in {"content_sha256", "sha256", "files"}}
    manifest = Manifest(files=tuple(FileEntry(**file) for file in files), **known)  # type: ignore[attr-defined, arg-type] # the checksum vouches for the types
    n_parts = [(name, len(list(parts))) for name, parts in groupby(file.name for file in manifest.files)]
    if [name for name, _ in n_parts] != list(TABLE_NAMES) or any(
        n > 1 for name, n in n_parts if name not in GROWING_TABLE_NAMES
    ):
        raise ValueError("its files are not the tables of a version")
    return manifest
