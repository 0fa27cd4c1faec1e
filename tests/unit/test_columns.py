"""Shares of columns, dealt out and kept up to date, together rank what one machine ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import native_simd
from cluster_engine.shards.columns import ChangedShare, HeldShare, Share, WholeShare


def clusters(vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> native_simd.ClusterPanels:
    packed = native_simd.pack(vectors)
    terms = np.abs(vectors[:, 0]) + np.float32(1)
    return native_simd.ClusterPanels(packed.panels, terms, packed.n, packed.d)


@pytest.mark.parametrize("method", ["average", "ward"])
@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 700), n_parts=st.integers(1, 5), n_changes=st.integers(1, 3), data=st.data())
def test_shares_rank_what_the_whole_ranks(
    method: native_simd.Method, n: int, n_parts: int, n_changes: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng([n, n_parts])
    metric: native_simd.Metric = "sqeuclidean" if method == "ward" else "cosine"
    vectors = rng.integers(-2, 3, (n, 3)).astype(np.float32)  # many ties
    queries = clusters(rng.standard_normal((9, 3), dtype=np.float32))
    shares = [Share(part, n_parts) for part in range(n_parts)]
    held = [HeldShare(share, WholeShare.of(share, clusters(vectors)), version=4) for share in shares]
    for _ in range(n_changes):
        n = data.draw(st.integers(1, n))  # the last columns go
        changed = np.unique(rng.integers(0, n, rng.integers(0, n + 1)))
        vectors = vectors[:n].copy()
        vectors[changed] = rng.integers(-2, 3, (len(changed), 3))
        columns = clusters(vectors)
        merged, expected = native_simd.empty_lists(9, 5), native_simd.empty_lists(9, 5)
        for share, its in zip(shares, held, strict=True):
            its.change(ChangedShare.of(share, columns, changed))
            native_simd.merge_lists(merged, its.rank(queries, n, 5, method=method, metric=metric, threads=2))
        native_simd.rank_clusters(queries, columns, expected, method=method, metric=metric)
        np.testing.assert_array_equal(merged, expected)
    assert {its.version for its in held} == {4 + n_changes}


def test_shares_are_equal_but_for_a_panel() -> None:
    sizes = [len(Share(part, 3).numbers(1_000)) for part in range(3)]
    assert sum(sizes) == 1_000
    assert max(sizes) - min(sizes) <= native_simd.LANES
