"""Cells of vectors: each vector in one, none too large, the same on every run; and what a sample says they find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.search.partition import Partition, partition, rows_to_compare, whole
from cluster_engine.search.plan import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray


def groups(rng: np.random.Generator, n: int, d: int, n_groups: int, spread: float) -> NDArray[np.float32]:
    """Return unit vectors around centres; copies of them where the spread is 0."""
    centres = rng.standard_normal((n_groups, d))
    x = centres[rng.integers(0, n_groups, n)] + spread * rng.standard_normal((n, d))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 700),
    d=st.integers(1, 20),
    n_groups=st.integers(1, 30),
    n_cells=st.integers(1, 60),
    spread=st.sampled_from([0.0, 0.1, 1.0]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_cells_hold_every_vector_and_are_even(
    *, n: int, d: int, n_groups: int, n_cells: int, spread: float, threads: int, seed: int
) -> None:
    x = groups(np.random.default_rng(seed), n, d, n_groups, spread)
    n_cells = min(n, n_cells)
    cells = partition(x, n_cells, threads)
    sizes = np.bincount(cells.cell_of, minlength=len(cells.centres))
    assert len(cells.cell_of) == n
    assert cells.centres.shape[1] == d
    assert sizes.min() >= 1
    assert sizes.max() <= max(16, 1.5 * n / n_cells)
    again = partition(x, n_cells)
    np.testing.assert_array_equal(again.cell_of, cells.cell_of)
    assert again.centres.tobytes() == cells.centres.tobytes()


@pytest.mark.parametrize("recall", [0.5, 0.9, 1.0])
def test_so_many_rows_hold_that_share_of_the_nearest(recall: float) -> None:
    """Each vector its own query, by exhaustive float64 arithmetic: the sample is all 200 of them."""
    x = groups(np.random.default_rng(5), 200, 12, 8, 0.6)
    cells = partition(x, 14)
    rows = rows_to_compare(x, cells, recall)
    similarities = x.astype(np.float64) @ x.T.astype(np.float64)
    middles = cells.centres / np.linalg.norm(cells.centres, axis=1, keepdims=True)
    order = np.argsort(-(x.astype(np.float64) @ middles.T.astype(np.float64)), axis=1)
    np.fill_diagonal(similarities, -np.inf)
    nearest = np.argsort(-similarities, axis=1)[:, :10]

    def share_found(least_rows: int) -> float:
        n_found = 0
        for query in range(len(x)):
            n_compared, looked_in = 0, set()
            for cell in order[query]:
                if n_compared >= least_rows:
                    break
                looked_in.add(int(cell))
                n_compared += int((cells.cell_of == cell).sum())
            n_found += sum(int(cells.cell_of[other]) in looked_in for other in nearest[query])
        return n_found / nearest.size

    assert share_found(rows) >= recall
    assert rows == 1 or share_found(rows - 1) < recall


def test_few_vectors_are_one_cell_and_compared_exactly() -> None:
    x = groups(np.random.default_rng(0), 300, 8, 3, 0.1)
    plan, cells = choose(x, np.ones(300), 1)
    assert plan.is_exact
    assert "few enough" in plan.reason
    assert (plan.n_cells, plan.least_rows) == (1, 300)
    assert isinstance(cells, Partition)
    np.testing.assert_array_equal(cells.cell_of, whole(x).cell_of)


def test_many_vectors_without_groups_are_compared_exactly() -> None:
    x = groups(np.random.default_rng(0), 60_000, 64, 60_000, 1.0)
    plan, cells = choose(x, np.linalg.norm(x, axis=1), 2)
    assert plan.is_exact
    assert "scattered" in plan.reason
    assert len(cells.centres) == 1
