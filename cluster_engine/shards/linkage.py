"""Linkage on a pool of actors: vectors in, SciPy's Z out, the same bits as on one machine.

The driver of a batch and `distributed_linkage` go through the same function.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import native_simd
from cluster_engine.config import PoolConfig
from cluster_engine.linkage.chain import cluster_matrix
from cluster_engine.linkage.criterion import Criterion, Method, Metric
from cluster_engine.linkage.dendrogram import Merges, linkage_matrix
from cluster_engine.linkage.duplicates import Points, distinct_points
from cluster_engine.linkage.linkage import as_vectors, checked_norms, checked_weights
from cluster_engine.linkage.lists import N_NEIGHBOURS, agglomerate
from cluster_engine.linkage.plan import Path, choose_path
from cluster_engine.linkage.spanning_tree import TREE_NEIGHBOURS, merge_tree, tree_kernel
from cluster_engine.progress import Reporter, Spent, measured
from cluster_engine.shards.passes import NeighbourPasses, fill_matrix
from cluster_engine.shards.pool import ShardPool, connected
from cluster_engine.shards.rescans import Rescans
from cluster_engine.similarity.capacity import count_threads
from cluster_engine.similarity.matrix import SharedMatrix
from cluster_engine.similarity.tiles import TilePlan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_LOG = logging.getLogger(__name__)
POOL_COPIES = 4
"""Of the vectors on the driver's host: in the object store, packed by the driver, by actors, and by others of them."""


def distributed_linkage(
    X: ArrayLike,
    method: Method = "average",
    metric: Metric = "cosine",
    *,
    weights: ArrayLike | None = None,
    cut: float | None = None,
    pool: ShardPool | None = None,
    memory_limit: int | None = None,
    progress: Reporter | None = None,
) -> NDArray[np.float64]:
    """Hierarchical clustering on Ray, in SciPy's layout: the bytes of :func:`cluster_engine.linkage`.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Vectors, as of :func:`cluster_engine.linkage`.
    method, metric, weights, cut
        As of :func:`cluster_engine.linkage`; there are no precomputed distances here.
    pool : ShardPool, optional
        The actors; default, one on each NUMA node of the Ray that RAY_ADDRESS names, or of a local one, for this call.
    memory_limit : int, optional
        Bytes this call may allocate on this host; default, what is available.
    progress : callable, optional
        Called with :class:`cluster_engine.progress.Progress`.

    Returns
    -------
    ndarray of float64, shape (n - 1, 4), or fewer rows with ``cut``

    Raises
    ------
    VectorError, InputError, CapacityError
        As :func:`cluster_engine.linkage`.
    ClusterConnectionError, PlacementError, PassError
        No Ray, no actors where they should be, or none left.

    Notes
    -----
    The pass over all pairs is spread over the actors, and so are rescans where there are other hosts; the merges are
    found here.
    """
    criterion = Criterion(method, metric)
    vectors = as_vectors(X)
    norms = checked_norms(vectors, criterion, count_threads())
    points = distinct_points(vectors, norms, criterion, checked_weights(weights, len(vectors), criterion.method))
    path = pooled_path(points, criterion, memory_limit)
    with ExitStack() as stack:
        if pool is None:
            stack.enter_context(connected())
            pool = stack.enter_context(ShardPool(PoolConfig()))
        merges = PooledLinkage(pool, points, criterion, cut, progress).merges(path, {})
    return linkage_matrix(points.expand(merges, cut), len(vectors))


def pooled_path(points: Points, criterion: Criterion, memory_limit: int | None) -> Path:
    """Return the way a pool will cluster the points.

    Raises
    ------
    CapacityError
        It will not fit into the memory of this host.
    """
    path, reason = choose_path(len(points), points.vectors.shape[1], criterion, memory_limit, n_copies=POOL_COPIES)
    _LOG.info(
        "linkage=%s metric=%s points=%d path=%s reason=%r",
        criterion.method,
        criterion.metric,
        len(points),
        path,
        reason,
    )
    return path


@dataclass(frozen=True, slots=True)
class PooledLinkage:
    """Points to be clustered on a pool.

    Attributes
    ----------
    pool : ShardPool
    points : Points
    criterion : Criterion
    cut : float or None
        Height above which nothing is merged.
    reporter : callable or None
    """

    pool: ShardPool
    points: Points
    criterion: Criterion
    cut: float | None = None
    reporter: Reporter | None = None

    def merges(self, path: Path, spent: dict[str, Spent]) -> Merges:
        """Return the merges of the points, in the order found.

        Parameters
        ----------
        path : {"matrix", "lists", "spanning tree"}
            Of `pooled_path`.
        spent : dict of str to Spent
            Receives what was taken by the phases "pairwise" or "neighbours", and "linkage".
        """
        if path == "matrix":
            return self._through_matrix(spent)
        return self._from_lists(spent) if path == "lists" else self._by_tree(spent)

    def _through_matrix(self, spent: dict[str, Spent]) -> Merges:
        plan = TilePlan.for_workers(len(self.points), len(self.pool))
        with SharedMatrix(plan) as matrix:
            with measured("pairwise", spent):
                fill_matrix(self.pool, matrix, self.points.vectors, self.criterion, self.reporter)
            with measured("linkage", spent):
                return cluster_matrix(matrix.values, self.criterion, self.points, self.reporter).below(self.cut)

    def _from_lists(self, spent: dict[str, Spent]) -> Merges:
        with measured("neighbours", spent):
            lists = self._passes(self.criterion.kernel, N_NEIGHBOURS)()
        threads = count_threads()
        rescan = (
            Rescans(self.pool, len(self.points), threads)
            if self.pool.reaches_elsewhere
            else partial(native_simd.Agglomeration.rescan, threads=threads)
        )
        with measured("linkage", spent):
            merges = agglomerate(
                self.points,
                self._packed(threads),
                lists,
                self.criterion,
                rescan,
                cut=self.cut,
                threads=threads,
                reporter=self.reporter,
            )
        self.pool.end_pass()
        return merges

    def _by_tree(self, spent: dict[str, Spent]) -> Merges:
        threads = count_threads()
        passes = self._passes(tree_kernel(self.criterion), TREE_NEIGHBOURS)

        def nearest(labels: NDArray[np.int32]) -> NDArray[np.uint64]:
            with measured("neighbours", spent):
                return passes(labels)

        with measured("linkage", spent):
            merges = merge_tree(
                self.points,
                self._packed(threads),
                self.criterion,
                threads,
                nearest,
                cut=self.cut,
                reporter=self.reporter,
            )
        alone_s = spent["linkage"].seconds - spent["neighbours"].seconds  # it asks for a pass whenever lists are short
        spent["linkage"] = replace(spent["linkage"], seconds=alone_s)
        return merges

    def _passes(self, kernel: native_simd.Metric, n_neighbours: int) -> NeighbourPasses:
        return NeighbourPasses(
            self.pool,
            self.points.vectors,
            kernel=kernel,
            unit=self.criterion.unit,
            n_neighbours=n_neighbours,
            reporter=self.reporter,
        )

    def _packed(self, threads: int) -> native_simd.PackedVectors:
        return native_simd.pack(self.points.vectors, unit=self.criterion.unit, threads=threads)
