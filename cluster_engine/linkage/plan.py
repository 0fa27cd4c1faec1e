"""What a linkage will take, before it starts: which way it goes, the memory, the time to expect.

Knows sizes and speeds; nothing of the vectors themselves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Literal

import numpy as np

import native_simd
from cluster_engine.errors import CapacityError
from cluster_engine.linkage.basis import may_sketch
from cluster_engine.linkage.criterion import Criterion, Method, Metric
from cluster_engine.linkage.lists import FEW, N_NEIGHBOURS
from cluster_engine.similarity.capacity import (
    available_bytes,
    count_threads,
    format_bytes,
    largest_fitting,
    require_fit,
)
from cluster_engine.similarity.matrix import linkage_bytes
from native_simd.arrays import aligned_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

Path = Literal["matrix", "lists", "spanning tree"]

_SMALL = 8_192
"""Points up to which the matrix is the faster way, measured on unstructured data of 768 dimensions."""
_POINT_BYTES = 720  # besides vectors: two lists of 32 candidates, clusters, nodes, merges, Z and what it is built from
_TREE_POINT_BYTES = 2_500  # two lists of 16 candidates and their bounds, 64 rows of similarities, merges, Z
_PROBE_ROWS, _PROBE_D = 1_536, 768
_MATRIX_S = 3e-9  # a cell of the matrix: written, read by the chain; chosen from measurements, within a factor of 2
_LISTS_S = 3e-5  # a point: its searches and comparisons in float64; the same
_TREE_PASSES = 3  # over all pairs; fewer without clusters, more with clusters of clusters
_RESCANS = 0.2  # rescans, as a share of the pass; the same
_SKETCHED = 1 / 3  # of the pass: 0.30 and 0.39 of a mixture, of embeddings 0.49 and 0.55 (docs/below-the-floor.md)
_LONG_S = 600.0  # from then on `approximate_linkage` is named, several times as fast
_CARVED_PAIRS = 16 * 800  # of a point, by its defaults
_NEAR_RESCANS = 0.08  # with its defaults, of sentence embeddings; of a mixture none


@dataclass(frozen=True, slots=True)
class Plan:
    """How a linkage of n vectors would run.

    Attributes
    ----------
    path : {"matrix", "lists", "spanning tree"}
        Through a float32 matrix of all similarities; or from each point's nearest neighbours, without a matrix: by
        agglomeration, or for single linkage by the minimum spanning tree.
    n, d : int
    method, metric : str
    threads : int
    memory_bytes : int
        Peak beyond the vectors.
    seconds : float
        Expected of vectors without structure; from a measurement of this machine's multiplications just now, good
        within a factor of about 2.
    seconds_with_structure : float
        Expected where 8-bit digits rule most pairs out, as of a clear mixture: the pass takes a third
        (``docs/below-the-floor.md``). Where between the two, only a sample of the vectors could tell. Equal to
        `seconds` where digits have no part.
    reason : str
        Why this path; and where it takes more than ten minutes, how long `approximate_linkage` would.
    """

    path: Path
    n: int
    d: int
    method: Method
    metric: Metric
    threads: int
    memory_bytes: int
    seconds: float
    seconds_with_structure: float
    reason: str

    def __str__(self) -> str:
        low, high = f"{self.seconds_with_structure:.3g}", f"{self.seconds:.3g}"
        seconds = f"about {high} s" if low == high else f"about {low} (clear groups) to {high} s (none)"
        return (
            f"{self.method} linkage of {self.n:,} x {self.d} under {self.metric}: {self.path}, "
            f"{format_bytes(self.memory_bytes)}, {seconds} on {self.threads} threads; {self.reason}"
        )


def plan(
    n: int,
    d: int,
    method: Method = "average",
    metric: Metric = "cosine",
    *,
    memory_limit: int | None = None,
    threads: int | None = None,
) -> Plan:
    """Tell how :func:`cluster_engine.linkage` would cluster n distinct float32 vectors of d dimensions.

    Parameters
    ----------
    n, d : int
    method, metric : str
        As of `linkage`.
    memory_limit : int, optional
        Bytes it may allocate; default, what is available.
    threads : int, optional
        Default, all CPUs that this process may use.

    Returns
    -------
    Plan

    Raises
    ------
    CapacityError
        It will not fit. Names the bytes, the n that would fit, and what would fit instead.
    """
    criterion = Criterion(method, metric)
    n_threads = count_threads(threads)
    path, reason = choose_path(n, d, criterion, memory_limit)
    seconds = expected_s(path, n, d, criterion, n_threads)
    is_sketched = path == "lists" and criterion.unit and may_sketch(n, d)
    least = expected_s(path, n, d, criterion, n_threads, share_of_pass=_SKETCHED if is_sketched else 1.0)
    if criterion.method == "average" and criterion.bilinear and seconds > _LONG_S:
        reason += f". `approximate_linkage` would take about {_approximate_s(n, d, n_threads):.3g} s"
    return Plan(path, n, d, method, metric, n_threads, path_bytes(path, n, d, criterion), seconds, least, reason)


def choose_path(
    n: int, d: int, criterion: Criterion, memory_limit: int | None = None, *, n_copies: int = 1
) -> tuple[Path, str]:
    """Return the path and why.

    Parameters
    ----------
    n_copies : int
        Copies of the vectors made on the way, beside sums: packed, in an object store.

    Raises
    ------
    CapacityError
        As :func:`plan`.
    """
    limit = memory_limit if memory_limit is not None else available_bytes()
    what = f"{criterion.method} linkage under {criterion.metric!r}"
    need_matrix = partial(path_bytes, "matrix", d=d, criterion=criterion, n_copies=n_copies)
    if not criterion.exact:
        _require_matrix(what, n, need_matrix, path_bytes("lists", n, d, criterion, n_copies=n_copies), limit)
        return "matrix", "clusters of this method and metric have no similarity that their means would tell"
    if criterion.bilinear and n <= _SMALL and need_matrix(n) <= limit:
        return "matrix", f"up to {_SMALL:,} points it is the faster way"
    path: Path = "spanning tree" if criterion.method == "single" else "lists"
    require_fit(what, n, partial(path_bytes, path, d=d, criterion=criterion, n_copies=n_copies), limit)
    if not criterion.bilinear:
        return path, "it decides in float64"
    return path, f"beyond {_SMALL:,} points it is the faster way" if n > _SMALL else "a matrix does not fit"


def path_bytes(path: Path, n: int, d: int, criterion: Criterion, *, n_copies: int = 1) -> int:
    """Return the peak memory of a path beyond the n float32 vectors."""
    if path == "matrix":
        return linkage_bytes(n, d, n_copies=n_copies, with_sums=criterion.bilinear)
    if path == "spanning tree":
        return aligned_bytes(4 * n * d) + 4 * (n_copies - 1) * n * d + _TREE_POINT_BYTES * n
    # after the pass, float64 sums of clusters of two points or more: at most n / 2 of them
    from_lists = aligned_bytes(4 * n * d) + 4 * n_copies * n * d + (_POINT_BYTES + 16 * (N_NEIGHBOURS + 1)) * n
    if not criterion.bilinear:
        return from_lists
    # at the end a matrix: sums, their means in float64 and float32, packed
    return from_lists + linkage_bytes(min(n, FEW), d, n_copies=4, with_sums=True)


def _require_matrix(what: str, n: int, need: Callable[[int], int], lists_bytes: int, limit: int) -> None:
    if need(n) <= limit:
        return
    raise CapacityError(
        f"{what} of {n:,} vectors goes through a matrix, which needs {format_bytes(need(n))}, but only "
        f"{format_bytes(limit)} may be used; {largest_fitting(need, limit):,} vectors would fit. Without a matrix: "
        "single linkage, average linkage under 'cosine', 'dot' or 'sqeuclidean', and Ward's need at most "
        f"{format_bytes(lists_bytes)}"
    )


def expected_s(path: Path, n: int, d: int, criterion: Criterion, threads: int, *, share_of_pass: float = 1.0) -> float:
    """Return the seconds that a path takes, from a measurement of this machine's multiplications just now."""
    metric: native_simd.Metric = "dot" if criterion.bilinear else "sqeuclidean"
    pass_s = n * n * d / 2 / _multiplications_per_s(metric, threads)
    if path == "spanning tree":
        return _TREE_PASSES * pass_s + n * _LISTS_S
    if path == "matrix":
        return pass_s + n * n * _MATRIX_S
    return pass_s * (share_of_pass + _RESCANS) + n * _LISTS_S


def _approximate_s(n: int, d: int, threads: int) -> float:
    n_pairs = n * _CARVED_PAIRS + _NEAR_RESCANS * n * n / 2
    return n_pairs * d / _multiplications_per_s("dot", threads) + 2 * n * _LISTS_S


@lru_cache
def _multiplications_per_s(metric: native_simd.Metric, threads: int) -> float:
    """Measure the pass over a few vectors, twice: the first wakes the CPU."""
    vectors = np.random.default_rng(0).standard_normal((_PROBE_ROWS, _PROBE_D), dtype=np.float32)
    packed = native_simd.pack(vectors)
    spent_s = float("inf")
    for _ in range(2):
        start_s = time.perf_counter()
        native_simd.neighbours(packed, 1, metric=metric, threads=threads)
        spent_s = min(spent_s, time.perf_counter() - start_s)
    return _PROBE_ROWS * _PROBE_ROWS * _PROBE_D / 2 / spent_s
