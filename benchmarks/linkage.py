"""Linkage beside its peers: ``python -m benchmarks.linkage`` writes its section of ``results.md``.

Each contender has a process of its own, for its peak of memory to be known.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import fastcluster
import numpy as np

import native_simd
from benchmarks.contest import in_process, peak_bytes, take_turns, timed
from benchmarks.figures import Figure, of_turns
from benchmarks.machine import RAC_PYTHON, environment, n_cpus, vector_isas
from benchmarks.peers import CONTENDERS, DATA, condensed_distances
from benchmarks.suite import Part, Suite
from cluster_engine.linkage.chain import cluster_matrix
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.duplicates import distinct_points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contest import Contender

_D = 768
_WARM_ROWS = 300
_TRUST = 1e-5  # relative, of sums of heights: peers take distances from a float32 product
_ANY_ISA = ("scipy", "scikit-learn", "RAC++")  # nothing to choose: measured once, shown beside every instruction set
_KINDS = ("mixture", "iid")
_CHAINS = ("chain", "chain, certified")
_COSINE = Criterion("average", "cosine")


@contextmanager
def stored(data: str, n: int) -> Iterator[str]:
    """Write the embeddings to a file, so that making them is no part of a process that is measured."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "embeddings.npy"
        np.save(path, DATA[data](n, _D, seed=1))
        yield str(path)


def contest(contender: str, embeddings: str, turns: int) -> dict[str, Any]:
    """Let one contender cluster the embeddings."""
    X, heights = np.load(embeddings), [0.0]

    def cluster() -> None:
        heights[0] = float(CONTENDERS[contender](X)[:, 2].sum())

    CONTENDERS[contender](X[:_WARM_ROWS])
    before = peak_bytes()
    turns_s = take_turns({contender: timed(cluster)}, turns, warm=True)[contender]
    return {"turns_s": turns_s, "peak_bytes": peak_bytes() - before, "heights": heights[0]}


def contest_chain(contender: str, embeddings: str, turns: int) -> dict[str, Any]:
    """Let one contender cluster the similarities or distances of the embeddings, which are filled in before."""
    make = _fastcluster if contender == "fastcluster" else partial(_chain, certified=contender == _CHAINS[1])
    turn, heights = make(np.load(embeddings))
    before = peak_bytes()
    turns_s = take_turns({contender: turn}, turns, warm=True)[contender]
    return {"turns_s": turns_s, "peak_bytes": peak_bytes() - before, "heights": heights[0]}


def _chain(X: np.ndarray[Any, np.dtype[np.float32]], *, certified: bool) -> tuple[Contender, list[float]]:
    points = distinct_points(X, native_simd.norms(X, unit=True), _COSINE)
    packed, matrix, heights = native_simd.pack(X, unit=True), np.ones((len(X), len(X)), np.float32), [0.0]

    def cluster() -> None:
        if certified:
            heights[0] = float(cluster_matrix(matrix, _COSINE, points).heights.sum())
        else:
            chain = native_simd.NearestNeighbourChain(matrix, "average", points.weights)
            heights[0] = float((1 - chain.advance(len(X))[2]).sum())

    def turn() -> float:
        native_simd.pairwise_symmetric(packed, out=matrix, threads=n_cpus())
        return timed(cluster)()

    return turn, heights


def _fastcluster(X: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[Contender, list[float]]:
    filled = condensed_distances(X)
    condensed, heights = np.ones_like(filled), [0.0]

    def cluster() -> None:
        heights[0] = float(fastcluster.linkage(condensed, "average", preserve_input=False)[:, 2].sum())

    def turn() -> float:
        np.copyto(condensed, filled)
        return timed(cluster)()

    return turn, heights


def run(function: str, contender: str, embeddings: str, turns: int, isa: str) -> dict[str, Any]:
    return in_process(
        f"benchmarks.linkage:{function}",
        environment(isa, n_cpus()),
        contender=contender,
        embeddings=embeddings,
        turns=turns,
    )


def run_rac(embeddings: str, turns: int) -> dict[str, Any]:
    env, threads = environment(vector_isas()[-1], n_cpus()), n_cpus()
    return in_process(
        "benchmarks.rac:contest", env, python=RAC_PYTHON, embeddings=embeddings, turns=turns, threads=threads
    )


def run_any(name: str, embeddings: str, turns: int) -> dict[str, Any]:
    return run_rac(embeddings, turns) if name == "RAC++" else run("contest", name, embeddings, turns, vector_isas()[-1])


def beside(row: dict[str, str | int], answers: dict[str, dict[str, Any]]) -> list[Figure]:
    """Return the figures of contenders that clustered the same, which the heights prove."""
    heights = [answer["heights"] for answer in answers.values() if "heights" in answer]
    assert max(heights) - min(heights) <= _TRUST * max(heights), heights
    return [of_turns(row, name, answer["turns_s"], peak_bytes=answer["peak_bytes"]) for name, answer in answers.items()]


def to_dendrogram(divide: int, n: int, turns: int, slow_turns: int) -> list[Figure]:
    figures, present = [], [name for name in _ANY_ISA if name != "RAC++" or RAC_PYTHON.exists()]
    for data in _KINDS:
        with stored(data, n // divide) as embeddings:
            others = {name: run_any(name, embeddings, slow_turns) for name in present}
            for isa in vector_isas():
                row: dict[str, str | int] = {"n": n // divide, "data": data, "ISA": isa, "threads": n_cpus()}
                pair = {
                    name: run("contest", name, embeddings, turns, isa) for name in CONTENDERS if name not in _ANY_ISA
                }
                figures += beside(row, pair | others)
    return figures


def chains(divide: int, n: int) -> list[Figure]:
    figures = []
    for data in _KINDS:
        with stored(data, n // divide) as embeddings:
            other = {"fastcluster": run("contest_chain", "fastcluster", embeddings, 3, vector_isas()[-1])}
            for isa in vector_isas():
                row: dict[str, str | int] = {"n": n // divide, "data": data, "ISA": isa, "threads": 1}
                figures += beside(
                    row, {name: run("contest_chain", name, embeddings, 3, isa) for name in _CHAINS} | other
                )
    return figures


def _sized(n: int, turns: int, slow_turns: int, marks: str) -> Part:
    return Part(
        f"{n:,} x {_D} to dendrogram ({marks})", partial(to_dendrogram, n=n, turns=turns, slow_turns=slow_turns)
    )


SUITE = Suite(
    "linkage",
    "Linkage",
    "Average linkage under cosine, float32 embeddings in, dendrogram out. `benchmarks/peers.py` makes the data (a "
    "hierarchical mixture and i.i.d. normal vectors; seed 1) and holds the peers. Median of the turns (fastest to "
    "slowest), the peer's time over the engine's, the peak of memory beyond the embeddings. OpenBLAS is told to use "
    "the row's instruction set; SciPy, scikit-learn and RAC++ have none to choose and are measured once, next to the "
    "fastest. RAC++ returns one cut and no dendrogram; here it merges everything.",
    {
        "1000": _sized(1_000, 7, 7, "mark: 12 ms"),
        "5000": _sized(5_000, 3, 3, "mark: 0.22 s"),
        "10000": _sized(10_000, 3, 1, "mark: 0.8 s"),
        "20000": _sized(20_000, 3, 1, "marks: 2.6 s, and 5x of the best peer"),
        "chain 5000": Part("The chain alone, 5,000 (mark: 4x of fastcluster)", partial(chains, n=5_000)),
        "chain 20000": Part(
            "The chain alone, 20,000 (marks: 4x of fastcluster; memory: O(n) beyond the matrix)",
            partial(chains, n=20_000),
            note="On a filled float32 matrix (the engine) or condensed float64 distances (fastcluster); filling them "
            "is not measured, and memory is what is needed beyond them. The certified chain decides in float64 and "
            "keeps the sums of the clusters, n x d float64.",
        ),
    },
)

if __name__ == "__main__":
    SUITE.main()
