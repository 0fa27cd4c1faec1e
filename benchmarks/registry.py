"""The registry of the library's operations (``tests/native/operations.c``), callable one by one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from benchmarks.machine import ROOT
from benchmarks.native import ADDRESS, NUMBER, TEXT, compiled
from native_simd.isa import active_code, lib

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable


@cache
def _registry() -> ctypes.CDLL:
    return compiled(
        [ROOT / "tests/native/operations.c", ROOT / "benchmarks/registry.c"],
        operation_name=(TEXT, NUMBER),
        operation_prepare=(ADDRESS, NUMBER),
        operation_call=(NUMBER, NUMBER, ADDRESS, NUMBER),
        operation_release=(None, ADDRESS),
    )


@cache
def names() -> list[str]:
    """Return the operations by number."""
    found: list[str] = []
    while (name := _registry().operation_name(len(found))) is not None:
        found.append(name.decode())
    return found


def calls(operation: int) -> dict[str, Callable[[], object]]:
    """Return the call on the instruction set in use, the one on scalar, and what gives either its data afresh."""
    prepared: list[int] = []

    def reset() -> None:
        while prepared:
            _registry().operation_release(prepared.pop())
        prepared.append(_registry().operation_prepare(operation))

    def call(isa: int) -> None:
        status = _registry().operation_call(operation, prepared[0], isa)
        assert status == lib.NS_OK, names()[operation]

    return {"engine": lambda: call(active_code()), "scalar": lambda: call(lib.NS_SCALAR), "reset": reset}
