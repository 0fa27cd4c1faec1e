"""A binding shard against a dictionary, and the spread of concepts over shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.shards.shard import BindingShard, shard_of

INT64 = np.iinfo(np.int64)
ids = st.sampled_from([0, 1, 2, 7, -3, INT64.max - 1, INT64.max, INT64.min])
strengths = st.floats(0, 1, width=32)
batches = st.lists(
    st.tuples(st.integers(0, 5), st.dictionaries(st.tuples(ids, ids), strengths, max_size=12)), max_size=6
)


def ranked(found: dict[int, float]) -> list[tuple[int, float]]:
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def pairs(answer: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, float]]:
    return list(zip(answer[0].tolist(), answer[1].tolist(), strict=True))


@given(batches)
def test_a_shard_is_a_dictionary_of_pairs(operations: list[tuple[int, dict[tuple[int, int], float]]]) -> None:
    shard = BindingShard(3)
    model: dict[tuple[int, int], float] = {}
    applied: set[int] = set()
    for op_id, batch in operations:
        concepts, episodes = [concept for concept, _ in batch], [episode for _, episode in batch]
        assert shard.bind(concepts, episodes, list(batch.values()), op_id=op_id) is (op_id not in applied)
        if op_id not in applied:
            model |= batch
            applied.add(op_id)
    assert len(shard) == len(model)
    assert list(zip(*(column.tolist() for column in shard.bindings()), strict=True)) == [
        (*pair, model[pair]) for pair in sorted(model)
    ]
    names = [0, 1, 2, 7, -3, INT64.max - 1, INT64.max, INT64.min, 5]
    assert shard.fan_out(names).tolist() == [sum(concept == name for concept, _ in model) for name in names]
    for name in names:
        of_concept = {episode: strength for (concept, episode), strength in model.items() if concept == name}
        of_episode = {concept: strength for (concept, episode), strength in model.items() if episode == name}
        assert pairs(shard.episodes_of(name)) == ranked(of_concept)
        assert pairs(shard.concepts_of(name)) == ranked(of_episode)


@pytest.mark.parametrize(
    ("concepts", "episodes", "values", "words"),
    [
        ([1, 1], [2, 2], [0.5, 0.6], "occurs twice"),
        ([1, 1], [2, 3], [0.5, 1.5], r"strength 1 is 1\.5"),
        ([1, 1], [2, 3], [float("nan"), 1], "strength 0 is nan"),
        ([1, 1], [2], [0.5, 0.5], "shapes differ"),
    ],
)
def test_a_refused_batch_changes_nothing_and_can_be_corrected(
    concepts: list[int], episodes: list[int], values: list[float], words: str
) -> None:
    shard = BindingShard(3)
    shard.bind([1], [2], [0.25], op_id=0)
    with pytest.raises(ValueError, match=words):
        shard.bind(concepts, episodes, values, op_id=1)
    assert [column.tolist() for column in shard.bindings()] == [[1], [2], [0.25]]
    assert shard.bind([1], [3], [0.5], op_id=1)


@given(st.lists(st.integers(INT64.min, INT64.max), max_size=50), st.integers(1, 1000))
def test_a_shard_number_is_that_of_exact_arithmetic(concept_ids: list[int], n_shards: int) -> None:
    exact = [((name * 0x9E3779B97F4A7C15) % 2**64 >> 32) % n_shards for name in concept_ids]
    assert shard_of(np.array(concept_ids, np.int64), n_shards).tolist() == exact


def test_consecutive_ids_spread_evenly() -> None:
    counts = np.bincount(shard_of(np.arange(16_000), 16), minlength=16)
    assert counts.min() > 950
    assert counts.max() < 1050
