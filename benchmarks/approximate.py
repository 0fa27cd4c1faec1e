"""Approximate linkage beside exact: ``python -m benchmarks.approximate mixture 20000`` prints a row of its tables.

Data are those of ``benchmarks.peers``, and ``text``: the sentence embeddings of ``demo/episodes.parquet``. With
``--no-exact`` only what needs no exact tree is measured.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
from scipy.cluster.hierarchy import fcluster
from sklearn.metrics import adjusted_rand_score, v_measure_score

import cluster_engine as ce
from benchmarks.peers import DATA

if TYPE_CHECKING:
    from cluster_engine.progress import Progress

    Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

_DEMO = Path(__file__).parents[1] / "demo" / "episodes.parquet"
_D = 768
_CUTS = (0.05, 0.2, 0.5)  # groups, as shares of the points


def vectors_of(data: str, n: int) -> Array:
    if data != "text":
        return DATA[data](n, _D, 1)
    column = pq.read_table(_DEMO, columns=["vector"])["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1).astype(np.float32)[:n]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=[*DATA, "text"])
    parser.add_argument("n", type=int)
    parser.add_argument("--epsilon", type=float, default=0.05)
    parser.add_argument("--repetitions", type=int, default=8)
    parser.add_argument("--no-exact", action="store_true")
    chosen = parser.parse_args()
    X, phases_s = vectors_of(chosen.data, chosen.n), {}

    def note(progress: Progress) -> None:
        phases_s[progress.phase] = progress.elapsed_s

    start_s = time.perf_counter()
    found = ce.approximate_linkage(X, epsilon=chosen.epsilon, n_repetitions=chosen.repetitions, progress=note)
    spent_s = time.perf_counter() - start_s
    phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in phases_s.items())
    print(f"{chosen.data} {len(X):,} x {X.shape[1]}, epsilon {chosen.epsilon}, {chosen.repetitions} repetitions:")
    print(f"  {spent_s:.1f} s ({phases}); {found.violation}", flush=True)
    if chosen.no_exact:
        return
    start_s = time.perf_counter()
    exact = ce.linkage(X)
    print(f"  exact {time.perf_counter() - start_s:.1f} s")
    off = np.abs(found.Z[:, 2] - exact[:, 2])
    print(f"  heights, in order: off by {off.mean():.2g} on average, {off.max():.2g} at most")
    for groups in (20, 200, *(int(share * len(X)) for share in _CUTS)):
        a, b = (fcluster(z, groups, "maxclust") for z in (exact, found.Z))
        print(f"  {groups:,} groups: ARI {adjusted_rand_score(a, b):.3f}, V-measure {v_measure_score(a, b):.3f}")


if __name__ == "__main__":
    main()
