"""Damaged bytes, and the child process that reads them: a crash of the reader must not take the test runner with it.

``CLUSTER_ENGINE_MUTANTS`` says how many (by default a sample), ``CLUSTER_ENGINE_MUTANT_SEED`` which.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

N_MUTANTS = int(os.environ.get("CLUSTER_ENGINE_MUTANTS", "300"))
SEED = int(os.environ.get("CLUSTER_ENGINE_MUTANT_SEED", "0"))
TIMEOUT_S = 30 + N_MUTANTS // 10
MEMORY_BYTES = 8 << 30


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with some flipped, missing, overwritten or repeated."""
    mutant = bytearray(data)
    kind = rng.choice(("flip", "flip", "flip metadata", "truncate", "fill", "repeat"))
    if kind == "truncate":
        return bytes(mutant[: rng.randrange(len(mutant))])
    start = rng.randrange(len(mutant))
    size = rng.choice((1, 4, 8, 64))
    if kind == "fill":
        mutant[start : start + size] = rng.choice((b"\x00", b"\xff", b"\x7f")) * size
    elif kind == "repeat":
        mutant[start:start] = mutant[start : start + size]
    else:
        lowest = 2 * len(mutant) // 3 if kind == "flip metadata" else 0
        for _ in range(rng.choice((1, 1, 2, 8))):
            mutant[rng.randrange(lowest, len(mutant))] ^= 1 << rng.randrange(8)
    return bytes(mutant)


def child_outcomes(script: str) -> Counter[str]:
    """Run a script that ends with `report_outcomes` in a process of its own, and return how often each outcome was."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
    child = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert child.returncode == 0, f"last mutant {child.stdout.splitlines()[-1:]}\n{child.stderr[-4000:]}"
    outcomes: Counter[str] = Counter(json.loads(child.stdout.splitlines()[-1]))
    assert outcomes.total() == N_MUTANTS
    print(json.dumps(outcomes))  # noqa: T201  # shown by pytest -s
    return outcomes


def report_outcomes(outcome: Callable[[int, random.Random], str]) -> None:
    """Call for every mutant, and print how often each outcome was.

    Parameters
    ----------
    outcome : callable
        Of the mutant's number, and a source of randomness that all of them share.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))  # a lying size fails here, not the machine
    rng = random.Random(SEED)
    outcomes: Counter[str] = Counter()
    for number in range(N_MUTANTS):
        print("mutant", number, flush=True)  # noqa: T201  # says which one when the process dies
        outcomes[outcome(number, rng)] += 1
    print(json.dumps(outcomes))  # noqa: T201  # the result
