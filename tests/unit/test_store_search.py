"""Search among centroids, against float64 arithmetic written out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.errors import VectorError
from cluster_engine.store.search import CentroidIndex, Neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return math.fsum(x * y) / math.sqrt(math.fsum(x * x) * math.fsum(y * y))


def check(found: Neighbours, ids: NDArray[np.int64], centroids: NDArray[np.float32], queries: Any, k: int) -> None:  # noqa: ANN401
    n_found = min(k, len(ids))
    assert found.concept_ids.shape == found.similarities.shape == (len(queries), n_found)
    assert found.concept_ids.dtype == np.int64
    assert found.similarities.dtype == np.float32
    row_of = {int(concept_id): row for row, concept_id in enumerate(ids)}
    for query, found_ids, similarities in zip(queries, found.concept_ids, found.similarities, strict=True):
        exact = {concept_id: cosine(query, centroids[row]) for concept_id, row in row_of.items()}
        assert len(set(found_ids.tolist())) == n_found
        for concept_id, similarity in zip(found_ids.tolist(), similarities, strict=True):
            assert similarity == pytest.approx(exact[concept_id], abs=1e-6)
        order = [(-similarity, concept_id) for similarity, concept_id in zip(similarities, found_ids, strict=True)]
        assert order == sorted(order)
        left_out = [exact[concept_id] for concept_id in exact if concept_id not in set(found_ids.tolist())]
        assert max(left_out, default=-1.0) <= similarities[-1] + 1e-6


@settings(deadline=None)
@given(
    n_concepts=st.integers(1, 40),
    n_queries=st.integers(0, 5),
    dimension=st.integers(1, 70),
    k=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_nearest_concepts_are_found_in_order(
    n_concepts: int, n_queries: int, dimension: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.choice(10_000, n_concepts, replace=False).astype(np.int64) - 5_000
    centroids = rng.standard_normal((n_concepts, dimension)).astype(np.float32)
    queries = rng.standard_normal((n_queries, dimension)).astype(np.float32)
    check(CentroidIndex(ids, centroids).search(queries, k), ids, centroids, queries, k)


def test_nearest_of_many_concepts_are_found_in_order() -> None:
    rng = np.random.default_rng(0)
    ids, centroids = rng.permutation(3_000), rng.standard_normal((3_000, 128)).astype(np.float32)
    queries = np.concatenate([centroids[:2], rng.standard_normal((1, 128)).astype(np.float32)])
    check(CentroidIndex(ids, centroids).search(queries, 20), ids, centroids, queries, 20)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 60))
def test_equal_centroids_come_in_order_of_id(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    distinct = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], np.float32)
    kinds = rng.integers(0, 3, 50)
    ids = rng.permutation(50).astype(np.int64)
    found = CentroidIndex(ids, distinct[kinds]).search([[1, 0, 0, 0]], k)
    expected = sorted(range(50), key=lambda row: (kinds[row], ids[row]))
    assert found.concept_ids[0].tolist() == [int(ids[row]) for row in expected][:k]


def test_a_store_without_concepts_finds_none() -> None:
    index = CentroidIndex(np.empty(0, np.int64), np.empty((0, 4), np.float32))
    found = index.search(np.ones((3, 4)), 10)
    assert found.concept_ids.shape == found.similarities.shape == (3, 0)
    with pytest.raises(ValueError, match=r"\(q, 4\)"):
        index.search(np.ones((3, 5)), 10)


@pytest.mark.parametrize(
    ("vectors", "k", "error", "message"),
    [
        ([[1.0, 0.0]], 0, ValueError, "k must be at least 1, got 0"),
        ([[1.0, 0.0]], -3, ValueError, "k must be at least 1, got -3"),
        ([[1.0, 0.0]], 2.0, TypeError, "integer"),
        ([1.0, 0.0], 1, ValueError, r"shape \(q, 2\), one row per query, got \(2,\)"),
        ([[1.0, 0.0, 0.0]], 1, ValueError, r"got \(1, 3\)"),
        ([["a", "b"]], 1, ValueError, "real numbers, got dtype <U1"),
        ([[1j, 0.0]], 1, ValueError, "real numbers, got dtype complex128"),
        ([[1.0, 0.0], [0.0, 0.0]], 1, VectorError, "row 1, in float32: the vector is zero"),
        ([[1.0, 0.0], [0.0, 1.0], [np.nan, 0.0]], 1, VectorError, "row 2, in float32: element 0 is nan"),
        ([[0.0, np.inf]], 1, VectorError, "row 0, in float32: element 1 is inf, not a finite number"),
        ([[1e300, 0.0]], 1, VectorError, "row 0, in float32: element 0 is inf, not a finite number"),
        ([[1e-40, 0.0]], 1, VectorError, "row 0, in float32: the norm 1e-40 of the vector is outside the range"),
    ],
)
def test_bad_queries_are_refused_and_named(vectors: Any, k: Any, error: type[Exception], message: str) -> None:  # noqa: ANN401
    index = CentroidIndex(np.array([4, 2]), np.eye(2, dtype=np.float32))
    with pytest.raises(error, match=message):
        index.search(vectors, k)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u1"])
def test_queries_of_any_real_dtype_are_taken(dtype: str) -> None:
    index = CentroidIndex(np.array([4, 2]), np.eye(2, dtype=np.float32))
    found = index.search(np.array([[0, 3]], dtype), 2)
    assert found.concept_ids.tolist() == [[2, 4]]
    assert found.similarities.tolist() == [[1.0, 0.0]]
