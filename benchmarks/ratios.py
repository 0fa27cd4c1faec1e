"""Ratios of times for what no count shows: ports, chains of dependent operations, mispredicted branches.

Each call is timed beside what bounds it, in turns, in one process on one thread; the ratio is that of their best turns,
which noise can only lengthen. Both sides compute, with the same kernels or the same instructions. Ratios to a copy or
to reading memory are not here: on one machine they were seen from 3.6 to 4.7 (decay) and from 0.9 to 1.2 (top_k), by
where the pages lie and what the neighbours do.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from benchmarks import floors
from benchmarks.machine import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Pair = tuple[Callable[[], float], Callable[[], float]]

_D = 768
_SHORTEST_S, _LONGEST_S = 1.5, 30.0  # of turns; the longest where a ratio is above its limit


def pairs() -> dict[str, Pair]:
    """Return the calls that are compared, each with its bound, by name: the registry."""
    rng = np.random.default_rng(1)
    rows, others = rng.standard_normal((2, _D, _D), dtype=np.float32)
    ours, theirs = native_simd.pack(rows, unit=True), native_simd.pack(others, unit=True)
    some = native_simd.pack(rng.standard_normal((1536, _D), dtype=np.float32), unit=True)
    product = np.empty((_D, _D), np.float32)
    return {
        "pairwise / sgemm": (
            _timed(lambda: native_simd.pairwise(ours, theirs, metric="cosine", out=product)),
            _timed(lambda: np.matmul(rows, others.T, out=product)),
        ),
        "neighbours / its tiles, never looked at": (
            _timed(lambda: native_simd.neighbours(some, 16)),
            floors.triangle(some, 1),
        ),
    }


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    def turn() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return turn


def best_ratio(pair: Pair, limit: float) -> float:
    """Return the ratio of the best turns of the two; while it is above `limit`, they take more turns."""
    start, best = time.monotonic(), [math.inf, math.inf]
    while True:
        best = [min(known, contender()) for known, contender in zip(best, pair, strict=True)]
        ratio, spent_s = best[0] / best[1], time.monotonic() - start
        if spent_s >= _LONGEST_S or (spent_s >= _SHORTEST_S and ratio <= limit):
            return ratio


def measure(isa: str, limits: Mapping[str, float]) -> dict[str, float]:
    """Return the ratios on an instruction set, by name; those above their limits get more turns."""
    command = [sys.executable, "-m", "benchmarks.ratios", json.dumps(dict(limits))]
    done = subprocess.run(command, env=environment(isa, 1), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def _main(limits: dict[str, float]) -> None:
    print(json.dumps({name: best_ratio(pair, limits.get(name, math.inf)) for name, pair in pairs().items()}))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
