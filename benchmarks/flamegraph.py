"""A flame graph of one Python call path, Python and C frames alike: ``python -m benchmarks.flamegraph "linkage ward"``.

py-spy samples the path, called over and over on one thread, and draws ``out/flamegraph-linkage-ward.svg``. Paths are
those of `benchmarks.python_counts`, at a size that is used.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.native_counts import require_tool
from benchmarks.python_counts import paths

_ROOT = Path(__file__).parents[1]
_N, _D = 4000, 768
_DURATION_S = 10
_RATE_HZ = 250


def _repeat(name: str) -> None:
    call = paths(_N, _D)[name]
    end = time.monotonic() + _DURATION_S
    while time.monotonic() < end:
        call()


def draw(name: str) -> Path:
    """Sample a path and return the drawing."""
    picture = _ROOT / "out" / f"flamegraph-{name.replace(' ', '-')}.svg"
    picture.parent.mkdir(exist_ok=True)
    command = [require_tool("py-spy"), "record", "--native", "--function", "--rate", str(_RATE_HZ), "-o", str(picture)]
    subprocess.run([*command, "--", sys.executable, "-m", __spec__.name, name, "--repeat"], cwd=_ROOT, check=True)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(paths(16, 16)))
    parser.add_argument("--repeat", action="store_true", help="call the path without sampling it")
    options = parser.parse_args()
    # The virtual environment may not be active: its programs lie beside its Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if options.repeat:
        _repeat(options.name)
    else:
        print(draw(options.name))


if __name__ == "__main__":
    main()
