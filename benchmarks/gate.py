"""The regression gate: ``python -m benchmarks.gate`` compares this tree with the baselines beside it.

``--record`` writes them. Smaller is better for everything that is measured.

Exit code 0: nothing is worse than its baseline allows; 1: something is, and is named; 2: it could not be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks import native_counts, python_counts, ratios
from benchmarks.machine import vector_isas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Measures = Mapping[str, float]

BASELINES = Path(__file__).with_name("baselines")
COUNT_TOLERANCE = 0.05  # counts repeat exactly
RATIO_TOLERANCE = 0.25  # ratios of times move by 4 % on one CPU, and from one CPU to another
_RECORD = "record it where the tree is known to be good (make bench-baseline) and commit it"


@dataclass(frozen=True)
class Suite:
    """Measures that share a baseline file.

    Attributes
    ----------
    name : str
        Of the file, with what its figures depend on.
    tolerance : float
        Growth that is allowed.
    measure : callable
        Takes a folder for what it compiles and the largest values that are allowed; returns the measures.
    """

    name: str
    tolerance: float
    measure: Callable[[Path, Measures], Measures]

    @property
    def path(self) -> Path:
        return BASELINES / f"{self.name}.json"


def suites() -> list[Suite]:
    return [
        Suite(native_counts.toolchain(), COUNT_TOLERANCE, _count_native),
        Suite("python", COUNT_TOLERANCE, lambda folder, _: python_counts.count(folder)),
        *(Suite(f"ratios-{isa}", RATIO_TOLERANCE, _ratios_on(isa)) for isa in vector_isas()),
    ]


def _count_native(folder: Path, _limits: Measures) -> Measures:
    return native_counts.count(native_counts.compile_measure(folder))


def _ratios_on(isa: str) -> Callable[[Path, Measures], Measures]:
    return lambda _, limits: ratios.measure(isa, limits)


@dataclass(frozen=True)
class Comparison:
    """Names of the measures by what became of them since the baseline."""

    worse: list[str]
    better: list[str]
    unknown: list[str]
    gone: list[str]


def compare(baseline: Measures, measured: Measures, tolerance: float) -> Comparison:
    """Sort measures into those beyond the tolerance, either way, and those without a counterpart.

    What was zero is worse as soon as it is not.
    """
    both = [name for name in measured if name in baseline]
    return Comparison(
        worse=[name for name in both if measured[name] > baseline[name] * (1 + tolerance)],
        better=[name for name in both if measured[name] < baseline[name] / (1 + tolerance)],
        unknown=[name for name in measured if name not in baseline],
        gone=[name for name in baseline if name not in measured],
    )


def _change(name: str, baseline: Measures, measured: Measures) -> str:
    known, value = baseline[name], measured[name]
    change = f"{100 * (value / known - 1):+.1f} %" if known else "was nothing"
    return f"{name}: {value:.7g} against {known:.7g} ({change})"


def check(suite: Suite, folder: Path) -> int:
    """Measure a suite, print what changed, return the exit code."""
    if not suite.path.exists():
        print(f"{suite.name}: no baseline of that name; {_RECORD}")
        return 2
    baseline = json.loads(suite.path.read_text(encoding="utf-8"))
    measured = suite.measure(folder, {name: value * (1 + suite.tolerance) for name, value in baseline.items()})
    found = compare(baseline, measured, suite.tolerance)
    print(f"{suite.name}: {len(measured)} measures, {len(found.worse)} worse, {len(found.better)} better")
    for verdict, names in (("WORSE", found.worse), ("better", found.better)):
        for name in names:
            print(f"  {verdict} {_change(name, baseline, measured)}")
    for verdict, names in (("without a baseline", found.unknown), ("no longer measured", found.gone)):
        if names:
            print(f"  {verdict}: {', '.join(names)}; {_RECORD}")
    return 1 if found.worse else 2 if found.unknown or found.gone else 0


def record(suite: Suite, folder: Path) -> int:
    """Measure a suite and write its baseline."""
    measured = suite.measure(folder, {})
    BASELINES.mkdir(exist_ok=True)
    suite.path.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(f"{suite.name}: {len(measured)} measures recorded")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the baselines")
    treat = record if parser.parse_args().record else check
    try:
        native_counts.require_tool("valgrind")
        with TemporaryDirectory() as folder:
            codes = [treat(suite, Path(folder)) for suite in suites()]
    except native_counts.MissingToolError as fault:
        print(fault)
        return 2
    return 1 if 1 in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
