"""Decay and the fan effect beside numpy and a copy: ``python -m benchmarks.bindings`` writes their section (a minute).

Contenders take turns in one process, on one thread. The copy beside a call reads and writes as many bytes as the call
does: decay and the fan effect move 12 a binding (8 read, 4 written), decay by half-life 16.
"""

from __future__ import annotations

import os
import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from benchmarks.machine import describe, vector_isas, write_section

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Contender = Callable[[], object]

_NOW = 1_700_000_000_000_000
_HALF_LIFE = 30 * 86_400e6
_SIZES = {"8 thousand (L2)": 8_192, "1 million": 1_000_000, "16 million": 16_000_000}
_TURNS = 31
_BINDINGS_A_TURN = 400_000  # small arrays are passed over several times


class Memory:
    """The arrays that all contenders of one size work on."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(1)
        self.n = n
        self.strengths = np.ones(n, np.float32)
        self.rates = rng.uniform(0, 1e-3, n).astype(np.float32)
        self.last_touched: NDArray[np.int64] = _NOW - rng.integers(0, 10**12, n)
        self.fans = rng.integers(1, 4, n, dtype=np.uint32)  # small: divisions must not end in subnormal numbers
        self.source, self.target = np.ones(2 * n, np.float32), np.zeros(2 * n, np.float32)

    def copy(self, bytes_a_binding: int) -> Contender:
        n_floats = self.n * bytes_a_binding // 8
        source, target = self.source[:n_floats], self.target[:n_floats]
        return lambda: np.copyto(target, source)

    def calls(self) -> dict[str, tuple[Contender, Contender, int]]:
        """Return the engine's call, numpy's expression and the bytes that move, by name."""
        s, rates, touched, fans = self.strengths, self.rates, self.last_touched, self.fans
        return {
            "decay": (
                lambda: native_simd.decay(s, rates, 0.5),
                lambda: np.multiply(s, np.exp(rates * np.float32(-0.5)), out=s),
                12,
            ),
            "decay_half_life": (
                lambda: native_simd.decay_half_life(s, touched, _NOW, _HALF_LIFE),
                lambda: np.multiply(s, np.exp2(np.minimum(touched - _NOW, 0) / _HALF_LIFE), out=s, casting="same_kind"),
                16,
            ),
            "fan_effect, sqrt": (
                lambda: native_simd.fan_effect(s, fans, "sqrt"),
                lambda: np.divide(s, np.sqrt(fans, dtype=np.float32), out=s),
                12,
            ),
            "fan_effect, linear": (
                lambda: native_simd.fan_effect(s, fans, "linear"),
                lambda: np.divide(s, fans, out=s, casting="same_kind"),
                12,
            ),
            "fan_effect, log": (
                lambda: native_simd.fan_effect(s, fans, "log"),
                lambda: np.divide(s, np.float32(1) + np.log(fans, dtype=np.float32), out=s),
                12,
            ),
        }


def nanoseconds(memory: Memory, contenders: dict[str, Contender]) -> dict[str, float]:
    """Return the median time of each for one binding; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    passes = max(1, _BINDINGS_A_TURN // memory.n)
    for _ in range(_TURNS):
        for name, call in contenders.items():
            memory.strengths.fill(1)
            begin = time.perf_counter_ns()
            for _ in range(passes):
                call()
            times[name].append((time.perf_counter_ns() - begin) / (passes * memory.n))
    return {name: median(taken) for name, taken in times.items()}


def rows(isa: str, size: str, memory: Memory) -> list[str]:
    os.environ["CLUSTER_ENGINE_ISA"] = isa
    lines = []
    for name, (engine, peer, n_bytes) in memory.calls().items():
        ns = nanoseconds(memory, {"engine": engine, "numpy": peer, "copy": memory.copy(n_bytes)})
        ratios = f"{ns['copy'] / ns['engine']:.2f}x | {ns['numpy']:.2f} ns | {ns['numpy'] / ns['engine']:.1f}x"
        lines.append(f"| {name} | {size} | {isa} | {ns['engine']:.3f} ns | {ns['copy']:.3f} ns | {ratios} |")
    return lines


def main() -> None:
    head = (
        "## Bindings\n\n"
        "`python -m benchmarks.bindings`. Time for one binding, one thread, median of "
        f"{_TURNS} turns. The copy (`numpy.copyto`) moves the same number of bytes. Marks: decay and the fan effect at "
        "0.85x the speed of the copy over 1 million, below 1 ns in cache; decay by half-life at 4x of numpy.\n"
    )
    lines = ["| call | bindings | ISA | engine | copy | speed of the copy | numpy | speed of numpy |", "|" + "---|" * 8]
    machine = describe()
    for size, n in _SIZES.items():
        memory = Memory(n)
        for isa in vector_isas():
            lines += rows(isa, size, memory)
    text = "\n".join([head, machine, "", *lines])
    print(text)
    write_section("bindings", text)


if __name__ == "__main__":
    main()
