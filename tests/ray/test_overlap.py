"""Batches that overlap: of several for one slot one commits, and who slept through its lease is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from episode_files import clustered_vectors, write_episodes

import cluster_engine as ce
from cluster_engine.store.lease import hold_lease

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = int(os.environ.get("CLUSTER_ENGINE_ROUNDS", "1"))
VECTORS = clustered_vectors(200, 16)


def start(*command: str | Path) -> subprocess.Popen[str]:
    """Start a batch, on a Ray of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def consolidate(store: Path, episodes: Path, *options: str | Path) -> subprocess.Popen[str]:
    command = ["-m", "cluster_engine.cli", "consolidate", "--input", episodes, "--store", store, "--json"]
    return start(*command, *options)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_of_eight_runs_of_one_slot_one_commits(number: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(number)
    store = tmp_path / "store"
    episodes = write_episodes(tmp_path / "episodes.parquet", VECTORS, rng.permutation(len(VECTORS)))
    runs = [consolidate(store, episodes, "--slot", "2026-11-22T02:00Z") for _ in range(8)]
    ended = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0] * 8, ended
    reports = [json.loads(out) for out, _ in ended]
    assert sorted(report["repeated"] for report in reports) == [False] + [True] * 7
    assert len({report["content_sha256"] for report in reports}) == 1
    assert ce.ConceptStore.open(store).history()["slot"].to_pylist() == ["2026-11-22T02:00Z"]


SLEEPER = textwrap.dedent("""
    import os, signal, sys
    import cluster_engine as ce
    from cluster_engine.config import Config, LeaseConfig

    def sleep(progress):
        if progress.phase == "concepts" and not progress.done:
            os.kill(os.getpid(), signal.SIGSTOP)

    ce.consolidate(sys.argv[1], sys.argv[2], Config(lease=LeaseConfig(ttl_s=2.0)), slot=sys.argv[3], progress=sleep)
""")


def test_a_holder_that_slept_through_its_lease_is_refused(tmp_path: Path) -> None:
    store, episodes = tmp_path / "store", write_episodes(tmp_path / "episodes.parquet", VECTORS)
    sleeper = start("-c", SLEEPER, episodes, store, "one")
    wait_until_stopped(sleeper)
    awake = consolidate(store, episodes, "--slot", "one")
    out, err = awake.communicate(timeout=120)
    assert awake.returncode == 0, err
    sleeper.send_signal(signal.SIGCONT)
    _, err = sleeper.communicate(timeout=120)
    assert "FencedError" in err
    assert ce.ConceptStore.open(store).manifest.content_sha256 == json.loads(out)["content_sha256"]
    assert ce.ConceptStore.open(store).version == 1


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    """Wait for a child to stop itself; the kernel tells."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), psutil.Process(process.pid).status()


def test_who_waits_too_long_says_who_works(tmp_path: Path) -> None:
    store, episodes = tmp_path / "store", write_episodes(tmp_path / "episodes.parquet", VECTORS)
    config = tmp_path / "config.yaml"
    config.write_text("lease:\n  wait_s: 0\n", encoding="utf-8")
    with hold_lease(store, "somebody", ttl_s=60, wait_s=0):
        run = consolidate(store, episodes, "--config", config)
        _, err = run.communicate(timeout=120)
    assert "held by somebody" in err
    assert run.returncode == 7
