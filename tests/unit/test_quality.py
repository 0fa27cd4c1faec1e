"""The measures of quality that the benchmarks report are what they say."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, v_measure_score
from trees import grow

from benchmarks.quality import agreement, best_cuts, dendrogram_purity


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


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 24), st.integers(2, 4), st.booleans())
def test_the_best_cuts_are_the_best_of_all(seed: int, n: int, n_groups: int, is_chain: bool) -> None:
    tree = grow(seed, n, n - 1, 9, 0.0, is_chain=is_chain)
    truth = np.random.default_rng(seed).integers(0, n_groups, n)
    if len(np.unique(truth)) == 1:
        return
    groups = [{leaf} for leaf in range(n)]
    labels = [np.arange(n)]
    for left, right in tree.Z[:, :2].astype(int):
        groups.append(groups[left] | groups[right])
        labels.append(labels[-1].copy())
        labels[-1][list(groups[-1])] = min(groups[-1])
    best = best_cuts(tree.Z[:, :2].astype(np.int64), truth)
    assert best.ari == pytest.approx(max(adjusted_rand_score(truth, each) for each in labels))
    assert best.v == pytest.approx(max(v_measure_score(truth, each) for each in labels))
    by_ari, by_v = labels[n - best.n_at_ari], labels[n - best.n_at_v]
    assert adjusted_rand_score(truth, by_ari) == pytest.approx(best.ari)
    assert v_measure_score(truth, by_ari) == pytest.approx(best.v_at_ari)
    assert v_measure_score(truth, by_v) == pytest.approx(best.v)
