"""Nearest neighbours by a sketch: 8-bit integers rule most pairs out, and only the rest are computed.

Owns the lists of such a pass. Refuses to know how a sketch is made, and whether it pays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_threads
from native_simd.arrays import check_status, empty_aligned, kind_of
from native_simd.isa import active_code, ffi, lib
from native_simd.neighbours import KeptNeighbours
from native_simd.packing import require_packed
from native_simd.pairs import count_tiles, require_tiles, require_unit
from native_simd.ranking import require_k, require_rankable
from native_simd.sketch import Sketch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from native_simd.neighbours import Neighbours
    from native_simd.packing import PackedVectors

_MOST_DIMENSIONS = int(lib.NS_MOST_DIMENSIONS)


class SketchedPass:
    """The nearest-neighbour pass under "cosine", in slices of tiles as :class:`native_simd.NeighbourPass`.

    Once all tiles are through, the lists have the bits of that pass, whatever the sketch, the order of tiles, the
    number of threads and the instruction set. Before, they have seen other pairs: its tiles are other ones.

    Parameters
    ----------
    packed : PackedVectors
        Packed with ``unit=True``.
    sketch : Sketch
        Of the same vectors.
    k : int
        Neighbours to keep of each row, at least 1.
    threads : int
        To copy the vectors with, at least 1.

    Notes
    -----
    O(n^2 h) operations on 8-bit integers, and O(d) for each pair that they do not rule out. Besides the lists 4 n d
    bytes: the vectors in the order of the sketch.
    """

    def __init__(self, packed: PackedVectors, sketch: Sketch, k: int, threads: int = 1) -> None:
        require_packed(packed, "packed")
        require_rankable(packed.n)
        k, threads = require_k(k), require_threads(threads)
        if not isinstance(sketch, Sketch):
            raise TypeError(f"sketch must be a Sketch, got {kind_of(sketch)}")
        require_unit("cosine", packed)
        if sketch.n != packed.n:
            raise ValueError(f"sketch is of {sketch.n} vectors and packed has {packed.n}: they must be the same")
        if packed.d > _MOST_DIMENSIONS:
            raise ValueError(f"packed must have at most {_MOST_DIMENSIONS} dimensions, got {packed.d}")
        self._sketch, self._d = sketch, packed.d
        self._rows = empty_aligned((packed.n, packed.d), np.float32)
        positions = np.empty(packed.n, np.int64)
        positions[sketch.order] = np.arange(packed.n)
        check_status(
            lib.ns_unpack(
                ffi.from_buffer("float[]", packed.panels),
                packed.n,
                packed.d,
                ffi.from_buffer("int64_t[]", positions),
                ffi.from_buffer("float[]", self._rows),
                threads,
            )
        )
        self._kept = KeptNeighbours(packed.n, k)
        self.n_tiles = count_tiles(packed.n)

    def run(self, tiles: tuple[int, int] | None = None, threads: int = 1) -> None:
        """Compute tiles ``first`` to ``stop`` (exclusive) of :attr:`n_tiles`, all of them by default."""
        first, stop = require_tiles(tiles, self._sketch.n)
        threads = require_threads(threads)
        if not self._kept.lists.size:
            return
        digits = self._sketch
        c_sketch = ffi.new(
            "ns_sketch *",
            {
                "n": digits.n,
                "groups": digits.groups,
                "unit": digits.unit,
                "left": ffi.from_buffer("uint8_t[]", digits.left),
                "right": ffi.from_buffer("int8_t[]", digits.right),
                "offsets": ffi.from_buffer("int32_t[]", digits.offsets),
                "order": ffi.from_buffer("int64_t[]", digits.order),
            },
        )
        check_status(
            lib.ns_neighbours_sketched(
                active_code(),
                c_sketch,
                ffi.from_buffer("float[]", self._rows),
                self._d,
                first,
                stop - first,
                ffi.from_buffer("uint64_t[]", self._kept.lists),
                self._kept.lists.shape[1],
                threads,
            )
        )

    @property
    def lists(self) -> NDArray[np.uint64]:
        """As of :attr:`native_simd.NeighbourPass.lists`."""
        return self._kept.with_bound()

    def result(self) -> Neighbours:
        """Return the neighbours among the tiles run so far: -1 and -infinity where a list is not full yet."""
        return self._kept.read()
