"""The measures of quality that the benchmarks report are what they say."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import grow

from benchmarks.quality import agreement, dendrogram_purity


@given(st.integers(0, 2**32), st.integers(3, 24), st.integers(1, 4), st.booleans())
def test_dendrogram_purity_is_the_mean_over_pairs(seed: int, n: int, n_groups: int, is_chain: bool) -> None:
    tree = grow(seed, n, n - 1, 9, 0.0, is_chain=is_chain)
    labels = np.random.default_rng(seed).integers(0, n_groups, n)
    pairs = [(i, j) for i, j in combinations(range(n), 2) if labels[i] == labels[j]]
    if not pairs:
        return
    purities = []
    for i, j in pairs:
        below = next(list(leaves) for leaves in tree.members()[n:] if {i, j} <= leaves)  # children come first
        purities.append(np.mean(labels[below] == labels[i]))
    assert dendrogram_purity(tree.Z[:, :2].astype(np.int64), labels) == pytest.approx(np.mean(purities))


def test_points_in_no_group_are_alone() -> None:
    truth = np.array([0, 0, 1, 1, 2])
    assert agreement(np.array([0, 0, 1, 1, -1]), truth) == [1, pytest.approx(1)]
    assert agreement(np.array([0, 0, -1, -1, -1]), truth) == agreement(np.array([0, 0, 1, 2, 3]), truth)
