"""A head that dies takes the driver of a batch with it; when it is back, the batch goes on to the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from episode_files import clustered_vectors, write_episodes
from ray.cluster_utils import Cluster

import cluster_engine as ce

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VECTORS = clustered_vectors(400, 16)

DRIVER = textwrap.dedent("""
    import json, os, signal, sys
    from dataclasses import asdict
    import cluster_engine as ce
    from cluster_engine.config import Config, LeaseConfig

    def stop(progress):
        if progress.phase == sys.argv[4] and not progress.done:
            os.kill(os.getpid(), signal.SIGSTOP)

    brief = Config(lease=LeaseConfig(ttl_s=2.0))
    report = ce.consolidate(sys.argv[1], sys.argv[2], brief, slot=sys.argv[3], progress=stop)
    print(json.dumps([report.version, report.resumed, report.content_sha256]))
""")


@contextmanager
def head() -> Iterator[str]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def drive(address: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *map(str, arguments)],
        env={**os.environ, "RAY_ADDRESS": address},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(("phase", "resumed"), [("linkage", ["read"]), ("concepts", ["read", "linkage"])])
def test_a_batch_goes_on_when_the_head_is_back(phase: str, resumed: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = write_episodes(tmp_path / "first.parquet", VECTORS, np.arange(0, 400, 2))
    rest = write_episodes(tmp_path / "rest.parquet", VECTORS, np.arange(1, 400, 2))
    with head() as address:
        out, err = drive(address, first, store, "one", "never").communicate(timeout=120)
        assert json.loads(out)[:2] == [1, []], err
        driver = drive(address, rest, store, "two", phase)
        _, status = os.waitpid(driver.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
    driver.kill()  # a job dies with the node that it runs on
    driver.communicate(timeout=60)
    assert ce.ConceptStore.open(store).version == 1
    with head() as address:
        out, err = drive(address, rest, store, "two", "never").communicate(timeout=120)
        version, found, digest = json.loads(out)
        out, err = drive(address, first, tmp_path / "calm", "one", "never").communicate(timeout=120)
        out, err = drive(address, rest, tmp_path / "calm", "two", "never").communicate(timeout=120)
    assert (version, found) == (2, resumed), err
    assert json.loads(out)[2] == digest
    assert ce.ConceptStore.open(store).history()["slot"].to_pylist() == ["one", "two"]
