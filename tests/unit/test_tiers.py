"""A memory limit changes no answer: a shard that has one beside a shard that has none, through histories of all calls."""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster_engine.errors import CapacityError
from cluster_engine.shards import kept, tiers
from cluster_engine.shards.kept import KeptBindings, decay_factor, spans, whole_concepts
from cluster_engine.shards.shard import BindingShard
from cluster_engine.shards.slots import are_in, slots_of
from cluster_engine.shards.spread import SpreadRule
from native_simd import RowError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

CONCEPTS, EPISODES = range(-3, 27), range(-5, 20)
LEAST_BYTES = 5_000  # a logical shard, and the lines of all CONCEPTS


def some_pairs(rng: np.random.Generator, n: int) -> Columns:
    """Return some bindings by (concept, episode), strengths in 64ths."""
    numbers = np.sort(rng.choice(len(CONCEPTS) * len(EPISODES), n, replace=False))
    concepts, episodes = np.divmod(numbers, len(EPISODES))
    return concepts + CONCEPTS[0], episodes + EPISODES[0], rng.integers(0, 65, n).astype(np.float32) / 64


def same(found: Any, expected: Any) -> bool:
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True))


class Histories(RuleBasedStateMachine):
    @initialize(
        seed=st.integers(0, 2**32), limit=st.integers(LEAST_BYTES, 4 * LEAST_BYTES), n_shards=st.sampled_from([1, 2])
    )
    def fill(self, seed: int, limit: int, n_shards: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.limit, self.n_shards = limit * n_shards, n_shards
        self.limited = BindingShard(4, n_shards, memory_limit_bytes=self.limit)
        self.free = BindingShard(4, n_shards)
        self.operations = itertools.count(1)
        start = some_pairs(self.rng, 200)
        for shard in (self.limited, self.free):
            shard.fill([tuple(column[:90] for column in start), tuple(column[90:] for column in start)])

    def both(self, method: str, *arguments: Any, **named: Any) -> tuple[Any, Any]:
        outcomes = []
        for shard in (self.limited, self.free):
            try:
                outcomes.append(getattr(shard, method)(*arguments, **named))
            except ValueError as error:
                outcomes.append(str(error))
        return outcomes[0], outcomes[1]

    def change(self, method: str, *arguments: Any, **named: Any) -> None:
        found, expected = self.both(method, *arguments, op_id=next(self.operations), **named)
        assert found == expected

    @rule(n=st.integers(0, 60))
    def bind(self, n: int) -> None:
        self.change("bind", *some_pairs(self.rng, n))

    @rule(
        method=st.sampled_from(["set_strengths", "add_strengths", "unbind"]), n=st.integers(0, 40), is_bad=st.booleans()
    )
    def change_known(self, method: str, n: int, is_bad: bool) -> None:
        known = self.free.bindings()
        rows = self.rng.permutation(len(known[0]))[:n]
        rows = np.append(rows, rows[:1]) if is_bad else rows  # a pair twice
        self.change(method, *(column[rows] for column in known[: 2 if method == "unbind" else 3]))

    @rule(method=st.sampled_from(["bind", "set_strengths", "unbind"]))
    def change_unknown(self, method: str) -> None:
        self.change(method, *some_pairs(self.rng, 10)[: 2 if method == "unbind" else 3])

    @rule(half_lives=st.sampled_from([0.0, 0.3, 1.0, 40.0, 1e308]))
    def decay(self, half_lives: float) -> None:
        self.change("decay", half_life_s=1.0, dt_s=half_lives)

    @rule(slots=st.integers(1, 2**256 - 1), half_lives=st.sampled_from([0.3, 1.0]))
    def decay_slots(self, slots: int, half_lives: float) -> None:
        self.change("decay_slots", slots, half_life_s=1.0, dt_s=half_lives)

    @rule(concepts=st.lists(st.sampled_from(CONCEPTS), max_size=4), rate=st.floats(0, 4, width=32))
    def decay_concepts(self, concepts: list[int], rate: float) -> None:
        self.change("decay_concepts", concepts, np.full(len(concepts), rate, np.float32), dt_s=0.5)

    @rule(concepts=st.lists(st.sampled_from(CONCEPTS), max_size=4), at=st.integers(0, 1000))
    def activate(self, concepts: list[int], at: int) -> None:
        self.change("activate", concepts, at)

    @rule(below=st.sampled_from([0.0, 0.01, 0.2, 2.0]), keep=st.integers(1, 3))
    def forget(self, below: float, keep: int) -> None:
        self.change("forget", below, keep=keep)

    @rule(method=st.sampled_from(["bind", "unbind"]), n=st.integers(1, 40))
    def verify(self, method: str, n: int) -> None:
        pairs = some_pairs(self.rng, n)[: 2 if method == "unbind" else 3]
        found, expected = self.both("verify_change", method, *pairs)
        assert found == expected

    @precondition(lambda self: hasattr(self, "free") and len(self.free.operations()))
    @rule()
    def repeat(self) -> None:
        op_id = int(self.free.operations()[0])
        assert self.both("bind", [1], [1], [0.5], op_id=op_id) == (False, False)
        assert self.both("forget", 1.0, op_id=op_id) == (None, None)
        assert self.both("decay", half_life_s=1.0, dt_s=1.0, op_id=op_id) == (False, False)

    @rule(concept=st.sampled_from(CONCEPTS))
    def read_a_concept(self, concept: int) -> None:
        assert same(*self.both("episodes_of", concept))

    @rule(episode=st.sampled_from(EPISODES))
    def read_an_episode(self, episode: int) -> None:
        assert same(*self.both("concepts_of", episode))

    @rule(
        cues=st.dictionaries(st.sampled_from(EPISODES), st.integers(0, 8).map(lambda n: n / 8), max_size=5),
        concepts=st.dictionaries(st.sampled_from(CONCEPTS), st.just(0.5), max_size=3),
        steps=st.integers(1, 4),
        law=st.sampled_from(["sqrt", "linear", "log", "none"]),
        cutoff=st.sampled_from([0.0, 0.125]),
        k=st.sampled_from([None, 1, 7]),
    )
    def spread(self, cues: Any, concepts: Any, steps: int, law: Any, cutoff: float, k: int | None) -> None:
        rule = SpreadRule(law, 0.25, cutoff)
        found, expected = self.both("spread", cues, concepts, steps=steps, rule=rule, k=k)
        assert found.passed_units == expected.passed_units
        for side in ("concepts", "episodes"):
            assert same(*([getattr(x, side).ids, getattr(x, side).units] for x in (found, expected)))

    @precondition(lambda self: hasattr(self, "limited"))
    @rule()
    def write(self) -> None:
        self.limited._index.write()

    @rule()
    def go_on_in_another(self) -> None:
        blocks = list(self.limited.blocks())
        states = self.limited.states(self.limited.concept_ids())
        ids = self.limited.concept_ids()
        self.limited = BindingShard(4, self.n_shards, memory_limit_bytes=self.limit)
        self.limited.fill(blocks)
        self.limited.restore_operations(self.free.operations())
        self.limited.restore_states(ids, states)

    @invariant()
    def is_the_same(self) -> None:
        if not hasattr(self, "limited"):
            return
        assert same(*self.both("bindings"))
        ids = self.free.concept_ids()
        assert np.array_equal(self.limited.concept_ids(), ids)
        assert same(*self.both("fan_out", np.append(ids, 99)))
        states = self.both("states", np.append(ids, 99))
        assert same(*([s.fan_out, s.last_activation, s.n_activations, s.version] for s in states))
        assert len(self.limited) == len(self.free)
        self.limited._index.check()
        statistics = self.limited.statistics()
        assert statistics.n_bytes <= self.limit or statistics.n_bindings == statistics.n_bindings_outside


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
