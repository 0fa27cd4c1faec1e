"""Linkage from lists whatever n is, as tests need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import native_simd
from cluster_engine.linkage import lists
from cluster_engine.linkage.criterion import Criterion, Method, Metric
from cluster_engine.linkage.dendrogram import linkage_matrix
from cluster_engine.linkage.duplicates import distinct_points

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT: list[tuple[Method, Metric]] = [
    ("average", "cosine"),
    ("average", "dot"),
    ("average", "sqeuclidean"),
    ("weighted", "cosine"),
    ("weighted", "dot"),
    ("ward", "euclidean"),
]


def from_lists(
    X: NDArray[np.float32],
    method: Method,
    metric: Metric,
    n_neighbours: int,
    *,
    weights: NDArray[np.float64] | None = None,
    threads: int = 1,
    cut: float | None = None,
) -> tuple[NDArray[np.float64], native_simd.AgglomerationCounters]:
    """Return Z by the matrix-free path whatever n is, and the work of the agglomeration."""
    criterion = Criterion(method, metric)
    points = distinct_points(X, native_simd.norms(X, unit=criterion.unit), criterion, weights)
    packed = native_simd.pack(points.vectors, unit=criterion.unit)
    neighbours = native_simd.NeighbourPass(packed, n_neighbours, criterion.kernel)
    neighbours.run(threads=threads)
    seen = []

    def rescan(agglomeration: native_simd.Agglomeration) -> None:
        agglomeration.rescan(threads)
        seen.append(agglomeration.counters())

    merges = lists.agglomerate(points, packed, neighbours.lists, criterion, rescan, cut=cut)
    work = seen[-1] if seen else native_simd.AgglomerationCounters(0, 0, 0, 0, 0, 0)
    return linkage_matrix(points.expand(merges, cut), len(X)), work
