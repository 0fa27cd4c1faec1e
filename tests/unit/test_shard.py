"""A binding shard against a dictionary of pairs, and the spread of concepts over shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import native_simd
from cluster_engine.shards.shard import BindingShard, shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Pair = tuple[int, int]

INT64 = np.iinfo(np.int64)
LIMITS = [INT64.max - 1, INT64.max, INT64.min]
concept_ids = st.sampled_from([0, 1, 2, 7, -3, *LIMITS]) | st.integers(10, 30)
episode_ids = st.sampled_from([0, 1, -1, *LIMITS]) | st.integers(10, 13)
strengths = st.floats(0, 1, width=32)
pairs = st.tuples(concept_ids, episode_ids)


def ranked(found: dict[int, np.float32]) -> list[tuple[int, float]]:
    return sorted(((name, float(value)) for name, value in found.items()), key=lambda item: (-item[1], item[0]))


def listed(answer: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, float]]:
    return list(zip(answer[0].tolist(), answer[1].tolist(), strict=True))


def columns(batch: dict[Pair, float]) -> tuple[list[int], list[int], list[float]]:
    return [concept for concept, _ in batch], [episode for _, episode in batch], list(batch.values())


class Shard(RuleBasedStateMachine):
    """Histories of all operations, and what is left of them in a dictionary."""

    @initialize(n_shards=st.sampled_from([1, 2, 16]), threads=st.sampled_from([1, 2]))
    def start(self, n_shards: int, threads: int) -> None:
        self.shard = BindingShard(3, n_shards, threads=threads)
        self.model: dict[Pair, np.float32] = {}
        self.activations: dict[int, list[int]] = {}
        self.applied: set[int] = set()
        self.next_op = 0

    def mutate(self, call: Callable[[int], object]) -> None:
        """Apply an operation, and again: the second time, nothing happens."""
        op_id = self.next_op = self.next_op + 1
        first = call(op_id)
        assert first is not None
        assert first is not False
        before = self.shard.bindings()
        assert not call(op_id)
        assert all(np.array_equal(a, b) for a, b in zip(before, self.shard.bindings(), strict=True))
        self.applied.add(op_id)

    def drop(self, pair: Pair) -> None:
        del self.model[pair]
        if not any(concept == pair[0] for concept, _ in self.model):
            self.activations.pop(pair[0], None)

    def known(self, data: st.DataObject) -> list[Pair]:
        return data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True, max_size=20))

    @rule(batch=st.dictionaries(pairs, strengths, max_size=40))
    def bind(self, batch: dict[Pair, float]) -> None:
        self.mutate(lambda op_id: self.shard.bind(*columns(batch), op_id=op_id))
        self.model |= {pair: np.float32(value) for pair, value in batch.items()}

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def set_strengths(self, data: st.DataObject) -> None:
        batch = {pair: data.draw(strengths) for pair in self.known(data)}
        self.mutate(lambda op_id: self.shard.set_strengths(*columns(batch), op_id=op_id))
        self.model |= {pair: np.float32(value) for pair, value in batch.items()}

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def add_strengths(self, data: st.DataObject) -> None:
        batch = {pair: data.draw(st.floats(-1, 1, width=32)) for pair in self.known(data)}
        self.mutate(lambda op_id: self.shard.add_strengths(*columns(batch), op_id=op_id))
        for pair, amount in batch.items():
            self.model[pair] = np.clip(self.model[pair] + np.float32(amount), np.float32(0), np.float32(1))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def unbind(self, data: st.DataObject) -> None:
        batch = self.known(data)
        concepts, episodes = [concept for concept, _ in batch], [episode for _, episode in batch]
        self.mutate(lambda op_id: self.shard.unbind(concepts, episodes, op_id=op_id))
        for pair in batch:
            self.drop(pair)

    @rule(half_lives=st.floats(0, 200))
    def decay(self, half_lives: float) -> None:
        self.mutate(lambda op_id: self.shard.decay(half_life_s=2.0, dt_s=2 * half_lives, op_id=op_id))
        factor = np.ones(1, np.float32)
        if half_lives:
            native_simd.decay_half_life(factor, np.zeros(1, np.int64), 1, 1 / half_lives)
        assert abs(float(factor[0]) - 2.0**-half_lives) <= 2e-7 * 2.0**-half_lives + 2.0**-148
        self.model = {pair: value * factor[0] for pair, value in self.model.items()}

    @precondition(lambda self: self.model)
    @rule(data=st.data(), dt_s=st.floats(0, 10))
    def decay_concepts(self, data: st.DataObject, dt_s: float) -> None:
        concepts = data.draw(st.lists(st.sampled_from(sorted({concept for concept, _ in self.model})), unique=True))
        rates = np.array([data.draw(st.floats(0, 2, width=32)) for _ in concepts], np.float32)
        self.mutate(lambda op_id: self.shard.decay_concepts(concepts, rates, dt_s=dt_s, op_id=op_id))
        factors = np.ones(len(rates), np.float32)
        native_simd.decay(factors, rates, dt_s)
        for concept, factor in zip(concepts, factors, strict=True):
            self.model |= {pair: value * factor for pair, value in self.model.items() if pair[0] == concept}

    @precondition(lambda self: self.model)
    @rule(data=st.data(), at=st.sampled_from([0, 5, -7, *LIMITS]))
    def activate(self, data: st.DataObject, at: int) -> None:
        concepts = data.draw(st.lists(st.sampled_from(sorted({concept for concept, _ in self.model}))))
        self.mutate(lambda op_id: self.shard.activate(concepts, at, op_id=op_id))
        for concept in concepts:
            self.activations.setdefault(concept, []).append(at)

    @rule(below=st.floats(0, 1, width=32), keep=st.integers(1, 3))
    def forget(self, below: float, keep: int) -> None:
        weak = []
        for episode in {episode for _, episode in self.model}:
            of_episode = {concept: value for (concept, name), value in self.model.items() if name == episode}
            weak += [(concept, episode) for concept, value in ranked(of_episode)[keep:] if value < below]
        counts: list[int | None] = []
        self.mutate(
            lambda op_id: counts.append(self.shard.forget(below, op_id=op_id, keep=keep)) or counts[-1] == len(weak)
        )
        assert counts == [len(weak), None]
        for pair in weak:
            self.drop(pair)

    @rule(batch=st.lists(st.tuples(pairs, st.floats(width=32)), min_size=1, max_size=12), kind=st.sampled_from("bsau"))
    def refuse(self, batch: list[tuple[Pair, float]], kind: str) -> None:
        """Offer anything; what is refused names its first bad row and changes nothing, and its id is free."""
        low, seen, reason = (-1.0 if kind == "a" else 0.0), set(), None
        if kind != "u":
            reason = next((i for i, (_, value) in enumerate(batch) if not low <= value <= 1), None)
        names = [pair for pair, _ in batch]
        if reason is None:
            # known bindings are changed first: a pair that is new to the shard and comes twice is found after them
            order = [i for i, pair in enumerate(names) if pair in self.model or kind != "b"]
            for i in [*order, *(i for i in range(len(names)) if i not in order)]:
                if names[i] in seen or (kind != "b" and names[i] not in self.model):
                    reason = i
                    break
                seen.add(names[i])
        if reason is None:
            return
        concepts, episodes = [concept for concept, _ in names], [episode for _, episode in names]
        values = [value for _, value in batch]
        calls = {
            "b": lambda: self.shard.bind(concepts, episodes, values, op_id=-1),
            "s": lambda: self.shard.set_strengths(concepts, episodes, values, op_id=-1),
            "a": lambda: self.shard.add_strengths(concepts, episodes, values, op_id=-1),
            "u": lambda: self.shard.unbind(concepts, episodes, op_id=-1),
        }
        versions = self.shard.states(concepts).version
        with pytest.raises(native_simd.RowError) as refused:
            calls[kind]()
        assert refused.value.row == reason
        assert np.array_equal(self.shard.states(concepts).version, versions)

    @rule(n_shards=st.sampled_from([1, 4, 256]))
    def snapshot(self, n_shards: int) -> None:
        """Go on from a snapshot with another number of shards; activations are not in it."""
        self.shard = BindingShard.load(3, *self.shard.bindings(), self.shard.operations(), n_shards=n_shards)
        self.activations = {}

    @invariant()
    def equals_the_model(self) -> None:
        self.shard._index.check()
        found = zip(*(column.tolist() for column in self.shard.bindings()), strict=True)
        assert list(found) == [(*pair, float(self.model[pair])) for pair in sorted(self.model)]
        assert len(self.shard) == len(self.model)
        assert set(self.shard.operations().tolist()) == self.applied

    def teardown(self) -> None:
        if not hasattr(self, "shard"):
            return
        concepts, episodes = ({pair[side] for pair in self.model} | {5} for side in (0, 1))
        for name in concepts:
            of_concept = {episode: value for (concept, episode), value in self.model.items() if concept == name}
            assert listed(self.shard.episodes_of(name)) == ranked(of_concept)
        for name in episodes:
            of_episode = {concept: value for (concept, episode), value in self.model.items() if episode == name}
            assert listed(self.shard.concepts_of(name)) == ranked(of_episode)
        names = sorted(concepts)
        states = self.shard.states(names)
        fan_outs = [sum(concept == name for concept, _ in self.model) for name in names]
        assert self.shard.fan_out(names).tolist() == states.fan_out.tolist() == fan_outs
        times = [self.activations.get(name, []) for name in names]
        assert states.n_activations.tolist() == [len(each) for each in times]
        assert states.last_activation.tolist() == [max(each, default=INT64.min) for each in times]
        statistics = self.shard.statistics()
        assert statistics.n_concepts == sum(count > 0 for count in fan_outs)
        assert statistics.largest_fan_out == max(fan_outs)
        assert sum(statistics.bindings_by_shard) == statistics.n_bindings


Shard.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_a_shard_is_a_dictionary_of_pairs = Shard.TestCase


def random_bindings(n: int, n_concepts: int, n_episodes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distinct pairs in random order; ids are spread over all of int64."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(n_concepts * n_episodes, n, replace=False)
    names = rng.integers(INT64.min, INT64.max, n_concepts + n_episodes)
    return names[chosen // n_episodes], names[n_concepts + chosen % n_episodes], rng.random(n, np.float32)


@pytest.mark.parametrize(("n_concepts", "n_episodes"), [(7, 9000), (9000, 7), (300, 300)])
def test_large_batches_equal_sorted_columns(n_concepts: int, n_episodes: int) -> None:
    concepts, episodes, values = random_bindings(40_000, n_concepts, n_episodes, 1)
    shard = BindingShard(3, threads=2)
    half = len(values) // 2
    shard.bind(concepts[:half], episodes[:half], values[:half], op_id=1)
    shard.bind(concepts, episodes, values, op_id=2)
    order = np.lexsort((episodes, concepts))
    for got, expected in zip(shard.bindings(), (concepts, episodes, values), strict=True):
        assert np.array_equal(got, expected[order])
    shard.unbind(concepts[::2], episodes[::2], op_id=3)
    shard.set_strengths(concepts[1::2], episodes[1::2], 1 - values[1::2], op_id=4)
    shard._index.check()
    order = np.lexsort((episodes[1::2], concepts[1::2]))
    for got, expected in zip(shard.bindings(), (concepts, episodes, 1 - values), strict=True):
        assert np.array_equal(got, expected[1::2][order])
    names, counts = np.unique(concepts[1::2], return_counts=True)
    assert np.array_equal(shard.fan_out(names), counts)
    shard.unbind(concepts[1::2], episodes[1::2], op_id=5)
    shard._index.check()
    assert len(shard) == 0


def test_a_large_refused_batch_is_taken_back() -> None:
    concepts, episodes, values = random_bindings(20_000, 500, 500, 2)
    shard = BindingShard(3, threads=2)
    shard.bind(concepts[:10_000], episodes[:10_000], values[:10_000], op_id=1)
    before, states = shard.bindings(), shard.states(concepts)
    again = np.append(concepts, concepts[-1]), np.append(episodes, episodes[-1]), np.append(1 - values, values[-1])
    with pytest.raises(native_simd.RowError, match=r"row 20000: binding .* occurs twice"):
        shard.bind(*again, op_id=2)
    shard._index.check()
    assert all(np.array_equal(a, b) for a, b in zip(before, shard.bindings(), strict=True))
    assert np.array_equal(states.version, shard.states(concepts).version)
    assert shard.bind(concepts, episodes, 1 - values, op_id=2)


@pytest.mark.parametrize(
    ("concepts", "episodes", "values", "words"),
    [
        ([1, 1], [2, 2], [0.5, 0.6], r"row 1: binding \(1, 2\) occurs twice"),
        ([1, 1], [2, 3], [0.5, 1.5], r"row 1: strength 1\.5 is outside \[0, 1\]"),
        ([1, 1], [2, 3], [float("nan"), 1], "row 0: strength nan"),
        ([1, 1], [2], [0.5, 0.5], r"shapes differ: \(2,\), \(1,\), \(2,\)"),
        ([1.5, 1], [2, 3], [0.5, 0.5], "concept_ids must be integers that fit into int64, got float64"),
        ([1, 1], np.array([2, 3], np.uint64), [0.5, 0.5], "episode_ids must be integers that fit into int64"),
        ([[1]], [[2]], [[0.5]], r"concept_ids must have shape \(m,\)"),
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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda shard: shard.decay(half_life_s=0, dt_s=1, op_id=1), "half_life_s must be above 0"),
        (lambda shard: shard.decay(half_life_s=1, dt_s=-1, op_id=1), "dt_s must be at least 0"),
        (lambda shard: shard.decay_concepts([1], [-1], dt_s=1, op_id=1), "row 0: rate -1.0"),
        (lambda shard: shard.decay_concepts([1, 9], [1, 1], dt_s=1, op_id=1), "row 1: concept 9 is not here"),
        (lambda shard: shard.activate([1, 9], 0, op_id=1), "row 1: concept 9 is not here"),
        (lambda shard: shard.forget(0.5, op_id=1, keep=0), "keep must be at least 1"),
        (lambda shard: shard.bind([1], [1], [1], op_id=2**63), "op_id must fit into 64 bits"),
        (lambda _: BindingShard(0), "dimension must be at least 1"),
        (lambda _: BindingShard(3, 12), "n_shards must be a power of two"),
    ],
)
def test_parameters_out_of_range_are_refused(call: Callable[[BindingShard], object], words: str) -> None:
    shard = BindingShard(3)
    shard.bind([1], [2], [0.25], op_id=0)
    with pytest.raises(ValueError, match=words):
        call(shard)
    assert shard.operations().tolist() == [0]
    assert [column.tolist() for column in shard.bindings()] == [[1], [2], [0.25]]


@given(st.lists(st.integers(INT64.min, INT64.max), max_size=50), st.integers(1, 1000))
def test_a_shard_number_is_that_of_exact_arithmetic(concept_ids: list[int], n_shards: int) -> None:
    exact = [((name * 0x9E3779B97F4A7C15) % 2**64 >> 32) % n_shards for name in concept_ids]
    assert shard_of(np.array(concept_ids, np.int64), n_shards).tolist() == exact


def test_consecutive_ids_spread_evenly() -> None:
    counts = np.bincount(shard_of(np.arange(16_000), 16), minlength=16)
    assert counts.min() > 950
    assert counts.max() < 1050


def test_concepts_of_one_outer_shard_spread_over_all_logical_ones() -> None:
    names = np.flatnonzero(shard_of(np.arange(256_000), 16) == 3)
    shard = BindingShard(3)
    shard.bind(names, names, np.ones(len(names)), op_id=0)
    counts = shard.statistics().bindings_by_shard
    assert min(counts) > 0.9 * len(names) / 16
    assert max(counts) < 1.1 * len(names) / 16
