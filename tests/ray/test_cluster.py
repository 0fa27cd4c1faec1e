"""Two Ray nodes give the bytes of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import ray
from episode_files import clustered_vectors, write_episodes
from ray.cluster_utils import Cluster

import cluster_engine as ce
from cluster_engine.config import Config, PoolConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster_engine.progress import Progress


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


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
