"""The compiled extension, and which of its instruction sets is in use."""

from __future__ import annotations

import os
from functools import cache

import native_simd

try:
    from native_simd._simd import ffi, lib
except ModuleNotFoundError as missing:
    raise ImportError(
        f"native_simd is not compiled in {list(native_simd.__path__)}: run `pip install .` in the project"
    ) from missing

__all__ = ["IsaUnavailableError", "active_code", "active_isa", "available_isas", "ffi", "lib"]

_ABI = 14
if _ABI != lib.NS_ABI:
    raise ImportError(f"native_simd needs version {_ABI} of its compiled extension, found {lib.NS_ABI}: reinstall")


class IsaUnavailableError(RuntimeError):
    """``CLUSTER_ENGINE_ISA`` names an instruction set that this build, CPU or operating system does not offer."""


@cache
def _isa_names() -> tuple[str, ...]:
    return tuple(ffi.string(lib.ns_isa_name(isa)).decode() for isa in range(lib.NS_N_ISAS))


@cache  # asking the CPU takes tens of microseconds in a virtual machine
def available_isas() -> tuple[str, ...]:
    """Return the instruction sets that this build, CPU and operating system offer, slowest first."""
    return tuple(name for isa, name in enumerate(_isa_names()) if lib.ns_isa_available(isa))


def active_isa() -> str:
    """Return the instruction set in use: the fastest available, or the one that ``CLUSTER_ENGINE_ISA`` names.

    Raises
    ------
    IsaUnavailableError
        If the variable names one that is not available; there is no silent fallback.
    """
    return _isa_names()[active_code()]


def active_code() -> int:
    """Return the library's number of the instruction set in use; a change of the variable counts from the next call."""
    # every call of a kernel asks: `os.environ.get` raises twice where the variable is not set, and takes 1 us for it
    return _code(os.environ._data.get(b"CLUSTER_ENGINE_ISA"))  # type: ignore[attr-defined] # noqa: SLF001


@cache
def _code(variable: bytes | None) -> int:
    forced, offered = os.fsdecode(variable or b""), available_isas()
    if forced and forced not in offered:
        raise IsaUnavailableError(
            f"CLUSTER_ENGINE_ISA={forced!r} is not available here; available: {', '.join(offered)}"
        )
    return _isa_names().index(forced or offered[-1])
