"""The distributed pass through a warm pool: embeddings to dendrogram, against the same in one process.

python -m benchmarks.pool
"""

from __future__ import annotations

from typing import Literal

import numpy as np

import cluster_engine as ce
import native_simd
from benchmarks.contest import take_turns, timed
from benchmarks.figures import Figure, of_turns
from benchmarks.machine import n_cpus
from benchmarks.suite import Part, Suite
from cluster_engine.config import PoolConfig
from cluster_engine.shards.pool import ShardPool, connected

DIMENSION = 768
_POOLS: tuple[tuple[int, Literal["shared", "objects"]], ...] = (
    (1, "shared"),
    (2, "shared"),
    (4, "shared"),
    (1, "objects"),
)


def through_warm_pools(divide: int) -> list[Figure]:
    figures = []
    with connected():
        for n_actors, transport in _POOLS:
            with ShardPool(PoolConfig(actors_per_numa_node=n_actors, transport=transport)) as pool:
                for n, turns in ((1_000, 15), (5_000, 5), (10_000, 3), (20_000, 3)):
                    row: dict[str, str | int] = {"actors": n_actors, "tiles travel": transport, "n": n // divide}
                    figures += beside(pool, row | {"ISA": native_simd.active_isa(), "threads": n_cpus()}, turns)
    return figures


def beside(pool: ShardPool, row: dict[str, str | int], turns: int) -> list[Figure]:
    vectors = np.random.default_rng(1).standard_normal((int(row["n"]), DIMENSION), dtype=np.float32)
    assert np.array_equal(ce.distributed_linkage(vectors, pool=pool), ce.linkage(vectors))
    contenders = {
        "one process": timed(lambda: ce.linkage(vectors)),
        "pool": timed(lambda: ce.distributed_linkage(vectors, pool=pool)),
    }
    return [of_turns(row, name, turns_s) for name, turns_s in take_turns(contenders, turns).items()]


SUITE = Suite(
    "pool",
    "Through a warm pool of actors",
    f"i.i.d. embeddings of {DIMENSION} dimensions, float32, to a dendrogram (average, cosine): median of the turns "
    "(fastest to slowest), and the pool's time over that of the same in one process. Results are equal to the bit.",
    {"warm": Part("Embeddings to dendrogram", through_warm_pools)},
)

if __name__ == "__main__":
    SUITE.main()
