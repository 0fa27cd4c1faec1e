"""Single linkage without a matrix: the minimum spanning tree (Boruvka 1926) from the nearest neighbours of every point.

In each round every component finds its nearest point outside. Lists of neighbours answer most; a point whose list says
too little is compared with all others again, alone where such points are few, in a pass that hides its own component
where they are many. Float32 decides what is looked at, float64 what is chosen; edges are totally ordered (similarity
descending, then smaller row, then larger), so the tree is the only one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.linkage.dendrogram import Merges
from cluster_engine.progress import Phase, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Criterion
    from cluster_engine.linkage.duplicates import Points

    Nearest = Callable[[NDArray[np.int32]], NDArray[np.uint64]]

_LOG = logging.getLogger(__name__)
_ROWS_ALONE = 64  # rows compared with all others at a time
_FEW = 8  # more than this part of the rows, and a pass over all pairs costs less than comparing them alone
TREE_NEIGHBOURS = 16
"""Candidates of each point."""


@dataclass(slots=True)
class _Best:
    """Of every component, by its label, the best edge to another so far."""

    similarity: NDArray[np.float64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]

    @classmethod
    def none(cls, n: int) -> _Best:
        return cls(np.full(n, -np.inf), np.full(n, n, np.int64), np.full(n, n, np.int64))

    def offer(
        self,
        component: NDArray[np.int32],
        similarity: NDArray[np.float64],
        first: NDArray[np.int64],
        second: NDArray[np.int64],
    ) -> None:
        """Take the best of the edges of each component, and what is known of it, in the total order."""
        known = np.unique(component)
        component = np.concatenate((component, known))
        similarity = np.concatenate((similarity, self.similarity[known]))
        low = np.concatenate((np.minimum(first, second), self.first[known]))
        high = np.concatenate((np.maximum(first, second), self.second[known]))
        order = np.lexsort((high, low, -similarity, component))
        leading = order[np.unique(component[order], return_index=True)[1]]
        self.similarity[known], self.first[known], self.second[known] = similarity[leading], low[leading], high[leading]


@dataclass(slots=True)
class _Search:
    """The points, their lists, and the components they form."""

    points: Points
    packed: native_simd.PackedVectors
    criterion: Criterion
    threads: int
    nearest: Nearest
    labels: NDArray[np.int32] = field(init=False)  # smallest row of the component
    ids: NDArray[np.int64] = field(init=False)
    upper: NDArray[np.float64] = field(init=False)
    rest: NDArray[np.float64] = field(init=False)
    n_compared: int = 0
    n_passes: int = 0
    n_alone: int = 0

    def __post_init__(self) -> None:
        self.labels = np.arange(len(self.points), dtype=np.int32)
        self.list_neighbours()

    def optimistic(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return bounds on the float64 similarities of pairs of which the float32 kernel made ``values``."""
        exact = values.astype(np.float64)
        if self.criterion.metric in ("cosine", "dot"):
            error, _ = self.criterion.matrix_error(self.packed.d, float(self.points.norms.max()))
            raised = exact + 2.0 * error
            return 2.0 * raised - 2.0 if self.criterion.unit else raised
        steps = (self.packed.d + 8) * 2.0**-24
        return exact * (1.0 - steps / (1.0 - steps)) + self.packed.d * 2.0**-149

    def similarities(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return float64 similarities: inner products under "dot", else negated squared distances."""
        self.n_compared += len(first)
        return native_simd.pair_similarities(
            self.points.vectors,
            np.ascontiguousarray(first),
            np.ascontiguousarray(second),
            "dot" if self.criterion.metric == "dot" else "sqeuclidean",
            divisors=self.points.norms if self.criterion.unit else None,
            threads=self.threads,
        )

    def list_neighbours(self) -> None:
        """List of every point the nearest others outside its component: a pass over all pairs."""
        found = native_simd.read_lists(self.nearest(self.labels))
        self.ids, self.upper = np.maximum(found.ids, 0), self.optimistic(found.similarities)
        self.rest = self.optimistic(found.bound)
        self.n_passes += 1

    def compare(self, best: _Best, rows: NDArray[np.int64], others: NDArray[np.int64]) -> None:
        """Offer the edges between rows and others to the components of both."""
        if not len(rows):
            return
        values = self.similarities(rows, others)
        ends = np.concatenate((self.labels[rows], self.labels[others]))
        best.offer(ends, np.tile(values, 2), np.tile(rows, 2), np.tile(others, 2))

    def look_up(self, best: _Best) -> None:
        """Offer what the lists say: first the most promising entry of each component, then all that could beat it."""
        outside = np.where(self.labels[self.ids] != self.labels[:, np.newaxis], self.upper, -np.inf)
        place = outside.argmax(axis=1)
        highest = outside[np.arange(len(place)), place]
        order = np.lexsort((-highest, self.labels))
        leading = order[np.unique(self.labels[order], return_index=True)[1]]
        leading = leading[highest[leading] > -np.inf]
        self.compare(best, leading, self.ids[leading, place[leading]])
        row, column = np.nonzero((outside >= best.similarity[self.labels][:, np.newaxis]) & (outside > -np.inf))
        self.compare(best, row, self.ids[row, column])

    def search_alone(self, best: _Best, rows: NDArray[np.int64], least: float) -> None:
        """Compare a few rows with all points, those with the most to find first."""
        rows = rows[np.argsort(-self.rest[rows], kind="stable")]
        while len(rows):
            block, rows = rows[:_ROWS_ALONE], rows[_ROWS_ALONE:]
            alone = native_simd.pack(self.points.vectors[block], unit=self.criterion.unit)
            values = np.empty((len(block), len(self.labels)), np.float32)
            native_simd.pairwise(
                alone, self.packed, metric=tree_kernel(self.criterion), out=values, threads=self.threads
            )
            values[self.labels[block][:, np.newaxis] == self.labels] = -np.inf
            nearest = values.argmax(axis=1)
            highest = values[np.arange(len(block)), nearest]
            self.rest[block] = self.optimistic(highest)
            self.compare(best, block[highest > -np.inf], nearest[highest > -np.inf])
            needed = np.maximum(best.similarity[self.labels[block]], least)
            row, column = np.nonzero((self.optimistic(values) >= needed[:, np.newaxis]) & (values > -np.inf))
            self.compare(best, block[row], column)
            self.n_alone += len(block)
            rows = rows[self.rest[rows] >= best.similarity[self.labels[rows]]]

    def open_rows(self, best: _Best, least: float) -> NDArray[np.int64]:
        """Return the rows that may have a better edge than is known of their component."""
        return np.flatnonzero(self.rest >= np.maximum(best.similarity[self.labels], least))

    def best_edges(self, least: float) -> _Best:
        """Return of every component the best edge to another, of those that are at least ``least``.

        A component of more than half of the points goes without: the others find theirs, which is enough.
        """
        sizes = np.bincount(self.labels, minlength=len(self.labels))
        giant = np.flatnonzero(2 * sizes > len(self.labels))
        best = _Best.none(len(self.labels))
        self.look_up(best)
        best.similarity[giant] = np.inf  # nothing is asked of it
        if _FEW * len(self.open_rows(best, least)) > len(self.labels):
            self.list_neighbours()
            self.look_up(best)
        self.search_alone(best, self.open_rows(best, least), least)
        best.similarity[giant] = -np.inf
        return best

    def join(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Unite the components of the ends of edges."""
        root = np.arange(len(self.labels))
        for a, b in zip(self.labels[first].tolist(), self.labels[second].tolist(), strict=True):
            low, high = sorted((_root(root, a), _root(root, b)))
            root[high] = low
        while (root[root] != root).any():
            root = root[root]
        self.labels = root[self.labels].astype(np.int32)


def tree_kernel(criterion: Criterion) -> native_simd.Metric:
    """Return the native metric that ranks neighbours for single linkage."""
    return criterion.metric if criterion.metric in ("cosine", "dot") else "sqeuclidean"


def _root(root: NDArray[np.int64], a: int) -> int:
    while root[a] != a:
        root[a] = root[root[a]]
        a = int(root[a])
    return a


def merge_tree(
    points: Points,
    packed: native_simd.PackedVectors,
    criterion: Criterion,
    threads: int,
    nearest: Nearest,
    *,
    cut: float | None = None,
    reporter: Reporter | None = None,
) -> Merges:
    """Merge points by single linkage, into a tree or up to a height into a forest.

    Parameters
    ----------
    points : Points
    packed : PackedVectors
        The same points.
    criterion : Criterion
        Of method "single".
    threads : int
    nearest : callable
        Gives ranked lists of the points under `tree_kernel`, `TREE_NEIGHBOURS` candidates of other labels and a bound.
    cut : float, optional
        Height above which nothing is merged.

    Returns
    -------
    Merges
        Over the points, the most similar first.
    """
    least = -np.inf if cut is None else criterion.least_similarity(cut)
    search = _Search(points, packed, criterion, threads, nearest)
    edges: list[NDArray[np.int64]] = []
    phase = Phase("linkage", len(points) - 1, reporter)
    while phase.done < phase.total:
        best = search.best_edges(least)
        found = best.similarity >= max(least, np.finfo(np.float64).min)
        pairs = np.unique(np.stack((best.first[found], best.second[found]), axis=1), axis=0)
        if not len(pairs):
            break
        search.join(pairs[:, 0], pairs[:, 1])
        edges.append(pairs)
        phase.advance(len(pairs))
    _LOG.info(
        "linkage=single metric=%s points=%d passes=%d rows_alone=%d compared=%d",
        *(criterion.metric, len(points), search.n_passes, search.n_alone, search.n_compared),
    )
    return _merges(np.concatenate(edges) if edges else np.empty((0, 2), np.int64), search, cut)


def _merges(edges: NDArray[np.int64], search: _Search, cut: float | None) -> Merges:
    """Return the edges of the tree as merges: the most similar first, clusters named by their smallest rows."""
    first, second = edges.T
    similarities = search.similarities(first, second)
    order = np.lexsort((second, first, -similarities))
    root = np.arange(len(search.points))
    ends = np.empty((2, len(edges)), np.int64)
    for t, (a, b) in enumerate(zip(first[order].tolist(), second[order].tolist(), strict=True)):
        low, high = sorted((_root(root, a), _root(root, b)))
        root[high] = low
        ends[:, t] = low, high
    return Merges(ends[0], ends[1], search.criterion.heights(similarities[order])).below(cut)
