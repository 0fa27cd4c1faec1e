"""The memory that clustering on a pool is said to take bounds what the driver, the actors and the object store take."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import ray

_PROCESS_BYTES = 8 << 20
"""What each process may take besides: Ray's buffers, the threads' stacks."""

# In a process of its own, so that no memory an earlier test left free is taken again unseen.
CHILD = textwrap.dedent("""
    import re
    import sys

    import numpy as np
    import psutil
    import ray

    import cluster_engine as ce
    from cluster_engine.config import PoolConfig
    from cluster_engine.errors import CapacityError
    from cluster_engine.shards.pool import ShardPool

    method, metric, transport, n, d = *sys.argv[1:4], *map(int, sys.argv[4:6])

    def memory_bytes():
        # what processes share is divided among them, so it counts once
        return sum(process.memory_full_info().pss for process in processes)

    ray.init(address=sys.argv[6], log_to_driver=False)
    X = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    try:
        ce.distributed_linkage(X, method, metric, memory_limit=1)
    except CapacityError as refusal:
        stated = int(re.search(r"([\\d,]+) bytes", str(refusal))[1].replace(",", ""))
    with ShardPool(PoolConfig(actors_per_numa_node=2, transport=transport)) as pool:
        processes = [psutil.Process(), *(psutil.Process(report.process_id) for report in pool.reports)]
        ce.distributed_linkage(X[:200], method, metric, pool=pool)
        before, measured = memory_bytes(), []
        ce.distributed_linkage(
            X, method, metric, pool=pool, memory_limit=stated, progress=lambda _: measured.append(memory_bytes())
        )
    print(stated, max(measured) - before, len(processes))
""")


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("method", "metric", "transport", "n", "d"),
    [
        ("average", "cosine", "objects", 10_000, 768),
        ("ward", "euclidean", "auto", 10_000, 768),
        ("single", "cosine", "objects", 10_000, 768),
        ("complete", "cosine", "auto", 5_000, 256),
    ],
)
def test_the_stated_bytes_bound_what_is_taken(method: str, metric: str, transport: str, n: int, d: int) -> None:
    address = ray.get_runtime_context().gcs_address
    child = subprocess.run(
        [sys.executable, "-c", CHILD, method, metric, transport, str(n), str(d), address],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr
    stated, measured, n_processes = map(int, child.stdout.split()[-3:])
    assert measured <= stated + n_processes * _PROCESS_BYTES
    assert stated <= 3 * measured
