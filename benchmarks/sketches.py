"""The nearest-neighbour pass by sketches: ``python -m benchmarks.sketches`` writes its section of ``results.md``.

The part "embeddings" takes float32 embeddings of your own, of shape (n, d), from the file that the environment variable
EMBEDDINGS names: ``EMBEDDINGS=embeddings.npy python -m benchmarks.sketches --part embeddings``.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import native_simd
from benchmarks.contest import in_process
from benchmarks.figures import Figure, of_turns
from benchmarks.linkage import stored
from benchmarks.machine import embeddings_path, environment, n_cpus, vector_isas
from benchmarks.suite import Part, Suite
from cluster_engine.linkage.basis import choose_sketch
from cluster_engine.linkage.lists import N_NEIGHBOURS, nearest_lists

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_D = 768


def contest(embeddings: str, n: int, turns: int) -> dict[str, Any]:
    """Let both passes take turns; return CPU seconds of all threads, and the digits of a vector that were chosen."""
    packed, threads, digits = native_simd.pack(np.load(embeddings)[:n], unit=True), n_cpus(), [0]

    def as_chosen() -> NDArray[np.uint64]:
        sketch = choose_sketch(packed, N_NEIGHBOURS, threads)
        digits[0] = sketch.groups * 4 if sketch else 0
        return nearest_lists(packed, "cosine", N_NEIGHBOURS, sketch=sketch, threads=threads)

    def plain() -> NDArray[np.uint64]:
        return nearest_lists(packed, "cosine", N_NEIGHBOURS, threads=threads)

    spent_s: dict[str, list[float]] = {"as chosen": [], "plain": []}
    for _ in range(turns):
        lists = _timed(spent_s["as chosen"], as_chosen), _timed(spent_s["plain"], plain)
        assert np.array_equal(*lists)
    return {"spent_s": spent_s, "n": packed.n, "d": packed.d, "digits": digits[0]}


def _timed(spent_s: list[float], call: Callable[[], NDArray[np.uint64]]) -> NDArray[np.uint64]:
    before_s = time.process_time()
    lists = call()
    spent_s.append(time.process_time() - before_s)
    return lists


def _beside(data: str, embeddings: str, n: int, turns: int) -> list[Figure]:
    figures = []
    for isa in vector_isas():
        env = environment(isa, n_cpus())
        answer = in_process("benchmarks.sketches:contest", env, embeddings=embeddings, n=n, turns=turns)
        row: dict[str, str | int] = {"data": data, "ISA": isa} | {name: answer[name] for name in ("n", "d", "digits")}
        figures += [of_turns(row, name, spent_s) for name, spent_s in answer["spent_s"].items()]
    return figures


def generated(divide: int, n: int, data: tuple[str, ...], turns: int) -> list[Figure]:
    figures = []
    for kind in data:
        with stored(kind, n // divide) as embeddings:
            figures += _beside(kind, embeddings, n // divide, turns)
    return figures


def given(divide: int, n: int, turns: int) -> list[Figure]:
    """Embeddings from the file that EMBEDDINGS names."""
    path = embeddings_path()
    return _beside(path.stem, str(path), n // divide, turns)


SUITE = Suite(
    "sketches",
    "Nearest neighbours by sketches",
    "CPU seconds of all threads for the nearest-neighbour pass of linkage without a matrix: cosine, 32 candidates. "
    "As chosen, with the sample, the basis and the digits, beside the plain pass of the same process; equal lists are "
    "asserted. 0 digits: the sample chose the plain pass.",
    {
        "20000": Part(f"20,000 x {_D}, generated", partial(generated, n=20_000, data=("mixture", "iid"), turns=3)),
        "embeddings": Part(
            "100,000 embeddings of texts (mark: 1.3x of the plain pass)",
            partial(given, n=100_000, turns=1),
            needs="EMBEDDINGS",
        ),
    },
)

if __name__ == "__main__":
    SUITE.main()
