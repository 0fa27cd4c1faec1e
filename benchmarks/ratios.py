"""Ratios of times for what no count shows: ports, chains of dependent operations, mispredicted branches.

Each call is timed beside what bounds it, in turns, in one process on one thread, in time of its own on the CPU; the
ratio is the median of the turns'. On one machine, at rest and beside four busy processes, it moved by at most 4 %. Both
sides use the same part of the machine, or the ratio would be another on another CPU: so nothing here is compared with a
copy in cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from benchmarks import floors
from benchmarks.machine import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Pair = tuple[Callable[[], float], Callable[[], float]]

_D = 768
_SHORTEST_S, _LONGEST_S = 2.0, 10.0  # of turns; the longest where a ratio has no limit or is above it


def pairs() -> dict[str, Pair]:
    """Return the calls that are compared, each with its bound, by name: the registry."""
    rng = np.random.default_rng(1)
    rows, others = rng.standard_normal((2, _D, _D), dtype=np.float32)
    ours, theirs = native_simd.pack(rows, unit=True), native_simd.pack(others, unit=True)
    some = native_simd.pack(rng.standard_normal((1536, _D), dtype=np.float32), unit=True)
    many = native_simd.pack(rng.standard_normal((20_000, _D), dtype=np.float32), unit=True)
    product, square = np.empty((_D, _D), np.float32), np.empty((some.n, some.n + 16), np.float32)[:, : some.n]
    triangle = _timed(floors.triangle(some, 1))
    return {
        "pairwise / sgemm": (
            _timed(lambda: native_simd.pairwise(ours, theirs, metric="cosine", out=product)),
            _timed(lambda: np.matmul(rows, others.T, out=product)),
        ),
        "pairwise_symmetric / its tiles, never looked at": (
            _timed(lambda: native_simd.pairwise_symmetric(some, metric="cosine", out=square)),
            triangle,
        ),
        "neighbours / its tiles, never looked at": (_timed(lambda: native_simd.neighbours(some, 16)), triangle),
        "top_k / reading": (_timed(lambda: native_simd.top_k(rows[:1], many, 10)), _timed(floors.read(many, 1))),
    }


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    def turn() -> float:
        start = time.thread_time()
        call()
        return time.thread_time() - start

    return turn


def median_ratio(pair: Pair, limit: float) -> float:
    """Return the median of the ratios of turns; while it is above `limit`, there are more turns."""
    call, bound = pair
    call(), bound()  # compiles, faults pages in
    start, turns = time.monotonic(), []
    while True:
        turns.append(call() / bound())
        ratio, spent_s = median(turns), time.monotonic() - start
        if spent_s >= _LONGEST_S or (spent_s >= _SHORTEST_S and ratio <= limit):
            return ratio


def measure(isa: str, limits: Mapping[str, float]) -> dict[str, float]:
    """Return the ratios on an instruction set, by name; those that are not within limits take more turns."""
    command = [sys.executable, "-m", "benchmarks.ratios", json.dumps(dict(limits))]
    done = subprocess.run(command, env=environment(isa, 1), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def _main(limits: dict[str, float]) -> None:
    print(json.dumps({name: median_ratio(pair, limits.get(name, 0.0)) for name, pair in pairs().items()}))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
