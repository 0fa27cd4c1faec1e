"""Identical vectors: clustered once, with their multiplicity, and put back into the tree at height zero.

Real episodes repeat. Under every metric but the raw inner product, identical vectors join first whatever the method,
so the matrix needs one row for each distinct vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.linkage.dendrogram import Merges

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DistinctRows:
    """Which rows of an array are the first of their kind.

    Attributes
    ----------
    first : ndarray of int64, shape (m,)
        Index of the first row of each kind, ascending.
    kind : ndarray of int64, shape (n,)
        Position in `first` of each row's kind.
    counts : ndarray of float64, shape (m,)
        Rows of each kind.
    """

    first: NDArray[np.int64]
    kind: NDArray[np.int64]
    counts: NDArray[np.float64]

    @property
    def n_distinct(self) -> int:
        """Number of distinct rows."""
        return len(self.first)

    def expand(self, merges: Merges) -> Merges:
        """Return the merges over all rows: those of identical rows first, then the given ones over distinct rows."""
        repeats = np.flatnonzero(self.first[self.kind] != np.arange(len(self.kind)))
        return Merges(
            np.concatenate((self.first[self.kind[repeats]], self.first[merges.first])),
            np.concatenate((repeats, self.first[merges.second])),
            np.concatenate((np.zeros(len(repeats)), merges.heights)),
        )


def all_distinct(n: int) -> DistinctRows:
    """Return the kinds of n rows of which no two are to be joined beforehand."""
    rows = np.arange(n)
    return DistinctRows(rows, rows, np.ones(n))


def find_distinct(rows: NDArray[np.float32], norms: NDArray[np.float64]) -> DistinctRows:
    """Find the distinct rows; -0.0 and 0.0 are equal. O(n log n) comparisons of norms, bytes only where norms agree.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, d)
    norms : ndarray of float64, shape (n,)
        Norms of the rows, computed alike for equal rows.
    """
    n = len(rows)
    order = np.argsort(norms, kind="stable")
    shared = np.zeros(n, bool)
    equal_norm = norms[order[1:]] == norms[order[:-1]]
    shared[order[1:]] |= equal_norm
    shared[order[:-1]] |= equal_norm
    first_of = np.arange(n)
    seen: dict[bytes, int] = {}
    for row in np.flatnonzero(shared).tolist():
        first_of[row] = seen.setdefault((rows[row] + np.float32(0)).tobytes(), row)
    first, kind, counts = np.unique(first_of, return_inverse=True, return_counts=True)
    return DistinctRows(first, kind.reshape(n), counts.astype(np.float64))
