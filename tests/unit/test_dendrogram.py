"""The linkage matrix depends on the tree and its heights, not on the order in which merges were found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster import hierarchy

from cluster_engine.linkage.dendrogram import Merges, linkage_matrix

if TYPE_CHECKING:
    import random


def random_tree(rng: random.Random, n: int, levels: int) -> list[tuple[int, int, float]]:
    """Return merges of a random tree, children before parents, with many ties if there are few levels."""
    tops = [(leaf, 0.0) for leaf in range(n)]
    merges = []
    while len(tops) > 1:
        (a, low), (b, high) = (tops.pop(rng.randrange(len(tops))) for _ in range(2))
        height = max(low, high) + rng.randrange(levels)
        merges.append((min(a, b), max(a, b), height))
        tops.append((min(a, b), height))
    return merges


def another_order(rng: random.Random, merges: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """Return the merges in a random order that still has children before parents."""
    latest: dict[int, int] = {}
    waits_for = []
    for t, (a, b, _) in enumerate(merges):
        waits_for.append({latest[leaf] for leaf in (a, b) if leaf in latest})
        latest[a] = t
    order: list[int] = []
    while len(order) < len(merges):
        order.append(rng.choice([t for t in range(len(merges)) if t not in order and waits_for[t] <= set(order)]))
    return [merges[t] for t in order]


def as_merges(merges: list[tuple[int, int, float]]) -> Merges:
    first, second, heights = ([merge[i] for merge in merges] for i in range(3))
    return Merges(np.array(first, np.int64), np.array(second, np.int64), np.array(heights, np.float64))


@given(st.integers(1, 25), st.integers(1, 5), st.randoms(use_true_random=False))
def test_any_order_of_discovery_gives_the_same_matrix(n: int, levels: int, rng: random.Random) -> None:
    merges = random_tree(rng, n, levels)
    z = linkage_matrix(as_merges(merges), n)
    assert z.shape == (n - 1, 4)
    assert np.array_equal(linkage_matrix(as_merges(another_order(rng, merges)), n), z)
    assert (np.diff(z[:, 2]) >= 0).all()
    assert (z[:, 0] < z[:, 1]).all()
    if n > 1:
        assert hierarchy.is_valid_linkage(z)
        assert z[-1, 3] == n


@given(st.integers(2, 25), st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_matrix_says_where_each_pair_of_leaves_joins(n: int, levels: int, rng: random.Random) -> None:
    merges = random_tree(rng, n, levels)
    members = {leaf: [leaf] for leaf in range(n)}
    joined = np.zeros((n, n))
    for a, b, height in merges:
        joined[np.ix_(members[a], members[b])] = height
        members[a] += members[b]
    joined += joined.T
    z = linkage_matrix(as_merges(merges), n)
    assert np.array_equal(hierarchy.cophenet(z), joined[np.triu_indices(n, 1)])


def test_a_height_that_rounding_left_below_its_child_is_lifted() -> None:
    z = linkage_matrix(as_merges([(0, 1, 1.0), (0, 2, np.nextafter(1.0, 0))]), 3)
    assert z.tolist() == [[0, 1, 1, 2], [2, 3, 1, 3]]
