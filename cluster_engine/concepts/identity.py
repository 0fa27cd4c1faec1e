"""Names for concepts and for the nodes of their hierarchy: 63-bit numbers drawn from an episode's id.

A concept is named after its first episode in id order, a node above the concepts after the first episode of the
second of the two branches it joins; within one tree both are unique, and neither depends on the order of the input.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

from cluster_engine.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MASK = (1 << 63) - 1


def name_after(kind: Literal["concept", "node", "episode"], episode_id: int | str) -> int:
    """Return the 63-bit number for this kind and episode id (BLAKE2b)."""
    digest = hashlib.blake2b(f"{kind}:{episode_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & _MASK


def require_distinct(names: Sequence[int]) -> None:
    """Raise `InputError` if two names collide (for m names the chance is m^2 / 2^64)."""
    if len(set(names)) != len(names):
        raise InputError("two concept names collide; change any episode id of the batch and run again")
