"""Identical vectors: clustered once, with their multiplicity, and put back into the tree at height zero.

Real episodes repeat. Under every metric but the raw inner product, identical vectors join first whatever the method,
so the matrix needs one row for each distinct vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.errors import VectorError
from cluster_engine.linkage.criterion import SQUARABLE
from cluster_engine.linkage.dendrogram import Merges

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Criterion


@dataclass(frozen=True, slots=True)
class Points:
    """The distinct vectors among n rows, and how the rows map to them.

    Attributes
    ----------
    vectors : ndarray of float32, shape (m, d)
        One for each kind of row, as given, in the order of first occurrence.
    norms : ndarray of float64, shape (m,)
    weights : ndarray of float64, shape (m,)
        Sum of the weights of the rows of each kind.
    first : ndarray of int64, shape (m,)
        First row of each kind, ascending.
    kind : ndarray of int64, shape (n,)
        Position in `vectors` of each row.
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]
    weights: NDArray[np.float64]
    first: NDArray[np.int64]
    kind: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def expand(self, merges: Merges, cut: float | None = None) -> Merges:
        """Return the merges over all rows: those of identical rows first, then the given ones over the points.

        Identical rows join at height 0, so with a negative ``cut`` they do not.
        """
        repeats = np.flatnonzero(self.first[self.kind] != np.arange(len(self.kind)))
        if cut is not None and cut < 0:
            repeats = repeats[:0]
        return Merges(
            np.concatenate((self.first[self.kind[repeats]], self.first[merges.first])),
            np.concatenate((repeats, self.first[merges.second])),
            np.concatenate((np.zeros(len(repeats)), merges.heights)),
        )


def distinct_points(
    vectors: NDArray[np.float32],
    norms: NDArray[np.float64],
    criterion: Criterion,
    weights: NDArray[np.float64] | None = None,
    name_row: Callable[[int], str] = "row {}".format,
) -> Points:
    """Collapse identical rows, if the metric joins them first anyway. -0.0 and 0.0 are equal.

    O(n log n) to sort the norms; rows are compared only where norms agree.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    norms : ndarray of float64, shape (n,)
        From the native library: equal for equal rows.
    weights : ndarray of float64, shape (n,), optional
        Default, 1 each.
    name_row : callable
        What the caller calls a row, for errors.

    Raises
    ------
    VectorError
        Directions are not what is compared, and the largest norm is outside `SQUARABLE`. Names the row.
    """
    n = len(vectors)
    _check_range(norms, criterion, name_row)
    first_of = _first_equal(vectors, norms) if criterion.collapses_duplicates else np.arange(n)
    first, kind = np.unique(first_of, return_inverse=True)
    if len(first) < n:
        vectors, norms = vectors[first], norms[first]
    kind = kind.reshape(n)
    return Points(vectors, norms, np.bincount(kind, weights, len(first)).astype(np.float64), first, kind)


def _check_range(norms: NDArray[np.float64], criterion: Criterion, name_row: Callable[[int], str]) -> None:
    row, (low, high) = int(norms.argmax()), SQUARABLE
    if not criterion.unit and norms[row] != 0 and not low <= norms[row] <= high:
        allowed = f"{low:.3g} to {high:.3g}"
        raise VectorError(
            f"{name_row(row)}: the largest norm, {norms[row]:.3g}, is outside {allowed}; scale the vectors"
        )


def _first_equal(rows: NDArray[np.float32], norms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return, for each row, the first row that equals it."""
    order = np.argsort(norms, kind="stable")
    shared = np.zeros(len(rows), bool)
    equal_norm = norms[order[1:]] == norms[order[:-1]]
    shared[order[1:]] |= equal_norm
    shared[order[:-1]] |= equal_norm
    first_of = np.arange(len(rows))
    seen: dict[bytes, int] = {}
    for row in np.flatnonzero(shared).tolist():
        first_of[row] = seen.setdefault((rows[row] + np.float32(0)).tobytes(), row)
    return first_of
