"""Short calls and the other ways to do the same work, each alone: what ``test_operations.py`` measures.

An operation's builder makes its data and returns its contenders; the first is the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numkong
import numpy as np

import native_simd
from benchmarks import registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Call = Callable[[], object]

_D = 768
_NOW = 1_700_000_000_000_000
_DAY = 86_400_000_000
_HALF_LIFE = 30.0 * _DAY
_BINDINGS_A_TURN = 400_000  # small arrays are passed over several times, no more: strengths must stay normal numbers
_OUT_OF_CACHE, _CACHES_BYTES = 1_000_000, 2**26
_TRUST = 1e-5


@dataclass(frozen=True)
class Operation:
    """Work of one size.

    Attributes
    ----------
    group : str
        The table it belongs to.
    row : dict
        What the first columns of the table say of it.
    build : callable
        Returns the contenders by name.
    contenders : tuple of str
        The names that ``build`` returns, beside "reset" if there is one.
    flop, n_bytes : float
        What a call takes, or each of its items.
    times : int, optional
        Calls in a turn, after ``reset``; else as many as fill the time.
    items : int
        What the time is divided by.
    """

    group: str
    row: dict[str, str | int]
    build: Callable[[], dict[str, Call]]
    contenders: tuple[str, ...]
    flop: float
    n_bytes: float
    times: int = 0
    items: int = 1

    def __str__(self) -> str:
        return "-".join(map(str, (self.group, *self.row.values())))


def _unit(n: int, seed: int) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((n, _D), np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def _tile(n: int) -> dict[str, Call]:
    a, b = _unit(n, 1), _unit(n, 2)
    packed_a, packed_b = native_simd.pack(a, unit=True), native_simd.pack(b, unit=True)
    ours, theirs = np.empty((n, n), np.float32), np.matmul(a, b.T)
    native_simd.pairwise(packed_a, packed_b, out=ours)
    assert np.abs(ours - theirs).max() < _TRUST
    return {
        "engine": lambda: native_simd.pairwise(packed_a, packed_b, out=ours),
        "engine, packing too": lambda: native_simd.similarity(a, b, out=ours),
        "sgemm": lambda: np.matmul(a, b.T, out=theirs),
    }


def _batch(m: int) -> dict[str, Call]:
    query, centroids = _unit(1, 1)[0], _unit(m, 2)
    packed = native_simd.pack(centroids, unit=True)
    assert np.abs(native_simd.batch_similarity(query, packed) - centroids @ query).max() < _TRUST

    return {
        "engine": lambda: native_simd.batch_similarity(query, packed),
        "numpy C @ q": lambda: centroids @ query,
        "NumKong": lambda: numkong.dot(query, centroids),
    }


def _epilogue(n: int) -> dict[str, Call]:
    """Return a pass without and with its epilogue; times lie in a year, so that some pairs fade away."""
    a, b = (native_simd.pack(_unit(n, seed), unit=True) for seed in (1, 2))
    times_a, times_b = np.random.default_rng(3).integers(0, 365 * _DAY, (2, n))
    temporal, sigmoid = native_simd.Temporal(float(_DAY), times_a, times_b), native_simd.Sigmoid(10, 0.5)
    out = np.zeros((n, n), np.float32)
    return {
        "plain": lambda: native_simd.pairwise(a, b, out=out),
        "temporal": lambda: native_simd.pairwise(a, b, out=out, temporal=temporal),
        "sigmoid": lambda: native_simd.pairwise(a, b, out=out, sigmoid=sigmoid),
        "both": lambda: native_simd.pairwise(a, b, out=out, temporal=temporal, sigmoid=sigmoid),
    }


class _Memory:
    """The arrays that all calls on so many bindings work on."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(1)
        self.strengths = np.ones(n, np.float32)
        self.rates = rng.uniform(0, 1e-3, n).astype(np.float32)
        self.last_touched: NDArray[np.int64] = _NOW - rng.integers(0, 10**12, n)
        self.fans = rng.integers(1, 4, n, dtype=np.uint32)  # small: divisions must not end in subnormal numbers
        self.source, self.target = np.ones(2 * n, np.float32), np.zeros(2 * n, np.float32)
        self.other = np.zeros(_CACHES_BYTES if n >= _OUT_OF_CACHE else 0, np.uint8)

    def reset(self) -> None:
        """Make the strengths 1 again; what is to lie out of caches is driven out."""
        self.strengths.fill(1)
        self.other += 1


def _bindings(call: str, n: int) -> dict[str, Call]:
    """Return the contenders, among them a copy that moves as many bytes, and what comes before each turn."""
    memory = _Memory(n)
    s, rates, touched, fans = memory.strengths, memory.rates, memory.last_touched, memory.fans
    half = n * _BINDING_BYTES[call] // 8
    pairs: dict[str, tuple[Call, Call]] = {
        "decay": (
            lambda: native_simd.decay(s, rates, 0.5),
            lambda: np.multiply(s, np.exp(rates * np.float32(-0.5)), out=s),
        ),
        "decay_half_life": (
            lambda: native_simd.decay_half_life(s, touched, _NOW, _HALF_LIFE),
            lambda: np.multiply(s, np.exp2(np.minimum(touched - _NOW, 0) / _HALF_LIFE), out=s, casting="same_kind"),
        ),
        "fan_effect, sqrt": (
            lambda: native_simd.fan_effect(s, fans, "sqrt"),
            lambda: np.divide(s, np.sqrt(fans, dtype=np.float32), out=s),
        ),
        "fan_effect, linear": (
            lambda: native_simd.fan_effect(s, fans, "linear"),
            lambda: np.divide(s, fans, out=s, casting="same_kind"),
        ),
        "fan_effect, log": (
            lambda: native_simd.fan_effect(s, fans, "log"),
            lambda: np.divide(s, np.float32(1) + np.log(fans, dtype=np.float32), out=s),
        ),
    }
    engine, numpy_call = pairs[call]
    return {
        "engine": engine,
        "copy": lambda: np.copyto(memory.target[:half], memory.source[:half]),
        "numpy": numpy_call,
        "reset": memory.reset,
    }


_BINDING_BYTES = {  # read and written for one binding
    "decay": 12,
    "decay_half_life": 16,
    "fan_effect, sqrt": 12,
    "fan_effect, linear": 12,
    "fan_effect, log": 12,
}
_BINDING_FLOP = {  # as csrc/bindings_lanes.h does it; a fused multiply-add counts twice
    "decay": 21,
    "decay_half_life": 19,
    "fan_effect, sqrt": 2,
    "fan_effect, linear": 1,
    "fan_effect, log": 21,
}


def _tile_operation(n: int) -> Operation:
    contenders = ("engine", "engine, packing too", "sgemm")
    return Operation(
        "tiles", {"tile": f"{n} x {n}"}, partial(_tile, n), contenders, 2.0 * n * n * _D, 4.0 * n * (2 * _D + n)
    )


def _batch_operation(m: int) -> Operation:
    contenders = ("engine", "numpy C @ q", "NumKong")
    return Operation("batch", {"centroids": m}, partial(_batch, m), contenders, 2.0 * m * _D, 4.0 * (m + 1) * _D)


def _bindings_operation(call: str, n: int) -> Operation:
    return Operation(
        "bindings",
        {"call": call, "bindings": n},
        partial(_bindings, call, n),
        ("engine", "copy", "numpy"),
        _BINDING_FLOP[call],
        _BINDING_BYTES[call],
        times=max(1, _BINDINGS_A_TURN // n),
        items=n,
    )


def _epilogue_operation(n: int) -> Operation:
    contenders = ("plain", "temporal", "sigmoid", "both")
    work = 2.0 * n * n * _D, 4.0 * n * (2 * _D + n)
    return Operation("epilogue", {"tile": f"{n} x {n}"}, partial(_epilogue, n), contenders, *work)


def _registered(number: int, name: str) -> Operation:
    return Operation(
        "registry", {"operation": name}, partial(registry.calls, number), ("engine", "scalar"), 0, 0, times=1
    )


OPERATIONS = [
    *(_registered(number, name) for number, name in enumerate(registry.names())),
    *(_tile_operation(n) for n in (512, 1_000, 4_096)),
    *(_epilogue_operation(n) for n in (1_000, 4_096)),
    *(_batch_operation(m) for m in (16, 64, 1_024)),
    *(_bindings_operation(call, n) for n in (8_192, 1_000_000, 16_000_000) for call in _BINDING_BYTES),
]
