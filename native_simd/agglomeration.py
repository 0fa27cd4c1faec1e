"""Exact agglomeration from candidate lists, without a matrix.

Owns the clusters, their lists and their sums. Refuses to know where rescans are computed: they go out as packed means
and come back as ranked lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from native_simd.arguments import require_code, require_integer, require_real, require_threads
from native_simd.arrays import check_status, first_row, kind_of, require_contiguous, require_vectors, row_stride
from native_simd.isa import active_code, ffi, lib
from native_simd.packing import LANES, norms, require_packed
from native_simd.pairs import Metric, metric_code, require_unit
from native_simd.ranking import empty_lists, require_candidates, require_lists, require_rankable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from native_simd.chain import Method
    from native_simd.packing import PackedVectors

    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]

T = TypeVar("T", bound=np.generic)

_METHODS: dict[str, int] = {"average": lib.NS_AVERAGE, "weighted": lib.NS_WEIGHTED, "ward": lib.NS_WARD}
_METRICS_OF = {
    "average": ("cosine", "dot", "sqeuclidean"),
    "weighted": ("cosine", "dot"),
    "ward": ("sqeuclidean",),
}
_LEAST_WEIGHT = 2.0**-100  # and its inverse the most: squares of sums stay within float64
_MOST_PLACES = 2**15  # the library counts the width of a list in 16 bits


@dataclass(frozen=True, slots=True)
class AgglomerationCounters:
    """Work done: nearest neighbours found, similarities computed in float64 and in float32 by rescans, and more.

    Attributes
    ----------
    searches : int
        Nearest neighbours asked for.
    compared : int
        Similarities computed in float64.
    rescans : int
        Clusters compared with all others, because their lists were not certain.
    rescanned : int
        Similarities that rescans computed, in float32.
    exhausted : int
        Rescans that left too many candidates too near to each other for a list.
    restarts : int
        Times that all chains were given up: roundings made them wait for each other. Expected to be 0.
    """

    searches: int
    compared: int
    rescans: int
    rescanned: int
    exhausted: int
    restarts: int


@dataclass(frozen=True, slots=True)
class ClusterPanels:
    """Means of clusters in panels of 16, and what else their similarity needs.

    Attributes
    ----------
    panels : ndarray of float32
        As of :class:`native_simd.PackedVectors`.
    terms : ndarray of float32, shape (n,)
        For Ward the weights; for average linkage of squared distances the mean squared distances from the means.
    n, d : int
    """

    panels: Float32Array
    terms: Float32Array
    n: int
    d: int

    def __post_init__(self) -> None:
        n, d = require_integer(self.n, "n", least=0), require_integer(self.d, "d", least=1)
        for name, array, size in (("panels", self.panels, -(-n // LANES) * LANES * d), ("terms", self.terms, n)):
            require_contiguous(array, np.float32, name)
            if len(array) < size:
                raise ValueError(
                    f"{name} of {n} clusters of {d} dimensions must have {size} elements, got {len(array)}"
                )


class Agglomeration:
    """Greedy agglomeration of points, from their nearest neighbours.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, d)
        The points; their rows must be contiguous. Read until the end.
    divisors : ndarray of float64, shape (n,), optional
        What rows are divided by: their norms, where ``packed`` is of unit vectors, and only there.
    packed : PackedVectors
        The same points, packed. Overwritten.
    weights : ndarray of float64, shape (n,)
        From 2**-100 to 2**100.
    lists : ndarray of uint64, shape (n, width + 1)
        Lists of a :class:`native_simd.NeighbourPass` under ``metric`` over ``packed``.
    method : {"average", "weighted", "ward"}
    metric : {"cosine", "dot", "sqeuclidean"}
        "ward" needs "sqeuclidean"; "weighted" the others.
    cut : float
        Similarity below which clusters are not joined.
    epsilon : float
        At least 0. What is listed is taken for the nearest where nothing unlisted can be nearer by more than a factor
        of 1 + epsilon in similarity (in distance, where similarities are negative). With lists of the pass over all
        pairs, which 0 needs, every merge is that near to the best; with others, as far as the lists tell. Not beside a
        ``cut``, which has to know what else there is.

    Raises
    ------
    RowError
        A row is not finite.
    TypeError, ValueError
        Another argument is not as stated. Of the lists, only the indices are looked at.
    """

    def __init__(
        self,
        rows: Float32Array,
        divisors: Float64Array | None,
        packed: PackedVectors,
        weights: Float64Array,
        lists: NDArray[np.uint64],
        *,
        method: Method,
        metric: Metric,
        cut: float = -np.inf,
        epsilon: float = 0.0,
    ) -> None:
        _require_method(method, metric)
        rows = require_vectors(rows, "rows")
        n, d = rows.shape
        require_unit(metric, require_packed(packed, "packed"))
        _require_points(rows, divisors, packed)
        _require_weights(weights, n)
        lists = _require_neighbours(lists, n)
        least = require_real(cut, "cut")
        if np.isnan(least):
            raise ValueError("cut must be a number or infinite, got nan")
        self._kept = (rows, divisors, packed, weights)  # C reads them until the end
        self.method, self.metric, self._d = method, metric, d
        self._width = lists.shape[1] - 1
        self._n_queries = 0
        handle = lib.ns_agglomeration_create(
            active_code(),
            _METHODS[method],
            metric_code(metric),
            first_row(rows),
            n,
            d,
            row_stride(rows),
            ffi.NULL if divisors is None else ffi.from_buffer("double[]", divisors),
            ffi.from_buffer("double[]", weights),
            ffi.from_buffer("float[]", packed.panels),
            ffi.from_buffer("uint64_t[]", lists),
            self._width,
            1.0 if packed.unit else float(packed.norms.max()),
            least,
            _require_epsilon(epsilon, least),
        )
        if handle == ffi.NULL:
            raise MemoryError(f"no memory for the clusters of {n} points")
        self._handle = ffi.gc(handle, lib.ns_agglomeration_destroy)

    @property
    def n_queries(self) -> int:
        """Rescans that the last :meth:`advance` asks for."""
        return self._n_queries

    def advance(self, max_merges: int, n_enough: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64], Float64Array]:
        """Perform up to ``max_merges`` merges, while more than ``n_enough`` clusters are left.

        Returns
        -------
        first, second : ndarray of int64
            Smallest leaves of the clusters, ``first < second``, in the order found.
        similarity : ndarray of float64

        Raises
        ------
        ValueError
            The lists that were given are not of these points: their order of similarities has a cycle.
        """
        n = len(self._kept[0])
        size = min(require_integer(max_merges, "max_merges", least=0), n)
        enough = min(require_integer(n_enough, "n_enough", least=1), n)
        first, second, similarity = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
        n_queries = ffi.new("int64_t *")
        done = lib.ns_agglomeration_advance(
            self._handle,
            size,
            enough,
            ffi.from_buffer("int64_t[]", first),
            ffi.from_buffer("int64_t[]", second),
            ffi.from_buffer("double[]", similarity),
            n_queries,
        )
        if done == lib.NS_E_ARGUMENT:
            raise ValueError("the lists are not of these points: their similarities contradict each other")
        self._n_queries = int(n_queries[0])
        return first[:done], second[:done], similarity[:done]

    def columns(self) -> ClusterPanels:
        """Return all living clusters. The panels are those that were given: the next call rewrites them."""
        return self.changed_columns()[0]

    def changed_columns(self) -> tuple[ClusterPanels, NDArray[np.int32]]:
        """Return all living clusters, and the columns that are not as the last call of this or `columns` left them."""
        n, panels, terms = ffi.new("int64_t *"), ffi.new("float **"), ffi.new("float **")
        n_changed, changed = ffi.new("int64_t *"), ffi.new("int32_t **")
        lib.ns_agglomeration_columns(self._handle, n, panels, terms, n_changed, changed)
        count = int(n[0])
        given = self._kept[2].panels[: -(-count // LANES) * LANES * self._d]
        columns = ClusterPanels(given, _copy(terms[0], count, np.float32), count, self._d)
        return columns, _copy(changed[0], int(n_changed[0]), np.int32)

    def queries(self) -> ClusterPanels:
        """Return the clusters that ask for a rescan."""
        rounded = -(-self._n_queries // LANES) * LANES
        panels, terms = np.empty(rounded * self._d, np.float32), np.empty(rounded, np.float32)
        lib.ns_agglomeration_queries(
            self._handle, ffi.from_buffer("float[]", panels), ffi.from_buffer("float[]", terms)
        )
        return ClusterPanels(panels, terms, self._n_queries, self._d)

    def rank(
        self, queries: ClusterPanels, columns: ClusterPanels, lists: NDArray[np.uint64], threads: int = 1
    ) -> NDArray[np.uint64]:
        """Offer columns to the lists of queries."""
        rank_clusters(queries, columns, lists, method=self.method, metric=self.metric, threads=threads)
        return lists

    def empty_answer(self) -> NDArray[np.uint64]:
        """Return the lists of the queries before anything is offered to them."""
        return empty_lists(self._n_queries, self._width + 2)

    def answer(self, lists: NDArray[np.uint64]) -> None:
        """Take the lists of the queries, to which all columns since the last `advance` have been offered."""
        require_lists(lists, self._n_queries, "lists", written=False)
        if lists.shape[1] != self._width + 2:
            raise ValueError(f"lists must have {self._width + 2} places a row, got {lists.shape[1]}")
        status = lib.ns_agglomeration_answer(self._handle, ffi.from_buffer("uint64_t[]", lists))
        if status == lib.NS_E_ARGUMENT:
            raise ValueError("lists must be of the columns as they are after the last advance: call columns")
        check_status(status)
        self._n_queries = 0

    def rescan(self, threads: int = 1) -> None:
        """Answer the queries on this machine."""
        columns, queries = self.columns(), self.queries()
        self.answer(self.rank(queries, columns, self.empty_answer(), threads))

    def living(self) -> tuple[NDArray[np.int64], Float64Array, Float64Array]:
        """Return the smallest leaves (ascending), sums, shape (m, d), and weights of the living clusters."""
        leaves = np.empty(len(self._kept[3]), np.int64)
        m = lib.ns_agglomeration_living(self._handle, ffi.from_buffer("int64_t[]", leaves), ffi.NULL, ffi.NULL)
        sums, weights = np.empty((m, self._d)), np.empty(m)
        lib.ns_agglomeration_living(
            self._handle,
            ffi.from_buffer("int64_t[]", leaves),
            ffi.from_buffer("double[]", sums),
            ffi.from_buffer("double[]", weights),
        )
        return leaves[:m], sums, weights

    def counters(self) -> AgglomerationCounters:
        """Return the work done so far."""
        values = ffi.new("int64_t[]", lib.NS_N_AGGLOMERATION_COUNTERS)
        lib.ns_agglomeration_counters(self._handle, values)
        return AgglomerationCounters(*(int(value) for value in values))


def rank_clusters(
    queries: ClusterPanels,
    columns: ClusterPanels,
    lists: NDArray[np.uint64],
    *,
    method: Method,
    metric: Metric,
    threads: int = 1,
) -> None:
    """Offer columns, numbered from 0, to the lists of queries, shape (queries.n, width), by similarity of clusters."""
    _require_method(method, metric)
    _require_clusters(queries, columns)
    require_lists(lists, queries.n, "lists", written=True)
    check_status(
        lib.ns_rank_clusters(
            active_code(),
            _METHODS[method],
            metric_code(metric),
            ffi.from_buffer("float[]", queries.panels),
            ffi.from_buffer("float[]", queries.terms),
            queries.n,
            ffi.from_buffer("float[]", columns.panels),
            ffi.from_buffer("float[]", columns.terms),
            columns.n,
            queries.d,
            ffi.from_buffer("uint64_t[]", lists),
            lists.shape[1],
            require_threads(threads),
        )
    )


def _copy(address: object, n_elements: int, dtype: type[T]) -> NDArray[T]:
    """Return numbers of 4 bytes that live in the library no longer than what they are of."""
    return np.frombuffer(ffi.buffer(address, 4 * n_elements), dtype).copy()


def _require_epsilon(epsilon: float, cut: float) -> float:
    """Return an epsilon, at least 0, and 0 beside a cut."""
    epsilon = require_real(epsilon, "epsilon")
    if not 0 <= epsilon < np.inf:
        raise ValueError(f"epsilon must be at least 0 and finite, got {epsilon}")
    if epsilon and cut > -np.inf:
        raise ValueError("an agglomeration with epsilon takes no cut: cut its tree")
    return epsilon


def _require_method(method: str, metric: str) -> None:
    require_code(method, _METHODS, "method"), metric_code(metric)
    if metric not in _METRICS_OF[method]:
        raise ValueError(f"metric of {method} must be one of {', '.join(_METRICS_OF[method])}, got {metric!r}")


def _require_points(rows: Float32Array, divisors: Float64Array | None, packed: PackedVectors) -> None:
    """Check that the panels are those of the rows: else no bound holds, and chains may wait for each other for ever."""
    if len(rows) < 1 or packed.d != rows.shape[1] or not np.array_equal(norms(rows, unit=packed.unit), packed.norms):
        raise ValueError("packed must be of the rows, at least one")
    if not packed.panels.flags.writeable:
        raise ValueError("packed must have panels that can be overwritten")
    if packed.unit != (divisors is not None):
        raise ValueError("divisors must be given where packed is of unit vectors, and only there")
    if divisors is not None and not np.array_equal(require_contiguous(divisors, np.float64, "divisors"), packed.norms):
        raise ValueError("divisors must be the norms of the rows")
    if not lib.ns_is_packed(
        first_row(rows),
        *rows.shape,
        row_stride(rows),
        ffi.NULL if divisors is None else ffi.from_buffer("double[]", divisors),
        ffi.from_buffer("float[]", packed.panels),
    ):
        raise ValueError("packed must be of the rows, and not overwritten: pack them anew")


def _require_weights(weights: Float64Array, n: int) -> None:
    plain = require_contiguous(weights, np.float64, "weights")
    if len(plain) != n or not ((plain >= _LEAST_WEIGHT) & (plain <= 1 / _LEAST_WEIGHT)).all():
        raise ValueError(f"weights must hold a number from 2**-100 to 2**100 for each of {n} rows")


def _require_neighbours(lists: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    plain = require_lists(lists, n, "lists", written=False)
    require_candidates(plain, n, "lists")
    if not 2 <= plain.shape[1] <= _MOST_PLACES:
        raise ValueError(f"lists must have 2 to {_MOST_PLACES} places a row, got {plain.shape[1]}")
    if (plain.astype(np.uint32) == ~np.arange(n, dtype=np.uint32)[:, None]).any():
        raise ValueError("lists must not have a row among its own candidates")
    return plain


def _require_clusters(queries: ClusterPanels, columns: ClusterPanels) -> None:
    for name, clusters in (("queries", queries), ("columns", columns)):
        if not isinstance(clusters, ClusterPanels):
            raise TypeError(f"{name} must be ClusterPanels, got {kind_of(clusters)}")
    require_rankable(columns.n)
    if queries.d != columns.d:
        raise ValueError(f"queries have {queries.d} dimensions and columns have {columns.d}")
