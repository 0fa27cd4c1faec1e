"""Lists of the best candidates, in the order similarity descending, then smaller index.

Only the library knows how a candidate is one integer; all that is known here is that an index is its lower half,
inverted, and that 0 is an empty place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_integer
from native_simd.arrays import check_status, kind_of, require_apart, require_contiguous
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
    return np.zeros((require_integer(n, "n", least=0), require_integer(width, "width", least=0)), np.uint64)


def require_lists(lists: object, n: int, name: str, *, written: bool) -> NDArray[np.uint64]:
    """Return ranked lists of ``n`` rows that the library reads or, if they are written, can write to."""
    if not isinstance(lists, np.ndarray) or lists.dtype != np.uint64 or lists.ndim != 2 or len(lists) != n:
        raise TypeError(f"{name} must be a uint64 array of shape ({n}, width), got {kind_of(lists)}")
    if not lists.shape[1]:
        raise ValueError(f"{name} must have at least one place a row")
    if not (lists.flags.c_contiguous and lists.flags.aligned and (lists.flags.writeable or not written)):
        raise ValueError(f"{name} must be contiguous and aligned, and writeable if they are written")
    return np.asarray(lists)


def merge_lists(lists: NDArray[np.uint64], others: NDArray[np.uint64]) -> None:
    """Make ``lists`` the best of both, as if whatever was offered to either had been offered to them.

    Parameters
    ----------
    lists, others : ndarray of uint64, shape (n, width)
        Ranked lists of the same rows. Lists are sets: the order of merges changes nothing, nor does one that comes
        again.

    Raises
    ------
    TypeError, ValueError
        They are no lists of one shape that lie apart; then nothing is written.
    """
    lists = require_lists(lists, _length(lists), "lists", written=True)
    if not isinstance(others, np.ndarray) or others.dtype != np.uint64 or others.shape != lists.shape:
        raise TypeError(f"others must be a uint64 array of the shape of lists, {lists.shape}, got {kind_of(others)}")
    others = np.require(others, requirements=["C", "A"])
    require_apart(lists, "lists", {"others": others})
    n, width = lists.shape
    check_status(
        lib.ns_merge_lists(ffi.from_buffer("uint64_t[]", lists), ffi.from_buffer("uint64_t[]", others), n, width)
    )


def renumber(lists: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the lists with ``numbers[i]``, below 2**32 - 1, in place of index ``i``.

    Where numbers are not ascending, candidates of equal similarity are no longer in order: sort what they are in.
    """
    lists = require_lists(lists, _length(lists), "lists", written=False)
    numbers = require_contiguous(numbers, np.int64, "numbers")
    if not ((numbers >= 0) & (numbers < _MOST_CANDIDATES)).all():
        raise ValueError("numbers must be from 0 to 2**32 - 2")
    if not len(numbers):
        raise ValueError("numbers must hold one for each candidate")
    require_candidates(lists, len(numbers), "lists")
    half, low = np.uint64(32), np.uint64(_MOST_CANDIDATES)
    indices = (~lists & low).astype(np.int64)
    known = lists != 0
    renamed = (lists >> half << half) | (~numbers[np.where(known, indices, 0)].astype(np.uint64) & low)
    return np.where(known, renamed, np.uint64(0))


def require_candidates(lists: NDArray[np.uint64], n: int, name: str) -> None:
    """Check that ranked lists name none but the candidates 0 to n - 1."""
    inverted = lists.astype(np.uint32)  # the lower half of a candidate
    last = _MOST_CANDIDATES - int(inverted.min(where=lists != 0, initial=_MOST_CANDIDATES))
    if last >= max(n, 1):
        raise ValueError(f"{name} must be of {n} candidates, got one with index {last}")


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


def _length(lists: object) -> int:
    return len(lists) if isinstance(lists, np.ndarray) and lists.ndim else 0
