"""Function calls and allocations of what Python programs call, counted in a process of its own.

Calls of functions, Python's and C's, stand for the time the Python layers take (cProfile). Allocations are blocks of at
least 1 KiB, that is arrays: small ones stay within Python's and numpy's own pools, whose use depends on their versions.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from cProfile import Profile
from pathlib import Path
from pstats import Stats
from typing import TYPE_CHECKING

import numpy as np

import cluster_engine as ce
import native_simd

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE = Path(__file__).parent
_N, _D = 1000, 64
_SMALLEST_BYTES = 1024
_LIMIT_BYTES = 2**30  # given, so that nobody asks the host how much is free


def paths(n: int, d: int) -> dict[str, Callable[[], object]]:
    """Return the calls that are measured, by name, on n vectors of d dimensions or n bindings: the registry."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, d), dtype=np.float32)
    packed = native_simd.pack(x, unit=True)
    square, quantized = np.empty((n, n), np.float32), native_simd.quantize(packed)
    cells = native_simd.divide(x, np.arange(n) % 20, x[:20])
    strengths, rates = np.ones(n, np.float32), np.full(n, 1e-3, np.float32)
    touched, fans = np.arange(n, dtype=np.int64), np.arange(n, dtype=np.uint32)
    temporal, sigmoid = native_simd.Temporal(n / 2, touched, touched), native_simd.Sigmoid(10, 0.25)
    return {
        "linkage average": lambda: ce.linkage(x, "average", threads=1, memory_limit=_LIMIT_BYTES),
        "linkage complete": lambda: ce.linkage(x, "complete", threads=1, memory_limit=_LIMIT_BYTES),
        "linkage ward": lambda: ce.linkage(x, "ward", "euclidean", threads=1, memory_limit=_LIMIT_BYTES),
        "pack": lambda: native_simd.pack(x, unit=True),
        "similarity": lambda: native_simd.similarity(x, x, metric="cosine"),
        "pairwise": lambda: native_simd.pairwise(packed, packed, metric="cosine", out=square),
        "pairwise_symmetric": lambda: native_simd.pairwise_symmetric(packed, metric="cosine", out=square),
        "pairwise with epilogue": lambda: native_simd.pairwise(
            packed, packed, metric="cosine", temporal=temporal, sigmoid=sigmoid, out=square
        ),
        "neighbours": lambda: native_simd.neighbours(packed, 10),
        "top_k": lambda: native_simd.top_k(x[:1], packed, 10),
        "quantize": lambda: native_simd.quantize(packed),
        "top_k of quantized": lambda: native_simd.top_k(x[:1], quantized, 10),
        "divide": lambda: native_simd.divide(x, np.arange(n) % 20, x[:20]),
        "search_cells": lambda: native_simd.search_cells(x[:1], cells, 10, least_rows=100),
        "batch_similarity": lambda: native_simd.batch_similarity(x[0], packed),
        "decay": lambda: native_simd.decay(strengths, rates, 0.5),
        "decay_half_life": lambda: native_simd.decay_half_life(strengths, touched, 2 * n, 1e6),
        "fan_effect": lambda: native_simd.fan_effect(strengths, fans, "log"),
    }


def _allocations(library: ctypes.CDLL, call: Callable[[], object]) -> tuple[int, int]:
    n, n_bytes = ctypes.c_int64(), ctypes.c_int64()
    library.allocations_reset(ctypes.c_int64(_SMALLEST_BYTES))
    call()
    library.allocations_read(ctypes.byref(n), ctypes.byref(n_bytes))
    return n.value, n_bytes.value


def _calls(call: Callable[[], object]) -> int:
    profile = Profile()
    profile.enable()
    call()
    profile.disable()
    return int(Stats(profile).total_calls)  # type: ignore[attr-defined]  # in no stub


def _measure() -> dict[str, int]:
    library = ctypes.CDLL(None)
    counts: dict[str, int] = {}
    gc.disable()
    for name, call in paths(_N, _D).items():
        call()
        n, n_bytes = _allocations(library, call)
        measured = {"function calls": _calls(call), "allocations": n, "allocated bytes": n_bytes}
        counts |= {f"{name} {measure}": value for measure, value in measured.items()}
    return counts


def count(folder: Path) -> dict[str, int]:
    """Return function calls, allocations and allocated bytes by path; `folder` takes the compiled counter."""
    library = folder / "allocations.so"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, str(_HERE / "allocations.c"), "-o", str(library)], check=True)
    env = {**os.environ, "LD_PRELOAD": str(library), "PYTHONHASHSEED": "0", "CLUSTER_ENGINE_ISA": "scalar"}
    command = [sys.executable, "-m", "benchmarks.python_counts"]
    done = subprocess.run(command, env=env, cwd=_HERE.parent, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    print(json.dumps(_measure()))
