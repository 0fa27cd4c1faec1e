"""Whether to compare all centroids or those of near cells: by size, and by what a sample of them needs.

Owns the choice and its reason. Refuses to know concepts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.search.partition import Partition, partition, rows_to_compare, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEASURED_K = 10
_EXACT_BYTES = 3 << 20  # of 8-bit digits, compared in some 100 us on one core; docs/search.md
_MOST_SHARE = 0.25  # of all rows: comparing more of them in cells gains little over comparing all
_RECALL = 0.97  # aimed at, so that of vectors that are not among the centroids at least 0.95 is found


_CELLS_PER_ROOT = (1, 2)  # cells for a root of n: those are taken with which a search compares least, with centres


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How an index searches unless it is told to be exact.

    Attributes
    ----------
    is_exact : bool
        It compares all concepts.
    reason : str
    n_cells : int
    least_rows : int
        Concepts that a search for the 10 nearest compares at least.
    """

    is_exact: bool
    reason: str
    n_cells: int
    least_rows: int


def choose(vectors: NDArray[np.float32], norms: NDArray[np.float64], threads: int) -> tuple[SearchPlan, Partition]:
    """Return the plan for vectors, shape (n, d), whose norms are given, and the cells that it is for.

    Deterministic. O(n^1.5 d) time where there are too many to compare all.
    """
    n, d = vectors.shape
    if n * d <= _EXACT_BYTES:
        return SearchPlan(
            is_exact=True, reason=f"exact: {n} centroids are few enough to compare", n_cells=1, least_rows=n
        ), whole(vectors)
    units = vectors * (1 / norms).astype(np.float32)[:, None]
    least_rows, cells = min(
        (_divided(units, round(per_root * math.sqrt(n)), threads) for per_root in _CELLS_PER_ROOT),
        key=lambda found: found[0] + n // len(found[1].centres) + len(found[1].centres),
    )
    if least_rows > _MOST_SHARE * n:
        reason = f"exact: the nearest are scattered, {_RECALL:.0%} of them over {least_rows} of {n} centroids"
        return SearchPlan(is_exact=True, reason=reason, n_cells=1, least_rows=n), whole(vectors)
    reason = f"cells: {least_rows} of {n} centroids have {_RECALL:.0%} of the {MEASURED_K} nearest of a sample"
    return SearchPlan(is_exact=False, reason=reason, n_cells=len(cells.centres), least_rows=least_rows), cells


def _divided(units: NDArray[np.float32], n_cells: int, threads: int) -> tuple[int, Partition]:
    """Return how many rows a search must compare, at least those of a cell, and the cells."""
    cells = partition(units, n_cells, threads)
    return max(rows_to_compare(units, cells, _RECALL, threads), len(units) // len(cells.centres)), cells
