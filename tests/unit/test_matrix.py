"""The shared matrix: written by several processes, given back at the end, and its account of tiles."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.errors import PassError
from cluster_engine.similarity.matrix import SharedMatrix
from cluster_engine.similarity.tiles import Tile, TilePlan

PLAN = TilePlan(70, 32)

CHILD = textwrap.dedent("""
    import pickle, sys
    address = pickle.loads(bytes.fromhex(sys.argv[1]))
    matrix = address.attach()
    assert matrix.shape == (70, 70) and matrix[3, 5] == 7
    matrix[69, 0] = 42
""")


def n_mapped(inode: int) -> int:
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return sum("cluster-engine-matrix" in line and line.split()[4] == str(inode) for line in lines)


@given(st.builds(TilePlan, st.integers(1, 100), st.sampled_from([16, 32, 48])), st.randoms())
def test_placed_tiles_make_the_symmetric_matrix_in_any_order(plan: TilePlan, random: object) -> None:
    rng = np.random.default_rng(plan.n)
    expected = rng.standard_normal((plan.n, plan.n)).astype(np.float32)
    expected += expected.T
    tiles = plan.tiles()
    random.shuffle(tiles)  # type: ignore[attr-defined]
    with SharedMatrix(plan) as matrix:
        for tile in tiles:
            rows, columns = plan.block(tile.row), plan.block(tile.column)
            matrix.place(tile, expected[np.ix_(rows, columns)])
            matrix.account(tile, plan.n_cells(tile))
        matrix.require_complete()
        assert np.array_equal(matrix.values, expected)


def test_another_process_sees_the_matrix_and_writes_to_it() -> None:
    import pickle  # noqa: PLC0415  # as Ray sends it

    with SharedMatrix(PLAN) as matrix:
        matrix.values[3, 5] = 7
        subprocess.run([sys.executable, "-c", CHILD, pickle.dumps(matrix.address).hex()], check=True, timeout=60)
        assert matrix.values[69, 0] == 42


def test_the_memory_is_given_back_at_the_end() -> None:
    with SharedMatrix(PLAN) as matrix:
        inode = matrix.address.inode
        attached = matrix.address.attach()
        assert attached is not None
        assert n_mapped(inode) == 2
        del attached
        assert n_mapped(inode) == 1
    assert n_mapped(inode) == 0
    assert matrix.address.attach() is None


@pytest.mark.parametrize("change", [{"host": "another"}, {"inode": 1}, {"path": "/proc/self/fd/999999"}])
def test_what_is_not_the_matrix_is_not_mapped(change: dict[str, Any]) -> None:
    with SharedMatrix(PLAN) as matrix:
        assert dataclasses.replace(matrix.address, **change).attach() is None


def test_a_tile_that_is_unknown_or_comes_twice_or_differs_in_size_is_refused() -> None:
    tile = Tile(0, 1)
    with SharedMatrix(PLAN) as matrix:
        with pytest.raises(PassError, match="not missing"):
            matrix.account(Tile(0, 3), 1)
        with pytest.raises(PassError, match="filled 1 cells, planned 2048"):
            matrix.account(tile, 1)
        matrix.account(tile, 2048)
        with pytest.raises(PassError, match="not missing"):
            matrix.account(tile, 2048)
        with pytest.raises(PassError, match="5 tiles are missing; 2,048 of 4,900 cells"):
            matrix.require_complete()
