"""Names for concepts and for the nodes of their hierarchy: 63-bit numbers.

A concept is named after the cycle in which it is born and its first episode then, in id order; a node after the first
concept of the second of the two branches it joins. Both are unique, and neither depends on the order of the input.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

from cluster_engine.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MASK = (1 << 63) - 1


def name_after(kind: Literal["concept", "node", "episode"], name: int | str) -> int:
    """Return the 63-bit number for this kind and name (BLAKE2b)."""
    digest = hashlib.blake2b(f"{kind}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & _MASK


def require_distinct(names: Sequence[int]) -> None:
    """Raise `InputError` if two names collide (for m names the chance is m^2 / 2^64)."""
    if len(set(names)) != len(names):
        raise InputError("two concept names collide; change any episode id of the batch and run again")
