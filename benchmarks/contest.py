"""One process of a benchmark: contenders take turns on the same input; times and peak memory come back as JSON.

A process of its own lets each row have its instruction set (``CLUSTER_ENGINE_ISA``, ``OPENBLAS_CORETYPE``), its threads
and its peak of memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import native_simd
from benchmarks.machine import BLAS_CORE
from benchmarks.peers import CONTENDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_KIB = 1024
_WARM_ROWS = 300
_TRUST = 1e-5  # relative, of sums of heights: peers take distances from a float32 product


@dataclass(frozen=True)
class Timing:
    """Seconds of each turn of a contender, and bytes at the peak of its process beyond the input."""

    turns_s: list[float]
    peak_bytes: int = 0

    @property
    def median_s(self) -> float:
        return float(np.median(self.turns_s))


def _child(request: dict[str, Any], isa: str, threads: int) -> dict[str, Any]:
    env = {
        **os.environ,
        "CLUSTER_ENGINE_ISA": isa,
        "OPENBLAS_CORETYPE": BLAS_CORE.get(isa, "Haswell"),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    command = [sys.executable, "-m", "benchmarks.contest", json.dumps(request)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, env=env, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def run_linkage(contenders: list[str], embeddings: Path, turns: int, isa: str, *, together: bool) -> dict[str, Timing]:
    """Let contenders cluster the embeddings on all CPUs of this process.

    They take turns in one process or, not ``together``, each has its own, for its peak of memory to be known. Their
    heights must agree.
    """
    casts = [contenders] if together else [[name] for name in contenders]
    threads = len(os.sched_getaffinity(0))
    timings: dict[str, Timing] = {}
    heights: list[float] = []
    for cast in casts:
        answer = _child({"contenders": cast, "embeddings": str(embeddings), "turns": turns}, isa, threads)
        timings |= {name: Timing(turns_s, answer["peak_bytes"]) for name, turns_s in answer["turns_s"].items()}
        heights += answer["heights"]
    assert max(heights) - min(heights) <= _TRUST * max(heights), heights
    return timings


def run_tile(n: int, turns: int, isa: str) -> dict[str, Timing]:
    """Compare the pairwise pass with sgemm: n x n similarities of 768 dimensions, one thread each."""
    answer = _child({"n": n, "turns": turns}, isa, 1)
    return {name: Timing(turns_s) for name, turns_s in answer["turns_s"].items()}


def _take_turns(calls: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _peak_bytes() -> int:
    """Return the largest resident memory so far; not ``ru_maxrss``, which a child inherits from its parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * _KIB


def _contest_linkage(request: dict[str, Any]) -> dict[str, Any]:
    X = np.load(request["embeddings"])
    heights: dict[str, float] = {}

    def call(name: str) -> None:
        heights[name] = float(CONTENDERS[name](X)[:, 2].sum())

    for name in request["contenders"]:
        CONTENDERS[name](X[:_WARM_ROWS])
    before = _peak_bytes()
    seconds = _take_turns({name: partial(call, name) for name in request["contenders"]}, request["turns"])
    return {"turns_s": seconds, "peak_bytes": _peak_bytes() - before, "heights": list(heights.values())}


def _contest_tile(request: dict[str, Any]) -> dict[str, Any]:
    n = request["n"]
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, n, 768), np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    packed_a, packed_b = native_simd.pack(a, unit=True), native_simd.pack(b, unit=True)
    ours, theirs = np.empty((n, n), np.float32), np.empty((n, n), np.float32)
    calls: dict[str, Callable[[], object]] = {
        "engine": lambda: native_simd.pairwise(packed_a, packed_b, metric="cosine", out=ours),
        "engine, packing too": lambda: native_simd.similarity(a, b, metric="cosine", out=ours),
        "sgemm": lambda: np.matmul(a, b.T, out=theirs),
    }
    _take_turns(calls, 1)
    assert np.abs(ours - theirs).max() < 1e-5
    return {"turns_s": _take_turns(calls, request["turns"])}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(_contest_linkage(asked) if "contenders" in asked else _contest_tile(asked)))
