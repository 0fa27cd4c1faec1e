"""Of every packed vector the nearest others, each pair computed once and the matrix never stored.

Owns the lists of a pass and what they mean. Refuses to know what the neighbours are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_threads
from native_simd.arrays import check_status, require_contiguous
from native_simd.isa import active_code, ffi, lib
from native_simd.packing import require_packed
from native_simd.pairs import Metric, count_tiles, metric_code, require_tiles, require_unit
from native_simd.ranking import empty_lists, ranked, require_k, require_rankable

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
        if labels is not None:
            require_contiguous(labels, np.int32, "labels")
            if len(labels) != packed.n:
                raise ValueError(f"labels must hold one label for each of {packed.n} rows, got {len(labels)}")
        self._labels = labels
        n_others = max(packed.n - 1, 0)
        self._n_kept = min(k, n_others)
        self._lists = empty_lists(packed.n, min(k + 1, n_others))  # one more than is asked for: the bound
        self.n_tiles = count_tiles(packed.n)

    def run(self, tiles: tuple[int, int] | None = None, threads: int = 1) -> None:
        """Compute tiles ``first`` to ``stop`` (exclusive) of :attr:`n_tiles`, all of them by default."""
        first, stop = require_tiles(tiles, self._packed.n)
        threads = require_threads(threads)
        if not self._lists.size:
            return
        check_status(
            lib.ns_neighbours(
                active_code(),
                metric_code(self._metric),
                ffi.from_buffer("float[]", self._packed.panels),
                ffi.NULL if self._labels is None else ffi.from_buffer("int32_t[]", self._labels),
                self._packed.n,
                self._packed.d,
                first,
                stop - first,
                ffi.from_buffer("uint64_t[]", self._lists),
                self._lists.shape[1],
                threads,
            )
        )

    @property
    def lists(self) -> NDArray[np.uint64]:
        """The ranked lists as they are, with at least one place more than there are neighbours to keep: the bound."""
        n_places = self._lists.shape[1]
        return self._lists if n_places > self._n_kept else np.pad(self._lists, ((0, 0), (0, 1)))

    def result(self) -> Neighbours:
        """Return the neighbours among the tiles run so far: -1 and -infinity where a list is not full yet."""
        return Neighbours(*ranked(self._lists, self._n_kept))


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
