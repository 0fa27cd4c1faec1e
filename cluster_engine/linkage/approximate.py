"""`approximate_linkage`: average linkage where exact linkage takes too long, and how good it turned out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

import native_simd
from cluster_engine.errors import InputError
from cluster_engine.linkage.carving import candidate_lists
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.dendrogram import linkage_matrix
from cluster_engine.linkage.duplicates import distinct_points
from cluster_engine.linkage.linkage import as_vectors, checked_norms, checked_weights
from cluster_engine.linkage.lists import agglomerate
from cluster_engine.linkage.plan import path_bytes
from cluster_engine.linkage.violation import Violation, measure_violation
from cluster_engine.similarity.capacity import available_bytes, count_threads, require_fit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.progress import Reporter

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ApproximateLinkage:
    """A tree that need not be the exact one, and what is known of the difference.

    Attributes
    ----------
    Z : ndarray of float64, shape (n - 1, 4)
        In SciPy's layout. Heights never decrease: a merge that was found late is at the height of what is below it.
    violation : Violation
        By how much sampled merges of distinct vectors missed the best there were.
    """

    Z: NDArray[np.float64]
    violation: Violation


def approximate_linkage(
    X: ArrayLike,
    metric: Literal["cosine", "dot"] = "cosine",
    *,
    epsilon: float = 0.05,
    n_repetitions: int = 16,
    n_samples: int = 256,
    seed: int = 0,
    weights: ArrayLike | None = None,
    threads: int | None = None,
    memory_limit: int | None = None,
    progress: Reporter | None = None,
) -> ApproximateLinkage:
    """Average linkage by near candidates of each vector, without the pass over all pairs.

    The similarities of clusters are exact, as in :func:`cluster_engine.linkage`; which of them are looked at is not.

    Parameters
    ----------
    X : array_like, shape (n, d)
        As of `linkage`.
    metric : {"cosine", "dot"}
    epsilon : float
        Above 0. A cluster takes the best candidate for its nearest where the lists leave nothing nearer by more than
        a factor of 1 + epsilon in similarity; otherwise it is compared with all clusters.
    n_repetitions : int
        Carvings into balls, at least 1, within which candidates are looked for. More find more.
    n_samples : int
        Merges whose violation is measured, at least 1.
    seed : int
        Not negative. The same seed and rows in the same order give the same bytes.
    weights, threads, memory_limit, progress
        As of `linkage`.

    Returns
    -------
    ApproximateLinkage

    Raises
    ------
    VectorError, InputError, CapacityError
        As `linkage`; or an argument is out of its range.

    Notes
    -----
    If lists missed no near candidate, every merge would be good in the sense of TeraHAC (Dhulipala et al. 2023,
    arXiv:2308.03578), and the tree (1 + epsilon)-approximate: docs/approximate.md. How often that fails is what
    `violation` measures.

    O(r n b d) for r repetitions and balls of b vectors, and rescans; O(n (d + k)) memory.
    """
    criterion = Criterion("average", metric)
    if not criterion.bilinear:
        raise InputError(f"approximate linkage is for metrics 'cosine' and 'dot', got {metric!r}")
    if n_repetitions < 1 or n_samples < 1 or seed < 0:
        raise InputError(
            f"n_repetitions and n_samples must be at least 1 and seed not negative, "
            f"got {n_repetitions}, {n_samples} and {seed}"
        )
    if not 0 < epsilon < np.inf:
        raise InputError(f"epsilon must be above 0 and finite, got {epsilon}; `linkage` is exact")
    vectors, n_threads = as_vectors(X), count_threads(threads)
    weight_of = checked_weights(weights, len(vectors), criterion.method)
    points = distinct_points(vectors, checked_norms(vectors, criterion, n_threads), criterion, weight_of)
    limit = memory_limit if memory_limit is not None else available_bytes()
    need = partial(path_bytes, "lists", d=vectors.shape[1], criterion=criterion)
    require_fit(f"approximate linkage under {metric!r}", len(points), need, limit)
    lists = candidate_lists(points, criterion.kernel, n_repetitions, seed, threads=n_threads, reporter=progress)
    packed = native_simd.pack(points.vectors, unit=criterion.unit, threads=n_threads)
    rescan = partial(native_simd.Agglomeration.rescan, threads=n_threads)
    merges = agglomerate(
        points, packed, lists, criterion, rescan, epsilon=epsilon, threads=n_threads, reporter=progress
    )
    del packed, lists
    z = linkage_matrix(merges, len(points))
    sample = np.sort(np.random.default_rng(seed).permutation(len(z))[:n_samples])
    violation = measure_violation(points, z, sample, epsilon, unit=criterion.unit, threads=n_threads)
    _LOG.info("approximate linkage metric=%s points=%d violation=%r", metric, len(points), str(violation))
    return ApproximateLinkage(linkage_matrix(points.expand(merges), len(vectors)), violation)
