"""Approximate linkage beside exact: ``python -m benchmarks.approximate mixture 20000`` prints a row of its tables.

Data are those of ``benchmarks.peers``, ``text`` (the sentence embeddings of ``demo/episodes.parquet``), or vectors in a
``.npy`` file. With ``--no-exact`` only what needs no exact tree is measured; with ``--noise 0.001`` also the exact tree
of vectors with that much noise beside them, to tell what of a difference is the data's own.
"""

from __future__ import annotations

import argparse
import itertools
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow.parquet as pq
from scipy.cluster.hierarchy import fcluster
from sklearn.metrics import adjusted_rand_score

import cluster_engine as ce
from benchmarks.peers import DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    Tree = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

T = TypeVar("T")

_DEMO = Path(__file__).parents[1] / "demo" / "episodes.parquet"
_SHARES = (0.01, 0.05, 0.2, 0.5)  # of the points: so many groups


def vectors_of(data: str, n: int, d: int = 768) -> Array:
    """Return n of the vectors of this name, or all if there are fewer; of a file, evenly spread."""
    if data in DATA:
        return DATA[data](n, d, 1)
    if data == "text":
        vectors = np.array(pq.read_table(_DEMO, columns=["vector"])["vector"].to_pylist(), np.float32)
    else:
        vectors = np.load(data)
    kept = np.unique(np.linspace(0, len(vectors) - 1, min(n, len(vectors))).astype(np.int64))
    return np.ascontiguousarray(vectors[kept], np.float32)


def with_noise(X: Array, share: float) -> Array:
    """Return vectors with noise of this share of their lengths."""
    noise = np.random.default_rng(0).standard_normal(X.shape)
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X + share * lengths * noise / np.linalg.norm(noise, axis=1, keepdims=True), np.float32)


def agreement(exact: Tree, other: Tree) -> str:
    """Return how alike cuts into as many groups are, by the adjusted Rand index."""
    n = len(exact) + 1
    counts = (20, 200, *(int(share * n) for share in _SHARES))
    pairs = [[fcluster(z, groups, "maxclust") for z in (exact, other)] for groups in counts]
    return ", ".join(f"{k:,}: {adjusted_rand_score(*pair):.3f}" for k, pair in zip(counts, pairs, strict=True))


def timed(name: str, cluster: Callable[[], T]) -> T:
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    made = cluster()
    print(
        f"{name}: {time.perf_counter() - start_s:.1f} s, {time.process_time() - start_cpu_s:.1f} s of CPU", flush=True
    )
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", help=f"{', '.join(DATA)}, text, or a file")
    parser.add_argument("n", type=int)
    parser.add_argument("--dimension", type=int, default=768, help="of generated data")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.05])
    parser.add_argument("--repetitions", type=int, nargs="+", default=[16])
    parser.add_argument("--no-exact", action="store_true")
    parser.add_argument("--noise", type=float)
    chosen = parser.parse_args()
    X = vectors_of(chosen.data, chosen.n, chosen.dimension)
    print(f"{chosen.data} {len(X):,} x {X.shape[1]}")
    exact = None if chosen.no_exact else timed("exact", partial(ce.linkage, X))
    if chosen.noise is not None and exact is not None:
        noisy = timed(f"exact, noise of {chosen.noise}", partial(ce.linkage, with_noise(X, chosen.noise)))
        print(f"  groups alike, {agreement(exact, noisy)}")
    for repetitions, epsilon in itertools.product(chosen.repetitions, chosen.epsilon):
        run = partial(ce.approximate_linkage, X, epsilon=epsilon, n_repetitions=repetitions)
        found = timed(f"approximate, {repetitions} repetitions, epsilon {epsilon}", run)
        print(f"  {found.violation}")
        if exact is not None:
            print(f"  groups alike, {agreement(exact, found.Z)}; {np.abs(found.Z[:, 2] - exact[:, 2]).mean():.2g} off")


if __name__ == "__main__":
    main()
