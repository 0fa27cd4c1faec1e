"""`linkage`: vectors or distances in, SciPy's Z out, on this machine's cores. No Ray here."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

import native_simd
from cluster_engine.data.columns import as_rows, as_rows_or_numbers
from cluster_engine.errors import InputError, VectorError
from cluster_engine.linkage import condensed
from cluster_engine.linkage.basis import choose_sketch
from cluster_engine.linkage.chain import cluster_distances, cluster_matrix
from cluster_engine.linkage.criterion import METHODS, SQUARABLE, Criterion, Method, Metric
from cluster_engine.linkage.dendrogram import linkage_matrix
from cluster_engine.linkage.duplicates import distinct_points
from cluster_engine.linkage.lists import N_NEIGHBOURS, agglomerate, nearest_lists
from cluster_engine.linkage.plan import choose_path
from cluster_engine.linkage.spanning_tree import TREE_NEIGHBOURS, merge_tree, tree_kernel
from cluster_engine.progress import Phase, Reporter
from cluster_engine.similarity.capacity import available_bytes, count_threads, require_fit
from cluster_engine.similarity.matrix import linkage_bytes, row_stride
from native_simd.arrays import empty_aligned

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

_LOG = logging.getLogger(__name__)
_TILES_PER_REPORT = 64
_REPRESENTABLE = (2.0**-100, float(np.finfo(np.float32).max))


def linkage(
    X: ArrayLike,
    method: Method = "average",
    metric: Metric | Literal["precomputed"] = "cosine",
    *,
    weights: ArrayLike | None = None,
    cut: float | None = None,
    threads: int | None = None,
    memory_limit: int | None = None,
    progress: Reporter | None = None,
) -> NDArray[np.float64]:
    """Hierarchical clustering, in SciPy's layout.

    Parameters
    ----------
    X : array_like, shape (n, d) or (n (n - 1) / 2,)
        Vectors (any real dtype; computed on in float32, to which other types are copied once; a memory map is read in
        place), as an array or a pyarrow column (an ``Array`` or ``ChunkedArray`` of lists or tensors of floats, such as
        ``table["vector"]``), or with ``metric="precomputed"`` distances, condensed or as a symmetric square matrix (or
        a pyarrow column of numbers, or of the rows).
    method : {"average", "complete", "single", "weighted", "ward"}
        As in :func:`scipy.cluster.hierarchy.linkage`. "ward" needs metric "euclidean" or "precomputed" (Euclidean
        distances).
    metric : {"cosine", "dot", "euclidean", "sqeuclidean", "precomputed"}
        "cosine" is ``1 - cos``; "dot" is ``1 - <a, b>``, which can be negative for vectors longer than 1.
    weights : array_like, shape (n,), optional
        Importance of each vector, positive, for methods "average" and "ward": a weight of 2 counts as two equal
        vectors do. Not for precomputed Ward.
    cut : float, optional
        Height to stop at: merges above it are left out, and mostly not even looked for.
    threads : int, optional
        Default, all CPUs that this process may use. Never changes the result.
    memory_limit : int, optional
        Bytes this call may allocate; default, what is available.
    progress : callable, optional
        Called with :class:`cluster_engine.progress.Progress`.

    Returns
    -------
    ndarray of float64, shape (n - 1, 4), or fewer rows with ``cut``
        Row t: the two nodes joined, the distance, the number of points. Points are nodes 0 to n - 1, row t forms node
        n + t. A whole tree works with SciPy's ``dendrogram``, ``fcluster``, ``cut_tree``, ``cophenet``.

    Raises
    ------
    VectorError
        A row is null, not finite, or zero under "cosine"; names the row. Or, under the other metrics, the largest norm
        is outside 2**-40 to 2**52.
    InputError
        X is not an array or column of at least two vectors, or not distances; or weights are not positive numbers, one
        each.
    CapacityError
        It will not fit; raised before the matrix or the lists are allocated, naming the bytes, the n that would fit,
        and what needs no matrix.

    Notes
    -----
    Three paths, of which :func:`cluster_engine.plan` tells beforehand which is taken and why:

    - *Lists*, O(n (d + k)) memory: one pass over all pairs keeps the nearest neighbours of each vector; clusters are
      merged from these, exactly, and compared with all others only where their lists are not certain. For "average"
      under "cosine", "dot" and "sqeuclidean", and "ward".
    - *Spanning tree*, O(n (d + k)) memory, for "single": Boruvka's algorithm on the same lists, with another pass over
      all pairs for each level of clusters in the data that the lists do not reach beyond.
    - *Matrix*, 4 n^2 bytes: nearest-neighbour chain on a float32 matrix (Muellner 2011, arXiv:1109.2378). For all else,
      and for a few thousand vectors, where it is faster and gives the same bits.

    "average" under "cosine", "dot" and "sqeuclidean", "weighted" under the first two, "ward" and "single" decide every
    merge in float64; the others decide on float32 similarities of relative error about 1e-6 (under "cosine", of
    near-duplicates at distance s, 2e-7 / sqrt(s)). Ties: the pair with the smallest leaf merges first, then the one
    with the smaller other leaf; under "single" this is the order of edges between vectors. Similarities that differ by
    roundings alone are no ties.
    """
    if metric == "precomputed":
        return _from_distances(X, method, weights=weights, cut=cut, memory_limit=memory_limit, progress=progress)
    criterion = Criterion(method, metric)
    vectors = as_vectors(X)
    n_threads = count_threads(threads)
    weight_of = checked_weights(weights, len(vectors), criterion.method)
    packed = _packed(vectors, criterion, n_threads)
    points = distinct_points(vectors, packed.norms, criterion, weight_of)
    if len(points) < len(vectors):
        packed = _packed(points.vectors, criterion, n_threads)
    path, reason = choose_path(len(points), vectors.shape[1], criterion, memory_limit)
    _LOG.info("linkage=%s metric=%s points=%d path=%s reason=%r", method, metric, len(points), path, reason)
    if path == "matrix":
        matrix = _filled_matrix(packed, criterion, n_threads, progress)
        del packed
        merges = cluster_matrix(matrix, criterion, points, progress).below(cut)
    elif path == "spanning tree":
        nearest = partial(
            nearest_lists, packed, tree_kernel(criterion), TREE_NEIGHBOURS, threads=n_threads, reporter=progress
        )
        merges = merge_tree(points, packed, criterion, n_threads, nearest, cut=cut, reporter=progress)
    else:
        lists = nearest_lists(
            packed,
            criterion.kernel,
            N_NEIGHBOURS,
            sketch=choose_sketch(packed, N_NEIGHBOURS, n_threads) if criterion.unit else None,
            threads=n_threads,
            reporter=progress,
        )
        rescan = partial(native_simd.Agglomeration.rescan, threads=n_threads)
        merges = agglomerate(points, packed, lists, criterion, rescan, cut=cut, threads=n_threads, reporter=progress)
    return linkage_matrix(points.expand(merges, cut), len(vectors))


def checked_weights(weights: ArrayLike | None, n: int, method: Method) -> NDArray[np.float64] | None:
    """Return weights, if there are any: positive, finite, one for each of n rows, and of use to the method."""
    if weights is None:
        return None
    if method not in ("average", "ward"):
        raise InputError(f"method {method!r} has no use for weights: 'average' and 'ward' have")
    checked = np.asarray(weights)
    if checked.shape != (n,) or checked.dtype.kind not in "fiub":
        raise InputError(f"weights must be {n} real numbers, got {checked.dtype} of shape {checked.shape}")
    bad = ~((checked > 0) & (checked < np.inf))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(f"weight of row {row} is {checked[row]}: weights must be positive and finite")
    return np.ascontiguousarray(checked, np.float64)


def as_vectors(X: ArrayLike, least: int = 2) -> NDArray[np.float32]:
    """Return float32 vectors, at least so many, copied only if they are something else."""
    x = np.asarray(as_rows(X))
    if x.ndim != 2 or x.shape[1] == 0 or x.dtype.kind not in "fiub":
        raise InputError(f"X must be a real array of shape (n, d), got {x.dtype} of shape {x.shape}")
    if len(x) < least:
        raise InputError(f"at least {least} vectors are needed, got {len(x)}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused with its row
        return np.ascontiguousarray(x, np.float32)


def checked_norms(
    vectors: NDArray[np.float32],
    criterion: Criterion,
    threads: int,
    name_row: Callable[[int], str] = "row {}".format,
) -> NDArray[np.float64]:
    """Return the norms of vectors that the criterion can compare.

    Parameters
    ----------
    name_row : callable
        What the caller calls a row, for errors.

    Raises
    ------
    VectorError
        One is not finite, too large, or zero under "cosine"; names the row.
    """
    try:
        return native_simd.norms(vectors, unit=criterion.unit, threads=threads)
    except native_simd.RowError as fault:
        raise VectorError(f"{name_row(fault.row)}: {fault.reason}") from None


def _packed(vectors: NDArray[np.float32], criterion: Criterion, threads: int) -> native_simd.PackedVectors:
    try:
        return native_simd.pack(vectors, unit=criterion.unit, threads=threads)
    except native_simd.RowError as fault:
        raise VectorError(str(fault)) from None


def _filled_matrix(
    packed: native_simd.PackedVectors,
    criterion: Criterion,
    threads: int,
    progress: Reporter | None,
) -> NDArray[np.float32]:
    matrix = _new_matrix(packed.n)
    phase = Phase("pairwise", native_simd.count_tiles(packed.n), progress)
    while phase.done < phase.total:
        stop = min(phase.total, phase.done + _TILES_PER_REPORT * threads)
        native_simd.pairwise_symmetric(
            packed, metric=criterion.kernel, out=matrix, tiles=(phase.done, stop), threads=threads
        )
        phase.advance(stop - phase.done)
    return matrix


def _new_matrix(n: int) -> NDArray[np.float32]:
    return empty_aligned((n, row_stride(n)), np.float32)[:, :n]


def _from_distances(
    X: ArrayLike,
    method: Method,
    *,
    weights: ArrayLike | None,
    cut: float | None,
    memory_limit: int | None,
    progress: Reporter | None,
) -> NDArray[np.float64]:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    distances = np.asarray(as_rows_or_numbers(X))
    if distances.dtype.kind not in "fiub" or distances.ndim not in (1, 2):
        raise InputError(
            f"precomputed distances are a condensed vector or a square matrix of real numbers, "
            f"got {distances.dtype} of shape {distances.shape}"
        )
    n = condensed.n_points(len(distances)) if distances.ndim == 1 else _square_points(distances)
    if method == "ward" and weights is not None:
        raise InputError("weights are not for precomputed Ward: distances do not tell the weights they were made with")
    weight_of = checked_weights(weights, n, method)
    limit = memory_limit if memory_limit is not None else available_bytes()
    require_fit(f"{method} linkage", n, partial(linkage_bytes, d=0, n_copies=0, with_sums=False), limit)
    _check_distances(distances, n, SQUARABLE if method == "ward" else _REPRESENTABLE)
    matrix = _new_matrix(n)
    if distances.ndim == 1:
        condensed.negate_to_square(distances, matrix)
    else:
        np.copyto(matrix, distances, casting="unsafe")
        np.negative(matrix, out=matrix)
    criterion = Criterion(method, "euclidean" if method == "ward" else "sqeuclidean")
    if method == "ward":
        np.square(matrix, out=matrix)
        np.negative(matrix, out=matrix)
    return linkage_matrix(cluster_distances(matrix, criterion, weight_of, progress).below(cut), n)


def _square_points(distances: NDArray[np.generic]) -> int:
    n = len(distances)
    if n < 2 or distances.shape != (n, n):
        raise InputError(f"a distance matrix is square with at least 2 rows, got shape {distances.shape}")
    return n


def _check_distances(distances: NDArray[np.generic], n: int, allowed: tuple[float, float]) -> None:
    """Refuse what no distance can be: negative, not finite, asymmetric, nonzero on the diagonal; or out of range."""
    low, high = np.float64(allowed[0]), np.float64(allowed[1])  # not Python's: those would be cast to float16
    largest = np.float64(0)
    for i in range(n if distances.ndim == 2 else 1):
        row = distances[i] if distances.ndim == 2 else distances
        bad = ~((row >= 0) & (row <= high))  # type: ignore[operator]  # real by the check of the caller
        if distances.ndim == 2:
            bad |= row != distances[:, i]
            bad[i] |= row[i] != 0
        if bad.any():
            j = int(np.flatnonzero(bad)[0])
            a, b = (i, j) if distances.ndim == 2 else condensed.pair_of(n, j)
            raise InputError(
                f"distance ({a}, {b}) is {row[j]}: distances must be symmetric, 0 on the diagonal, and "
                f"from 0 to {high:.3g}"
            )
        largest = max(largest, row.max())
    if 0 < largest < low:
        raise InputError(f"the largest distance, {largest:.3g}, is below {low:.3g}; scale the distances")
