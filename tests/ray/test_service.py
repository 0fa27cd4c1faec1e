"""The binding service: the answers of one shard, whatever the number of actors and whoever of them dies.

CLUSTER_ENGINE_KILLS sets how many actors are killed (default 20; the promise is 200).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import ray
from binding_histories import FIRST, Model, binding_store, random_mutation

from cluster_engine.config import PoolConfig
from cluster_engine.errors import CommitConflictError, ServiceError, StoreCorruptError, VectorError
from cluster_engine.shards.service import BindingService
from cluster_engine.shards.shard import BindingShard
from cluster_engine.store.snapshot import ConceptStore
from native_simd import RowError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster_engine.shards.mutation import Mutation

pytestmark = pytest.mark.usefixtures("local_ray")

N_KILLS = int(os.environ.get("CLUSTER_ENGINE_KILLS", "20"))
SMALL_BYTES = 24_000  # of an actor: 16 logical shards, and some of the bindings of a history
LIMITS = pytest.mark.parametrize("service", [None, SMALL_BYTES], ids=["in memory", "limited"], indirect=True)


def two_actors() -> PoolConfig:
    return PoolConfig(actors_per_numa_node=2)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return binding_store(tmp_path / "store", FIRST)


@pytest.fixture
def service(store: Path, request: pytest.FixtureRequest) -> Iterator[BindingService]:
    limit = getattr(request, "param", None)
    started = BindingService.start(store, request.node.name, config=two_actors(), memory_limit_bytes=limit)
    assert (started.statistics()["tiers"] is None) == (limit is None)
    yield started
    stop_all(started.namespace)


def stop_all(namespace: str) -> None:
    """End what is left of a service, however broken."""
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == namespace:
            ray.kill(ray.get_actor(actor["name"], namespace=namespace))


def send(service: BindingService, mutation: Mutation, op_id: int) -> bool:
    return bool(getattr(service, mutation.kind)(*mutation.columns, **mutation.arguments, op_id=op_id))


def require_as(model: Model, service: BindingService, when: str = "") -> None:
    """What a service answers is what a model says."""
    strengths, activated, centroids = model.as_seen()
    assert seen(service) == (strengths, activated), when
    if centroids:
        found = service.search(list(centroids.values()), 1, exact=True)
        assert found.concept_ids[:, 0].tolist() == list(centroids), when


def seen(service: BindingService) -> tuple[dict[Any, float], dict[int, tuple[int, int]]]:
    concepts, episodes, strengths = service.bindings()
    pairs = zip(concepts.tolist(), list(episodes), strict=True)
    known = np.unique(concepts)
    states = service.states(known)
    columns = zip(known.tolist(), states.n_activations.tolist(), states.last_activation.tolist(), strict=True)
    assert np.array_equal(states.fan_out, service.fan_out(known))
    return dict(zip(pairs, strengths.tolist(), strict=True)), {c: (n, last) for c, n, last in columns if n}


def process_ids(service: BindingService) -> list[int]:
    return [actor["process_id"] for actor in service.statistics()["actors"]]


@LIMITS
def test_killed_actors_lose_and_double_nothing(service: BindingService) -> None:
    rng, model, history = random.Random(0), Model(), []
    with ThreadPoolExecutor(1) as caller:
        for kill in range(N_KILLS // 2):  # with each limit
            for _ in range(3):
                history.append(random_mutation(rng, model))
                victim = rng.choice(process_ids(service))
                reply = caller.submit(send, service, history[-1], len(history))
                if len(history) % 3 == 0:
                    for _ in range(rng.randrange(200_000)):  # some of the way into the call
                        pass
                    os.kill(victim, signal.SIGKILL)
                reply.result()  # True, or False where Ray sent it again after the reply was lost
                model.apply(history[-1])
            require_as(model, service, f"after kill {kill}")
            again = rng.randrange(len(history))
            assert not send(service, history[again], again + 1)
            if kill % 7 == 3:
                service.checkpoint()
    require_as(model, service)


def test_a_restart_with_other_numbers_of_actors_has_the_same_state(store: Path) -> None:
    rng, model, history = random.Random(1), Model(), []
    for n_actors in (1, 3, 2):
        service = BindingService.start(store, "reshard", config=PoolConfig(actors_per_numa_node=n_actors))
        assert service.n_actors == n_actors
        for _ in range(10):
            history.append(random_mutation(rng, model))
            assert send(service, history[-1], len(history))
            model.apply(history[-1])
        assert not any(send(service, mutation, op_id) for op_id, mutation in enumerate(history, 1))
        require_as(model, service)
        service.stop(checkpoint=n_actors == 3)
    stored = ConceptStore.open(store)
    assert stored.version == 2
    stored.verify()


def test_another_process_attaches_and_sees_what_was_changed(service: BindingService) -> None:
    service.bind([1], [77], [0.5], op_id=1)
    script = f"""
import ray
from cluster_engine import BindingService
ray.init(address={ray.get_runtime_context().gcs_address!r}, log_to_driver=False)
service = BindingService.attach({service.namespace!r})
assert service.concepts_of(77)[0].tolist() == [1]
assert not service.bind([1], [77], [0.25], op_id=1)
assert service.add_strengths([1], [77], [0.25], op_id=2)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
    assert service.concepts_of(77)[1].tolist() == [0.75]


@LIMITS
def test_answers_are_those_of_one_shard(service: BindingService, store: Path) -> None:
    rng = np.random.default_rng(0)
    concepts, episodes = np.divmod(rng.permutation(600)[:400], 20)
    strengths = rng.integers(0, 65, 400).astype(np.float32) / 64
    alone = BindingShard(4)
    assert service.forget(2.0, op_id=90) == 1  # what the store has, but the strongest binding of each episode
    assert service.forget(2.0, op_id=90) is None
    for pair in ([0, 0, 1], [11, 10, 10], [0.25, 0.5, 1.0]), ([5], [12], [0.125]):
        alone.bind(*pair, op_id=len(pair[0]))
    alone.forget(2.0, op_id=90)
    for index in (service, alone):
        assert index.bind(concepts, episodes + 100, strengths, op_id=100)
        assert index.forget(0.25, op_id=101, keep=2)
        assert index.decay_concepts([3, 4], [0.5, 0.25], dt_s=2.0, op_id=102)
    for found, expected in zip(service.bindings(), alone.bindings(), strict=True):
        assert np.array_equal(found, expected)
    for concept in range(30):
        for found, expected in zip(service.episodes_of(concept, 5), alone.episodes_of(concept), strict=True):
            assert np.array_equal(found, expected[:5])
    for episode in range(100, 120):
        strong = alone.concepts_of(episode)[1] >= 0.5
        for found, expected in zip(
            service.concepts_of(episode, min_strength=0.5), alone.concepts_of(episode), strict=True
        ):
            assert np.array_equal(found, expected[strong])
    queries = rng.standard_normal((5, 4))
    found, expected = service.search(queries, 6), ConceptStore.open(store).search(queries, 6)
    assert np.array_equal(found.concept_ids, expected.concept_ids)
    assert np.array_equal(found.similarities, expected.similarities)
    for steps, k in ((1, None), (3, 7)):
        found, expected = (
            index.spread({103: 1.0, 110: 0.5}, {4: 0.25}, steps=steps, k=k) for index in (service, alone)
        )
        for side in ("concepts", "episodes"):
            assert np.array_equal(getattr(found, side).ids, getattr(expected, side).ids)
            assert np.array_equal(getattr(found, side).units, getattr(expected, side).units)
    statistics = service.statistics()
    tiers = statistics["tiers"]
    assert tiers is None or (tiers["n_bindings_outside"] and tiers["hits"]["episodes_of"]["disk"])
    assert statistics["n_bindings"] == len(alone) == sum(actor["n_bindings"] for actor in statistics["actors"])


def test_a_refused_batch_changes_no_actor_and_names_the_row(service: BindingService) -> None:
    before = seen(service)
    concepts = list(range(40))
    with pytest.raises(RowError, match=r"row 37: strength 2\.0 is outside"):
        service.bind(concepts, [1] * 40, [0.5] * 37 + [2.0] * 3, op_id=1)
    with pytest.raises(RowError, match=r"row 1: binding \(30, 1\) is not here"):
        service.set_strengths([0, 30], [10, 1], [0.5, 0.5], op_id=1)
    with pytest.raises(VectorError, match="row 1"):
        service.search([[1.0, 0, 0, 0], [0.0, 0, 0, 0]])
    for wrong in ({"half_life_s": 0.0, "dt_s": 1.0}, {"half_life_s": 1.0, "dt_s": -1.0}):
        with pytest.raises(ValueError, match="must be"):
            service.decay(**wrong, op_id=1)
    with pytest.raises(ValueError, match="op_id must be an int64"):
        service.activate([0], 1, op_id=2**63)
    assert seen(service) == before
    assert service.bind([0], [1], [0.5], op_id=1)


def test_strings_name_episodes(tmp_path: Path) -> None:
    store = binding_store(tmp_path / "strings", {(1, "b"): 0.5, (2, "b"): 0.25})
    service = BindingService.start(store, "strings", config=two_actors())
    assert service.is_string_ids
    assert service.bind([1, 9], ["a", "a"], [0.75, 0.5], op_id=1)
    assert service.episodes_of(1)[0] == ["a", "b"]
    assert service.concepts_of("a")[0].tolist() == [1, 9]
    reached = service.spread({"a": 1.0}, steps=1)
    assert sorted(reached.episodes.ids) == ["a", "b"]
    assert reached.concepts.ids.tolist() == [1, 9]
    with pytest.raises(ValueError, match="must be strings"):
        service.unbind([1], [5], op_id=2)
    service.stop()
    assert ConceptStore.open(store).bindings()["episode_id"].to_pylist() == ["a", "b", "b", "a"]


def test_a_namespace_has_one_service_or_none(service: BindingService, store: Path) -> None:
    with pytest.raises(ServiceError, match=r"runs in the namespace .* already"):
        BindingService.start(store, service.namespace)
    with pytest.raises(ServiceError, match="no binding service runs in the namespace 'nowhere'"):
        BindingService.attach("nowhere")
    service.stop()
    with pytest.raises(ServiceError, match="no binding service"):
        BindingService.attach(service.namespace)
    with pytest.raises(ServiceError, match="is gone"):
        service.fan_out([1])


def test_a_checkpoint_after_another_writer_is_refused_and_loses_nothing(service: BindingService, store: Path) -> None:
    service.bind([1], [77], [0.5], op_id=1)
    binding_store(store, FIRST)
    with pytest.raises(CommitConflictError, match="at version 2, not 1"):
        service.checkpoint()
    assert service.concepts_of(77)[0].tolist() == [1]
    service.stop(checkpoint=False)
    with pytest.raises(CommitConflictError, match="has 1 mutations that follow version 1"):
        BindingService.start(store, service.namespace)
    assert not [
        actor for actor in ray.util.list_named_actors(all_namespaces=True) if actor["namespace"] == service.namespace
    ]


def test_a_damaged_log_is_named_when_the_service_starts(store: Path) -> None:
    service = BindingService.start(store, "damaged")
    for op_id in range(5):
        service.bind([1], [op_id], [0.5], op_id=op_id)
    service.stop(checkpoint=False)
    (path,) = (store / "log").glob("*.log")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreCorruptError, match=rf"{path.name}, offset \d+"):
        BindingService.start(store, "damaged")
