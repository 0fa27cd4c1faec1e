"""Lists of the best candidates, in the order similarity descending, then smaller index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_integer
from native_simd.arrays import check_status
from native_simd.isa import ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_CANDIDATES = 2**32 - 1


def require_k(k: int) -> int:
    """Return a number of candidates to keep, at least 1."""
    return require_integer(k, "k", least=1)


def require_rankable(n: int) -> None:
    """Check that a number of candidates fits into the 32 bits of their indices."""
    if n > _MOST_CANDIDATES:
        raise ValueError(f"at most 2**32 - 1 vectors can be ranked, got {n}")


def empty_lists(n: int, width: int) -> NDArray[np.uint64]:
    """Return ``n`` lists of ``width`` empty places."""
    return np.zeros((n, width), np.uint64)


def ranked(lists: NDArray[np.uint64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Return indices and similarities of the first ``k`` places, and the similarities of the next place.

    Empty places, and the next where there is none, are -1 and -infinity.
    """
    n, width = lists.shape
    indices, similarities = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    bounds = np.full(n, -np.inf, np.float32)
    if width:
        check_status(
            lib.ns_ranked(
                ffi.from_buffer("uint64_t[]", lists),
                n,
                width,
                k,
                ffi.from_buffer("int64_t[]", indices),
                ffi.from_buffer("float[]", similarities),
                ffi.from_buffer("float[]", bounds),
            )
        )
    return indices, similarities, bounds
