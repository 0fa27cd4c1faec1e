"""Where a concept belongs: its slot among 256, the logical shard of the slot, and the actor of the shard.

Slots never change, so what is recorded by slot can be read with any number of logical shards and of actors. Sets of
slots are integers with one bit a slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

N_SLOTS = 256
ALL_SLOTS = (1 << N_SLOTS) - 1


def slots_of(concept_ids: ArrayLike) -> NDArray[np.uint8]:
    """Return the slot of each concept: the highest 8 bits of the hash by which the native index has its shards.

    Parameters
    ----------
    concept_ids : array_like of int64, shape (m,)

    Returns
    -------
    ndarray of uint8, shape (m,)

    Notes
    -----
    The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014, with Stafford's constants).
    """
    h = np.asarray(concept_ids, np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ h >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ h >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return ((h ^ h >> np.uint64(31)) >> np.uint64(56)).astype(np.uint8)


def owners(n_shards: int, n_actors: int) -> NDArray[np.int64]:
    """Return the actor of each slot: neighbouring slots are a logical shard, neighbouring shards an actor's.

    Parameters
    ----------
    n_shards : int
        A power of two up to 256.
    n_actors : int
        1 to `n_shards`.

    Raises
    ------
    ValueError
        A number is out of range.
    """
    if not 1 <= n_shards <= N_SLOTS or n_shards & (n_shards - 1):
        raise ValueError(f"n_shards must be a power of two up to {N_SLOTS}, got {n_shards}")
    if not 1 <= n_actors <= n_shards:
        raise ValueError(f"{n_shards} logical shards are for 1 to {n_shards} actors, got {n_actors}")
    return np.arange(N_SLOTS) * n_shards // N_SLOTS * n_actors // n_shards


def slots_owned(actor: int, n_shards: int, n_actors: int) -> int:
    """Return the set of slots of an actor."""
    return slot_set(np.flatnonzero(owners(n_shards, n_actors) == actor))


def slot_set(slots: NDArray[np.integer]) -> int:
    """Return the set of these slots, which may repeat."""
    held = np.zeros(N_SLOTS, np.bool_)
    held[slots] = True
    return int.from_bytes(np.packbits(held, bitorder="little").tobytes(), "little")


def are_in(slots: NDArray[np.uint8], held: int) -> NDArray[np.bool_]:
    """Return whether each slot is in a set of slots."""
    bits = np.frombuffer(held.to_bytes(N_SLOTS // 8, "little"), np.uint8)
    return np.unpackbits(bits, bitorder="little").astype(np.bool_)[slots]
