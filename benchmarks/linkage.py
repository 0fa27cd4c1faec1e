"""Linkage beside its peers: ``python -m benchmarks.linkage`` writes its section of ``results.md`` (about 15 minutes).

``--part`` runs some parts only, ``--divide`` makes every n that many times smaller; either prints without writing.
Every table is taken in one run: contenders take turns in one process, or follow each other where memory is measured.
"""

from __future__ import annotations

import argparse
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.contest import Timing, run_linkage, run_tile
from benchmarks.machine import BLAS_CORE, describe, vector_isas, write_section
from benchmarks.peers import DATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_D = 768


@dataclass(frozen=True)
class Size:
    """How much smaller than stated the benchmark is to be."""

    divide: int

    def __call__(self, n: int) -> int:
        return n // self.divide


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(timing: Timing, unit: str) -> str:
    """Return the median, and the extremes where there are several turns."""
    scale, form = {"ms": (1e3, ".2f"), "s": (1.0, ".2f")}[unit]
    median = f"{timing.median_s * scale:{form}} {unit}"
    if len(timing.turns_s) == 1:
        return f"{median} (one run)"
    return f"{median} ({min(timing.turns_s) * scale:{form}} to {max(timing.turns_s) * scale:{form}})"


@contextmanager
def stored(data: str, n: int) -> Iterator[Path]:
    """Write the embeddings to a file, so that making them is no part of a process that is measured."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "embeddings.npy"
        np.save(path, DATA[data](n, _D, seed=1))
        yield path


def beside_peers(peers: list[str], n: int, turns: int, unit: str) -> list[list[str]]:
    rows = []
    for data in DATA:
        with stored(data, n) as embeddings:
            for isa in vector_isas():
                timings = run_linkage(["engine", *peers], embeddings, turns, isa, together=True)
                ours = timings["engine"]
                cells = [f"{spread(timings[p], unit)}, {timings[p].median_s / ours.median_s:.1f}x" for p in peers]
                rows.append([isa, data, spread(ours, unit), *cells])
    return rows


def thousand(size: Size) -> str:
    n, peers = size(1_000), ["scipy", "sgemm+fastcluster"]
    rows = beside_peers(peers, n, 7, "ms")
    return f"### {n:,} x {_D} to dendrogram, warm (mark: 20 ms)\n\n" + table(["ISA", "data", "engine", *peers], rows)


def tiles(size: Size) -> str:
    rows = []
    for isa in vector_isas():
        for n in (512, 1_000, size(4_096)):
            timings = run_tile(n, max(5, 20_000 // n), isa)
            gflops = {name: 2e-9 * n * n * _D / timing.median_s for name, timing in timings.items()}
            theirs = gflops["sgemm"]
            ours = [f"{gflops[name]:.0f} ({gflops[name] / theirs:.2f}x)" for name in ("engine", "engine, packing too")]
            rows.append([isa, f"{n:,} x {n:,}", *ours, f"{theirs:.0f} ({BLAS_CORE[isa]})"])
    head = ["ISA", "tile", "engine, of packed vectors", "engine, packing too", "sgemm (OpenBLAS core)"]
    title = f"### Pairwise cosine of {_D} dimensions, one thread, GFLOP/s (mark: 0.8x of sgemm)"
    return f"{title}\n\n{table(head, rows)}"


def five_thousand(size: Size) -> str:
    n, peers = size(5_000), ["scikit-learn", "sgemm+fastcluster"]
    rows = beside_peers(peers, n, 3, "s")
    title = f"### {n:,} x {_D} to dendrogram (mark: 10x of scikit-learn)"
    return f"{title}\n\n" + table(["ISA", "data", "engine", *peers], rows)


def twenty_thousand(size: Size) -> str:
    n, rows = size(20_000), []
    for data in DATA:
        with stored(data, n) as embeddings:
            scipy = run_linkage(["scipy"], embeddings, 1, vector_isas()[-1], together=False)
            for isa in vector_isas():
                both = run_linkage(["sgemm+fastcluster", "engine"], embeddings, 3, isa, together=False)
                ours, peers = both["engine"], (both["sgemm+fastcluster"], scipy["scipy"])
                cells = [f"{spread(p, 's')}, {p.median_s / ours.median_s:.1f}x, {gigabytes(p)}" for p in peers]
                rows.append([isa, data, f"{spread(ours, 's')}, {gigabytes(ours)}", *cells])
    title = f"### {n:,} x {_D} to dendrogram, time and peak memory beyond the input"
    marks = "Marks: 20x of SciPy and 2.5x of sgemm+fastcluster, in 2 GB. SciPy has no instruction set to choose."
    return f"{title}\n\n{marks}\n\n" + table(["ISA", "data", "engine", "sgemm+fastcluster", "scipy"], rows)


def gigabytes(timing: Timing) -> str:
    return f"{timing.peak_bytes / 1e9:.2f} GB"


PARTS: dict[str, Callable[[Size], str]] = {
    "1000": thousand,
    "tiles": tiles,
    "5000": five_thousand,
    "20000": twenty_thousand,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--divide", type=int, default=1)
    arguments = parser.parse_args()
    head = (
        "## Linkage\n\n"
        "`python -m benchmarks.linkage`, with the extra `bench`. Average linkage under cosine, float32 embeddings in, "
        f"dendrogram out, {len(os.sched_getaffinity(0))} threads each. `benchmarks/peers.py` makes the data (a "
        "hierarchical mixture and i.i.d. normal vectors; seed 1) and holds the peers. Median (fastest to slowest) of "
        "the turns; `x` is the peer's time over the engine's. OpenBLAS is told to use the row's instruction set.\n"
    )
    parts = [PARTS[name](Size(arguments.divide)) for name in arguments.part or PARTS]
    text = "\n\n".join([f"{head}\n{describe()}", *parts])
    print(text)
    if not arguments.part and arguments.divide == 1:
        write_section("linkage", text)


if __name__ == "__main__":
    main()
