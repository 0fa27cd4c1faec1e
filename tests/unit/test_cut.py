"""Cuts against SciPy, and the default cut against its definition computed from all pairs."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from trees import grow

import cluster_engine as ce
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.cut import cut_at, cut_into, group_heights, group_labels, group_rows
from cluster_engine.linkage.gain import choose_cut, cross_similarities


def blobs(seed: int, n: int, n_groups: int, spread: float, d: int = 24) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_groups, d))
    return (centres[rng.integers(0, n_groups, n)] + spread * rng.standard_normal((n, d))).astype(np.float32)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.integers(2, 60), st.floats(0, 1.2), st.integers(1, 70))
def test_groups_are_those_of_scipy(seed: int, n: int, distance: float, n_groups: int) -> None:
    z = ce.linkage(blobs(seed, n, 4, 0.4))
    by_distance = group_labels(z, cut_at(z, distance).n_merges)
    assert same_partition(by_distance, hierarchy.fcluster(z, distance, "distance"))
    by_count = cut_into(z, n_groups)
    labels = group_labels(z, by_count.n_merges)
    assert same_partition(labels, hierarchy.cut_tree(z, n_clusters=min(n_groups, n))[:, 0])
    assert all(labels[label] == label for label in set(labels.tolist()))
    heights = group_heights(z, by_count.n_merges)
    cophenetic = hierarchy.cophenet(z)
    for rows in group_rows(z, by_count.n_merges, 2):
        inside = [cophenetic[n * i - i * (i + 1) // 2 + j - i - 1] for i in rows for j in rows if i < j]
        assert heights[int(rows[0])] == max(inside)


def definition(x: np.ndarray, z: np.ndarray) -> int:
    """Return the number of merges of the default cut, from all pairs of distinct vectors."""
    _, first = np.unique(x, axis=0, return_index=True)
    units = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    inner = units @ units.T

    def mean_pair(rows: np.ndarray) -> float:
        kept = np.intersect1d(rows, first)
        block = inner[np.ix_(kept, kept)]
        return float(block[~np.eye(len(kept), dtype=bool)].mean()) if len(kept) > 1 else -1.0

    mu = mean_pair(np.arange(len(x)))
    n_copies = int((z[:, 2] <= 1e-6).sum())
    best, chosen = 0.0, n_copies
    for t in range(len(z)):
        if (t + 1 < len(z) and z[t + 1, 2] == z[t, 2]) or 1 - z[t, 2] < mu + 0.3 * (1 - mu):
            continue
        gain = 0.0
        labels = group_labels(z, t + 1)
        for label in set(labels.tolist()):
            rows = np.flatnonzero(labels == label)
            m = len(np.intersect1d(rows, first))
            if m >= 3 and mean_pair(rows) > mu:
                gain += m * math.log(m) * (mean_pair(rows) - mu) ** 2
        if gain > best * (1 + 1e-9):
            best, chosen = gain, t + 1
    return chosen


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(2, 40), st.integers(1, 6), st.floats(0.05, 2), st.booleans())
def test_the_default_cut_is_its_definition(seed: int, n: int, n_groups: int, spread: float, doubled: bool) -> None:
    x = blobs(seed, n, n_groups, spread)
    x = np.concatenate((x, x)) if doubled else x
    z = ce.linkage(x)
    assert choose_cut(z, 1 - z[:, 2]).n_merges == definition(x, z)


@pytest.mark.parametrize("method", ["average", "complete", "ward"])
def test_cross_similarities_are_the_means_over_pairs(method: str) -> None:
    x = blobs(3, 50, 5, 0.5)
    metric = "euclidean" if method == "ward" else "cosine"
    z = ce.linkage(x, method, metric)
    units = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    members = {i: [i] for i in range(50)}
    expected = []
    for t, (a, b) in enumerate(z[:, :2].astype(int)):
        expected.append((units[members[a]] @ units[members[b]].T).mean())
        members[50 + t] = members[a] + members[b]
    np.testing.assert_allclose(cross_similarities(z, Criterion(method, metric), x), expected, atol=1e-12)


@pytest.mark.parametrize("is_chain", [False, True])
def test_cross_similarities_take_less_than_the_packed_copy_that_every_way_to_a_tree_counts(is_chain: bool) -> None:
    x = np.random.default_rng(1).standard_normal((1_024, 1_024), np.float32)
    n, d = x.shape
    z = grow(1, n, n - 1, 100, 0.0, is_chain=is_chain).Z
    tracemalloc.start()
    cross_similarities(z, Criterion("complete", "cosine"), x)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 * n * d


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.5])
def test_clear_groups_are_found(spread: float) -> None:
    rng = np.random.default_rng(8)
    truth = np.repeat(np.arange(12), 15)
    x = (rng.standard_normal((12, 96))[truth] + spread * rng.standard_normal((180, 96))).astype(np.float32)
    z = ce.linkage(x)
    assert same_partition(group_labels(z, choose_cut(z, 1 - z[:, 2]).n_merges), truth)


def test_noise_has_no_groups_and_copies_join() -> None:
    x = np.random.default_rng(4).standard_normal((300, 384)).astype(np.float32)
    x[10:14] = x[0]
    z = ce.linkage(x)
    assert choose_cut(z, 1 - z[:, 2]).n_merges == 4


def test_one_point() -> None:
    z = np.empty((0, 4))
    assert choose_cut(z, np.empty(0)).n_merges == cut_at(z, 0.5).n_merges == cut_into(z, 3).n_merges == 0
    assert group_labels(z, 0).tolist() == [0]
