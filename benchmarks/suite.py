"""A suite of benchmarks: named parts, each with its table, run together or one at a time."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.figures import figures_of, lines_of, load, record, table, write_section
from benchmarks.machine import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.figures import Figure


@dataclass(frozen=True)
class Part:
    """One table: its title with the mark to reach, and what measures it at sizes divided by a number.

    Where it `needs` an environment variable that is not set, it is measured only when asked for by name.
    """

    title: str
    measure: Callable[[int], list[Figure]]
    rate: str = ""
    note: str = ""
    needs: str = ""


@dataclass(frozen=True)
class Suite:
    """The parts that one script measures, and one section of the results."""

    key: str
    title: str
    note: str
    parts: dict[str, Part]

    def main(self) -> None:
        """Measure what the command line asks for, print it and, unless made smaller, record it."""
        parser = argparse.ArgumentParser(description=self.note)
        parser.add_argument("--part", action="append", choices=self.parts, help="only this; may be repeated")
        parser.add_argument("--divide", type=int, default=1, help="divide every size, and do not record")
        asked = parser.parse_args()
        print(lines_of(describe()), flush=True)
        for name in asked.part or self.parts:
            needed = self.parts[name].needs
            if needed and not asked.part and needed not in os.environ:
                print(f"\n### {self.parts[name].title}\n\nleft out: {needed} is not set", flush=True)
                continue
            figures = self.parts[name].measure(asked.divide)
            print(f"\n### {self.parts[name].title}\n\n{table(figures, rate=self.parts[name].rate)}", flush=True)
            if asked.divide == 1:
                record(f"{self.key}/{name}", self.parts[name].title, describe(), figures)
                write_section(self.key, self._section())

    def _section(self) -> str:
        """Return all that is recorded; what it was taken on is said where it changes."""
        known = load()
        texts, taken = [f"## {self.title}\n\n`python -m benchmarks.{self.key}`. {self.note}"], None
        for name, part in self.parts.items():
            recorded: dict[str, Any] = known.get(f"{self.key}/{name}", {})
            if not recorded:
                continue
            if recorded["taken"] != taken:
                taken = recorded["taken"]
                texts.append(lines_of(taken))
            note = f"\n\n{part.note}" if part.note else ""
            texts.append(f"### {part.title}{note}\n\n{table(figures_of(recorded), rate=part.rate)}")
        return "\n\n".join(texts)
