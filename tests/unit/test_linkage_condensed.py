"""Numbering of pairs in condensed distance vectors, far past 2**31 entries, against Python's integers and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.spatial.distance import squareform

from cluster_engine.errors import InputError
from cluster_engine.linkage.condensed import n_pairs, n_points, negate_to_square, pair_of, row_start


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(2, 10**9))
    i = draw(st.integers(0, n - 2))
    return n, i, draw(st.integers(i + 1, n - 1))


@given(pairs())
@example((65_537, 65_535, 65_536))
@example((65_538, 0, 1))
@example((92_683, 92_681, 92_682))  # past 2**32 entries
@example((10**9, 10**9 - 2, 10**9 - 1))
def test_pairs_are_numbered_row_by_row(pair: tuple[int, int, int]) -> None:
    n, i, j = pair
    before = sum((n - 1, n - i)) * i // 2  # rows 0 to i - 1 hold n - 1, n - 2, ..., n - i entries
    assert row_start(n, i) == before
    assert pair_of(n, before + j - i - 1) == (i, j)


@given(st.integers(2, 10**9))
@example(65_536)
@example(65_537)
@example(92_683)
def test_points_of_a_vector(n: int) -> None:
    assert n_pairs(n) == sum((1, n - 1)) * (n - 1) // 2
    assert n_points(n_pairs(n)) == n
    for wrong in {n_pairs(n) - 1, n_pairs(n) + 1} - {0, 1, 3}:
        with pytest.raises(InputError, match=str(wrong)):
            n_points(wrong)


def test_no_points() -> None:
    with pytest.raises(InputError, match="0 is not such"):
        n_points(0)


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_square_is_scipys_negated(n: int, seed: int) -> None:
    condensed = np.random.default_rng(seed).random(n_pairs(n), np.float32)
    out = np.full((n, n), np.nan, np.float32)
    negate_to_square(condensed, out)
    np.testing.assert_array_equal(-out, squareform(condensed))
