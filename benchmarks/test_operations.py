"""Each way to do a short piece of work, measured alone by pytest-benchmark; ``benchmarks/kernels.py`` runs it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from benchmarks.operations import OPERATIONS, Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

_TURNS = 31


@cache
def built(index: int) -> dict[str, Callable[[], object]]:
    built.cache_clear()  # one at a time: the largest take most of a gigabyte
    return OPERATIONS[index].build()


@pytest.mark.parametrize(
    ("index", "contender"),
    [pytest.param(i, c, id=f"{o}-{c}") for i, o in enumerate(OPERATIONS) for c in o.contenders],
)
def test_operation(benchmark: BenchmarkFixture, index: int, contender: str) -> None:
    operation: Operation = OPERATIONS[index]
    calls = built(index)
    told = {"row": operation.row, "flop": operation.flop, "n_bytes": operation.n_bytes, "contender": contender}
    benchmark.extra_info.update(told, items=operation.items * max(1, operation.times))
    if not operation.times:
        benchmark(calls[contender])
        return

    def turn() -> None:
        for _ in range(operation.times):
            calls[contender]()

    benchmark.pedantic(turn, setup=calls["reset"], rounds=_TURNS)
