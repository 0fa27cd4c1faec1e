"""Condensed distance vectors: the only place that knows how pairs are numbered.

Pair (i, j), i < j, of n points is entry ``n i - i (i + 1) / 2 + j - i - 1`` (SciPy's layout). All arithmetic is on
Python integers or int64: n (n - 1) / 2 passes 2**31 at n = 65,537.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def n_pairs(n: int) -> int:
    """Return the number of unordered pairs of n points."""
    return n * (n - 1) // 2


def n_points(n_entries: int) -> int:
    """Return the number of points whose condensed vector has this many entries.

    Raises
    ------
    InputError
        If no number of points fits.
    """
    n = (1 + isqrt(1 + 8 * n_entries)) // 2
    if n_entries < 1 or n_pairs(n) != n_entries:
        raise InputError(
            f"a condensed distance vector has n (n - 1) / 2 entries for some n >= 2; {n_entries} is not such"
        )
    return n


def row_start(n: int, i: int) -> int:
    """Return the index of pair (i, i + 1)."""
    return n * i - i * (i + 1) // 2


def pair_of(n: int, index: int) -> tuple[int, int]:
    """Return the pair (i, j), i < j, at an index of the condensed vector."""
    remaining = n_pairs(n) - 1 - index
    i = n - 2 - (isqrt(8 * remaining + 1) - 1) // 2
    return i, index - row_start(n, i) + i + 1


def negate_to_square(condensed: NDArray[np.generic], out: NDArray[np.float32]) -> None:
    """Write the negated distances (similarities) of a condensed vector to both halves of a square matrix."""
    n = len(out)
    np.fill_diagonal(out, 0)
    for i in range(n - 1):
        start = row_start(n, i)
        out[i, i + 1 :] = condensed[start : start + n - 1 - i]
        np.negative(out[i, i + 1 :], out=out[i, i + 1 :])
        out[i + 1 :, i] = out[i, i + 1 :]
