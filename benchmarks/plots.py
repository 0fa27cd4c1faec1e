"""Draws the plots of ``docs/benchmarks.md`` from ``results.json``: ``python -m benchmarks.plots``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine

from benchmarks.figures import figures_of, load
from benchmarks.machine import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from benchmarks.figures import Figure

_FOLDER = ROOT / "docs/benchmarks"
# Okabe and Ito's palette, which the colour-blind can tell apart; markers differ, too.
_STYLES = {
    "engine, avx512": ("#0072B2", "o", "-"),
    "engine, avx2": ("#56B4E9", "o", "--"),
    "sgemm+fastcluster": ("#009E73", "s", "-"),
    "RAC++": ("#CC79A7", "v", "-"),
    "scikit-learn": ("#E69F00", "^", "-"),
    "scipy": ("#D55E00", "D", "-"),
}
_SIZES = (*(f"linkage/{n}" for n in (1_000, 5_000, 10_000, 20_000)), "large/40000", "large/100000")
_DATA = {"mixture": "hierarchical mixture", "iid": "i.i.d. normal"}
_MARKERS = "osD^vP*X<>"
_NAMES = {"scipy": "SciPy", "avx2": "AVX2", "avx512": "AVX-512"}
# What stands for each kernel under the roof: part, what its row has, its name.
_KERNELS: list[tuple[str, dict[str, str | int], str]] = [
    ("kernels/tiles", {"tile": "4096 x 4096"}, "tile of pairs, 1 thread"),
    ("similarity/pairs", {}, "all pairs, written"),
    ("similarity/neighbours", {"data": "iid"}, "nearest 32 of each row"),
    ("similarity/search 100000", {"queries": 64, "threads": 2}, "64 queries in 100,000"),
    ("similarity/search 100000", {"queries": 1, "threads": 2}, "1 query in 100,000"),
    ("similarity/batch", {"n": 1_024}, "1 query, 1,024 in cache, 1 thread"),
    ("kernels/bindings", {"call": "decay", "bindings": 16_000_000}, "decay, 1 thread"),
    ("kernels/bindings", {"call": "decay_half_life", "bindings": 16_000_000}, "decay by half-life, 1 thread"),
    ("kernels/bindings", {"call": "fan_effect, sqrt", "bindings": 16_000_000}, "fan effect, 1 thread"),
]


def _pick(recorded: dict[str, Any], row: dict[str, str | int], contender: str = "engine") -> list[Figure]:
    return [f for f in figures_of(recorded) if f.contender == contender and all(f.row[k] == v for k, v in row.items())]


def _canvas(width_in: float) -> Canvas:
    room = ConstrainedLayoutEngine(rect=(0, 0.03, 1, 0.97))  # below for the machine
    return Canvas(figsize=(width_in, 4.8), layout=room)


def _label(canvas: Canvas, title: str, parts: Iterable[dict[str, Any]]) -> None:
    parts = list(parts)
    commits = ", ".join(dict.fromkeys(part["taken"]["commit"] for part in parts))
    canvas.suptitle(title, fontsize=12, x=0.01, ha="left")
    canvas.text(0.01, 0.005, f"{parts[-1]['taken']['machine']}; commit {commits}", fontsize=7, color="0.3")


def roofline(known: dict[str, Any]) -> Canvas:
    """Draw what each kernel reaches under what the machine can do."""
    roof = figures_of(known["similarity/roof"])
    isas = list(dict.fromkeys(str(f.row["ISA"]) for f in roof))
    canvas = _canvas(11)
    for axes, isa in zip(canvas.subplots(1, len(isas), sharey=True, squeeze=False)[0], isas, strict=True):
        _draw_roofs(axes, [f for f in roof if f.row["ISA"] == isa])
        for marker, (part, row, name) in zip(_MARKERS, _KERNELS, strict=False):
            for f in _pick(known.get(part, {"figures": []}), row | {"ISA": isa}):
                x, y = f.flop / f.n_bytes, 1e-9 * f.flop / f.median_s
                axes.plot(x, y, marker, color="#D55E00" if "1 thread" in name else "#0072B2", label=name, markersize=7)
        axes.set_title(_NAMES[isa], fontsize=10)
        axes.set_xlabel("operations per byte, if each byte moves once")
    canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    canvas.axes[0].set_ylabel("GFLOP/s")
    _label(
        canvas,
        "Kernels under the roof: orange on one thread, blue on all",
        [known[part] for part, *_ in _KERNELS if part in known],
    )
    return canvas


def _draw_roofs(axes: Axes, roof: list[Figure]) -> None:
    x = np.geomspace(0.1, 10_000, 200)
    lines: list[Line2D] = []
    names: list[str] = []
    for threads in sorted({int(f.row["threads"]) for f in roof}):
        of = {f.row["roof"]: f for f in roof if f.row["threads"] == threads}
        flop, read = of["multiply-add"], of["read"]  # at their fastest: what bounds is the best that was seen
        peak, bandwidth = 1e-9 * flop.flop / flop.low_s, 1e-9 * read.n_bytes / read.low_s
        label = f"{threads} thread{'s' * (threads > 1)}: {peak:,.0f} GFLOP/s, {bandwidth:.0f} GB/s"
        style = "--" if threads == 1 else "-"
        lines += axes.loglog(x, np.minimum(peak, bandwidth * x), style, color="0.3", linewidth=1.2)
        lines[-1].set_label("_")  # not among the kernels
        names.append(label)
    axes.legend(lines, names, loc="lower right", fontsize=8, frameon=False)
    axes.set_xlim(0.1, 10_000)
    axes.set_ylim(1, 1_500)
    axes.grid(which="major", color="0.9")


def _curves(parts: list[dict[str, Any]], data: str) -> dict[str, list[Figure]]:
    """Return the figures of each contender by rising n; of the engine on each instruction set, of peers on the last."""
    curves: dict[str, list[Figure]] = {}
    for name in _STYLES:
        contender, _, isa = name.partition(", ")
        for part in parts:
            isas = [isa] if isa else [str(part["figures"][-1]["row"]["ISA"])]
            curves.setdefault(name, []).extend(_pick(part, {"data": data, "ISA": isas[0]}, contender))
    return {name: figures for name, figures in curves.items() if figures}


def _against_n(known: dict[str, Any], title: str, label: str, *, memory: bool = False) -> Canvas:
    """Draw the time on both kinds of data, or the memory, which does not depend on the kind, on one."""
    kinds = ("mixture",) if memory else tuple(_DATA)
    parts = [known[key] for key in _SIZES if key in known]
    canvas = _canvas(3 + 4 * len(kinds))
    for axes, data in zip(canvas.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        curves = _curves(parts, data)
        for name, figures in curves.items():
            colour, marker, line = _STYLES[name]
            n = [int(f.row["n"]) for f in figures]
            y = [1e-9 * (f.peak_bytes or 0) if memory else f.median_s for f in figures]
            shown = _NAMES.get(name, name.replace("avx512", "AVX-512").replace("avx2", "AVX2"))
            axes.loglog(n, y, color=colour, marker=marker, linestyle=line, label=shown, markersize=5)
        sizes = sorted({int(f.row["n"]) for figures in curves.values() for f in figures})
        if memory:
            axes.loglog(
                sizes, 4e-9 * np.square(sizes, dtype=np.float64), color="0.5", linestyle=":", label="4 n² bytes"
            )
        axes.set_title(_DATA[data], fontsize=10)
        axes.set_xlabel("n")
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes], rotation=30)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.grid(color="0.9")
    canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    canvas.axes[0].set_ylabel(label)
    _label(canvas, title, parts)
    return canvas


def main() -> None:
    mpl.rcParams["svg.hashsalt"] = "benchmarks"  # the same figures, the same file
    known = load()
    _FOLDER.mkdir(exist_ok=True)
    over = "embeddings to dendrogram, 768 dimensions, 2 threads"
    plots = {
        "roofline": roofline(known),
        "time": _against_n(known, f"Time: {over}", "seconds"),
        "memory": _against_n(known, f"Peak memory beyond the embeddings: {over}", "GB", memory=True),
    }
    for name, canvas in plots.items():
        canvas.savefig(_FOLDER / f"{name}.svg", metadata={"Date": None})
        print(_FOLDER / f"{name}.svg")


if __name__ == "__main__":
    main()
