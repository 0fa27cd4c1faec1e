"""Pictures of a dendrogram, or of the hierarchy of a store's concepts. Needs the ``plot`` extra.

Owns the drawing: what fits on a page, and how it looks. Refuses to know stores.
"""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Polygon

from cluster_engine.concepts.hierarchy import HierarchyNode
from cluster_engine.errors import InputError
from cluster_engine.layout import arrange, keep_concepts
from cluster_engine.lookup import title
from cluster_engine.terminal import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from cluster_engine.dendrogram import Dendrogram
    from cluster_engine.layout import Layout
    from cluster_engine.lookup import Record

_LOG = logging.getLogger(__name__)

FORMATS = (".png", ".svg", ".pdf")
"""File name suffixes that a drawing can have."""

# Paul Tol's "muted" scheme, readable with any colour vision (SRON/EPS/TN/09-002, 2021), without its two light hues.
_BRANCH_COLOURS = ("#332288", "#117733", "#AA4499", "#44AA99", "#882255", "#999933", "#CC6677")
_TRUNK_COLOUR = "#9aa0a6"
_INK = "#2b2f36"
_ROW_INCHES = 0.27
_TITLE_CHARACTERS = 78


@dataclass(frozen=True, slots=True)
class Tip:
    """What is drawn at the end of a row.

    Attributes
    ----------
    height : float
        Where the row's line ends: at a disc whose area is like `size`, or a triangle as wide as its logarithm.
    base : float or None
        Where the triangle ends; None for a disc.
    size : int
        Episodes, or leaves.
    text : str
    """

    height: float
    base: float | None
    size: int
    text: str


@dataclass(frozen=True, slots=True)
class _Drawing:
    joins: Sequence[HierarchyNode]
    layout: Layout
    tips: Mapping[int, Tip]
    cut: float | None = None

    def colour(self, name: int) -> str:
        if name not in self.layout.branches:
            return _TRUNK_COLOUR
        return _BRANCH_COLOURS[self.layout.branches[name] % len(_BRANCH_COLOURS)]


def draw_hierarchy(
    path: Path, concepts: Sequence[Record], nodes: Sequence[HierarchyNode], heading: str, max_leaves: int = 48
) -> int:
    """Draw the tree of the largest concepts: distances as measured, one labelled row a concept.

    Parameters
    ----------
    path : Path
        Ends with one of `FORMATS`.
    concepts : sequence of Record
        As `cluster_engine.lookup.concept_records` gives them, at least two, the largest first.
    nodes : sequence of HierarchyNode
        The whole hierarchy, from the bottom up.
    heading : str
        First line of the title.
    max_leaves : int
        Concepts that are drawn; the joins between them are those of the whole tree.

    Returns
    -------
    int
        Number of concepts drawn.
    """
    tips = {
        concept["concept_id"]: Tip(concept["distance"], None, concept["n_episodes"], title(concept))
        for concept in concepts[:max_leaves]
    }
    sizes = {name: tip.size for name, tip in tips.items()}
    kept = keep_concepts(nodes, sizes)
    shown = f"all {len(concepts):,}" if len(tips) == len(concepts) else f"the {len(tips)} largest of {len(concepts):,}"
    subtitle = f"{shown} concepts; each row has its number of episodes and the most typical one"
    _draw(path, _Drawing(kept, arrange(kept, sizes), tips), heading, subtitle)
    return len(tips)


def draw_dendrogram(
    path: Path,
    tree: Dendrogram,
    *,
    cut: float | None = None,
    texts: Sequence[str] | None = None,
    heading: str | None = None,
    max_branches: int = 48,
    min_leaves: int | None = None,
) -> int:
    """Draw a dendrogram of any size: its highest merges, and below them one row a branch, a triangle with its leaves.

    Parameters
    ----------
    path : Path
        Ends with one of `FORMATS`.
    tree : Dendrogram
        Of a forest with more trees than rows, the largest trees are drawn.
    cut : float, optional
        Height of a line across; the groups below it get the colours.
    texts : sequence of str, length n, optional
        What the leaves say; by default their ids. A branch has the text of a leaf of its first merge.
    heading : str, optional
        First line of the title.
    max_branches : int
        Rows of the page, at least 1.
    min_leaves : int, optional
        Branches of fewer leaves have no row, and merges that only add those are not drawn; by default
        ``1 + n // 1000``.

    Returns
    -------
    int
        Number of branches drawn.

    Raises
    ------
    InputError
        No tree of a forest has `min_leaves` leaves.
    """
    if texts is not None and len(texts) != tree.n:
        raise ValueError(f"want {tree.n} texts, one a leaf, got {len(texts)}")
    fewest = 1 + tree.n // 1000 if min_leaves is None else min_leaves
    sketch = tree.outline(max_branches, fewest)
    if len(sketch.tips) == 0:
        raise InputError(f"no tree has {fewest} leaves; a lower min_leaves would draw the smaller ones")
    base = min(0.0, *tree.Z[:1, 2].tolist(), cut if cut is not None else 0.0)
    names = tree.ids if texts is None else texts
    tips = {}
    for node, leaf in zip(sketch.tips.tolist(), sketch.exemplars.tolist(), strict=True):
        _, _, height, size = tree.Z[node - tree.n].tolist() if node >= tree.n else (0, 0, base, 1)
        tips[node] = Tip(height, base, int(size), str(names[leaf]))
    joins = [
        HierarchyNode(node, left, right, float(tree.Z[node - tree.n, 2]), int(tree.Z[node - tree.n, 3]))
        for node, left, right in sketch.joins
    ]
    sizes = {name: tip.size for name, tip in tips.items()}
    layout = arrange(joins, sizes, None if cut is None else _groups_below(cut, joins, tips))
    n_drawn = sum(sizes.values())
    shown = f"all {tree.n:,} leaves" if n_drawn == tree.n else f"{n_drawn:,} of {tree.n:,} leaves"
    rows = f"{len(tips)} branch{'es' * (len(tips) > 1)}"
    small = f"; branches of fewer than {fewest:,} leaves have no row" if fewest > 1 else ""
    groups = "" if cut is None else f"; cut at {cut:.3g} into {tree.cut_height(cut).max() + 1:,} groups"
    words = (heading or f"{tree.n:,} leaves", f"{rows} with {shown}{small}{groups}")
    _draw(path, _Drawing(joins, layout, tips, cut), *words)
    return len(tips)


def _groups_below(cut: float, joins: Sequence[HierarchyNode], tips: Mapping[int, Tip]) -> set[int]:
    heights = {name: tip.height for name, tip in tips.items()} | {node.node_id: node.distance for node in joins}
    above = {side: node.distance for node in joins for side in (node.left_id, node.right_id)}
    return {name for name, height in heights.items() if height <= cut < above.get(name, math.inf)}


def _draw(path: Path, drawing: _Drawing, heading: str, subtitle: str) -> None:
    with rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "dendrogram", "svg.fonttype": "none"}):
        page = ConstrainedLayoutEngine(w_pad=0.25, h_pad=0.2)
        figure = Figure(figsize=(13.4, 1.9 + _ROW_INCHES * len(drawing.tips)), layout=page, facecolor="white")
        axes = figure.add_subplot()
        _draw_joins(axes, drawing)
        _draw_tips(axes, drawing)
        if drawing.cut is not None:
            axes.axvline(drawing.cut, color=_INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=4)
        _label(axes, heading, subtitle, len(drawing.tips))
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write the file; without a date, so that equal drawings are equal bytes."""
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="Glyph .* missing")
        figure.savefig(path, dpi=160, metadata=metadata)
    if caught:
        _LOG.warning(
            "the font has no sign for %d characters of the labels; .svg leaves fonts to its viewer", len(caught)
        )


def _draw_joins(axes: Axes, drawing: _Drawing) -> None:
    """Draw each join as a bracket, open towards the tips."""
    starts = {name: tip.height for name, tip in drawing.tips.items()}
    starts |= {node.node_id: node.distance for node in drawing.joins}
    brackets, colours = [], []
    for node in drawing.joins:
        top, bottom = (drawing.layout.rows[side] for side in (node.left_id, node.right_id))
        brackets.append([(node.distance, top), (node.distance, bottom)])
        colours.append(drawing.colour(node.node_id))
        for side, row in ((node.left_id, top), (node.right_id, bottom)):
            brackets.append([(node.distance, row), (starts[side], row)])
            colours.append(drawing.colour(side))
    axes.add_collection(LineCollection(brackets, colors=colours, linewidths=1.6, capstyle="round"))


def _draw_tips(axes: Axes, drawing: _Drawing) -> None:
    """Draw what each row ends in, with its size and what it is about."""
    largest = max(tip.size for tip in drawing.tips.values())
    at = axes.get_yaxis_transform()
    words: dict[str, Any] = {"va": "center", "fontsize": 9}
    for name in drawing.layout.leaves:
        tip, row, colour = drawing.tips[name], drawing.layout.rows[name], drawing.colour(name)
        if tip.base is None:
            area = 12 + 130 * tip.size / largest
            axes.scatter([tip.height], [row], s=area, color=colour, edgecolors="white", linewidths=0.8, zorder=3)
        elif tip.size > 1:
            half = 0.42 * math.log(tip.size) / math.log(largest)
            corners = [(tip.height, row), (tip.base, row - half), (tip.base, row + half)]
            axes.add_patch(Polygon(corners, facecolor=to_rgba(colour, 0.7), edgecolor=colour, joinstyle="round"))
        if largest > 1:
            axes.text(1.045, row, f"{tip.size:,}", transform=at, ha="right", color=colour, weight="bold", **words)
        text = shorten(tip.text, _TITLE_CHARACTERS)
        axes.text(1.06, row, text, transform=at, color=_INK, parse_math=False, **words)


def _label(axes: Axes, heading: str, subtitle: str, n_rows: int) -> None:
    axes.autoscale_view()
    axes.invert_xaxis()
    axes.set_ylim(n_rows - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xlabel("distance at which branches join", color=_INK, fontsize=9)
    axes.tick_params(axis="x", colors=_INK, labelsize=8)
    axes.grid(axis="x", color="#e8eaed", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#c4c7cc")
    axes.set_title(heading, loc="left", fontsize=13, color=_INK, weight="bold", pad=20, parse_math=False)
    axes.text(0, 1.005, subtitle, transform=axes.transAxes, fontsize=9, color="#5f6368", va="bottom")
