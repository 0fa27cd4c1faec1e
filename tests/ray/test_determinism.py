"""Z is the same bytes wherever it is computed, by whatever threads and instruction set, from rows in whatever order."""

from __future__ import annotations

import hashlib
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import ray
from episode_files import blurred_vectors, write_episodes

import cluster_engine as ce
import native_simd
from cluster_engine.config import Config, CutConfig, PoolConfig, RebuildConfig
from cluster_engine.shards.pool import ShardPool
from cluster_engine.shards.topology import read_topology

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray
    from ray.cluster_utils import Cluster

    from cluster_engine.linkage.criterion import Method, Metric

N, N_LATER = 3_000, 200
LISTS_ONLY = 30_000_000  # bytes that the matrix of N vectors does not fit into, and their lists do
LINKAGES: list[tuple[Method, Metric]] = [("average", "cosine"), ("ward", "euclidean"), ("single", "cosine")]


def digest(Z: NDArray[np.float64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(Z)).hexdigest()


def pool_config(n_actors: int, threads: int) -> PoolConfig:
    """Return a pool to whose actors everything is sent, rescans too."""
    return PoolConfig(actors_per_numa_node=n_actors, threads_per_actor=threads, transport="objects")


def batches(directory: Path, X: NDArray[np.float32], pools: dict[str, PoolConfig]) -> dict[tuple[str, str], str]:
    """Return the digests of stores after two batches, by road and order of the rows."""
    digests = {}
    for order, rows in (("sorted", np.arange(N)), ("shuffled", np.random.default_rng(8).permutation(N))):
        first = write_episodes(directory / f"{order}-1.parquet", X, rows[rows < N - N_LATER])
        second = write_episodes(directory / f"{order}-2.parquet", X, rows[rows >= N - N_LATER])
        for name, pool in pools.items():
            store = directory / f"{name} {order}"
            config = Config(
                cut=CutConfig(n_groups=300), rebuild=RebuildConfig(growth=9), pool=pool, memory_limit_bytes=LISTS_ONLY
            )
            assert "neighbours" in ce.consolidate(first, store, config).spent
            digests[name, order] = ce.consolidate(second, store, config).content_sha256
    return digests


def test_every_road_gives_one_digest_of_z(two_nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X = blurred_vectors(N)
    one_node = {ray.get_runtime_context().get_node_id(): read_topology()}
    places = {"1 actor": (1, one_node), "2 actors": (2, one_node), "4 actors": (4, one_node), "2 nodes": (1, None)}
    digests: dict[tuple[str, ...], str] = {}
    for isa, threads in product(native_simd.available_isas(), (1, 2, 4)):
        monkeypatch.setenv("CLUSTER_ENGINE_ISA", isa)
        road = f"{isa}, {threads} threads"
        for method, metric in LINKAGES:
            Z = ce.linkage(X, method, metric, threads=threads, memory_limit=LISTS_ONLY)
            digests[method, "local", road] = digest(Z)
        for place, (n_actors, topologies) in places.items():
            with ShardPool(pool_config(n_actors, threads), topologies) as pool:
                assert len(pool) == int(place[0])
                assert {(report.isa, report.threads) for report in pool.reports} == {(isa, threads)}
                for method, metric in LINKAGES:
                    Z = ce.distributed_linkage(X, method, metric, pool=pool, memory_limit=LISTS_ONLY)
                    digests[method, place, road] = digest(Z)
    monkeypatch.delenv("CLUSTER_ENGINE_ISA")
    stores = batches(tmp_path, X, {"2 nodes": pool_config(1, 2)})
    two_nodes.remove_node(two_nodes.list_all_nodes()[1])
    stores |= batches(tmp_path, X, {f"{n} actors": pool_config(n, 1) for n in (1, 2, 4)})
    assert len(set(stores.values())) == 1, stores
    for method, metric in LINKAGES:
        expected = digest(ce.linkage(X, method, metric))  # of "average", through the matrix
        assert {of for road, of in digests.items() if road[0] == method} == {expected}, digests
