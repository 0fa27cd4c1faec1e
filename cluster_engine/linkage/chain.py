"""Runs the native nearest-neighbour chain over a filled matrix. Sequential: each merge depends on the one before."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.linkage.dendrogram import Merges
from cluster_engine.progress import Phase, Reporter
from cluster_engine.similarity.matrix import row_stride
from native_simd.arrays import empty_aligned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Criterion
    from cluster_engine.linkage.duplicates import Points

_LOG = logging.getLogger(__name__)
_MERGES_PER_REPORT = 4096
_MEAN_ROUNDING = 2.0  # a mean is rounded to float32 too: 3 u of its norm, less than the error of the inner product


def cluster_matrix(
    matrix: NDArray[np.float32], criterion: Criterion, points: Points, reporter: Reporter | None = None
) -> Merges:
    """Cluster points whose similarities fill a matrix.

    Parameters
    ----------
    matrix : ndarray of float32, shape (n, n)
        Similarities of the points by ``criterion.kernel``; overwritten.
    points : Points

    Returns
    -------
    Merges
        Over the points, in the order found.
    """
    error, bound = criterion.matrix_error(points.vectors.shape[1], float(points.norms.max()))
    chain = native_simd.NearestNeighbourChain(
        matrix,
        criterion.method,
        points.weights,
        sums=_leaf_sums(criterion, points) if criterion.bilinear else None,
        value_error=error if criterion.bilinear else None,
        value_bound=bound,
    )
    return _run(chain, criterion, reporter)


def merge_sums(
    sums: NDArray[np.float64], weights: NDArray[np.float64], criterion: Criterion, max_norm: float, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Merge all of a few clusters, through a matrix of their similarities.

    Parameters
    ----------
    sums : ndarray of float64, shape (m, d)
        Of their members; for "weighted" their means. Overwritten.
    weights : ndarray of float64, shape (m,)
    criterion : Criterion
        One that is bilinear.
    max_norm : float
        Of all vectors.

    Returns
    -------
    first, second : ndarray of int64, shape (m - 1,)
        Positions of the first clusters of the two sides, ``first < second``.
    similarities : ndarray of float64, shape (m - 1,)
    """
    means = sums if criterion.method == "weighted" else sums / weights[:, np.newaxis]
    packed = native_simd.pack(means.astype(np.float32), threads=threads)
    matrix = np.empty((len(sums), row_stride(len(sums))), np.float32)[:, : len(sums)]
    native_simd.pairwise_symmetric(packed, metric="dot", out=matrix, threads=threads)
    error, bound = criterion.matrix_error(sums.shape[1], max_norm)  # a mean rounds as a unit vector does
    chain = native_simd.NearestNeighbourChain(
        matrix, criterion.method, weights, sums=sums, value_error=_MEAN_ROUNDING * error, value_bound=bound
    )
    return chain.advance(len(sums))


def cluster_distances(
    matrix: NDArray[np.float32],
    criterion: Criterion,
    weights: NDArray[np.float64] | None = None,
    reporter: Reporter | None = None,
) -> Merges:
    """Cluster a matrix of given (negated) distances; for Ward, of negated squared distances. It is overwritten."""
    chain = native_simd.NearestNeighbourChain(
        matrix, criterion.method, weights if weights is not None else np.ones(len(matrix))
    )
    return _run(chain, criterion, reporter)


def _leaf_sums(criterion: Criterion, points: Points) -> NDArray[np.float64]:
    sums = empty_aligned(points.vectors.shape, np.float64)
    if criterion.unit:
        np.divide(points.vectors, points.norms[:, np.newaxis], out=sums)
    else:
        sums[...] = points.vectors
    if criterion.method != "weighted" and (points.weights != 1).any():
        sums *= points.weights[:, np.newaxis]
    return sums


def _run(chain: native_simd.NearestNeighbourChain, criterion: Criterion, reporter: Reporter | None) -> Merges:
    """Advance in slices, so that Ctrl-C and progress get a turn."""
    phase = Phase("linkage", chain.n_leaves - 1, reporter)
    slices = []
    while phase.done < phase.total:
        slices.append(chain.advance(_MERGES_PER_REPORT))
        phase.advance(len(slices[-1][0]))
    _LOG.info("linkage=%s metric=%s leaves=%d %s", criterion.method, criterion.metric, chain.n_leaves, chain.counters())
    if not slices:
        return Merges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    first, second, similarities = (np.concatenate(parts) for parts in zip(*slices, strict=True))
    return Merges(first, second, criterion.heights(similarities))
