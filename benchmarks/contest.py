"""A process of its own for what is measured: its instruction set, its threads, its peak of memory.

Contenders in one process take turns on the same input. Needs numpy alone, whatever the contenders need.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Contender = Callable[[], float]

_ROOT = Path(__file__).parents[1]
_KIB = 1024
_PAUSE_S = 0.03  # the threads of OpenBLAS and OpenMP spin that long for more work, and would disturb who comes next


def in_process(
    function: str, env: dict[str, str], *, python: Path | str = sys.executable, **arguments: object
) -> dict[str, Any]:
    """Call ``module:function`` with JSON arguments in a process of its own and return its JSON answer."""
    request = json.dumps([function, arguments])
    command = [str(python), "-m", "benchmarks.contest", request]
    done = subprocess.run(command, env=env, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))  # peers may print, too


def timed(call: Callable[[], object], calls: int = 1) -> Contender:
    """Return a contender: what returns the seconds that a call takes, of several in a row."""

    def contender() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls

    return contender


def take_turns(contenders: Mapping[str, Contender], turns: int, *, warm: bool = False) -> dict[str, list[float]]:
    """Return the seconds of each turn of each contender, after one that does not count unless they are ``warm``."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns if warm else turns + 1):
        for name, contender in contenders.items():
            time.sleep(_PAUSE_S)
            spent = contender()
            if turn or warm:
                seconds[name].append(spent)
    return seconds


def peak_bytes() -> int:
    """Return the largest resident memory so far; not ``ru_maxrss``, which a child inherits from its parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * _KIB


if __name__ == "__main__":
    name, arguments = json.loads(sys.argv[1])
    module, _, function = name.partition(":")
    print(json.dumps(getattr(import_module(module), function)(**arguments)))
