"""Concepts against their definition in float64, and the hierarchy above them against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy

from cluster_engine.concepts.formation import form_concept
from cluster_engine.concepts.hierarchy import join_concepts


@settings(deadline=None)
@given(st.integers(0, 9999), st.integers(1, 20), st.integers(1, 50), st.floats(-3, 3), st.integers(0, 20))
def test_a_concept_is_its_definition_however_it_grew(seed: int, k: int, d: int, shift: float, first: int) -> None:
    vectors = (np.random.default_rng(seed).standard_normal((k, d)) + shift).astype(np.float32)
    before, joined = vectors[: min(first, k)], vectors[min(first, k) :]
    formed = form_concept(joined, form_concept(before).moments if len(before) else None)
    units = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    total = units.sum(axis=0)
    inner = units @ units.T
    coherence = inner[~np.eye(k, dtype=bool)].mean() if k > 1 else 1.0
    assert formed.coherence == pytest.approx(coherence, abs=1e-12)
    assert formed.moments.weight == k
    np.testing.assert_allclose(formed.moments.sum, total, atol=1e-12)
    assert len(formed.strengths) == len(joined)
    if np.linalg.norm(total) > 1e-6:
        centroid = total / np.linalg.norm(total)
        np.testing.assert_allclose(formed.centroid, centroid, atol=1e-6)
        np.testing.assert_allclose(formed.strengths, np.clip(units[len(before) :] @ centroid, 0, 1), atol=1e-5)
    assert ((formed.strengths >= 0) & (formed.strengths <= 1)).all()


@pytest.mark.parametrize("scale", [-1.0, -3.0, -0.7])
def test_members_that_cancel_have_no_centroid(scale: float) -> None:
    vector = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    formed = form_concept(np.concatenate([vector, np.float32(scale) * vector]))
    assert not formed.centroid.any()
    assert formed.coherence == pytest.approx(-1)
    assert formed.strengths.tolist() == [0, 0]


@settings(deadline=None)
@given(st.integers(0, 9999), st.integers(2, 30))
def test_a_node_joins_the_concepts_below_it(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    z = hierarchy.linkage(rng.standard_normal((m, 3)), "average")
    ids, sizes = np.sort(rng.choice(10_000, m, replace=False)), rng.integers(1, 9, m)
    nodes = join_concepts(z, ids, sizes)
    assert len({node.node_id for node in nodes} | set(ids.tolist())) == 2 * m - 1
    distances = hierarchy.cophenet(z)
    below = {int(name): [i] for i, name in enumerate(ids)}
    for node in nodes:
        left, right = below[node.left_id], below[node.right_id]
        for a in left:
            for b in right:
                i, j = min(a, b), max(a, b)
                assert distances[m * i - i * (i + 1) // 2 + j - i - 1] == node.distance
        below[node.node_id] = left + right
        assert node.n_episodes == sizes[below[node.node_id]].sum()
