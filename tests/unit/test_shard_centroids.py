"""Centroids that were set are found as if they had been there from the beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.search.conditions import Condition
from cluster_engine.shards import centroids as module
from cluster_engine.shards.centroids import Centroids
from cluster_engine.store.search import CentroidIndex

if TYPE_CHECKING:
    from pathlib import Path

D = 6


def facts(ids: list[int]) -> pa.Table:
    return pa.table({"concept_id": pa.array(ids, pa.int64()), "n_episodes": pa.array([i % 3 for i in ids], pa.int64())})


@pytest.fixture(autouse=True)
def few_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_RECENT", 3)


@settings(deadline=None)
@given(
    loaded=st.lists(st.integers(0, 20), unique=True, max_size=12),
    calls=st.lists(st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=4), max_size=6),
    k=st.integers(1, 40),
    least=st.sampled_from([None, 1]),
    seed=st.integers(0, 99),
)
def test_answers_are_those_of_one_index(
    loaded: list[int], calls: list[list[int]], k: int, least: int | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = dict(zip(loaded, rng.standard_normal((len(loaded), D), np.float32), strict=True))
    given = Centroids(
        np.array(loaded, np.int64), np.array(list(vectors.values()), np.float32).reshape(-1, D), facts(loaded)
    )
    for ids in calls:
        added = rng.standard_normal((len(ids), D), np.float32)
        given.set(np.array(ids, np.int64), added)
        vectors |= dict(zip(ids, added, strict=True))
    ids = list(vectors)
    assert len(given) == len(ids)
    known = pa.table(
        {"concept_id": pa.array(ids, pa.int64()), "n_episodes": [i % 3 if i in loaded else None for i in ids]}
    )
    queries = rng.standard_normal((3, D), np.float32)
    where = () if least is None else (Condition("n_episodes", least=least),)
    if not ids:
        assert given.search(queries, k).concept_ids.shape == (3, 0)
        return
    known = known.set_column(1, "n_episodes", known["n_episodes"].cast(pa.int64()))
    whole = CentroidIndex(np.array(ids, np.int64), np.array(list(vectors.values()), np.float32), facts=known)
    found, expected = (index.search(queries, k, where=where) for index in (given, whole))
    assert np.array_equal(found.concept_ids, expected.concept_ids)
    assert np.array_equal(found.similarities, expected.similarities)
    again = Centroids(np.array(loaded, np.int64), np.zeros((len(loaded), D), np.float32) + 1, facts(loaded))
    columns = given.columns()
    if len(columns["concept_ids"]):
        again.set(columns["concept_ids"], columns["vectors"])
    assert [column.tolist() for column in again.columns().values()] == [column.tolist() for column in columns.values()]


@pytest.mark.parametrize("n", [50, 6000])
def test_centroids_on_disk_are_found_as_those_in_memory(tmp_path: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((60, 768), np.float32)
    vectors = middles[rng.integers(0, 60, n)] + rng.standard_normal((n, 768), np.float32) / 4
    ids = rng.permutation(n)
    in_memory, on_disk = (CentroidIndex(ids, vectors, directory=where) for where in (None, tmp_path))
    assert on_disk.n_bytes < in_memory.n_bytes / 3
    assert not list(tmp_path.iterdir())
    queries = vectors[:40] + rng.standard_normal((40, 768), np.float32) / 8
    for asked in (queries, queries[:5]):
        found, expected = on_disk.search(asked, 7), in_memory.search(asked, 7)
        assert np.array_equal(found.concept_ids, expected.concept_ids)
        assert np.array_equal(found.similarities, expected.similarities)
