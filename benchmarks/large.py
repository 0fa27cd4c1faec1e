"""Linkage without a matrix, where peers do not follow: ``python -m benchmarks.large`` writes to ``results.md``.

Each run has a process of its own, for its peak of memory to be known.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.cluster import hierarchy

import cluster_engine as ce
from benchmarks.contest import in_process, peak_bytes
from benchmarks.figures import Figure, of_turns
from benchmarks.linkage import beside, run, stored
from benchmarks.machine import embeddings_path, environment, n_cpus, vector_isas
from benchmarks.suite import Part, Suite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from native_simd import AgglomerationCounters

_D = 768
_WARM_ROWS = 300
_SAMPLE_ROWS = 2_000
_TRUST = 1e-12  # of heights in float64


class _Counters(logging.Handler):
    """Keeps the counters that linkage without a matrix logs."""

    last: AgglomerationCounters | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.args[-1]  # type: ignore[index,assignment]


def contest(contender: str, embeddings: str, cut: float | None) -> dict[str, Any]:
    """Cluster the embeddings once; tell the work in units of n^2 similarities, the pass being half of one."""
    del contender
    X, counters, log = np.load(embeddings), _Counters(), logging.getLogger("cluster_engine.linkage.lists")
    ce.linkage(X[:_WARM_ROWS])
    log.addHandler(counters)
    log.setLevel(logging.INFO)
    before, start_s = peak_bytes(), time.perf_counter()
    Z = ce.linkage(X, cut=cut)
    turn_s, n = time.perf_counter() - start_s, len(X)
    more = counters.last.rescanned + counters.last.compared if counters.last else 0
    work = 0.5 + more / n**2
    return {"turns_s": [turn_s], "peak_bytes": peak_bytes() - before, "work": work, "merges": len(Z)}


def alone(divide: int, n: int, data: tuple[str, ...], cut: float | None = None) -> list[Figure]:
    """The engine, on every instruction set."""
    figures = []
    for kind in data:
        with stored(kind, n // divide) as embeddings:
            figures += _of_each_isa(embeddings, {"n": n // divide, "data": kind}, cut)
    return figures


def _of_each_isa(embeddings: str, row: Mapping[str, str | int], cut: float | None) -> list[Figure]:
    figures = []
    for isa in vector_isas():
        answer = in_process(
            "benchmarks.large:contest", environment(isa, n_cpus()), contender="engine", embeddings=embeddings, cut=cut
        )
        told: dict[str, str | int] = {**row, "ISA": isa, "threads": n_cpus()}
        told |= {"work, in n^2 similarities": f"{answer['work']:.2f}", "merges": answer["merges"]}
        figures.append(of_turns(told, "engine", answer["turns_s"], peak_bytes=answer["peak_bytes"]))
    return figures


def given(divide: int, n: int) -> list[Figure]:
    """Embeddings from the file that EMBEDDINGS names; the heights of each sample are SciPy's."""
    path = embeddings_path()
    rows = np.load(path, mmap_mode="r")[: n // divide]
    with TemporaryDirectory() as folder:
        np.save(kept := Path(folder) / "embeddings.npy", rows)
        figures = _of_each_isa(str(kept), {"n": len(rows), "d": rows.shape[1], "data": path.stem}, None)
    for sample in np.split(rows, range(_SAMPLE_ROWS, len(rows), _SAMPLE_ROWS)):
        if len(sample) == _SAMPLE_ROWS:
            expected = hierarchy.linkage(np.asarray(sample, np.float64), "average", "cosine")[:, 2]
            assert np.abs(ce.linkage(sample)[:, 2] - expected).max() < _TRUST
    return figures


def beside_fastcluster(divide: int, n: int) -> list[Figure]:
    """The engine and the best of the peers."""
    figures = []
    with stored("mixture", n // divide) as embeddings:
        for isa in vector_isas():
            row: dict[str, str | int] = {"n": n // divide, "data": "mixture", "ISA": isa, "threads": n_cpus()}
            names = ("engine", "sgemm+fastcluster")
            figures += beside(row, {name: run("contest", name, embeddings, 1, isa) for name in names})
    return figures


SUITE = Suite(
    "large",
    "Linkage without a matrix",
    "Average linkage under cosine of float32 embeddings, as above; one run each, and the peak of memory beyond the "
    "embeddings. Work is counted in units of n^2 similarities: 0.5 for the pass over all pairs, then what rescans and "
    "float64 comparisons add.",
    {
        "work": Part(
            f"Work at 20,000 x {_D} (marks: at most 2 without structure, 3 for a cone)",
            partial(alone, n=20_000, data=("mixture", "iid", "cone")),
        ),
        "40000": Part(
            f"40,000 x {_D} to dendrogram (marks: 11 s; 0.8 GB beyond the input)", partial(beside_fastcluster, n=40_000)
        ),
        "100000": Part(
            f"100,000 x {_D} to dendrogram (marks: 65 s; 2 GB beyond the input; no peer fits)",
            partial(alone, n=100_000, data=("mixture",)),
        ),
        "250000": Part(
            f"250,000 x {_D}, cut at distance 0.3 (mark: 10 minutes; no peer fits)",
            partial(alone, n=250_000, data=("mixture",), cut=0.3),
        ),
        "words": Part(
            "Embeddings of words (`EMBEDDINGS=words.npy`); heights are SciPy's on every 2,000 rows",
            partial(given, n=100_000),
            needs="EMBEDDINGS",
        ),
        "texts": Part(
            "Embeddings of texts (`EMBEDDINGS=texts.npy`); heights are SciPy's on every 2,000 rows",
            partial(given, n=100_000),
            needs="EMBEDDINGS",
        ),
    },
)

if __name__ == "__main__":
    SUITE.main()
