"""Builds the extension module ``native_simd._simd`` (cffi, API mode, stable ABI).

Every C file is compiled with the same portable flags; a file for one instruction set enables it for itself.
"""

from pathlib import Path

from cffi import FFI

SOURCES = (
    "cpu.c",
    "dispatch.c",
    "threads.c",
    "pack.c",
    "pairwise.c",
    "epilogue.c",
    "ranking.c",
    "neighbours.c",
    "search.c",
    "quantized.c",
    "cells.c",
    "sketch.c",
    "sketched.c",
    "sketch_scalar.c",
    "sketch_avx2.c",
    "sketch_avx512.c",
    "exact.c",
    "chain.c",
    "agglomeration.c",
    "candidates.c",
    "rescan.c",
    "bindings.c",
    "bindings_index.c",
    "bindings_index_batches.c",
    "bindings_index_concepts.c",
    "bindings_index_lists.c",
    "bindings_index_memory.c",
    "bindings_index_numbers.c",
    "bindings_index_reached.c",
    "bindings_index_slab.c",
    "bindings_index_spread.c",
    "bindings_index_tables.c",
    "bindings_index_tiers.c",
    "bindings_index_ties.c",
    "bindings_index_upkeep.c",
    "ids.c",
    "lanes_scalar.c",
    "lanes_avx2.c",
    "lanes_avx512.c",
    "lanes_neon.c",
    "numa.c",
    "kernels_scalar.c",
    "kernels_avx2.c",
    "kernels_avx512.c",
    "kernels_neon.c",
    "transpose.c",
    "quantized_avx2.c",
)
# -ffp-contract=off: a multiplication and an addition stay two roundings unless the source says fma, so that all
# compilers and instruction sets agree. -fno-math-errno lets sqrt be one instruction.
COMPILE_ARGS = (
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-pthread",
)

csrc = Path("native_simd/csrc")
ffibuilder = FFI()
ffibuilder.cdef((Path(__file__).parent / "csrc" / "native_simd.h").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "native_simd._simd",
    '#include "internal.h"',
    sources=[str(csrc / name) for name in SOURCES],
    depends=[
        str(csrc / "native_simd.h"),
        str(csrc / "internal.h"),
        str(csrc / "agglomeration.h"),
        str(csrc / "lanes.h"),
        str(csrc / "bindings_index.h"),
        str(csrc / "bindings_index_spread.h"),
        str(csrc / "bindings_lanes.h"),
        str(csrc / "ids.h"),
        str(csrc / "epilogue.h"),
        str(csrc / "epilogue_lanes.h"),
        str(csrc / "kernel_entries.h"),
        str(csrc / "sketch.h"),
        str(csrc / "cells.h"),
    ],
    include_dirs=[str(csrc)],
    extra_compile_args=list(COMPILE_ARGS),
    extra_link_args=["-pthread"],
    libraries=["m"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
