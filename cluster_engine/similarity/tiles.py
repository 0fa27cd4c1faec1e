"""The plan of a distributed pass: which blocks of rows meet in which tile.

Rows are cut into blocks; a tile is a pair of blocks ``(row, column)`` with ``row <= column``, so each unordered pair
of vectors lies in exactly one tile. Tile sizes never change a result, only the grain of the work.
"""

from __future__ import annotations

from dataclasses import dataclass

import native_simd


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """Blocks ``row <= column`` of a plan."""

    row: int
    column: int


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Blocks of ``block_rows`` rows (the last may be shorter) over ``n`` vectors.

    Attributes
    ----------
    n : int
        Number of vectors, at least 1.
    block_rows : int
        Rows a block, a multiple of 16 (a panel).
    """

    n: int
    block_rows: int

    @classmethod
    def for_workers(
        cls, n: int, n_workers: int, *, max_block_rows: int = 8 * native_simd.TILE_ROWS, tiles_per_worker: int = 4
    ) -> TilePlan:
        """Choose blocks small enough that each worker gets several tiles, and large enough that calls are rare.

        Four tiles a worker keep the workers busy to the end; 1,536 rows (chosen, not measured) are 4.7 MiB at 768
        dimensions and 2 GFLOP a tile, against about a millisecond for a call.
        """
        n_blocks = max(1, -(-n // max_block_rows))
        while n_blocks * (n_blocks + 1) // 2 < tiles_per_worker * n_workers and n // n_blocks > native_simd.TILE_ROWS:
            n_blocks += 1
        rows = -(-n // n_blocks)
        return cls(n, -(-rows // native_simd.LANES) * native_simd.LANES)

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.n // self.block_rows)

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return self.n_blocks * (self.n_blocks + 1) // 2

    def block(self, index: int) -> range:
        """Return the rows of a block."""
        return range(index * self.block_rows, min(self.n, (index + 1) * self.block_rows))

    def tiles(self) -> list[Tile]:
        """Return every tile, along diagonals: neighbours in time then write to different rows."""
        return [Tile(i, i + offset) for offset in range(self.n_blocks) for i in range(self.n_blocks - offset)]

    def n_cells(self, tile: Tile) -> int:
        """Return the number of matrix cells that a tile fills, its mirror included."""
        rows, columns = self.block(tile.row), self.block(tile.column)
        cells = len(rows) * len(columns)
        return cells if tile.row == tile.column else 2 * cells
