"""Small JSON files that carry their own checksum: canonical, so that one content has one form.

Owns the checksum. Refuses to know what the fields mean.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from cluster_engine.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHECKSUM = "sha256"


def seal(fields: Mapping[str, Any]) -> bytes:
    """Return fields as JSON with sorted keys, one trailing newline, and a checksum among them."""
    sealed = dict(fields) | {_CHECKSUM: hashlib.sha256(_canonical(fields)).hexdigest()}
    return _canonical(sealed)


def unseal(data: bytes, name: str) -> dict[str, Any]:
    """Return the fields that `seal` was given.

    Raises
    ------
    StoreCorruptError
        If the content is not, byte for byte, what `seal` returned; says the name of the file.
    """
    try:
        sealed = json.loads(data)
    except ValueError as error:
        raise StoreCorruptError(f"{name} is not JSON: {error}") from error
    fields = {key: value for key, value in sealed.items() if key != _CHECKSUM} if isinstance(sealed, dict) else {}
    if seal(fields) != data:
        raise StoreCorruptError(f"{name} does not match the checksum that it carries; restore it from a copy")
    return fields


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()
