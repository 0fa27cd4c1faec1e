"""The binding index beside NumPy and a dictionary: ``python -m benchmarks.bindings`` writes to ``results.md``."""

from __future__ import annotations

import ctypes
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from benchmarks.figures import Figure, of_turns
from benchmarks.spreading import spreads
from benchmarks.suite import Part, Suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]

_FAN_OUT, _BINDINGS_AN_EPISODE = 50, 2  # chosen, not measured: what a memory of a few concepts an episode has
_ROWS = 1_000_000  # of a batch, in random order
_TURNS, _LEAST_ITEMS = 5, 1_000_000
_DICTIONARY = 1_000_000  # bindings that a dictionary of pairs is tried with


def _pairs(n: int) -> Pairs:
    """Return distinct pairs in random order: each episode is bound to a concept of either half."""
    rng = np.random.default_rng(1)
    half = max(n // _FAN_OUT // _BINDINGS_AN_EPISODE, 1)
    number = rng.permutation(n)
    return (number % 2 * half + rng.integers(0, half, n)) * 1_000_003, number // _BINDINGS_AN_EPISODE * 7919


def _filled(pairs: Pairs) -> native_simd.BindingIndex:
    index = native_simd.BindingIndex()
    index.bind(*pairs, np.full(len(pairs[0]), 0.5, np.float32), 0)
    return index


def _turns(call: Callable[[], object], items: int) -> list[float]:
    """Return seconds an item of some turns; short calls are repeated in a turn, and the first does not count."""
    times, turns = max(_LEAST_ITEMS // items, 1), []
    for _ in range(_TURNS + 1):
        start = time.perf_counter()
        for _ in range(times):
            call()
        turns.append((time.perf_counter() - start) / times / items)
    return turns[1:]


def _figures(row: dict[str, str | int], items: int, calls: dict[str, Callable[[], object]]) -> list[Figure]:
    return [of_turns(row, name, _turns(call, items)) for name, call in calls.items()]


def _sorted_keys(pairs: Pairs) -> tuple[NDArray[np.int64], Callable[[slice], NDArray[np.int64]]]:
    """Return one integer for each pair, sorted, and what makes such integers of rows."""
    keys = pairs[0] * 2**32 + pairs[1] // 7919  # wraps, and stays distinct: good enough for a search

    return np.sort(keys), lambda rows: keys[rows]


def updates(divide: int) -> list[Figure]:
    """Strengths of known bindings, set in batches."""
    figures = []
    for n in (10_000, 100_000, 1_000_000, 10_000_000):
        size = n // divide
        pairs, rows = _pairs(size), slice(0, min(size, _ROWS))
        index, operation = _filled(pairs), iter(range(1, 10**9))
        concepts, episodes = (np.ascontiguousarray(column[rows]) for column in pairs)
        values = np.random.default_rng(2).random(len(concepts), np.float32)
        sorted_keys, keys_of = _sorted_keys(pairs)
        strengths = np.full(size, 0.5, np.float32)

        def engine(threads: int) -> bool:
            return index.set_strengths(concepts, episodes, values, next(operation), threads=threads)  # noqa: B023 - called here

        def search() -> None:
            strengths[np.searchsorted(sorted_keys, keys_of(rows))] = values  # noqa: B023 - called here

        calls: dict[str, Callable[[], object]] = {
            "engine": partial(engine, 1),
            "engine, 2 threads": partial(engine, 2),
            "numpy, sorted keys": search,
        }
        if size <= _DICTIONARY:
            known = dict.fromkeys(zip(concepts.tolist(), episodes.tolist(), strict=True), 0.5)
            names, numbers = list(known), values.tolist()
            calls["dict of pairs"] = lambda: known.update(zip(names, numbers, strict=True))  # noqa: B023 - called here
        figures += _figures({"bindings": size, "batch": len(concepts)}, len(concepts), calls)
    return figures


def fan_outs(divide: int) -> list[Figure]:
    """Fan-outs of random concepts."""
    figures = []
    for n in (1_000_000, 10_000_000):
        pairs = _pairs(n // divide)
        index, names = _filled(pairs), np.random.default_rng(3).choice(pairs[0], _ROWS // divide)
        column = np.sort(pairs[0])
        calls: dict[str, Callable[[], object]] = {
            "engine": partial(index.fan_out, names),
            "engine, 2 threads": partial(index.fan_out, names, threads=2),
            "numpy, sorted column": lambda: (
                np.searchsorted(column, names, "right") - np.searchsorted(column, names)  # noqa: B023 - called here
            ),
        }
        row: dict[str, str | int] = {"bindings": n // divide, "concepts": index.statistics().n_concepts}
        figures += _figures(row, len(names), calls)
    return figures


@contextmanager
def _small_pages() -> Iterator[None]:
    """Let this process have no huge pages that are not asked for by name: as where Linux grants none."""
    disable = 41  # PR_SET_THP_DISABLE of prctl(2)
    process_control = ctypes.CDLL(None, use_errno=True).prctl
    assert process_control(disable, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        assert process_control(disable, 0, 0, 0, 0) == 0


def pages(divide: int) -> list[Figure]:
    """Updates and fan-outs of an index that no cache holds, on huge pages and on small ones."""
    size = 10_000_000 // divide
    pairs, operation = _pairs(size), iter(range(1, 10**9))
    rows = min(size, _ROWS)
    concepts, episodes = (np.ascontiguousarray(column[:rows]) for column in pairs)
    names = np.random.default_rng(3).choice(pairs[0], rows)
    values = np.random.default_rng(2).random(rows, np.float32)

    def figures(contender: str) -> list[Figure]:
        index = _filled(pairs)
        return [
            *_figures(
                {"call": "set_strengths", "bindings": size},
                rows,
                {contender: lambda: index.set_strengths(concepts, episodes, values, next(operation))},
            ),
            *_figures({"call": "fan_out", "bindings": size}, rows, {contender: partial(index.fan_out, names)}),
            *_figures(
                {"call": "decay", "bindings": size},
                size,
                {contender: lambda: index.decay(2.0**-20, next(operation))},
            ),
        ]

    huge = figures("engine, huge pages")
    with _small_pages():
        return huge + figures("4 KiB pages")


def decays(divide: int) -> list[Figure]:
    """All strengths, beside a copy of as many."""
    size = 10_000_000 // divide
    index, operation = _filled(_pairs(size)), iter(range(1, 10**9))
    strengths, copied = np.full(size, 0.5, np.float32), np.zeros(size, np.float32)
    calls: dict[str, Callable[[], object]] = {
        "engine": lambda: index.decay(2.0**-20, next(operation)),
        "engine, 2 threads": lambda: index.decay(2.0**-20, next(operation), threads=2),
        "numpy.copyto": lambda: np.copyto(copied, strengths),
    }
    return _figures({"bindings": size}, size, calls)


def type_checks(divide: int) -> list[Figure]:
    """Typed ids by the array."""
    ids = np.random.default_rng(4).integers(-(2**62), 2**62, 10_000 // divide)
    calls: dict[str, Callable[[], object]] = {
        "engine": partial(native_simd.is_concept, ids),
        "numpy": lambda: (ids & 1).astype(np.bool_),
    }
    return _figures({"ids": len(ids)}, len(ids), calls)


SUITE = Suite(
    "bindings",
    "Bindings",
    "`native_simd.BindingIndex`, 16 shards, some 50 bindings a concept and 2 an episode, rows in random order: time "
    "of one binding or id, median of 5 turns (lowest to highest), and the other's time over the engine's.",
    {
        "update": Part(
            "Setting strengths (marks: below 10 ns where shards are in cache, below 60 ns at 10 million; two threads "
            "1.7x)",
            updates,
            note="Keys of pairs, sorted beforehand, cannot take a new pair; the dictionary holds Python's numbers.",
        ),
        "fan-out": Part("Fan-out (marks: below 10 ns in cache, below 60 ns at 10 million bindings)", fan_outs),
        "pages": Part(
            "Huge pages, at 10 million bindings",
            pages,
            note="The same calls where Linux grants no huge pages (`prctl`, PR_SET_THP_DISABLE).",
        ),
        "decay": Part("Decay of all strengths (mark: 0.7x of the copy)", decays),
        "spread": Part(
            "Spreading activation over 1 million bindings, 3 steps, the best 100 episodes (mark: 20x scipy.sparse, or "
            "the bandwidth)",
            spreads,
            note="Time of a call with bindings as they were at the last; `changed`: of one after a strength was set. "
            "scipy's matrices are made beforehand, with the law in them, and take no change. The copy is of what "
            "three steps over all bindings read at least: 8 bytes a binding, 16 an episode.",
        ),
        "types": Part("Type of an id (mark: below 1 ns)", type_checks),
    },
)

if __name__ == "__main__":
    SUITE.main()
