"""One local Ray a test module, in a home of its own, ended by its own handle."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import ray
from ray.cluster_utils import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def ray_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep Ray's authentication token out of the user's home, and other clusters out of the tests.

    The mode is left to Ray, which reads it when it is imported and turns tokens on for a local cluster.
    """
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("RAY_AUTH_MODE", raising=False)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield home


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Let children hear Ctrl-C, also where a shell started the tests in the background and so ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()
