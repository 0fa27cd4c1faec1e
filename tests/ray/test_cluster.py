"""Two Ray nodes give the bytes of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from episode_files import clustered_vectors, write_episodes

import cluster_engine as ce
from cluster_engine.config import Config, PoolConfig
from cluster_engine.shards.pool import ShardPool

if TYPE_CHECKING:
    from pathlib import Path

    from ray.cluster_utils import Cluster

    from cluster_engine.progress import Progress


LISTS_ONLY = 40_000_000  # bytes that a matrix of 5,000 vectors does not fit into, and lists do


@pytest.mark.parametrize("phase", ["neighbours", "linkage"])
def test_nodes_cluster_without_a_matrix_and_one_may_die(two_nodes: Cluster, phase: str) -> None:
    X = np.random.default_rng(3).standard_normal((5_000, 16), dtype=np.float32)
    expected = ce.linkage(X).tobytes()
    extra = two_nodes.add_node(num_cpus=2)
    two_nodes.wait_for_nodes()

    def lose_a_node(progress: Progress) -> None:
        if progress.phase == phase and progress.done >= 20 and extra in two_nodes.list_all_nodes():
            two_nodes.remove_node(extra, allow_graceful=False)

    for transport in ("auto", "objects"):
        with ShardPool(PoolConfig(transport=transport)) as pool:
            assert pool.reaches_elsewhere
            lose = lose_a_node if transport == "objects" else None
            Z = ce.distributed_linkage(X, pool=pool, memory_limit=LISTS_ONLY, progress=lose)
            assert Z.tobytes() == expected
    assert len(two_nodes.list_all_nodes()) == 2


def test_two_nodes_give_the_bytes_of_one_and_one_may_die(two_nodes: Cluster, tmp_path: Path) -> None:
    episodes = write_episodes(tmp_path / "episodes.parquet", clustered_vectors(900, 24))
    reports = {
        transport: ce.consolidate(episodes, tmp_path / transport, Config(pool=PoolConfig(transport=transport)))
        for transport in ("auto", "objects")
    }
    assert ce.ConceptStore.open(tmp_path / "auto").report()["n_actors"].to_pylist() == [2]

    def lose_a_node(progress: Progress) -> None:
        if progress.phase == "pairwise" and progress.done == 2 and len(two_nodes.list_all_nodes()) == 2:
            two_nodes.remove_node(two_nodes.list_all_nodes()[1], allow_graceful=False)

    reports["lost"] = ce.consolidate(episodes, tmp_path / "lost", progress=lose_a_node)
    assert len(two_nodes.list_all_nodes()) == 1
    alone = ce.consolidate(episodes, tmp_path / "alone")
    assert ce.ConceptStore.open(tmp_path / "alone").report()["n_actors"].to_pylist() == [1]
    assert {report.content_sha256 for report in reports.values()} == {alone.content_sha256}
