"""A plan of tiles covers each unordered pair of vectors once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import native_simd
from cluster_engine.similarity.tiles import TilePlan

plans = st.builds(TilePlan, st.integers(1, 300), st.integers(1, 8).map(lambda panels: panels * native_simd.LANES))


@given(plans)
def test_each_unordered_pair_is_in_one_tile(plan: TilePlan) -> None:
    visits = np.zeros((plan.n, plan.n), int)
    cells = 0
    tiles = plan.tiles()
    for tile in tiles:
        rows, columns = plan.block(tile.row), plan.block(tile.column)
        visits[rows.start : rows.stop, columns.start : columns.stop] += 1
        if tile.row != tile.column:
            visits[columns.start : columns.stop, rows.start : rows.stop] += 1
        cells += plan.n_cells(tile)
    assert (visits == 1).all()
    assert cells == plan.n**2
    assert len(tiles) == len(set(tiles)) == plan.n_tiles


@given(plans)
def test_blocks_follow_each_other_and_start_at_panels(plan: TilePlan) -> None:
    blocks = [plan.block(index) for index in range(plan.n_blocks)]
    assert blocks[0].start == 0
    assert blocks[-1].stop == plan.n
    assert all(len(block) > 0 and block.start % native_simd.LANES == 0 for block in blocks)
    assert all(earlier.stop == later.start for earlier, later in pairwise(blocks))


@given(st.integers(1, 10**6), st.integers(1, 512), st.integers(1, 200))
def test_workers_get_several_tiles_of_bounded_size(n: int, n_workers: int, max_panels: int) -> None:
    max_block_rows = max_panels * native_simd.LANES
    plan = TilePlan.for_workers(n, n_workers, max_block_rows=max_block_rows)
    assert plan.block_rows <= max_block_rows
    assert plan.block_rows % native_simd.LANES == 0
    grain = native_simd.TILE_ROWS + native_simd.LANES
    assert plan.n_tiles >= 3 * n_workers or plan.block_rows <= grain  # 4, less what rounding up to panels costs
