"""Centres of clusters, and how close vectors are to them: what is left of a tree for points that come later.

The centre is the mean of the members, under cosine of their unit vectors and not of length 1 itself. So for average
linkage under cosine and dot the similarity with the centre *is* that of the linkage: the inner product of means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.errors import VectorError
from cluster_engine.linkage.linkage import checked_norms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Criterion

_MEAN_ROWS = 1024
_BLOCK_BYTES = 1 << 26


def vector_norms(vectors: NDArray[np.float32], criterion: Criterion, threads: int) -> NDArray[np.float64]:
    """Return what the metric divides each vector by: its norm under cosine, else 1.

    Raises
    ------
    VectorError
        A row is not finite, too large or, under cosine, zero; names it.
    """
    norms = checked_norms(vectors, criterion, threads)
    return norms if criterion.unit else np.ones(len(vectors))


def cluster_means(
    vectors: NDArray[np.float32], scales: NDArray[np.float64], labels: NDArray[np.int64], n_clusters: int
) -> NDArray[np.float32]:
    """Return the sum of the scaled vectors of each cluster. O(n d); in float64, in row order.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    scales : ndarray of float64, shape (n,)
        What each is multiplied by: its share of its cluster, divided by what the metric divides it by.
    labels : ndarray of int64, shape (n,)
        From 0 to n_clusters - 1.

    Returns
    -------
    ndarray of float32, shape (n_clusters, d)
    """
    means = np.zeros((n_clusters, vectors.shape[1]))
    for start in range(0, len(vectors), _MEAN_ROWS):
        rows = slice(start, start + _MEAN_ROWS)
        np.add.at(means, labels[rows], vectors[rows] * scales[rows, np.newaxis])
    return means.astype(np.float32)


def center_similarities(
    vectors: NDArray[np.generic], centers: NDArray[np.float32], criterion: Criterion, threads: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Compare vectors with all centres, a block of rows at a time.

    Parameters
    ----------
    vectors : ndarray, shape (n, d)
        Of any real dtype; a block of them is converted at a time.
    centers : ndarray of float32, shape (k, d)

    Yields
    ------
    rows : slice
    similarities : ndarray of float32, shape (m, k)
        Inner products under cosine (of the unit vector) and dot, else negated distances. At most 64 MiB, or 16 rows.

    Raises
    ------
    VectorError
        A row is not finite, too large or, under cosine, zero; names it.
    """
    kernel: native_simd.Metric = (
        "dot" if criterion.metric == "cosine" else criterion.metric
    )  # centres keep their length
    packed = native_simd.pack(centers, threads=threads)
    n_rows = max(native_simd.LANES, _BLOCK_BYTES // (4 * (packed.n + packed.d)))
    for start in range(0, len(vectors), n_rows):
        rows = slice(start, min(start + n_rows, len(vectors)))
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused with its row
            block = np.ascontiguousarray(vectors[rows], np.float32)
        try:
            queries = native_simd.pack(block, unit=criterion.unit, threads=threads)
        except native_simd.RowError as fault:
            raise VectorError(f"row {start + fault.row}: {fault.reason}") from None
        similarities = np.empty((queries.n, packed.n), np.float32)
        native_simd.pairwise(queries, packed, metric=kernel, out=similarities, threads=threads)
        yield rows, similarities


def center_distances(similarities: NDArray[np.float32], criterion: Criterion) -> NDArray[np.float32]:
    """Return the distances that belong to similarities with centres."""
    return 1 - similarities if criterion.metric in ("cosine", "dot") else -similarities
