"""Promise 2 without Ray: acknowledged mutations survive, once, wherever the process dies or the disk fails."""

from __future__ import annotations

import datetime as dt
import errno
import os
import random
import shutil
import signal
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from binding_histories import FIRST, Model, Seen, binding_store, make_history, random_mutation
from crashes import PowerLoss, StrikingOs, fail_at, in_child, kill_at
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_tables import AS_OF, version_tables

from cluster_engine.errors import CommitConflictError, StoreCorruptError, StoreError
from cluster_engine.shards.checkpoint import commit_checkpoint, plan_checkpoint
from cluster_engine.shards.durable import DurableShards, next_life
from cluster_engine.shards.forgetting import choose_forgotten
from cluster_engine.shards.merging import join_columns
from cluster_engine.shards.mutation import Mutation
from cluster_engine.shards.names import number_episodes
from cluster_engine.shards.shard import BindingShard
from cluster_engine.shards.slots import owners, slots_of
from cluster_engine.store import files
from cluster_engine.store.commit import commit_version
from cluster_engine.store.retention import remove_versions
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.tables import TABLE_NAMES
from native_simd import RowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Pair = tuple[int, int]
SMALL_BYTES = 22_000  # of an actor: 16 logical shards, and some of the bindings of a history


def seen(actors: Sequence[DurableShards]) -> Seen:
    strengths: dict[Pair, float] = {}
    activated: dict[int, tuple[int, int]] = {}
    centroids: dict[int, tuple[float, ...]] = {}
    for actor in actors:
        actor.shard._index.check()
        concepts, episodes, values = actor.shard.bindings()
        strengths |= dict(zip(zip(concepts.tolist(), episodes.tolist(), strict=True), values.tolist(), strict=True))
        states = actor.shard.states(np.unique(concepts))
        columns = (np.unique(concepts), states.n_activations, states.last_activation)
        activated |= {c: (n, last) for c, n, last in zip(*(x.tolist() for x in columns), strict=True) if n}
        concepts, vectors = (column.tolist() for column in actor._state.centroids.columns().values())
        centroids |= dict(zip(concepts, map(tuple, vectors), strict=True))
    return strengths, activated, centroids


def open_all(store: Path, n_actors: int, memory_limit_bytes: int | None = None) -> list[DurableShards]:
    life, limit = next_life(store), memory_limit_bytes
    return [
        DurableShards(store, life=life, actor=actor, n_actors=n_actors, memory_limit_bytes=limit)
        for actor in range(n_actors)
    ]


def close_all(actors: Sequence[DurableShards]) -> None:
    for actor in actors:
        actor.close()


def change_all(actors: Sequence[DurableShards], mutation: Mutation, op_id: int) -> bool:
    """Send each actor its rows."""
    if not mutation.columns:
        return sum(actor.change(mutation, op_id) for actor in actors) > 0  # not any(): all are called
    home = owners(16, len(actors))[slots_of(mutation.columns[0])]
    parts = [(actor, mutation.take(np.flatnonzero(home == i))) for i, actor in enumerate(actors)]
    return sum(actor.change(part, op_id) for actor, part in parts if part.n_rows) > 0


def checkpoint(store: Path, actors: Sequence[DurableShards]) -> None:
    planned = plan_checkpoint(actors[0].version)
    commit_checkpoint(store, planned, [actor.capture(planned) for actor in actors])
    for actor in actors:
        actor.release(planned)


class Histories(RuleBasedStateMachine):
    """Histories of mutations, repetitions, refusals, checkpoints, and restarts with any number of actors.

    Each actor may have a memory limit, and then some bindings lie on disk.
    """

    @initialize(
        n_actors=st.sampled_from([1, 2, 3]), limit=st.sampled_from([None, SMALL_BYTES]), seed=st.integers(0, 2**32)
    )
    def start(self, n_actors: int, limit: int | None, seed: int) -> None:
        self.rng = random.Random(seed)
        self.scratch = tempfile.TemporaryDirectory()
        self.store = binding_store(Path(self.scratch.name) / "store", FIRST)
        self.model = Model()
        self.applied: list[Mutation] = []
        self.actors = open_all(self.store, n_actors, limit)

    @rule()
    def mutate(self) -> None:
        mutation = random_mutation(self.rng, self.model)
        self.applied.append(mutation)
        assert change_all(self.actors, mutation, len(self.applied))
        self.model.apply(mutation)

    @precondition(lambda self: self.applied)
    @rule()
    def repeat(self) -> None:
        op_id = self.rng.randrange(len(self.applied)) + 1
        assert not change_all(self.actors, self.applied[op_id - 1], op_id)

    @rule(kind=st.sampled_from(["bind", "add_strengths", "unbind", "activate"]))
    def refuse(self, kind: str) -> None:
        actor = self.actors[0]
        n_bytes = actor.statistics()["log_bytes"]
        known = next((pair for pair in sorted(self.model.strengths) if owned(pair[0], len(self.actors)) == 0), None)
        unknown = next(concept for concept in range(1000, 2000) if owned(concept, len(self.actors)) == 0)
        first = known or (unknown, 0)
        columns: dict[str, tuple[list[Any], ...]] = {
            "bind": ([unknown, unknown], [1, 1], [0.5, 0.5]),
            "add_strengths": ([first[0], unknown], [first[1], 1], [0.5, 0.5]),
            "unbind": ([first[0], unknown], [first[1], 1]),
            "activate": ([first[0], unknown],),
        }
        mutation = Mutation.of(kind, *columns[kind], **({"at": 1} if kind == "activate" else {}))
        with pytest.raises(RowError, match=r"row [01]: .*(occurs twice|is not here)"):
            actor.change(mutation, len(self.applied) + 1)
        assert actor.statistics()["log_bytes"] == n_bytes

    @rule(n_actors=st.sampled_from([1, 2, 3]), limit=st.sampled_from([None, SMALL_BYTES]))
    def restart(self, n_actors: int, limit: int | None) -> None:
        close_all(self.actors)
        self.actors = open_all(self.store, n_actors, limit)

    @rule()
    def checkpoint(self) -> None:
        checkpoint(self.store, self.actors)

    @rule()
    def capture_for_a_version_that_is_never_committed(self) -> None:
        planned = plan_checkpoint(self.actors[0].version)
        for actor in self.actors[: self.rng.randrange(len(self.actors) + 1)]:
            actor.capture(planned)

    @invariant()
    def is_as_the_model(self) -> None:
        if hasattr(self, "actors"):
            assert seen(self.actors) == self.model.as_seen()

    def teardown(self) -> None:
        if hasattr(self, "actors"):
            close_all(self.actors)
            self.scratch.cleanup()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def owned(concept: int, n_actors: int) -> int:
    return int(owners(16, n_actors)[slots_of([concept])][0])


def run_history(store: Path, history: Sequence[Mutation], acknowledge: Callable[[int], object]) -> None:
    """Apply a history, with a checkpoint in its middle, and acknowledge each mutation."""
    shards = DurableShards(store, life=next_life(store))
    try:
        for op_id, mutation in enumerate(history, 1):
            if op_id == len(history) // 2:
                checkpoint(store, [shards])
            shards.change(mutation, op_id)
            acknowledge(op_id)
    except StoreError:
        with suppress(StoreError):  # it gives the lock back, and may fail again
            shards.close()
        raise
    shards.close()


def run_struck(strike: Callable[..., Any], store: Path, history: Sequence[Mutation], acknowledged: Path) -> None:
    """Run a history with a struck `os`; only in a child process, for it stays struck."""
    pytest.MonkeyPatch().setattr(files, "os", StrikingOs(strike))
    fd = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    run_history(store, history, lambda op_id: os.write(fd, bytes([op_id])))


def count_history_calls(base: Path, history: Sequence[Mutation], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    store = base.with_name("counted")
    shutil.copytree(base, store)
    counting = StrikingOs(lambda _, __, call, args: call(*args))
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", counting)
        run_history(store, history, lambda _: None)
    shutil.rmtree(store)
    return counting.called


def states_of(history: Sequence[Mutation]) -> list[object]:
    """Return what is to be seen after 0, 1, 2, ... mutations."""
    model, states = Model(), []
    for mutation in history:
        states.append(model.as_seen())
        model.apply(mutation)
    return [*states, model.as_seen()]


def require_recovered(store: Path, history: Sequence[Mutation], n_acknowledged: int, n_actors: int) -> None:
    """Whatever was acknowledged is there, once; so is the rest after the history is sent again."""
    states = states_of(history)
    ConceptStore.open(store).verify()
    actors = open_all(store, n_actors)
    found = seen(actors)
    assert found in states[n_acknowledged : n_acknowledged + 2]
    n_applied = n_acknowledged + (found != states[n_acknowledged])
    for op_id, mutation in enumerate(history, 1):
        is_new = change_all(actors, mutation, op_id)
        assert not is_new or op_id > n_acknowledged
        assert is_new or op_id <= n_applied or states[op_id] == states[op_id - 1]
    assert seen(actors) == states[-1]
    checkpoint(store, actors)
    close_all(actors)
    actors = open_all(store, 1)
    assert seen(actors) == states[-1]
    assert not any(change_all(actors, mutation, op_id) for op_id, mutation in enumerate(history, 1))
    close_all(actors)


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_what_was_acknowledged_is_there_once(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = binding_store(tmp_path / "base", FIRST)
    history = make_history(seed, 8)
    calls = count_history_calls(base, history, monkeypatch)
    for k in range(len(calls)):
        store, acknowledged = tmp_path / f"store{k}", tmp_path / f"acknowledged{k}"
        shutil.copytree(base, store)
        work = partial(run_struck, kill_at(k, torn=seed % 2 == 1), store, history, acknowledged)
        assert in_child(work) == -signal.SIGKILL
        n_acknowledged = acknowledged.stat().st_size
        require_recovered(store, history, n_acknowledged, n_actors=1 + (seed + k) % 2)
        shutil.rmtree(store)


@pytest.mark.parametrize(("seed", "chance"), [(0, 0.5), (1, 1.0)])
def test_power_lost_anywhere_what_was_acknowledged_is_there_once(
    seed: int, chance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = binding_store(tmp_path / "base", FIRST)
    history = make_history(seed, 6)
    n_calls = len(count_history_calls(base, history, monkeypatch))
    for k in range(n_calls):
        store, acknowledged = tmp_path / f"store{k}", tmp_path / f"acknowledged{k}"
        shutil.copytree(base, store)
        disk = PowerLoss(k, random.Random(f"{seed} {k}"), chance)
        assert in_child(partial(run_struck, disk, store, history, acknowledged)) == -signal.SIGKILL
        require_recovered(store, history, acknowledged.stat().st_size, n_actors=1)
        shutil.rmtree(store)


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_failing_anywhere_a_mutation_is_refused_or_done(
    *, code: int, for_good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = binding_store(tmp_path / "base", FIRST)
    history = make_history(7, 6)
    n_calls = len(count_history_calls(base, history, monkeypatch))
    for k in range(n_calls):
        store = tmp_path / f"store{k}"
        shutil.copytree(base, store)
        acknowledged: list[int] = []
        with monkeypatch.context() as patch:
            strike = fail_at(k, code, for_good=for_good, after_the_call=False)
            patch.setattr(files, "os", StrikingOs(strike))
            try:
                run_history(store, history, acknowledged.append)
            except StoreError as error:
                assert os.strerror(code) in str(error)  # noqa: PT017 - where it is not raised, all must be well
        require_recovered(store, history, len(acknowledged), n_actors=1)
        shutil.rmtree(store)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return binding_store(tmp_path / "store", FIRST)


@pytest.fixture
def shards(store: Path) -> Iterator[DurableShards]:
    opened = DurableShards(store, life=1)
    yield opened
    opened.close()


def test_a_version_committed_before_the_log_was_cut_is_not_applied_twice(store: Path) -> None:
    shards = DurableShards(store, life=1)
    shards.change(Mutation.of("add_strengths", [5], [12], [0.5]), 1)
    planned = plan_checkpoint(1)
    commit_checkpoint(store, planned, [shards.capture(planned)])
    shards.close()  # never released
    again = DurableShards(store, life=2)
    assert again.version == 2
    assert again.shard.episodes_of(5)[1].tolist() == [0.625]
    assert not again.change(Mutation.of("add_strengths", [5], [12], [0.5]), 1)
    again.close()


def test_of_two_services_on_a_store_the_second_is_refused(
    store: Path, shards: DurableShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster_engine.shards.durable._LOCK_TIMEOUT_S", 0.0)
    with pytest.raises(CommitConflictError, match=r"another writer has held .*\.lock-0000"):
        DurableShards(store, life=2)


def test_a_log_that_another_writer_has_overtaken_is_refused_unless_it_is_empty(store: Path) -> None:
    DurableShards(store, life=1).close()
    binding_store(store, {(3, 3): 0.5})
    shards = DurableShards(store, life=2)
    assert shards.shard.episodes_of(3)[0].tolist() == [3]
    shards.change(Mutation.of("activate", [3], at=5), 1)
    shards.close()
    binding_store(store, {(4, 4): 0.5})
    with pytest.raises(CommitConflictError, match=r"has 1 mutations that follow version 2 .* has committed version 3"):
        DurableShards(store, life=3)
    going_on = DurableShards(store, life=2)
    assert going_on.version == 2
    with pytest.raises(CommitConflictError, match="at version 3, not 2"):
        checkpoint(store, [going_on])
    going_on.close()


def test_the_version_that_a_log_follows_is_not_removed(store: Path) -> None:
    shards = DurableShards(store, life=1)
    shards.change(Mutation.of("bind", [3], [10], [0.75]), 1)
    for number in (2, 3, 4):
        commit_version(store, {"cycle": version_tables(number)["cycle"]})
    assert remove_versions(store, 1) == [2, 3]
    shards.close()
    again = DurableShards(store, life=1)
    assert (again.version, again.shard.episodes_of(3)[1].tolist()) == (1, [0.75])
    again.close()


def test_a_log_cut_below_what_was_promised_is_named(store: Path, shards: DurableShards) -> None:
    shards.change(Mutation.of("bind", [1], [1], [0.5]), 1)
    shards.capture(plan_checkpoint(1))
    path = store / "log" / "000001-0000-000001.log"
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(StoreCorruptError, match=r"000001-0000-000001\.log, offset \d+: the log ends here"):
        DurableShards(store, life=2, actor=1, n_actors=2)


def test_a_batch_that_reached_one_of_two_actors_is_completed_by_one(store: Path) -> None:
    concepts = list(range(32))
    batch = Mutation.of("add_strengths", concepts, [1] * 32, [0.25] * 32)
    actors = open_all(store, 2)
    change_all(actors, Mutation.of("bind", concepts, [1] * 32, [0.5] * 32), 1)
    mine = batch.take(np.flatnonzero(owners(16, 2)[slots_of(concepts)] == 0))
    assert 0 < mine.n_rows < 32
    assert actors[0].change(mine, 2)
    assert actors[0].change(Mutation.of("decay", half_life_s=1.0, dt_s=1.0), 3)
    close_all(actors)
    (whole,) = open_all(store, 1)
    assert whole.change(batch, 2)
    assert whole.change(Mutation.of("decay", half_life_s=1.0, dt_s=1.0), 3)
    strengths = {c: whole.shard.concepts_of(1)[1][i] for i, c in enumerate(whole.shard.concepts_of(1)[0].tolist())}
    expected = dict.fromkeys(concepts, 0.375)
    assert strengths == expected
    whole.close()


def test_any_number_of_logical_shards_reads_the_log_of_another(store: Path) -> None:
    history, states = make_history(11, 24), states_of(make_history(11, 24))
    for start, n_shards in enumerate((16, 1, 64, 4)):
        shards = DurableShards(store, life=start + 1, n_shards=n_shards)
        assert seen([shards]) == states[6 * start]
        for op_id, mutation in enumerate(history[: 6 * start + 6], 1):
            assert shards.change(mutation, op_id) == (op_id > 6 * start)
        if n_shards == 64:
            checkpoint(store, [shards])
        shards.close()


@pytest.mark.parametrize("limit", [None, SMALL_BYTES])
def test_strings_name_episodes_across_restarts_and_versions(limit: int | None, tmp_path: Path) -> None:
    store = binding_store(tmp_path / "store", {(1, "old"): 0.5, (2, "old"): 0.5})
    shards = DurableShards(store, life=1, memory_limit_bytes=limit)
    ids = ["new", "old"]
    numbers = number_episodes(ids, is_string_ids=True)
    shards.change(Mutation.of("bind", [1, 1], numbers, [0.25, 0.75]), 1, ids)
    shards.close()
    shards = DurableShards(store, life=2, memory_limit_bytes=limit)
    assert shards.names(shards.shard.episodes_of(1)[0]) == ["old", "new"]
    checkpoint(store, [shards])
    assert shards.names(shards.shard.episodes_of(1)[0]) == ["old", "new"]
    shards.close()
    table = ConceptStore.open(store).bindings()
    assert table["episode_id"].to_pylist() == ["new", "old", "old"]
    assert table["strength"].to_pylist() == [0.25, 0.75, 0.5]
    assert table["initial"].to_pylist() == [0.25, 0.75, 0.5]
    assert table["touched"].to_pylist() == [AS_OF, AS_OF, AS_OF - dt.timedelta(days=1)]


def test_a_checkpoint_writes_bindings_and_moments_of_concepts_that_have_the_same_episodes(store: Path) -> None:
    before = ConceptStore.open(store)
    assert before.moments()["concept_id"].to_pylist() == [0, 1, 5]
    shards = DurableShards(store, life=1)
    shards.change(Mutation.of("unbind", [0], [11]), 1)
    shards.change(Mutation.of("set_strengths", [1], [10], [0.5]), 2)
    shards.change(Mutation.of("bind", [3], [10], [0.75]), 3)
    checkpoint(store, [shards])
    shards.close()
    after = ConceptStore.open(store)
    assert after.bindings().drop_columns(["touched"]).to_pylist() == [
        {"concept_id": 0, "episode_id": 10, "strength": 0.5, "initial": 0.5},
        {"concept_id": 1, "episode_id": 10, "strength": 0.5, "initial": 0.5},
        {"concept_id": 3, "episode_id": 10, "strength": 0.75, "initial": 0.75},
        {"concept_id": 5, "episode_id": 12, "strength": 0.125, "initial": 0.125},
    ]
    yesterday = AS_OF - dt.timedelta(days=1)
    assert after.bindings()["touched"].to_pylist() == [yesterday, AS_OF, AS_OF, yesterday]
    assert after.moments()["concept_id"].to_pylist() == [1, 5]
    assert {path.name for path in (store / "versions/00000002").iterdir()} == {"bindings.parquet", "moments.parquet"}
    carried = set(TABLE_NAMES) - {"bindings", "moments"}
    assert all(after.manifest.parts(name) == before.manifest.parts(name) for name in carried)


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.tuples(st.integers(0, 9), st.integers(0, 9)), st.integers(0, 4), min_size=1),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_weak_bindings_are_forgotten_as_by_one_shard(bindings: dict[Pair, int], keep: int, quarters: int) -> None:
    strengths = {pair: value / 4 for pair, value in bindings.items()}
    with tempfile.TemporaryDirectory() as scratch:
        actors = open_all(binding_store(Path(scratch) / "store", strengths), 3)
        alone = BindingShard(4)
        pairs = sorted(strengths)
        alone.bind([c for c, _ in pairs], [e for _, e in pairs], [strengths[pair] for pair in pairs], op_id=1)
        weak = join_columns([actor.weak_bindings(quarters / 4) for actor in actors])
        episodes = np.unique(weak[1])
        n_strong = sum(actor.count_strong(episodes, quarters / 4) for actor in actors)
        concepts, forgotten = choose_forgotten(*weak, n_strong, keep)
        home = owners(16, 3)[slots_of(concepts)]
        n = sum(
            actor.unbind_weak(concepts[home == i], forgotten[home == i], quarters / 4, op_id=1)
            for i, actor in enumerate(actors)
        )
        assert n == alone.forget(quarters / 4, op_id=2, keep=keep)
        left = join_columns([actor.shard.bindings() for actor in actors])
        assert sorted(zip(*left, strict=True)) == sorted(zip(*alone.bindings(), strict=True))
        close_all(actors)
