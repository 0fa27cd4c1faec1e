"""Of every packed vector the nearest others, each pair computed once and the matrix never stored.

Owns the lists of a pass, over a whole set or block by block, and what they mean. Refuses to know what the neighbours
are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_integer, require_threads
from native_simd.arrays import check_status, kind_of, require_apart, require_contiguous
from native_simd.isa import active_code, ffi, lib
from native_simd.packing import require_packed
from native_simd.pairs import TILE_ROWS, Metric, count_tiles, metric_code, require_tiles, require_unit
from native_simd.ranking import empty_lists, ranked, require_k, require_lists, require_rankable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from native_simd.packing import PackedVectors


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest other rows of each row, in the total order: similarity descending, then smaller index.

    Attributes
    ----------
    ids : ndarray of int64, shape (n, min(k, n - 1))
        Indices of the neighbours, best first.
    similarities : ndarray of float32, shape (n, min(k, n - 1))
        Their similarities; a zero is positive.
    bound : ndarray of float32, shape (n,)
        The (k + 1)-th best similarity, so that no row outside the list is closer, and the next one is exactly as
        close; -infinity where the list has all other rows.
    """

    ids: NDArray[np.int64]
    similarities: NDArray[np.float32]
    bound: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RankedBlock:
    """Consecutive vectors of a set, packed, and of each the ranked list of its nearest others in the whole set.

    Attributes
    ----------
    packed : PackedVectors
    first : int
        Index of the first of them in the set.
    lists : ndarray of uint64, shape (packed.n, width)
        At first zeros. Which candidate an element stands for is the library's business.
    labels : ndarray of int32, shape (packed.n,), optional
        Vectors of one label are no neighbours, in whatever blocks: they are -infinity from each other.
    """

    packed: PackedVectors
    first: int
    lists: NDArray[np.uint64]
    labels: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        require_packed(self.packed, "packed")
        require_rankable(require_integer(self.first, "first", least=0) + self.packed.n)
        require_lists(self.lists, self.packed.n, "lists", written=True)
        _require_labels(self.labels, self.packed.n)


def rank_blocks(a: RankedBlock, b: RankedBlock, metric: Metric = "cosine", threads: int = 1) -> None:
    """Offer each vector of ``a`` to the lists of ``b`` and each of ``b`` to those of ``a``; one block, with itself.

    Of a set in blocks, once every pair of blocks has met, each vector's list is as of one :class:`NeighbourPass`,
    whatever the order; and so is the merge, by :func:`merge_lists`, of lists that had but some of the meetings each.

    Parameters
    ----------
    a, b : RankedBlock
        Packed with ``unit=True`` for metric "cosine". ``b`` may be ``a``; else they have no vector in common.
    metric : {"cosine", "dot", "sqeuclidean", "euclidean"}
    threads : int
        Threads to use, at least 1.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; then nothing is written.
    """
    for name, block in (("a", a), ("b", b)):
        if not isinstance(block, RankedBlock):
            raise TypeError(f"{name} must be a RankedBlock, got {kind_of(block)}")
    require_unit(metric, a.packed, b.packed)
    threads = require_threads(threads)
    if a is b:
        _offer(a, None, metric, (0, count_tiles(a.packed.n)), threads)
        return
    _require_distinct(a, b)
    n_tiles = -(-a.packed.n // TILE_ROWS) * -(-b.packed.n // TILE_ROWS)
    _offer(a, b, metric, (0, n_tiles), threads)


def _require_distinct(a: RankedBlock, b: RankedBlock) -> None:
    if a.packed.d != b.packed.d:
        raise ValueError(f"a has {a.packed.d} dimensions and b has {b.packed.d}")
    if a.lists.shape[1] != b.lists.shape[1]:
        raise ValueError(f"lists of a have {a.lists.shape[1]} places and those of b {b.lists.shape[1]}")
    if a.first < b.first + b.packed.n and b.first < a.first + a.packed.n:
        raise ValueError(f"a, from {a.first}, and b, from {b.first}, must have no vector in common")
    if (a.labels is None) != (b.labels is None):
        raise ValueError("a and b must both have labels, or neither")
    require_apart(a.lists, "lists of a", {"lists of b": b.lists})


def _require_labels(labels: NDArray[np.int32] | None, n: int) -> NDArray[np.int32] | None:
    """Return labels of n vectors, if there are any."""
    if labels is not None:
        require_contiguous(labels, np.int32, "labels")
        if len(labels) != n:
            raise ValueError(f"labels must hold one label for each of {n} rows, got {len(labels)}")
    return labels


def _offer(a: RankedBlock, b: RankedBlock | None, metric: Metric, tiles: tuple[int, int], threads: int) -> None:
    """Rank tiles of the rectangle of a and b or, without b, of the triangle of a."""
    first, stop = tiles
    check_status(
        lib.ns_neighbours(
            active_code(),
            metric_code(metric),
            _pointer(a),
            ffi.NULL if b is None else _pointer(b),
            a.packed.d,
            first,
            stop - first,
            a.lists.shape[1],
            threads,
        )
    )


def _pointer(block: RankedBlock) -> object:
    """Return a block as the library reads it: valid as long as its arrays."""
    return ffi.new(
        "ns_ranked_block *",
        {
            "panels": ffi.from_buffer("float[]", block.packed.panels),
            "labels": ffi.NULL if block.labels is None else ffi.from_buffer("int32_t[]", block.labels),
            "n": block.packed.n,
            "first": block.first,
            "lists": ffi.from_buffer("uint64_t[]", block.lists),
        },
    )


class KeptNeighbours:
    """What a pass over all pairs of n rows writes: ranked lists of the nearest k others, or of all there are.

    Attributes
    ----------
    lists : ndarray of uint64, shape (n, min(k + 1, n - 1))
        One place more than is asked for, the bound, where there is another row.
    """

    def __init__(self, n: int, k: int) -> None:
        n_others = max(n - 1, 0)
        self._n_kept = min(k, n_others)
        self.lists = empty_lists(n, min(k + 1, n_others))

    def with_bound(self) -> NDArray[np.uint64]:
        """Return the lists with the place of the bound, also where it is empty because all others are listed."""
        n_places = self.lists.shape[1]
        return self.lists if n_places > self._n_kept else np.pad(self.lists, ((0, 0), (0, 1)))

    def read(self) -> Neighbours:
        """Return the neighbours and the bounds."""
        return Neighbours(*ranked(self.lists, self._n_kept))


class NeighbourPass:
    """The pass in slices of tiles, for progress and interruption.

    Any order and division of the tiles 0 to :attr:`n_tiles`, with any number of threads, gives the same lists; a tile
    that is run twice changes nothing. One pass is for one caller at a time.

    Parameters
    ----------
    packed : PackedVectors
        Packed with ``unit=True`` for metric "cosine".
    k : int
        Neighbours to keep of each row, at least 1.
    metric : {"cosine", "dot", "sqeuclidean", "euclidean"}
    labels : ndarray of int32, shape (n,), optional
        Rows of one label are no neighbours: they are -infinity from each other.

    Notes
    -----
    O(n^2 d / 2) multiplications and 8 n (k + 1) bytes.
    """

    def __init__(
        self, packed: PackedVectors, k: int, metric: Metric = "cosine", *, labels: NDArray[np.int32] | None = None
    ) -> None:
        require_packed(packed, "packed")
        require_unit(metric, packed)
        require_rankable(packed.n)
        k = require_k(k)
        self._packed, self._metric = packed, metric
        self._labels = _require_labels(labels, packed.n)
        self._kept = KeptNeighbours(packed.n, k)
        self.n_tiles = count_tiles(packed.n)

    def run(self, tiles: tuple[int, int] | None = None, threads: int = 1) -> None:
        """Compute tiles ``first`` to ``stop`` (exclusive) of :attr:`n_tiles`, all of them by default."""
        first, stop = require_tiles(tiles, self._packed.n)
        threads = require_threads(threads)
        if self._kept.lists.size:
            whole = RankedBlock(self._packed, 0, self._kept.lists, self._labels)
            _offer(whole, None, self._metric, (first, stop), threads)

    @property
    def lists(self) -> NDArray[np.uint64]:
        """The ranked lists as they are, with at least one place more than there are neighbours to keep: the bound."""
        return self._kept.with_bound()

    def result(self) -> Neighbours:
        """Return the neighbours among the tiles run so far: -1 and -infinity where a list is not full yet."""
        return self._kept.read()


def read_lists(lists: NDArray[np.uint64]) -> Neighbours:
    """Return what ranked lists of shape (n, k + 1) say: k neighbours, -1 and -infinity in empty places, and a bound."""
    return Neighbours(*ranked(lists, lists.shape[1] - 1))


def neighbours(packed: PackedVectors, k: int, metric: Metric = "cosine", threads: int = 1) -> Neighbours:
    """Return the ``k`` nearest other rows of every row, and a bound on the similarity to all the rest.

    Parameters
    ----------
    packed : PackedVectors
        n vectors, packed with ``unit=True`` for metric "cosine".
    k : int
        At least 1; all other rows are returned where there are fewer.
    metric : {"cosine", "dot", "sqeuclidean", "euclidean"}
        Larger is closer: the last two are negated distances.
    threads : int
        Threads to use, at least 1.

    Notes
    -----
    Exact: the similarities have the bits of :func:`similarity` (but for the sign of zero), and ties go to the smaller
    index, so the result is the same for any instruction set and number of threads. See :class:`NeighbourPass`.
    """
    whole = NeighbourPass(packed, k, metric)
    whole.run(threads=threads)
    return whole.result()
