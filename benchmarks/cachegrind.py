"""Cache misses of one native operation, line by line of its source: ``python -m benchmarks.cachegrind decay``.

Cachegrind's model of the caches, run by callgrind so that it counts the operation's call alone; the caches are those of
`benchmarks.native_counts`.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.native_counts import CSRC, ISAS, callgrind, compile_measure, operations, require_tool

_OUT = Path(__file__).parents[1] / "out"
_EVENTS = "Ir,Dr,D1mr,DLmr,Dw,D1mw,DLmw"


def annotate(program: Path, operation: str, isa: str) -> Path:
    """Write the annotated sources of one operation and return the file."""
    report = _OUT / f"cachegrind-{operation}-{isa}.txt"
    _OUT.mkdir(exist_ok=True)
    counts = program.with_suffix(".counts")
    callgrind(program, operation, isa, counts)
    command = [require_tool("callgrind_annotate"), "--auto=yes", f"--show={_EVENTS}", "--sort=D1mr", str(counts)]
    done = subprocess.run([*command, f"--include={CSRC}"], capture_output=True, text=True, check=True)
    report.write_text(done.stdout, encoding="utf-8")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operation")
    parser.add_argument("--isa", choices=ISAS, default="avx2")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        program = compile_measure(Path(folder))
        if options.operation not in operations(program):
            parser.error(f"{options.operation} is none of {', '.join(operations(program))}")
        report = annotate(program, options.operation, options.isa)
    print(report.read_text(encoding="utf-8"))
    print(report)


if __name__ == "__main__":
    main()
