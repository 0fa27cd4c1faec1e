"""The epilogue beside the plain pairwise pass: ``python -m benchmarks.epilogue`` writes its section (half a minute).

Contenders take turns in one process, on one thread, over the same packed vectors.
"""

from __future__ import annotations

import os
import time
from statistics import median
from typing import Any

import numpy as np

import native_simd
from benchmarks.machine import describe, vector_isas, write_section

_DIMENSIONS = 768
_TURNS = {1_000: 41, 4_096: 9}
_DAY = 86_400_000_000


def epilogues(n: int) -> dict[str, dict[str, Any]]:
    """Return the arguments of each contender; times lie in a year, so that some pairs fade away."""
    times_a, times_b = np.random.default_rng(2).integers(0, 365 * _DAY, (2, n))
    temporal, sigmoid = native_simd.Temporal(float(_DAY), times_a, times_b), native_simd.Sigmoid(10, 0.5)
    return {
        "plain": {},
        "temporal": {"temporal": temporal},
        "sigmoid": {"sigmoid": sigmoid},
        "both": {"temporal": temporal, "sigmoid": sigmoid},
    }


def nanoseconds(n: int, turns: int) -> dict[str, float]:
    """Return the median time of each for one pair; they take turns."""
    rng = np.random.default_rng(1)
    a, b = (native_simd.pack(rng.standard_normal((n, _DIMENSIONS), np.float32), unit=True) for _ in range(2))
    out = np.zeros((n, n), np.float32)
    contenders = epilogues(n)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, arguments in contenders.items():
            begin = time.perf_counter_ns()
            native_simd.pairwise(a, b, out=out, **arguments)
            times[name].append((time.perf_counter_ns() - begin) / n**2)
    return {name: median(taken) for name, taken in times.items()}


def row(isa: str, n: int, turns: int) -> str:
    os.environ["CLUSTER_ENGINE_ISA"] = isa
    ns = nanoseconds(n, turns)
    ratios = [f"{ns[name]:.2f} ns ({ns[name] / ns['plain']:.2f}x)" for name in ("temporal", "sigmoid", "both")]
    return f"| {n:,} x {n:,} | {isa} | {ns['plain']:.2f} ns | {' | '.join(ratios)} |"


def main() -> None:
    head = (
        "## Epilogue of the pairwise pass\n\n"
        "`python -m benchmarks.epilogue`. Time for one pair, cosine of 768 dimensions, one thread, median of "
        f"{' or '.join(map(str, _TURNS.values()))} turns; in brackets beside the plain pass. Mark: both parts at 1.2x."
    )
    lines = ["| pairs | ISA | plain | temporal | sigmoid | both |", "|" + "---|" * 6]
    machine = describe()
    lines += [row(isa, n, turns) for n, turns in _TURNS.items() for isa in vector_isas()]
    text = "\n".join([head, "", machine, "", *lines])
    print(text)
    write_section("epilogue", text)


if __name__ == "__main__":
    main()
