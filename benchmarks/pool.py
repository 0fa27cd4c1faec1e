"""The distributed pass through a warm pool: embeddings to dendrogram, against the same in one process.

python -m benchmarks.pool
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

import cluster_engine as ce
import native_simd
from benchmarks.machine import describe, write_section
from cluster_engine.config import PoolConfig
from cluster_engine.linkage.chain import cluster_matrix
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.dendrogram import linkage_matrix
from cluster_engine.linkage.duplicates import distinct_points
from cluster_engine.progress import Phase
from cluster_engine.shards.pool import ShardPool, connected
from cluster_engine.similarity.matrix import SharedMatrix
from cluster_engine.similarity.tiles import TilePlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

COSINE = Criterion("average", "cosine")
DIMENSION = 768


def through_pool(pool: ShardPool, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    points = distinct_points(vectors, native_simd.norms(vectors, unit=True), COSINE)
    plan = TilePlan.for_workers(len(points), len(pool))
    with SharedMatrix(plan) as matrix:
        pool.fill(matrix, points.vectors, COSINE, plan, Phase("pairwise", plan.n_tiles))
        return linkage_matrix(points.expand(cluster_matrix(matrix.values, COSINE, points)), len(vectors))


def median_ms(call: Callable[[], object], turns: int) -> float:
    spent = []
    for _ in range(turns):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return 1000 * float(np.median(spent))


def main() -> None:
    rows = []
    with connected():
        for n_actors, transport in ((1, "shared"), (2, "shared"), (4, "shared"), (1, "objects")):
            config = PoolConfig(actors_per_numa_node=n_actors, transport=transport)
            with ShardPool(config) as pool:
                for n, turns in ((1_000, 15), (5_000, 5), (10_000, 3)):
                    vectors = np.random.default_rng(n).standard_normal((n, DIMENSION), dtype=np.float32)
                    assert np.array_equal(through_pool(pool, vectors), ce.linkage(vectors))
                    pooled = median_ms(lambda x=vectors: through_pool(pool, x), turns)
                    alone = median_ms(lambda x=vectors: ce.linkage(x), turns)
                    rows.append(
                        f"| {len(pool)} | {transport} | {n:,} | {pooled:.0f} | {alone:.0f} | {pooled / alone:.1f} |"
                    )
                    print(rows[-1], flush=True)
    text = "\n".join(
        [
            "## Through a warm pool of actors",
            "",
            f"i.i.d. embeddings of {DIMENSION} dimensions, float32, to a dendrogram (average, cosine); medians, ms.",
            "Results are equal to the bit. `python -m benchmarks.pool`",
            "",
            describe(),
            "",
            "| actors | tiles travel | n | pool, ms | one process, ms | ratio |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )
    write_section("pool", text)


if __name__ == "__main__":
    main()
