"""To verify a batch is to hear what would refuse it, and to change nothing; states move from one shard to another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.shards.shard import BindingShard
from cluster_engine.shards.slots import N_SLOTS, slots_of
from native_simd import BindingIndex, RowError

pairs = st.tuples(st.integers(0, 4), st.integers(0, 4))
batches = st.lists(st.tuples(pairs, st.floats(-1, 2, width=32)), max_size=6)
kinds = st.sampled_from(["bind", "set_strengths", "add_strengths", "unbind"])


def state(shard: BindingShard) -> tuple[object, ...]:
    concepts = np.unique(shard.bindings()[0])
    found = shard.states(concepts)
    columns = (*shard.bindings(), found.version, found.n_activations, shard.operations())
    return tuple(column.tobytes() for column in columns)


@given(known=st.sets(pairs), kind=kinds, batch=batches, n_shards=st.sampled_from([1, 16]))
def test_what_is_verified_is_refused_as_the_batch_itself_is(
    known: set[tuple[int, int]], kind: str, batch: list[tuple[tuple[int, int], float]], n_shards: int
) -> None:
    shard = BindingShard(1, n_shards)
    shard.bind([c for c, _ in sorted(known)], [e for _, e in sorted(known)], np.full(len(known), 0.5), op_id=1)
    columns = [[c for (c, _), _ in batch], [e for (_, e), _ in batch]]
    values = [] if kind == "unbind" else [[value for _, value in batch]]
    before, refusals = state(shard), []
    for call in (
        lambda: shard.verify_change(kind, *columns, *values),
        lambda: getattr(shard, kind)(*columns, *values, op_id=2),
    ):
        try:
            call()
        except RowError as refusal:
            refusals.append((refusal.row, refusal.reason))
        else:
            refusals.append(None)
        if len(refusals) == 1:
            assert state(shard) == before
            shard._index.check()
    assert refusals[0] == refusals[1]


def test_states_are_restored_where_the_concept_is() -> None:
    source, target = BindingShard(1), BindingShard(1)
    source.bind([1, 1, 2], [1, 2, 1], [0.5] * 3, op_id=1)
    source.activate([1, 1, 2], 7, op_id=2)
    target.bind([1, 3], [1, 1], [0.5] * 2, op_id=1)
    target.restore_states([1, 2], source.states([1, 2]))
    found = target.states([1, 2, 3])
    assert found.fan_out.tolist() == [1, 0, 1]
    assert found.n_activations.tolist() == [2, 0, 0]
    assert found.last_activation.tolist()[0] == 7
    assert found.version.tolist() == [2, 0, 1]
    with pytest.raises(TypeError, match="must have the shape of concept_ids"):
        target.restore_states([1], source.states([1, 2]))


def test_slots_refine_the_native_shards() -> None:
    concepts = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 500)
    slots = slots_of(concepts)
    assert slots.dtype == np.uint8
    for n_shards in (1, 2, 16, 256):
        for concept, slot in zip(concepts[:50], slots[:50].tolist(), strict=True):
            index = BindingIndex(n_shards)
            index.bind(np.array([concept]), np.array([0]), np.array([0.5], np.float32), 1)
            assert index.statistics().bindings_by_shard.index(1) == slot * n_shards // N_SLOTS
