"""Concepts against their definition in float64, and the hierarchy above them against brute force."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy

from cluster_engine.concepts.formation import form_concept
from cluster_engine.concepts.hierarchy import join_concepts
from cluster_engine.concepts.records import Concept
from cluster_engine.linkage.cut import group_rows


@settings(deadline=None)
@given(st.integers(0, 9999), st.integers(1, 20), st.integers(1, 50), st.floats(-3, 3))
def test_a_concept_is_its_definition(seed: int, k: int, d: int, shift: float) -> None:
    vectors = (np.random.default_rng(seed).standard_normal((k, d)) + shift).astype(np.float32)
    formed = form_concept(vectors)
    units = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    total = units.sum(axis=0)
    inner = units @ units.T
    coherence = inner[~np.eye(k, dtype=bool)].mean() if k > 1 else 1.0
    assert formed.coherence == pytest.approx(coherence, abs=1e-12)
    assert formed.contributions.sum() == pytest.approx(1, abs=1e-4)
    if np.linalg.norm(total) > 1e-6:
        centroid = total / np.linalg.norm(total)
        np.testing.assert_allclose(formed.centroid, centroid, atol=1e-6)
        np.testing.assert_allclose(formed.strengths, np.clip(units @ centroid, 0, 1), atol=1e-5)
        np.testing.assert_allclose(formed.contributions, units @ total / (total @ total), rtol=1e-4, atol=1e-5)
    assert ((formed.strengths >= 0) & (formed.strengths <= 1)).all()


@pytest.mark.parametrize("scale", [-1.0, -3.0, -0.7])
def test_members_that_cancel_have_no_centroid_and_share_alike(scale: float) -> None:
    vector = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    formed = form_concept(np.concatenate([vector, np.float32(scale) * vector]))
    assert not formed.centroid.any()
    assert formed.coherence == pytest.approx(-1)
    assert formed.contributions.tolist() == [0.5, 0.5]


@settings(deadline=None)
@given(st.integers(0, 9999), st.integers(2, 30), st.data())
def test_a_node_joins_the_concepts_below_it(seed: int, n: int, data: st.DataObject) -> None:
    z = hierarchy.linkage(np.random.default_rng(seed).standard_normal((n, 3)), "average")
    n_merges = data.draw(st.integers(0, n - 1))
    formed = form_concept(np.ones((1, 1), np.float32))
    groups = group_rows(z, n_merges, data.draw(st.integers(1, 3)))
    concepts = {int(rows[0]): Concept(int(rows[0]), rows, formed) for rows in groups}
    nodes = join_concepts(z, n_merges, concepts, pa.array(np.arange(n)))
    assert len(nodes) == max(0, len(concepts) - 1)
    assert len({node.node_id for node in nodes} | set(concepts)) == len(nodes) + len(concepts)
    rows_of = {concept.concept_id: concept.rows.tolist() for concept in concepts.values()}
    distances = hierarchy.cophenet(z)
    for node in nodes:
        left, right = rows_of[node.left_id], rows_of[node.right_id]
        for a in left:
            for b in right:
                i, j = min(a, b), max(a, b)
                assert distances[n * i - i * (i + 1) // 2 + j - i - 1] == node.distance
        rows_of[node.node_id] = left + right
        assert node.n_episodes == len(left) + len(right)
