"""Search by cell: of what is compared, the answer is that of float32 to the bit, and all that it must compare is."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_checks import assert_same_bits
from kernel_library import LANES
from test_quantized import DIMENSIONS, KINDS, SIZES, vectors

import native_simd

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXAMPLES = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=native_simd.available_isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CLUSTER_ENGINE_ISA", str(request.param))
    return str(request.param)


def divided(rng: np.random.Generator, x: NDArray[np.float32], n_cells: int) -> native_simd.Cells:
    """Return cells of any vectors, some of them empty."""
    return native_simd.divide(x, rng.integers(0, n_cells, len(x)), vectors(rng, n_cells, x.shape[1], "normal"))


def best_of(
    queries: NDArray[np.float32], x: NDArray[np.float32], counts: NDArray[np.bool_], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the best of some rows by exhaustive comparison, and what stands for those that are missing."""
    similarities = native_simd.similarity(queries, x, metric="cosine") + np.float32(0)
    similarities[:, ~counts] = -np.inf
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(similarities, order, 1)
    return np.where(found == -np.inf, -1, order), found


@EXAMPLES
@given(
    q=st.integers(1, 9),
    n=SIZES,
    d=DIMENSIONS,
    k=st.integers(1, 40),
    n_cells=st.integers(1, 80),
    share=st.sampled_from([None, 0.0, 0.02, 0.5, 1.0]),
    kind=KINDS,
    threads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_all_cells_give_the_best_to_the_bit(
    isa: str, *, q: int, n: int, d: int, k: int, n_cells: int, share: float | None, kind: str, threads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = vectors(rng, n, d, kind)
    queries = np.concatenate([x[rng.integers(0, n, q - q // 2)], vectors(rng, q // 2, d, "normal")])
    allowed = None if share is None else rng.random(n) < share
    counts = np.ones(n, bool) if allowed is None else allowed
    cells = divided(rng, x, n_cells)
    ids, similarities, n_compared = native_simd.search_cells(queries, cells, k, allowed=allowed, threads=threads)
    expected_ids, expected = best_of(queries, x, counts, k)
    np.testing.assert_array_equal(ids, expected_ids)
    assert_same_bits(similarities, expected)
    assert n_compared.tolist() == [counts.sum()] * q


@EXAMPLES
@given(
    n=SIZES,
    d=st.sampled_from([2, 3, 40, 97]),
    k=st.integers(1, 12),
    n_cells=st.integers(1, 80),
    least_rows=st.integers(0, 400),
    share=st.sampled_from([None, 0.1, 0.7]),
    seed=st.integers(0, 99),
)
def test_near_cells_are_those_of_the_nearest_centres(
    isa: str, *, n: int, d: int, k: int, n_cells: int, least_rows: int, share: float | None, seed: int
) -> None:
    """Centres are far enough apart that 8 bits put them in order."""
    rng = np.random.default_rng(seed)
    turns = np.linspace(0.1, 3.0, n_cells)
    centres, queries = np.zeros((n_cells, d), np.float32), np.zeros((1, d), np.float32)
    centres[:, 0], centres[:, 1], queries[0, 0] = np.cos(turns), np.sin(turns), 1
    cell_of, x = rng.integers(0, n_cells, n), vectors(rng, n, d, "normal")
    allowed = None if share is None else rng.random(n) < share
    counts = np.ones(n, bool) if allowed is None else allowed
    sizes = np.bincount(cell_of[counts], minlength=n_cells)
    n_near = int(np.searchsorted(np.cumsum(sizes), least_rows)) + 1 if least_rows else 0
    compared = counts & (cell_of < (n_near if least_rows < n else n_cells))
    cells = native_simd.divide(x, cell_of, centres)
    ids, similarities, n_compared = native_simd.search_cells(queries, cells, k, least_rows=least_rows, allowed=allowed)
    expected_ids, expected = best_of(queries, x, compared, k)
    assert n_compared.tolist() == [compared.sum()]
    np.testing.assert_array_equal(ids, expected_ids)
    assert_same_bits(similarities, expected)


@EXAMPLES
@given(n=SIZES, d=DIMENSIONS, n_cells=st.integers(1, 30), kind=KINDS, seed=st.integers(0, 99))
def test_digits_are_within_their_errors(*, n: int, d: int, n_cells: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = divided(rng, vectors(rng, n, d, kind), n_cells)
    pairs = cells.digits.reshape(-1, -(-d // 2), LANES, 2).transpose(0, 2, 1, 3)
    digits = pairs.reshape(len(cells.numbers), -1)
    held = cells.numbers >= 0
    assert not digits[~held].any()
    assert not digits[:, d:].any()
    copies = digits[held, :d].astype(np.float64) * cells.scales[held, None].astype(np.float64)
    lost = np.linalg.norm(cells.rows[cells.numbers[held]] - copies, axis=1)
    assert (lost <= cells.errors[held]).all()
    assert (cells.errors[held] <= lost * (1 + 1e-6) + 1e-12).all()
    assert np.abs(digits.astype(np.int16)).max() <= 127


def test_cells_travel_and_stay_the_same() -> None:
    rng = np.random.default_rng(0)
    x = vectors(rng, 500, 24, "normal")
    cells = divided(rng, x, 20)
    ids, similarities, _ = native_simd.search_cells(x[:9], cells, 5, least_rows=60)
    again = native_simd.search_cells(x[:9], pickle.loads(pickle.dumps(cells)), 5, least_rows=60)  # noqa: S301 - our own
    np.testing.assert_array_equal(again[0], ids)
    assert_same_bits(again[1], similarities)


def test_no_vectors_are_in_no_cells() -> None:
    none = native_simd.divide(np.empty((0, 3), np.float32), np.empty(0, np.int64), np.empty((0, 3), np.float32))
    assert (none.n, none.n_cells) == (0, 0)
    ids, _, n_compared = native_simd.search_cells(np.ones((2, 3), np.float32), none, 4, least_rows=0)
    assert ids.shape == (2, 0)
    assert n_compared.tolist() == [0, 0]


def test_a_cell_that_no_centre_has_is_refused() -> None:
    x = np.eye(3, dtype=np.float32)
    for cell in (-1, 2):
        with pytest.raises(ValueError, match="cell_of must be from 0 to 1"):
            native_simd.divide(x, np.array([0, cell, 1]), x[:2])


def test_a_query_without_direction_is_named() -> None:
    x = np.eye(3, dtype=np.float32)
    with pytest.raises(native_simd.RowError) as refused:
        native_simd.search_cells(np.zeros((1, 3), np.float32), native_simd.divide(x, np.zeros(3, np.int64), x[:1]), 1)
    assert refused.value.row == 0
