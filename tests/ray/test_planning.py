"""What a batch is said to take, beside what it takes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pytest
from episode_files import write_episodes

import cluster_engine as ce
from cluster_engine.config import Config, CutConfig, RebuildConfig
from cluster_engine.errors import CapacityError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

N, N_NEW, D = 12_000, 9_000, 512
FOLDED = Config(cut=CutConfig(distance=0.4), rebuild=RebuildConfig(most_episodes=0))

# In a process of its own, so that no memory an earlier test left free is taken again unseen. Proportional set sizes:
# what processes share is divided among them, so it counts once.
CHILD = textwrap.dedent("""
    import sys

    import psutil
    import ray

    import cluster_engine as ce
    from cluster_engine.config import Config, CutConfig, RebuildConfig

    first = {}
    most = 0

    def measure(progress):
        global most
        total = 0
        for process in [me, *(p for p in me.children(recursive=True) if p.name().startswith("ray::ShardActor"))]:
            pss = process.memory_full_info().pss
            total += pss - first.setdefault(process.pid, pss)
        most = max(most, total)

    me = psutil.Process()
    settings = Config(cut=CutConfig(distance=0.4), rebuild=RebuildConfig(most_episodes=0))
    stated = ce.plan_batch(sys.argv[1], sys.argv[2], settings).memory_bytes
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    measure(None)
    ce.consolidate(sys.argv[1], sys.argv[2], settings, progress=measure)
    print(stated, most)
""")


def groups(n: int, seed: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(0).standard_normal((300, D))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 300, n)] + 0.5 * rng.standard_normal((n, D))).astype(np.float32)


def test_the_stated_memory_is_what_a_batch_takes(local_ray: None, tmp_path: Path) -> None:
    vectors = np.concatenate((groups(N, 1), groups(N_NEW, 2)))
    first = write_episodes(tmp_path / "first.parquet", vectors, np.arange(N))
    new = write_episodes(tmp_path / "new.parquet", vectors, np.arange(N, N + N_NEW))
    before = ce.plan_batch(first, tmp_path / "store", FOLDED)
    assert (before.n_stored, before.n_input, before.n_points, before.is_rebuild) == (0, N, N, True)
    made = ce.consolidate(first, tmp_path / "store", FOLDED)
    plan = ce.plan_batch(new, tmp_path / "store", FOLDED)
    assert (plan.n_stored, plan.n_input, plan.n_concepts) == (N, N_NEW, made.n_concepts)
    assert plan.n_points == made.n_concepts + N - made.n_bindings + N_NEW
    assert not plan.is_rebuild
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(new), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr
    stated, measured = map(int, child.stdout.split()[-2:])
    assert measured <= 1.1 * stated
    assert stated <= 3 * measured


def test_what_does_not_fit_and_what_nobody_knows_is_refused(tmp_path: Path) -> None:
    episodes = write_episodes(tmp_path / "episodes.parquet", groups(300, 1))
    with pytest.raises(CapacityError, match=r"needs .* bytes"):
        ce.plan_batch(episodes, tmp_path / "store", Config(memory_limit_bytes=1_000_000))
    with pytest.raises(InputError, match="no file matches"):
        ce.plan_batch(tmp_path / "none.parquet", tmp_path / "store")
    assert not (tmp_path / "store").exists()
