"""Hardware counters of every native operation: ``python -m benchmarks.counters``, or of those that are named.

`measure.c` asks the kernel for them (perf_event_open) around the call alone; where they are not to be had, often in
virtual machines and containers, it says why. Values are those of one call, mean of many.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import native_simd
from benchmarks.native_counts import compile_measure, operations

_CALLS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operation", nargs="*")
    names = parser.parse_args().operation
    with TemporaryDirectory() as folder:
        program = compile_measure(Path(folder))
        for name in names or operations(program):
            for isa in native_simd.available_isas():
                print(f"{name} {isa}", flush=True)
                subprocess.run([str(program), "counters", name, isa, str(_CALLS)], check=True)


if __name__ == "__main__":
    main()
