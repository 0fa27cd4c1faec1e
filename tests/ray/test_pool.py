"""Actors compute what one process computes, whatever their number, their transport, and who of them dies."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import ray
from episode_files import clustered_vectors

import native_simd
from cluster_engine.config import PoolConfig
from cluster_engine.errors import PassError, PlacementError
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.shards.actor import ShardActor
from cluster_engine.shards.affinity import NumaPolicy
from cluster_engine.shards.passes import fill_matrix
from cluster_engine.shards.pool import ShardPool
from cluster_engine.shards.topology import NumaNode, Topology
from cluster_engine.similarity.matrix import SharedMatrix
from cluster_engine.similarity.tiles import TilePlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cluster_engine.progress import Progress

pytestmark = pytest.mark.usefixtures("local_ray")

VECTORS = clustered_vectors(700, 40)
COSINE = Criterion("average", "cosine")
WARD = Criterion("ward", "euclidean")


def expected(criterion: Criterion) -> NDArray[np.float32]:
    packed = native_simd.pack(VECTORS, unit=criterion.unit)
    out = np.empty((len(VECTORS), len(VECTORS)), np.float32)
    native_simd.pairwise_symmetric(packed, metric=criterion.kernel, out=out)
    return out


def fill(pool: ShardPool, criterion: Criterion, on_tile: Callable[[Progress], None] | None = None) -> bytes:
    plan = TilePlan(len(VECTORS), 96)
    with SharedMatrix(plan) as matrix:
        fill_matrix(pool, matrix, VECTORS, criterion, on_tile)
        return matrix.values.tobytes()


def fake_topology(n_nodes: int) -> dict[str, Topology]:
    cpus = sorted(os.sched_getaffinity(0))
    nodes = [NumaNode(i, (cpus[i % len(cpus)],), 1 << 30, ()) for i in range(n_nodes)]
    return {ray.get_runtime_context().get_node_id(): Topology(tuple(nodes))}


@pytest.mark.parametrize("criterion", [COSINE, WARD], ids=["cosine", "ward"])
@pytest.mark.parametrize("transport", ["shared", "objects"])
@pytest.mark.parametrize("n_actors", [1, 4])
def test_a_pool_fills_the_matrix_of_one_process(criterion: Criterion, transport: str, n_actors: int) -> None:
    with ShardPool(PoolConfig(actors_per_numa_node=n_actors, transport=transport)) as pool:
        assert len(pool) == n_actors
        assert fill(pool, criterion) == expected(criterion).tobytes()
        assert fill(pool, criterion) == expected(criterion).tobytes()


def test_each_numa_node_gets_an_actor_bound_to_its_cpus() -> None:
    topologies = fake_topology(2)
    with ShardPool(PoolConfig(), topologies) as pool:
        nodes = next(iter(topologies.values())).nodes
        assert [report.placement.cpus for report in pool.reports] == [node.cpus for node in nodes]
        assert [report.threads for report in pool.reports] == [1, 1]
        assert pool.reports[1].placement.memory_errors  # this host has no node 1, and the report says so
        assert fill(pool, COSINE) == expected(COSINE).tobytes()


@pytest.mark.parametrize("placement", ["local", "interleaved", "separated", "adaptive"])
def test_any_placement_of_memory_gives_the_same_bytes(placement: Literal["local", "adaptive"]) -> None:
    """Of nodes that this host does not have: what cannot be placed lies where it may."""
    with ShardPool(PoolConfig(placement=placement), fake_topology(2)) as pool:
        assert fill(pool, COSINE) == expected(COSINE).tobytes()


def test_require_refuses_memory_on_two_nodes_where_there_is_one() -> None:
    topology = {name: Topology(found.nodes[:1]) for name, found in fake_topology(1).items()}
    with pytest.raises(PlacementError, match="separated memory takes two nodes"):
        ShardPool(PoolConfig(numa="require", placement="separated"), topology)


def test_require_refuses_a_node_that_is_not_there() -> None:
    with pytest.raises(PlacementError, match="node 1"):
        ShardPool(PoolConfig(numa="require"), fake_topology(2))


def test_a_killed_actor_costs_only_its_tiles() -> None:
    with ShardPool(PoolConfig(actors_per_numa_node=2)) as pool:
        killed = []

        def kill_once(progress: Progress) -> None:
            if progress.done == 5 and not killed:
                killed.append(pool.reports[0].process_id)
                os.kill(killed[0], signal.SIGKILL)

        assert fill(pool, COSINE, kill_once) == expected(COSINE).tobytes()
        assert killed
        assert pool.reports[0].process_id != killed[0]


def test_the_only_actor_is_restarted_as_often_as_allowed() -> None:
    with ShardPool(PoolConfig(max_restarts=2)) as pool:
        killed: list[int] = []

        def kill_twice(progress: Progress) -> None:
            pid = pool.reports[0].process_id
            if progress.done in (3, 9) and pid not in killed:
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

        assert fill(pool, COSINE, kill_twice) == expected(COSINE).tobytes()
        assert len(killed) == 2


def test_a_pool_without_a_living_actor_is_an_error() -> None:
    with ShardPool(PoolConfig(max_restarts=0)) as pool:

        def kill(progress: Progress) -> None:
            if progress.done == 3:
                os.kill(pool.reports[0].process_id, signal.SIGKILL)

        with pytest.raises(PassError, match="no shard actor is left"):
            fill(pool, COSINE, kill)


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_an_actor_may_die_when_its_last_tile_is_done(max_restarts: int) -> None:
    with ShardPool(PoolConfig(actors_per_numa_node=2, max_restarts=max_restarts)) as pool:

        def kill(progress: Progress) -> None:
            if progress.done == progress.total:
                os.kill(pool.reports[0].process_id, signal.SIGKILL)

        assert fill(pool, COSINE, kill) == expected(COSINE).tobytes()
        assert fill(pool, COSINE) == expected(COSINE).tobytes()


def test_a_pass_interrupted_while_an_actor_restarts_leaves_a_pool_that_works() -> None:
    with ShardPool(PoolConfig()) as pool:
        first = pool.reports[0].process_id

        def kill(progress: Progress) -> None:
            if progress.done == 3:
                os.kill(first, signal.SIGKILL)

        def interrupt(record: logging.LogRecord) -> bool:
            raise KeyboardInterrupt(record.getMessage())

        log = logging.getLogger("cluster_engine.shards.pool")  # says that an actor died just before it is revived
        log.addFilter(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt, match="died"):
                fill(pool, COSINE, kill)
        finally:
            log.removeFilter(interrupt)
        assert fill(pool, COSINE) == expected(COSINE).tobytes()


def test_an_actor_whose_cpu_was_taken_is_not_waited_for() -> None:
    with ShardPool(PoolConfig(start_timeout_s=30.0), fake_topology(4)) as pool:
        rivals: list[object] = []

        def kill(progress: Progress) -> None:
            if progress.done == 3 and not rivals:
                rivals.append(ray.remote(num_cpus=1)(ShardActor).remote(None, NumaPolicy("off"), 1))
                os.kill(pool.reports[0].process_id, signal.SIGKILL)

        assert np.array_equal(np.frombuffer(fill(pool, COSINE, kill), np.float32), expected(COSINE).ravel())
        assert len(pool) == 3


def test_a_cluster_without_free_cpus_is_an_error_that_says_so() -> None:
    with (
        ShardPool(PoolConfig(actors_per_numa_node=2), fake_topology(2)),
        pytest.raises(PassError, match="no free CPUs"),
    ):
        ShardPool(PoolConfig(actors_per_numa_node=4, start_timeout_s=2.0), fake_topology(8))
