"""Near-duplicates: which vectors to keep, so that each other one is close to a kept one, and no two kept are close.

Single linkage up to the distance finds, exactly and without a matrix, the pieces beyond which nothing is close; within
a piece, a cover goes through the vectors in the order of preference. So a chain of small steps, which single linkage
alone would call one group, is kept at every `eps` of the way. Complete linkage would bound the groups too, but
needs a matrix; average linkage bounds a mean only, and may leave two kept ones close.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

import native_simd
from cluster_engine.errors import InputError
from cluster_engine.linkage.centers import cluster_means
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.leaf_order import children_of, find_tops, order_leaves
from cluster_engine.linkage.linkage import as_vectors, checked_norms, linkage
from cluster_engine.similarity.capacity import count_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.progress import Reporter

_CRITERION = Criterion("single", "cosine")
_BLOCK_ROWS = 64  # candidates compared at a time with all that are left; chosen, not measured
_BLOCK_COLUMNS = 65_536


@dataclass(frozen=True, slots=True)
class Deduplication:
    """What each vector is a near-duplicate of.

    Attributes
    ----------
    representatives : ndarray of int64, shape (n,)
        The row that is kept for each row: itself, or the preferred one of those kept within `eps`.
    similarities : ndarray of float64, shape (n,)
        Cosine with it; 1 for a row that is kept.
    """

    representatives: NDArray[np.int64]
    similarities: NDArray[np.float64]

    @property
    def kept(self) -> NDArray[np.int64]:
        """The rows to keep, ascending."""
        return np.flatnonzero(self.representatives == np.arange(len(self.representatives)))


def deduplicate(
    X: ArrayLike,
    eps: float = 0.05,
    *,
    preference: ArrayLike | Literal["first", "central"] = "first",
    threads: int | None = None,
    memory_limit: int | None = None,
    progress: Reporter | None = None,
) -> Deduplication:
    """Find near-duplicates, as SemDeDup (arXiv:2303.09540) does, but exactly.

    The vectors are gone through in the order of preference; one is kept unless one that is kept already is within
    `eps`. So every vector is within `eps` of its representative, and no two that are kept are within `eps`.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Vectors, as :func:`cluster_engine.linkage` takes them.
    eps : float
        Cosine distance, ``1 - cos``, up to which two vectors say the same; at least 0 and below 1. With 0, only vectors
        of the same direction to the bit.
    preference : "first", "central", or array_like of shape (n,)
        Which to keep: the earlier row; the one closest to the mean of its piece, a piece being what steps of `eps`
        reach; or the one with the larger number. Equal ones in the order of rows.
    threads : int, optional
        Default, all CPUs that this process may use. Never changes the result.
    memory_limit : int, optional
        Bytes this call may allocate; default, what is available.
    progress : callable, optional
        Called with :class:`cluster_engine.progress.Progress`.

    Returns
    -------
    Deduplication

    Raises
    ------
    VectorError
        A row is null, not finite, or zero; names the row.
    InputError
        X is no array of vectors, or `preference` is not one number for each.
    CapacityError
        It will not fit.
    ValueError
        `eps` is out of range.

    Notes
    -----
    Time and memory are those of single linkage, O(n (d + k)) memory, with O(m r d) for a piece of m vectors of which r
    are kept. Decided in float64.

    Examples
    --------
    >>> found = deduplicate([[1, 0], [0, 1], [1, 0.01]], eps=0.01)
    >>> found.representatives.tolist(), found.kept.tolist()
    ([0, 1, 0], [0, 1])
    """
    if not 0 <= eps < 1:
        raise ValueError(f"eps must be at least 0 and below 1, got {eps!r}")
    vectors = as_vectors(X, least=1)
    n_threads = count_threads(threads)
    norms = checked_norms(vectors, _CRITERION, n_threads)
    preferred = None if isinstance(preference, str) else _checked_preference(preference, len(vectors))
    if preferred is None and preference not in ("first", "central"):
        raise ValueError(f'preference must be "first", "central" or an array of numbers, got {preference!r}')
    found = np.arange(len(vectors))
    search = _Search(vectors, norms, eps, n_threads)
    for rows in search.pieces(memory_limit, progress):
        if preferred is not None:
            ordered = rows[np.argsort(-preferred[rows], kind="stable")]
        else:
            ordered = search.central_first(rows) if preference == "central" else rows
        found[ordered] = ordered[0] if len(ordered) == 2 else search.cover(ordered)  # linked, so close
    return Deduplication(found, search.similarities(found))


def _checked_preference(preference: ArrayLike, n: int) -> NDArray[np.float64]:
    numbers = np.asarray(preference)
    if numbers.shape != (n,) or numbers.dtype.kind not in "fiub" or np.isnan(numbers).any():
        raise InputError(f"preference must be {n} numbers, got {numbers.dtype} of shape {numbers.shape}, or NaN")
    return numbers.astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Search:
    """The vectors, their norms, and what counts as close."""

    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]
    eps: float
    threads: int

    def pieces(self, memory_limit: int | None, progress: Reporter | None) -> Iterator[NDArray[np.int64]]:
        """Yield the rows, ascending, of each piece of two or more that steps of `eps` connect."""
        n = len(self.vectors)
        if n < 2:
            return
        z = linkage(
            self.vectors,
            "single",
            "cosine",
            cut=self.eps,
            threads=self.threads,
            memory_limit=memory_limit,
            progress=progress,
        )
        order = order_leaves(z, n)
        for top in find_tops(children_of(z), n).tolist():
            if top >= n:
                yield np.sort(order.below(top))

    def central_first(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows by their cosine with the mean of their directions, the closest first."""
        members = np.ascontiguousarray(self.vectors[rows])
        mean = cluster_means(members, 1 / self.norms[rows], np.zeros(len(rows), np.int64), 1)
        left, right = native_simd.pack(mean), native_simd.pack(members, unit=True, threads=self.threads)
        closeness = np.empty((1, len(rows)), np.float32)
        native_simd.pairwise(left, right, metric="dot", out=closeness, threads=self.threads)
        return rows[np.argsort(-closeness[0], kind="stable")]

    def cover(self, ordered: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the representative of each row; rows come in the order of preference."""
        found = np.empty(len(ordered), np.int64)
        waiting = np.arange(len(ordered))
        while len(waiting):
            candidates = ordered[waiting[:_BLOCK_ROWS]]
            close = self.are_close(candidates, ordered[waiting])
            claimed = np.full(len(waiting), -1)
            for candidate, (row, is_close) in enumerate(zip(candidates.tolist(), close, strict=True)):
                if claimed[candidate] < 0:
                    claimed[is_close & (claimed < 0)] = row
            is_done = claimed >= 0
            found[waiting[is_done]] = claimed[is_done]
            waiting = waiting[~is_done]
        return found

    def are_close(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of the pairs are within `eps`: by float32 cosines, where these leave a doubt in float64."""
        close = np.empty((len(rows), len(others)), np.bool_)
        packed = native_simd.pack(self.vectors[rows], unit=True)
        error, _ = _CRITERION.matrix_error(packed.d, 1.0)
        for start in range(0, len(others), _BLOCK_COLUMNS):
            part = others[start : start + _BLOCK_COLUMNS]
            cosines = np.empty((len(rows), len(part)), np.float32)
            right = native_simd.pack(self.vectors[part], unit=True, threads=self.threads)
            native_simd.pairwise(packed, right, metric="cosine", out=cosines, threads=self.threads)
            excess = cosines.astype(np.float64) - (1 - self.eps)
            block = excess > 0
            first, second = np.nonzero(np.abs(excess) <= 2 * error)
            block[first, second] = self.distances(rows[first], part[second]) <= self.eps
            close[:, start : start + len(part)] = block
        return close

    def distances(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return cosine distances of pairs of rows: half the squared distance of their directions."""
        return -0.5 * native_simd.pair_similarities(
            self.vectors, first, second, "sqeuclidean", divisors=self.norms, threads=self.threads
        )

    def similarities(self, representatives: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the cosine of each row with its representative."""
        rows = np.flatnonzero(representatives != np.arange(len(representatives)))
        similarities = np.ones(len(representatives))
        similarities[rows] = 1 - self.distances(rows, representatives[rows])
        return similarities
