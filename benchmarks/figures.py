"""The figures of a run: kept in ``results.json``, shown as tables in ``results.md``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).with_name("results.md")
RAW = RESULTS.with_suffix(".json")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass(frozen=True)
class Figure:
    """What one contender needs for one piece of work.

    Attributes
    ----------
    row : dict
        The work, as the first columns of a table show it.
    low_s, high_s : float
        Extremes of a few turns, quartiles of many.
    flop, n_bytes : float
        What the work takes: operations, and bytes to and from memory if each moves once.
    peak_bytes : int, optional
        Largest resident memory beyond the input.
    """

    row: dict[str, str | int]
    contender: str
    median_s: float
    low_s: float
    high_s: float
    flop: float = 0
    n_bytes: float = 0
    peak_bytes: int | None = None


def of_turns(
    row: dict[str, str | int],
    contender: str,
    turns_s: list[float],
    *,
    flop: float = 0,
    n_bytes: float = 0,
    peak_bytes: int | None = None,
) -> Figure:
    return Figure(row, contender, median(turns_s), min(turns_s), max(turns_s), flop, n_bytes, peak_bytes)


def load() -> dict[str, dict[str, Any]]:
    """Return what is recorded: by suite/part, its title, what it was taken on and its figures."""
    return dict(json.loads(RAW.read_text(encoding="utf-8"))) if RAW.exists() else {}


def record(key: str, title: str, taken: dict[str, str], figures: list[Figure]) -> None:
    """Replace the figures of one suite/part."""
    known = load() | {key: {"title": title, "taken": taken, "figures": [_rounded(f) for f in figures]}}
    lines = [f"{json.dumps(name)}: {json.dumps(part)}" for name, part in sorted(known.items())]
    RAW.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _rounded(figure: Figure) -> dict[str, Any]:
    return {name: float(f"{v:.5g}") if isinstance(v, float) else v for name, v in asdict(figure).items()}


def figures_of(recorded: dict[str, Any]) -> list[Figure]:
    return [Figure(**figure) for figure in recorded["figures"]]


def write_section(key: str, text: str) -> None:
    """Replace one section of the results, or append it."""
    begin, end = f"<!-- begin {key} -->", f"<!-- end {key} -->"
    section = f"{begin}\n{text.strip()}\n{end}\n"
    known = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Measured\n\n"
    before, found, after = known.partition(begin)
    rest = after.partition(end)[2].lstrip("\n") if found else ""
    RESULTS.write_text(before + section + rest, encoding="utf-8")


def lines_of(taken: dict[str, str]) -> str:
    return "\n".join(f"- {name[0].upper()}{name[1:]}: {value}" for name, value in taken.items())


def table(figures: list[Figure], *, rate: str = "") -> str:
    """Return one line for each piece of work and one column for each contender, the first being what others are beside.

    A cell has the median time (lowest to highest), the rate ("GFLOP/s" or "GB/s") where asked for, how many times
    faster the first contender is, and the peak of memory where known.
    """
    contenders = list(dict.fromkeys(f.contender for f in figures))
    lines: dict[tuple[str | int, ...], dict[str, Figure]] = {}
    for figure in figures:
        lines.setdefault(tuple(figure.row.values()), {})[figure.contender] = figure
    head = [*figures[0].row, *contenders]
    rows = [
        [*map(_shown, key), *(_cell(line.get(c), line[contenders[0]], rate) for c in contenders)]
        for key, line in lines.items()
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def _shown(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _cell(figure: Figure | None, first: Figure, rate: str) -> str:
    if figure is None:
        return "-"
    scale, unit = next((pair for pair in _UNITS if figure.median_s >= pair[0]), _UNITS[-1])
    numbers = [_number(s / scale) for s in (figure.median_s, figure.low_s, figure.high_s)]
    spread = f" ({numbers[1]} to {numbers[2]})" if figure.low_s < figure.high_s else ""
    parts = [f"{numbers[0]} {unit}{spread}"]
    if rate:
        work = {"GFLOP/s": figure.flop, "GB/s": figure.n_bytes}
        shown = rate if work[rate] else "GB/s"  # reading has no operations
        parts.append(f"{_number(1e-9 * work[shown] / figure.median_s)} {shown}")
    if figure is not first:
        parts.append(f"{_number(figure.median_s / first.median_s)}x")
    if figure.peak_bytes is not None:
        parts.append(f"{_number(1e-6 * figure.peak_bytes)} MB")
    return ", ".join(parts)


def _number(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"
