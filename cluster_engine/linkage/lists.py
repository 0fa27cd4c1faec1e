"""Linkage without a matrix: the nearest neighbours of every point, then exact agglomeration of what they certify.

Sequential but for the rescans, which whoever calls computes: on this machine's threads, or elsewhere.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.linkage.chain import merge_sums
from cluster_engine.linkage.dendrogram import Merges
from cluster_engine.progress import Phase, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Criterion
    from cluster_engine.linkage.duplicates import Points

_LOG = logging.getLogger(__name__)
_TILES_PER_REPORT = 64
_MERGES_PER_REPORT = 4096
FEW = 2_048
"""Clusters from which on a matrix of the rest, 16 MiB, is faster than rescans; 4,000 is no better."""
N_NEIGHBOURS = 32
"""Candidates of each point. With 16, 20,000 points of a mixture need twice as many rescans; 64 gain no more."""


def nearest_lists(
    packed: native_simd.PackedVectors,
    kernel: native_simd.Metric,
    n_neighbours: int,
    labels: NDArray[np.int32] | None = None,
    *,
    sketch: native_simd.Sketch | None = None,
    threads: int,
    reporter: Reporter | None = None,
) -> NDArray[np.uint64]:
    """Return the ranked lists of the pass over all pairs of points of different labels: candidates and a bound each.

    With a sketch of the points, which is for kernel "cosine" without labels, the same to the bit.
    """
    neighbours: native_simd.NeighbourPass | native_simd.SketchedPass
    if sketch is None:
        neighbours = native_simd.NeighbourPass(packed, n_neighbours, kernel, labels=labels)
    else:
        neighbours = native_simd.SketchedPass(packed, sketch, n_neighbours, threads)
    phase = Phase("neighbours", neighbours.n_tiles, reporter)
    while phase.done < phase.total:
        stop = min(phase.total, phase.done + _TILES_PER_REPORT * threads)
        neighbours.run((phase.done, stop), threads)
        phase.advance(stop - phase.done)
    return neighbours.lists


def agglomerate(
    points: Points,
    packed: native_simd.PackedVectors,
    lists: NDArray[np.uint64],
    criterion: Criterion,
    rescan: Callable[[native_simd.Agglomeration], None],
    *,
    cut: float | None = None,
    epsilon: float = 0.0,
    threads: int = 1,
    reporter: Reporter | None = None,
) -> Merges:
    """Merge points into a tree, or up to a height into a forest.

    Parameters
    ----------
    points : Points
    packed : PackedVectors
        The same points; overwritten.
    lists : ndarray of uint64
        From the pass over them.
    criterion : Criterion
        One that is `exact`.
    rescan : callable
        Answers the queries of the agglomeration.
    cut : float, optional
        Height above which nothing is merged.
    epsilon : float
        As of :class:`native_simd.Agglomeration`; not beside a cut.
    threads : int
        For what is computed here.

    Returns
    -------
    Merges
        Over the points, in the order found.
    """
    if len(points) == 1:
        return Merges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    agglomeration = native_simd.Agglomeration(
        points.vectors,
        points.norms if criterion.unit else None,
        packed,
        points.weights,
        lists,
        method=criterion.method,
        metric=criterion.kernel,
        cut=-np.inf if cut is None else criterion.least_similarity(cut),
        epsilon=epsilon,
    )
    n_enough = FEW if criterion.bilinear else 1
    phase = Phase("linkage", len(points) - 1, reporter)
    slices = [agglomeration.advance(_MERGES_PER_REPORT, n_enough)]
    while len(slices[-1][0]) or agglomeration.n_queries:
        phase.advance(len(slices[-1][0]))
        if agglomeration.n_queries:
            rescan(agglomeration)
        slices.append(agglomeration.advance(_MERGES_PER_REPORT, n_enough))
    leaves, sums, weights = agglomeration.living()
    if len(leaves) > 1:
        first, second, similarities = merge_sums(sums, weights, criterion, float(points.norms.max()), threads)
        slices.append((leaves[first], leaves[second], similarities))
        phase.advance(len(first))
    _LOG.info(
        "linkage=%s metric=%s points=%d %s", criterion.method, criterion.metric, len(points), agglomeration.counters()
    )
    first, second, similarities = (np.concatenate(parts) for parts in zip(*slices, strict=True))
    return Merges(first, second, criterion.heights(similarities)).below(cut)
