"""Typed ids: one integer that says whether it names a concept or an episode.

Where both travel in one array. Who knows from the context what an id names takes plain ids, of which all of int64 are
legal; a typed one spends its lowest bit on the type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from native_simd.arrays import require_contiguous
from native_simd.isa import ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]

_LIMIT = 2**62  # plain ids that leave a bit to the type: -_LIMIT to _LIMIT - 1


def typed_concepts(concept_ids: Int64Array) -> Int64Array:
    """Return ``2 * id + 1`` of each concept, shape (n,).

    Raises
    ------
    TypeError
        Not an int64 array of shape (n,).
    ValueError
        An id is outside [-2**62, 2**62), or the array is strided.
    """
    return _typed(concept_ids, "concept_ids", 1)


def typed_episodes(episode_ids: Int64Array) -> Int64Array:
    """Return ``2 * id`` of each episode, shape (n,); errors as :func:`typed_concepts`."""
    return _typed(episode_ids, "episode_ids", 0)


def plain_ids(typed_ids: Int64Array) -> Int64Array:
    """Return the ids without their types, shape (n,)."""
    return np.asarray(require_contiguous(typed_ids, np.int64, "typed_ids") >> 1, np.int64)


def is_concept(typed_ids: Int64Array) -> NDArray[np.bool_]:
    """Return which of the typed ids, shape (n,), name concepts; the others name episodes.

    Raises
    ------
    TypeError
        Not an int64 array of shape (n,).
    ValueError
        The array is strided.
    """
    plain = require_contiguous(typed_ids, np.int64, "typed_ids")
    concepts = np.empty(len(plain), np.bool_)
    lib.ns_are_concepts(
        ffi.from_buffer("int64_t[]", plain), len(plain), ffi.from_buffer("uint8_t[]", concepts.view(np.uint8))
    )
    return concepts


def _typed(ids: Int64Array, name: str, bit: int) -> Int64Array:
    plain = require_contiguous(ids, np.int64, name)
    outside = (plain < -_LIMIT) | (plain >= _LIMIT)
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(f"{name} must be in [-2**62, 2**62), got {plain[at]} at {at}")
    return np.asarray((plain << 1) | bit, np.int64)
