"""Near candidates, by carvings and by others' indices: ``python -m benchmarks.candidates DATA N`` prints a table.

CPU seconds with two threads, building included, and the share of the true nearest 1, 10 and 32 among the 32 found, over
2,000 vectors. DATA as of ``benchmarks.approximate``.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import faiss
import numpy as np
from usearch.index import Index

import native_simd
from benchmarks.approximate import vectors_of
from cluster_engine.linkage.carving import candidate_lists
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.duplicates import distinct_points
from native_simd.ranking import ranked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cluster_engine.linkage.duplicates import Points

    Found = Iterator[tuple[str, NDArray[np.int64]]]

_K, _THREADS, _SAMPLE = 32, 2, 2_000
_CRITERION = Criterion("average", "cosine")


def exact(points: Points) -> NDArray[np.int64]:
    packed = native_simd.pack(points.vectors, unit=True)
    return native_simd.neighbours(packed, _K, threads=_THREADS).ids


def carvings(points: Points) -> Found:
    for n_repetitions in (4, 8, 16, 32):
        lists = candidate_lists(points, _CRITERION.kernel, n_repetitions, seed=0, threads=_THREADS)
        yield f"{n_repetitions} carvings", ranked(lists, _K)[0]


def faiss_cells(points: Points) -> Found:
    unit = _unit(points)
    for n_probes in (4, 16, 64):
        quantizer = faiss.IndexFlatIP(unit.shape[1])
        index = faiss.IndexIVFFlat(quantizer, unit.shape[1], int(4 * len(unit) ** 0.5), faiss.METRIC_INNER_PRODUCT)
        index.train(unit)
        index.add(unit)
        index.nprobe = n_probes
        yield f"faiss IVF, {n_probes} probes", index.search(unit, _K + 1)[1]


def faiss_graph(points: Points) -> Found:
    unit = _unit(points)
    for effort in (48, 96):
        index = faiss.IndexHNSWFlat(unit.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = index.hnsw.efSearch = effort
        index.add(unit)
        yield f"faiss HNSW, effort {effort}", index.search(unit, _K + 1)[1]


def usearch_graph(points: Points) -> Found:
    unit = _unit(points)
    for effort in (48, 96):
        index = Index(
            ndim=unit.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=effort, expansion_search=effort
        )
        index.add(np.arange(len(unit)), unit, threads=_THREADS)
        keys = index.search(unit, _K + 1, threads=_THREADS).keys
        yield f"usearch HNSW, effort {effort}", keys.astype(np.int64)


def _unit(points: Points) -> NDArray[np.float32]:
    return np.asarray(points.vectors / points.norms[:, np.newaxis], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("n", type=int)
    chosen = parser.parse_args()
    faiss.omp_set_num_threads(_THREADS)
    vectors = vectors_of(chosen.data, chosen.n)
    points = distinct_points(vectors, native_simd.norms(vectors, unit=True), _CRITERION, None)
    start_s = time.process_time()
    true = exact(points)
    print(f"{chosen.data} {len(points):,} x {vectors.shape[1]}: the exact pass {time.process_time() - start_s:.1f} s")
    rows = np.arange(0, len(points), max(1, len(points) // _SAMPLE))
    for finder in (carvings, faiss_cells, faiss_graph, usearch_graph):
        found = finder(points)
        while True:
            start_s = time.process_time()
            name, ids = next(found, ("", None))
            if ids is None:
                break
            spent_s = time.process_time() - start_s
            shares = (np.mean([np.isin(true[i, :m], ids[i]).mean() for i in rows]) for m in (1, 10, _K))
            print(f"| {name} | {spent_s:.1f} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
