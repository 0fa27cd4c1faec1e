"""A memory limit changes no answer: a shard that has one beside one that has none, in histories of all calls."""

from __future__ import annotations

import itertools
import logging
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
from cluster_engine.shards import tiers
from cluster_engine.shards.kept import KeptBindings, decay_factor, spans, whole_concepts
from cluster_engine.shards.shard import BindingShard
from cluster_engine.shards.slots import are_in, slots_of
from cluster_engine.shards.spread import SpreadRule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

CONCEPTS, EPISODES = range(-3, 27), range(-5, 20)
LEAST_BYTES = 5_000  # a logical shard, and the lines of all CONCEPTS


def some_pairs(rng: np.random.Generator, n: int) -> Columns:
    """Return some bindings by (concept, episode), strengths in 64ths."""
    numbers = np.sort(rng.choice(len(CONCEPTS) * len(EPISODES), n, replace=False))
    concepts, episodes = np.divmod(numbers, len(EPISODES))
    return concepts + CONCEPTS[0], episodes + EPISODES[0], rng.integers(0, 65, n).astype(np.float32) / 64


def same(found: Iterable[NDArray[Any]], expected: Iterable[NDArray[Any]]) -> bool:
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

    def both(self, method: str, *arguments: object, **named: object) -> tuple[Any, Any]:
        def outcome(shard: BindingShard) -> object:
            try:
                return getattr(shard, method)(*arguments, **named)
            except ValueError as error:
                return str(error)

        return outcome(self.limited), outcome(self.free)

    def change(self, method: str, *arguments: object, **named: object) -> None:
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
        how=st.builds(
            SpreadRule, st.sampled_from(["sqrt", "linear", "log", "none"]), st.just(0.25), st.sampled_from([0.0, 0.125])
        ),
        steps=st.integers(1, 4),
        k=st.sampled_from([None, 1, 7]),
    )
    def spread(
        self, cues: dict[int, float], concepts: dict[int, float], how: SpreadRule, steps: int, k: int | None
    ) -> None:
        found, expected = self.both("spread", cues, concepts, steps=steps, rule=how, k=k)
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


def filled(limit: int | None, n_concepts: int = 200, *, directory: Path | None = None) -> BindingShard:
    """Return a shard with 10 bindings a concept, of strength 1/2."""
    shard = BindingShard(4, 1, memory_limit_bytes=limit, directory=directory)
    concepts = np.repeat(np.arange(n_concepts), 10)
    shard.fill([(concepts, np.tile(np.arange(10), n_concepts), np.full(len(concepts), 0.5, np.float32))])
    return shard


def misses(shard: BindingShard, operation: str, tier: str = "memory") -> int:
    found = shard.tier_statistics()
    assert found is not None
    return int(found["misses"].get(operation, {}).get(tier, 0))


def test_a_pass_over_everything_does_not_drive_out_what_is_used_often() -> None:
    shard = filled(60_000)
    assert shard.tier_statistics()["n_concepts_outside"] > 100
    often = range(150, 170)  # were outside
    for _ in range(30):
        for concept in often:
            shard.episodes_of(concept)
    before = misses(shard, "episodes_of")
    assert 0 < before <= 20 * 30 // 4
    for concept in range(200):
        shard.episodes_of(concept)
    after_pass = misses(shard, "episodes_of")
    for concept in often:
        shard.episodes_of(concept)
    assert misses(shard, "episodes_of") == after_pass


def test_hits_and_misses_are_counted_by_tier() -> None:
    shard = filled(60_000)
    shard.fan_out(range(190, 210))
    statistics = shard.tier_statistics()
    assert statistics["hits"]["fan_out"] == {"line": 10}
    assert statistics["misses"]["fan_out"] == {"line": 10}
    shard.episodes_of(500)
    shard.episodes_of(199)
    statistics = shard.tier_statistics()
    assert statistics["misses"]["episodes_of"] == {"line": 1, "memory": 1, "disk": 0}
    assert statistics["hits"]["episodes_of"] == {"line": 1, "memory": 0, "disk": 1}
    shard.set_strengths([198, 198, 0], [1, 2, 1], [0.25] * 3, op_id=9)
    statistics = shard.tier_statistics()
    assert statistics["misses"]["set_strengths"]["memory"] == 2
    assert statistics["hits"]["set_strengths"] == {"line": 3, "memory": 1, "disk": 1}
    assert BindingShard(4).tier_statistics() is None


def test_a_limit_that_lines_alone_exceed_is_refused() -> None:
    with pytest.raises(CapacityError, match=r"takes \d+ bytes, and the limit is 100"):
        BindingShard(4, 1, memory_limit_bytes=100)
    with pytest.raises(CapacityError, match=r"lines of all concepts take \d+ bytes, and the limit is 5000"):
        filled(5_000)


def test_bindings_out_of_order_are_refused() -> None:
    ids = np.array([2, 1])
    with pytest.raises(ValueError, match="not in order of concept"):
        BindingShard(4, memory_limit_bytes=1 << 20).fill([(ids, ids, np.ones(2, np.float32))])


def test_without_room_on_disk_bindings_stay_in_memory_until_there_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "gone"
    shard = BindingShard(4, 1, memory_limit_bytes=20_000, directory=directory)
    concepts = np.repeat(np.arange(60), 10)
    with caplog.at_level(logging.WARNING):
        assert shard.bind(concepts, np.tile(np.arange(10), 60), np.full(600, 0.5, np.float32), op_id=1)
    assert "bindings stay in memory limit_bytes=20000" in caplog.text
    assert shard.statistics().n_bytes > 20_000
    directory.mkdir()
    assert shard.set_strengths([0], [0], [0.25], op_id=2)
    assert shard.statistics().n_bytes <= 20_000
    assert len(shard) == 600
    assert shard.episodes_of(0)[1].tolist() == [0.5] * 9 + [0.25]
    assert not list(directory.iterdir())


def test_files_leave_no_name_and_no_descriptor(tmp_path: Path) -> None:
    shard = filled(60_000, directory=tmp_path)
    assert not list(tmp_path.iterdir())
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        shard._index.write()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    del shard
    assert len(list(Path("/proc/self/fd").iterdir())) < before


def test_many_decays_are_applied_to_what_comes_from_disk() -> None:
    limited, free = filled(60_000), filled(None)
    for op_id in range(tiers._MOST_DECAYS + 10):
        for shard in (limited, free):
            shard.decay(half_life_s=1.0, dt_s=0.01, op_id=op_id)
    assert same(limited.bindings(), free.bindings())
    assert limited.tier_statistics()["n_writes"] == 2


def test_readers_see_batches_whole_while_concepts_come_and_go() -> None:
    shard, concepts = filled(16_000, 60), np.repeat(np.arange(60), 10)
    episodes, done, seen = np.tile(np.arange(10), 60), threading.Event(), []

    def read() -> None:
        rng = np.random.default_rng(threading.get_ident())
        while not done.is_set():
            ids, strengths = shard.episodes_of(int(rng.integers(60)))
            seen.append(len(ids) == 10 and len(set(strengths.tolist())) == 1)
            ids, strengths = shard.concepts_of(int(rng.integers(10)))
            seen.append(len(ids) == 60 and len(set(strengths.tolist())) == 1)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for op_id in range(40):
        shard.set_strengths(concepts, episodes, np.full(600, (op_id % 8) / 8, np.float32), op_id=op_id)
        if op_id % 4 == 0:
            shard.decay(half_life_s=1.0, dt_s=1.0, op_id=1000 + op_id)
    done.set()
    for reader in readers:
        reader.join()
    assert seen
    assert all(seen)
    assert shard.tier_statistics()["n_concepts_outside"]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([-(2**63), -7, 0, 3, 4, 2**63 - 1])), unique=True, max_size=30
    ),
    st.integers(1, 8),
    st.integers(1, 12),
)
@settings(deadline=None)
def test_kept_bindings_are_found_by_concept_and_by_episode(
    pairs: list[tuple[int, int]], block_rows: int, sorted_rows: int
) -> None:
    pairs = sorted(pairs)
    columns = (
        np.array([concept for concept, _ in pairs], np.int64),
        np.array([episode for _, episode in pairs], np.int64),
        np.arange(len(pairs), dtype=np.float32) / 64,
    )
    blocks = (tuple(column[i : i + block_rows] for column in columns) for i in range(0, len(pairs), block_rows))
    with tempfile.TemporaryDirectory() as scratch:
        found = KeptBindings(Path(scratch), whole_concepts(blocks), sorted_rows)
    ids, counts, rows = found.lines()
    assert np.array_equal(ids, np.unique(columns[0]))
    assert same(found.of_concepts(rows, counts), columns)
    chosen = np.arange(len(ids))[::-2]
    expected = [columns[0].tolist().index(ids[i]) for i in chosen]
    rows_of = np.concatenate(
        [np.arange(0), *(np.arange(r, r + counts[i]) for r, i in zip(expected, chosen, strict=True))]
    )
    assert same(found.of_concepts(rows[chosen], counts[chosen]), [column[rows_of] for column in columns])
    for wanted in ([], [3], [-(2**63), 5, 2**63 - 1]):
        listed = sorted(zip(*(c.tolist() for c in found.of_episodes(np.array(wanted, np.int64))), strict=True))
        assert listed == [row for row in zip(*(c.tolist() for c in columns), strict=True) if row[1] in wanted]
    found.decays += [(np.float32(0.5), 2**256 - 1), (np.float32(0.25), 0xFF << 100)]
    slots = are_in(slots_of(columns[0]), 0xFF << 100)
    assert np.array_equal(found.of_concepts(rows, counts)[2], columns[2] * 0.5 * np.where(slots, 0.25, 1).astype("f4"))


@given(st.lists(st.integers(1, 9)), st.integers(1, 20))
def test_spans_cover_all_and_hold_so_many(counts: list[int], most: int) -> None:
    found = list(spans(np.array(counts, np.int64), most))
    assert [i for span in found for i in range(span.start, span.stop)] == list(range(len(counts)))
    for span in found:
        assert sum(counts[span]) <= most or span.stop - span.start == 1


@pytest.mark.parametrize("half_lives", [0.0, 1e-320, 0.3, 1.0, 160.0, 1e308])
def test_the_factor_is_that_of_the_index(half_lives: float) -> None:
    shard = BindingShard(4)
    strengths = np.array([1.0, 0.7, 1e-38], np.float32)
    shard.bind([0, 1, 2], [0, 0, 0], strengths, op_id=1)
    shard.decay(half_life_s=1.0, dt_s=half_lives, op_id=2)
    assert np.array_equal(shard.bindings()[2], strengths * decay_factor(half_lives))
