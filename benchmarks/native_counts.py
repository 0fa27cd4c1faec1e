"""Instructions, cache misses and allocations of every operation of the native registry (``tests/native/operations.c``).

One call of each runs under Valgrind's callgrind in a process of its own, on one thread; its instructions are counted,
and nothing before or after. Valgrind shows programs the same CPU on every AVX2 machine, so the C library takes the same
`memcpy` everywhere; the counts depend on the compiler and the C library, which name the baseline.

Misses are those of a simulated cache, always the same, with two levels, those of a Zen 3 core: a miss of the second
leaves the core.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from native_simd import _build as build

if TYPE_CHECKING:
    from collections.abc import Iterable

ISAS = ("scalar", "avx2")  # what Valgrind emulates; not AVX-512
_CACHES = ("--I1=32768,8,64", "--D1=32768,8,64", "--LL=524288,8,64")  # bytes, ways, bytes of a line
CSRC = Path(build.__file__).parent / "csrc"
_HERE = Path(__file__).parent
_REGISTRY = _HERE.parent / "tests" / "native"


class MissingToolError(RuntimeError):
    """Raised where a program that a measurement needs is not installed."""


def require_tool(name: str) -> str:
    """Return the path of a program, or say what to install."""
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(f"{name} is not installed (Debian: apt-get install {name})")
    return path


def toolchain() -> str:
    """Return what instruction counts depend on, as in ``gcc-12.2.0-glibc-2.36-x86_64``."""
    version = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    return f"gcc-{version}-{'-'.join(platform.libc_ver())}-{platform.machine()}"


def compile_measure(folder: Path, csrc: Path = CSRC) -> Path:
    """Compile `measure.c` and the registry with the library's own sources and flags."""
    program = folder / "measure"
    own = [_HERE / "measure.c", _HERE / "allocations.c", _REGISTRY / "operations.c"]
    sources = [*own, *(csrc / name for name in build.SOURCES)]
    # -z now: the loader's work at the first call of a function would count, and depends on the CPU.
    command = ["gcc", *build.COMPILE_ARGS, "-fPIC", "-g", f"-I{csrc}", f"-I{_REGISTRY}", *map(str, sources)]
    subprocess.run([*command, "-Wl,-z,now", "-lm", "-o", str(program)], check=True)
    return program


def operations(program: Path) -> list[str]:
    return subprocess.run([str(program), "list"], capture_output=True, text=True, check=True).stdout.split()


def callgrind(program: Path, operation: str, isa: str, out: Path) -> str:
    """Run one call under callgrind with its cache model, writing `out`; return what the program prints."""
    tool = [require_tool("valgrind"), "--tool=callgrind", "--toggle-collect=measured", f"--callgrind-out-file={out}"]
    command = [*tool, "--cache-sim=yes", *_CACHES, str(program), "once", operation, isa]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{operation} on {isa} failed under valgrind:\n{done.stderr}")
    return done.stdout


def _events(out: Path) -> dict[str, int]:
    lines = dict(line.split(":", 1) for line in out.read_text(encoding="utf-8").splitlines() if ":" in line)
    return dict(zip(lines["events"].split(), map(int, lines["totals"].split()), strict=True))


def _count(program: Path, operation: str, isa: str) -> dict[str, int]:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        printed = callgrind(program, operation, isa, out)
        events = _events(out)
    counts = {
        "instructions": events["Ir"],
        "L1 misses": events["D1mr"] + events["D1mw"],
        "L2 misses": events["DLmr"] + events["DLmw"],
        **{name: int(value) for name, value in (line.rsplit(" ", 1) for line in printed.splitlines())},
    }
    return {f"{operation} {isa} {measure}": value for measure, value in counts.items()}


def count(program: Path, names: Iterable[str] | None = None) -> dict[str, int]:
    """Return instructions, misses, allocations and allocated bytes by operation and instruction set.

    Parameters
    ----------
    names : iterable of str, optional
        Operations to count; default, all of the registry.
    """
    calls = [(program, name, isa) for name in names or operations(program) for isa in ISAS]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = pool.map(lambda call: _count(*call), calls)
        return {key: value for part in parts for key, value in part.items()}
