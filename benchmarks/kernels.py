"""The short calls: runs ``test_operations.py`` once for each instruction set; see ``results.md``.

``python -m benchmarks.kernels``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.figures import Figure
from benchmarks.machine import ROOT, environment, vector_isas
from benchmarks.suite import Part, Suite


def measure(divide: int, group: str) -> list[Figure]:
    """Return the figures of one group; there is only one size, so a divided one is measured for a shorter time."""
    return [figure for isa in vector_isas() for figure in _measured(group, isa, 1.0 / divide)]


def _measured(group: str, isa: str, max_time_s: float) -> list[Figure]:
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "benchmarks/test_operations.py"]
        options = [
            "-k",
            f"[{group}-",
            f"--benchmark-json={raw}",
            f"--benchmark-max-time={max_time_s}",
            "--benchmark-quiet",
        ]
        done = subprocess.run(
            [*command, *options], env=environment(isa, 1), cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the benchmarks of {group} failed:\n{done.stdout}{done.stderr}")
        return [_figure(measured, isa) for measured in json.loads(raw.read_text(encoding="utf-8"))["benchmarks"]]


def _figure(measured: dict[str, Any], isa: str) -> Figure:
    told, stats = measured["extra_info"], measured["stats"]
    median_s, low_s, high_s = (stats[name] / told["items"] for name in ("median", "q1", "q3"))
    row = {**told["row"], "ISA": isa, "threads": 1}
    return Figure(row, told["contender"], median_s, low_s, high_s, told["flop"], told["n_bytes"])


SUITE = Suite(
    "kernels",
    "Kernels",
    "Calls of `native_simd` from Python and other ways to do the same work (`benchmarks/operations.py`), one thread, "
    "each measured alone by pytest-benchmark: median (quartiles), the rate, and the other's time over the engine's.",
    {
        "registry": Part(
            "Every operation of the library beside scalar",
            partial(measure, group="registry"),
            note="The registry that tests run as well (`tests/native/operations.c` has the sizes), called from C on "
            "fresh data.",
        ),
        "tiles": Part(
            "Pairwise cosine of 768 dimensions (mark: 0.8x of sgemm)", partial(measure, group="tiles"), "GFLOP/s"
        ),
        "epilogue": Part(
            "The same with its epilogue, beside without (mark: both parts at most 1.2x)",
            partial(measure, group="epilogue"),
        ),
        "batch": Part(
            "One query with packed centroids of 768 dimensions (mark: 1x of numpy)",
            partial(measure, group="batch"),
            "GFLOP/s",
        ),
        "bindings": Part(
            "Bindings (marks over 1 million: 0.85x of the copy, by half-life 4x of numpy; in cache below 1 ns)",
            partial(measure, group="bindings"),
            "GB/s",
            "Time for one binding, on arrays that lie out of caches from 1 million on. The copy (`numpy.copyto`) moves "
            "the same number of bytes.",
        ),
    },
)

if __name__ == "__main__":
    SUITE.main()
