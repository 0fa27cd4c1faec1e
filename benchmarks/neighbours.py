"""Nearest-neighbour search beside what bounds it: ``python -m benchmarks.neighbours`` writes to ``results.md``.

``--divide`` makes n and m that many times smaller and prints without writing. Contenders take turns in one process.
`floors.c` is compiled with the library's own sources; it measures the bounds.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from benchmarks.linkage import table
from benchmarks.machine import describe, vector_isas, write_section
from native_simd import _build as build
from native_simd.isa import active_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from native_simd.packing import PackedVectors

_D, _K = 768, 32
_CSRC = Path(build.__file__).parent / "csrc"


def compile_floors(folder: Path) -> ctypes.CDLL:
    flags = [flag for flag in build.COMPILE_ARGS if flag != "-fvisibility=hidden"]
    sources = [str(_CSRC / name) for name in build.SOURCES]
    library = folder / "floors.so"
    command = ["gcc", *flags, "-Wno-psabi", "-shared", "-fPIC", f"-I{_CSRC}", *sources]
    subprocess.run([*command, str(Path(__file__).with_name("floors.c")), "-o", str(library), "-lm"], check=True)
    floors = ctypes.CDLL(str(library))
    address, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    for name, arguments in (
        ("triangle_s", [number, address, size, size, number]),
        ("batch_s", [number, address, address, size, size, address, size]),
        ("read_s", [address, size, number]),
    ):
        getattr(floors, name).argtypes, getattr(floors, name).restype = arguments, ctypes.c_double
    return floors


def packed_vectors(n: int, seed: int) -> PackedVectors:
    x = np.random.default_rng(seed).standard_normal((n, _D), dtype=np.float32)
    return native_simd.pack(x, unit=True, threads=n_threads())


def n_threads() -> int:
    return len(os.sched_getaffinity(0))


def query_row() -> NDArray[np.float32]:
    """Return one query; of unit norm, as the kernels take it."""
    row = np.random.default_rng(2).standard_normal((1, _D), dtype=np.float32)
    return row / np.float32(native_simd.norms(row)[0])


def searched(packed: PackedVectors, query: NDArray[np.float32], threads: int) -> Callable[[], float]:
    return lambda: timed(lambda: native_simd.top_k(query, packed, 10, threads=threads))


def read(floors: ctypes.CDLL, packed: PackedVectors, threads: int) -> Callable[[], float]:
    return lambda: float(floors.read_s(packed.panels.ctypes.data, packed.panels.size, threads))


def compared(floors: ctypes.CDLL, isa: str, query: NDArray[np.float32], packed: PackedVectors) -> Callable[[], float]:
    out = np.empty(packed.n, np.float32)
    addresses = query.ctypes.data, packed.panels.ctypes.data
    return lambda: float(
        floors.batch_s(choose(isa), *addresses, packed.n, _D, out.ctypes.data, max(1, 32_768 // packed.n))
    )


def called(isa: str, query: NDArray[np.float32], packed: PackedVectors) -> Callable[[], float]:
    def call() -> float:
        choose(isa)
        n_calls = max(1, 32_768 // packed.n)
        return timed(lambda: [native_simd.batch_similarity(query[0], packed) for _ in range(n_calls)]) / n_calls

    return call


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def medians(contenders: dict[str, Callable[[], float]], turns: int) -> dict[str, float]:
    """Return the median seconds of each contender; they take turns, after one turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns + 1):
        for name, contender in contenders.items():
            spent = contender()
            if turn:
                seconds[name].append(spent)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def choose(isa: str) -> int:
    os.environ["CLUSTER_ENGINE_ISA"] = isa
    return active_code()


def fused_pass(floors: ctypes.CDLL, divide: int) -> str:
    n, threads, rows = 20_000 // divide, n_threads(), []
    packed = packed_vectors(n, 1)
    for isa in vector_isas():
        choose(isa)
        spent = medians(
            {
                "pass": lambda: timed(lambda: native_simd.neighbours(packed, _K, threads=threads)),
                "floor": lambda: float(floors.triangle_s(active_code(), packed.panels.ctypes.data, n, _D, threads)),
            },
            5,
        )
        ratio = spent["pass"] / spent["floor"]
        gflops = n * n * _D * 1e-9 / spent["pass"]
        rows.append([isa, f"{spent['pass']:.2f} s", f"{spent['floor']:.2f} s", f"{ratio:.3f}x", f"{gflops:.0f}"])
    head = ["ISA", "nearest 32 of each row", "the triangle, never looked at", "ratio", "GFLOP/s"]
    return f"### {n:,} x {_D}, {threads} threads (mark: 1.25x)\n\n{table(head, rows)}"


def batch(floors: ctypes.CDLL, _divide: int) -> str:
    rows = []
    query = query_row()
    for n in (16, 64, 1_024):
        packed = packed_vectors(n, 3)
        calls = {isa: compared(floors, isa, query, packed) for isa in ("scalar", *vector_isas())}
        calls |= {f"{isa} from Python": called(isa, query, packed) for isa in vector_isas()}
        spent = medians(calls, 15)
        for isa in vector_isas():
            in_c, whole = spent[isa], spent[f"{isa} from Python"]
            cells = [f"{1e6 * in_c:.2f} us", f"{spent['scalar'] / in_c:.1f}x", f"{1e6 * whole:.2f} us"]
            rows.append([f"{n:,}", isa, *cells])
    head = ["centroids", "ISA", "a warm call in C", "scalar takes", "`batch_similarity`"]
    title = (
        f"### One query with packed centroids of {_D} dimensions (marks: 16 in 1 us in C, 8x of scalar; "
        "`batch_similarity` first divides the query by its norm)"
    )
    return f"{title}\n\n{table(head, rows)}"


def search(floors: ctypes.CDLL, divide: int) -> str:
    m, rows = 100_000 // divide, []
    packed, query = packed_vectors(m, 4), query_row()
    n_bytes = packed.panels.nbytes
    for isa in vector_isas():
        choose(isa)
        for threads in sorted({1, n_threads()}):
            spent = medians({"search": searched(packed, query, threads), "read": read(floors, packed, threads)}, 9)
            speed = {name: 1e-9 * n_bytes / value for name, value in spent.items()}
            ratio = f"{speed['search'] / speed['read']:.2f}x"
            cells = [f"{1e3 * spent['search']:.1f} ms", f"{speed['search']:.1f} GB/s", f"{speed['read']:.1f} GB/s"]
            rows.append([isa, str(threads), *cells, ratio])
    head = ["ISA", "threads", "top 10 of one query", "it reads", "reading alone", "ratio"]
    return f"### One query in {m:,} packed vectors of {_D} dimensions (mark: 0.85x)\n\n{table(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--divide", type=int, default=1)
    divide = parser.parse_args().divide
    head = (
        "## Nearest neighbours\n\n`python -m benchmarks.neighbours`. i.i.d. normal vectors, cosine; medians of "
        "turns in one process. The bounds are measured by `benchmarks/floors.c` with the library's kernels.\n"
    )
    parts = [f"{head}\n{describe()}"]
    with TemporaryDirectory() as folder:
        floors = compile_floors(Path(folder))
        for part in (fused_pass, batch, search):
            parts.append(part(floors, divide))
            print(parts[-1], flush=True)
    if divide == 1:
        write_section("neighbours", "\n\n".join(parts))


if __name__ == "__main__":
    main()
