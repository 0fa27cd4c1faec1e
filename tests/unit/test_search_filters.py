"""Filtered searches are exhaustive ones over what conditions and masks leave; explanations say why not."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from assigner_store import IDS, centroids, store_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.errors import InputError
from cluster_engine.search.conditions import Condition
from cluster_engine.store.search import CentroidIndex
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from cluster_engine.store.search import Neighbours

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
STATES = ("active", "dormant", None)
N, D, DAYS = 60_000, 64, 30


def facts_of(rng: np.random.Generator, n: int) -> pa.Table:
    days = rng.integers(0, DAYS, n).tolist()
    return pa.table(
        {
            "n_episodes": rng.integers(1, 9, n),
            "coherence": pa.array(rng.random(n).astype(np.float32)),
            "state": pa.array([STATES[i] for i in rng.integers(0, 3, n)], pa.string()),
            "last_time": pa.array([START + timedelta(days=day) for day in days], pa.timestamp("us", "UTC")),
        }
    )


def meets(fact: dict[str, Any], condition: Condition) -> bool:
    value = fact[condition.column]
    if value is None:
        return False
    within = condition.among is None or value in condition.among
    return (
        within
        and (condition.least is None or value >= condition.least)
        and (condition.most is None or value <= condition.most)
    )


CONDITIONS = st.one_of(
    st.integers(0, 9).map(lambda n: Condition("n_episodes", least=n)),
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)).map(
        lambda ends: Condition("coherence", least=ends[0], most=ends[1])
    ),
    st.sampled_from([("active",), ("dormant",), ("active", "dormant"), ()]).map(
        lambda states: Condition("state", among=states)
    ),
    st.integers(0, DAYS).map(lambda day: Condition("last_time", most=START + timedelta(days=day))),
)


@settings(deadline=None)
@given(
    n=st.integers(1, 60),
    k=st.integers(1, 20),
    where=st.lists(CONDITIONS, max_size=3),
    share=st.sampled_from([None, 0.0, 0.3, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_filtered_search_is_one_over_what_the_filters_leave(
    *, n: int, k: int, where: list[Condition], share: float | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids, x, facts = rng.permutation(n), rng.standard_normal((n, 5)).astype(np.float32), facts_of(rng, n)
    index = CentroidIndex(ids, x, facts=facts)
    mask = None if share is None else rng.random(n) < share
    left = [
        (concept_id, row)
        for row, (concept_id, fact) in enumerate(zip(ids.tolist(), facts.to_pylist(), strict=True))
        if (mask is None or mask[concept_id]) and all(meets(fact, condition) for condition in where)
    ]
    rows = [row for _, row in sorted(left)]
    queries = rng.standard_normal((3, 5)).astype(np.float32)
    found = index.search(queries, k, where=where, mask=mask)
    assert found.concept_ids.shape == (3, min(k, len(rows)))
    if not rows:
        return
    alone = CentroidIndex(ids[rows], x[rows]).search(queries, k)
    np.testing.assert_array_equal(found.concept_ids, alone.concept_ids)
    assert found.similarities.tobytes() == alone.similarities.tobytes()


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            Condition("size", least=1),
            "no column 'size' to filter by; there are: n_episodes, coherence, state, last_time",
        ),
        (Condition("n_episodes", least="many"), "many <= n_episodes: not of the type int64"),
        (Condition("state", among=(1, 2)), "not of the type string of column 'state'"),
        (Condition("last_time", most=3.5), "not of the type timestamp"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(condition: Condition, message: str) -> None:
    index = CentroidIndex(np.arange(3), np.eye(3, dtype=np.float32), facts=facts_of(np.random.default_rng(0), 3))
    with pytest.raises(ValueError, match=message):
        index.search(np.ones((1, 3)), 1, where=[condition])


def test_a_condition_says_something() -> None:
    with pytest.raises(ValueError, match="needs least, most or among"):
        Condition("n_episodes")
    with pytest.raises(TypeError, match="among must be a sequence"):
        Condition("state", among="active")


@pytest.mark.parametrize("mask", [np.ones(2, bool), np.ones(3, np.uint8), [True, True, False]])
def test_a_mask_that_does_not_fit_is_refused(mask: Any) -> None:  # noqa: ANN401
    index = CentroidIndex(np.arange(3), np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match=r"mask must be bool of shape \(3,\)"):
        index.search(np.ones((1, 3)), 1, mask=mask)


@pytest.fixture(scope="module")
def many() -> tuple[CentroidIndex, NDArray[np.float32], NDArray[np.int64]]:
    """Return an index that looks in cells, its centroids by ascending id, and the ids."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((400, D))
    x = (centres[rng.integers(0, 400, N)] + 0.4 * rng.standard_normal((N, D))).astype(np.float32)
    ids = np.sort(rng.choice(10 * N, N, replace=False))
    order = rng.permutation(N)
    return CentroidIndex(ids[order], x[order], threads=2), x, ids


def exhaustive(x: NDArray[np.float32], ids: NDArray[np.int64], queries: NDArray[np.float32], k: int) -> Any:  # noqa: ANN401
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    order = np.argsort(-(queries.astype(np.float64) @ unit.T.astype(np.float64)), axis=1)[:, :k]
    return ids[order]


def queries_near(x: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    near = x[rng.integers(0, len(x), n)] + 0.2 * rng.standard_normal((n, x.shape[1]))
    return near.astype(np.float32)


def recall(found: Neighbours, best: NDArray[np.int64]) -> float:
    return float(
        np.mean([len(np.intersect1d(a, b)) for a, b in zip(found.concept_ids, best, strict=True)]) / best.shape[1]
    )


def test_cells_find_most_of_the_nearest_with_exact_similarities(
    many: tuple[CentroidIndex, NDArray[np.float32], NDArray[np.int64]],
) -> None:
    index, x, ids = many
    assert not index.plan.is_exact
    assert index.plan.least_rows < N / 4
    queries = queries_near(x, 200)
    found, exact = index.search(queries, 10), index.search(queries, 10, exact=True)
    assert recall(found, exhaustive(x, ids, queries, 10)) >= 0.95
    assert recall(exact, exhaustive(x, ids, queries, 10)) >= 0.999  # float32 ties
    for i in range(len(queries)):  # what both have found has one value
        shared, a, b = np.intersect1d(found.concept_ids[i], exact.concept_ids[i], return_indices=True)
        assert len(shared)
        assert found.similarities[i, a].tobytes() == exact.similarities[i, b].tobytes()


def test_few_and_many_queries_get_the_same_exact_answers(
    many: tuple[CentroidIndex, NDArray[np.float32], NDArray[np.int64]],
) -> None:
    index, x, _ = many
    queries = queries_near(x, 40)
    together = index.search(queries, 7, exact=True)
    for i in range(40):
        alone = index.search(queries[i : i + 1], 7, exact=True)
        np.testing.assert_array_equal(alone.concept_ids[0], together.concept_ids[i])
        assert alone.similarities[0].tobytes() == together.similarities[i].tobytes()


def test_the_order_of_concepts_changes_nothing(
    many: tuple[CentroidIndex, NDArray[np.float32], NDArray[np.int64]],
) -> None:
    index, x, ids = many
    other = CentroidIndex(ids[::-1].copy(), x[::-1].copy())
    queries = queries_near(x, 20)
    assert other.plan == index.plan
    found, again = index.search(queries, 10), other.search(queries, 10)
    np.testing.assert_array_equal(found.concept_ids, again.concept_ids)
    assert found.similarities.tobytes() == again.similarities.tobytes()


def test_a_mask_of_few_in_cells_finds_all_of_them(
    many: tuple[CentroidIndex, NDArray[np.float32], NDArray[np.int64]],
) -> None:
    index, x, ids = many
    mask = np.zeros(N, bool)
    mask[np.random.default_rng(2).choice(N, 9, replace=False)] = True
    queries = queries_near(x, 3)
    found = index.search(queries, 20, mask=mask)
    np.testing.assert_array_equal(found.concept_ids, exhaustive(x[mask], ids[mask], queries, 20))


def test_an_explanation_says_why(many: tuple[CentroidIndex, NDArray[np.float32], NDArray[np.int64]]) -> None:
    index, x, ids = many
    query = queries_near(x, 1)[0]
    best = exhaustive(x, ids, query[None], 50)[0]
    similarity = float(index.search(query[None], 1, exact=True).similarities[0, 0])
    first = index.explain(query, best[0], 10)
    assert (first.outcome, first.rank) == ("found", 1)
    assert first.similarity == similarity
    assert first.similarity == pytest.approx(first.dot / (first.vector_norm * first.centroid_norm), abs=1e-6)
    assert first.margin > 0
    far = index.explain(query, best[30], 10)
    assert (far.outcome, far.rank) == ("below", 31)
    assert far.margin < 0
    assert "rank 31" in far.reason
    masked = index.explain(query, best[0], 10, mask=ids != best[0], where=[Condition("concept_id", most=-1)])
    assert (masked.outcome, masked.rank) == ("filtered", None)
    assert masked.failed == ("concept_id <= -1", "mask")
    assert "concept_id <= -1; mask" in masked.reason
    with pytest.raises(InputError, match="no concept -5"):
        index.explain(query, -5, 10)


def test_what_no_cell_had_is_said_to_be_found_by_exact_search(
    many: tuple[CentroidIndex, NDArray[np.float32], NDArray[np.int64]],
) -> None:
    index, x, _ = many
    between = ((x[:-1] + x[1:]) / 2)[::7]  # of two groups: hard for cells
    exact, found = index.search(between, 10, exact=True), index.search(between, 10)
    missed = [
        (i, concept_id)
        for i in range(len(between))
        for concept_id in np.setdiff1d(exact.concept_ids[i], found.concept_ids[i]).tolist()
    ]
    i, concept_id = missed[0]
    explained = index.explain(between[i], concept_id, 10)
    assert explained.outcome == "not compared"
    assert explained.rank is not None
    assert explained.rank <= 10
    assert "exact=True" in explained.reason
    assert index.explain(between[i], concept_id, 10, exact=True).outcome == "found"


def test_a_store_is_filtered_by_the_columns_of_its_concepts(tmp_path: Path) -> None:
    store = ConceptStore.open(store_of(tmp_path / "store", len(IDS)))
    query = centroids()[0]  # of the concept with 0 episodes
    large = Condition("n_episodes", least=2)
    assert store.search(query[None], 1).concept_ids.tolist() == [[IDS[0]]]
    found = store.search(query[None], 9, where=[large])
    assert sorted(found.concept_ids[0].tolist()) == sorted(IDS[2:].tolist())
    assert store.explain(query, int(IDS[0]), where=[large]).failed == ("2 <= n_episodes",)
    assert store.index.plan.is_exact
    with pytest.raises(ValueError, match="no column 'centroid' to filter by"):
        store.search(query[None], where=[Condition("centroid", least=1)])
