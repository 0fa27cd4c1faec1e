"""Pictures of a concept hierarchy. Needs the ``plot`` extra.

Owns the drawing: which concepts fit on a page, where each lies, and in which colour. Refuses to know stores.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cluster_engine.lookup import title
from cluster_engine.terminal import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from cluster_engine.concepts.hierarchy import HierarchyNode
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
class Layout:
    """Where each name of a tree lies: the row, counted from the top, and the distance at which it begins.

    Attributes
    ----------
    leaves : tuple of int
        Concepts from top to bottom.
    rows : dict of int to float
        By the name of a concept or node.
    branches : dict of int to int
        Number of the coloured branch that a name belongs to, from the top; the trunk has none.
    """

    leaves: tuple[int, ...]
    rows: dict[int, float]
    branches: dict[int, int]


def keep_concepts(nodes: Iterable[HierarchyNode], kept: Mapping[int, int]) -> list[HierarchyNode]:
    """Return the tree of some concepts alone: the joins between them, at the same distances. O(nodes).

    Parameters
    ----------
    nodes : iterable of HierarchyNode
        From the bottom up.
    kept : mapping of int to int
        Episodes of each concept that stays.
    """
    branch = {name: (name, n_episodes) for name, n_episodes in kept.items()}
    joined = []
    for node in nodes:
        sides = [branch[side] for side in (node.left_id, node.right_id) if side in branch]
        if len(sides) == 2:
            (left, n_left), (right, n_right) = sides
            joined.append(replace(node, left_id=left, right_id=right, n_episodes=n_left + n_right))
            branch[node.node_id] = (node.node_id, n_left + n_right)
        elif sides:
            branch[node.node_id] = sides[0]
    return joined


def arrange(nodes: Sequence[HierarchyNode], sizes: Mapping[int, int]) -> Layout:
    """Lay a binary tree out: one row a concept, the branch with more episodes above, each node between its two.

    Parameters
    ----------
    nodes : sequence of HierarchyNode
        From the bottom up; the last is the root.
    sizes : mapping of int to int
        Episodes of each concept.
    """
    joins = {node.node_id: node for node in nodes}
    n_episodes = {**sizes, **{node.node_id: node.n_episodes for node in nodes}}
    leaves: list[int] = []
    waiting = [nodes[-1].node_id]
    while waiting:  # no recursion: a chain of thousands of joins is an ordinary tree
        name = waiting.pop()
        if name in joins:
            sides = (joins[name].left_id, joins[name].right_id)
            waiting += sorted(sides, key=lambda side: (n_episodes[side], -side))
        else:
            leaves.append(name)
    rows = {name: float(row) for row, name in enumerate(leaves)}
    for node in nodes:
        rows[node.node_id] = (rows[node.left_id] + rows[node.right_id]) / 2
    return Layout(tuple(leaves), rows, _colour_branches(nodes, rows))


def _colour_branches(nodes: Sequence[HierarchyNode], rows: Mapping[int, float]) -> dict[int, int]:
    """Cut where the most branches of two concepts or more hang below; of such cuts, the highest."""
    cuts: list[set[int]] = [set()]  # the branches that hang below, before the first join and after each
    for node in nodes:
        cuts.append(cuts[-1] - {node.left_id, node.right_id} | {node.node_id})
    tops = max(reversed(cuts), key=len)
    branches = {name: number for number, name in enumerate(sorted(tops, key=lambda name: rows[name]))}
    for node in reversed(nodes):
        if node.node_id in branches:
            branches[node.left_id] = branches[node.right_id] = branches[node.node_id]
    return branches


def draw_dendrogram(
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
    drawn = {concept["concept_id"]: concept for concept in concepts[:max_leaves]}
    sizes = {name: concept["n_episodes"] for name, concept in drawn.items()}
    kept = keep_concepts(nodes, sizes)
    layout = arrange(kept, sizes)
    with rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "dendrogram", "svg.fonttype": "none"}):
        page = ConstrainedLayoutEngine(w_pad=0.25, h_pad=0.2)
        figure = Figure(figsize=(13.4, 1.9 + _ROW_INCHES * len(drawn)), layout=page, facecolor="white")
        axes = figure.add_subplot()
        _draw_joins(axes, kept, layout, drawn)
        _draw_leaves(axes, layout, drawn)
        _label(axes, heading, len(drawn), len(concepts))
        _save(figure, path)
    return len(drawn)


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


def _colour(layout: Layout, name: int) -> str:
    if name not in layout.branches:
        return _TRUNK_COLOUR
    return _BRANCH_COLOURS[layout.branches[name] % len(_BRANCH_COLOURS)]


def _draw_joins(axes: Axes, nodes: Sequence[HierarchyNode], layout: Layout, drawn: Mapping[int, Record]) -> None:
    """Draw each join as a bracket, open towards the leaves."""
    starts = {name: concept["distance"] for name, concept in drawn.items()}
    starts |= {node.node_id: node.distance for node in nodes}
    brackets, colours = [], []
    for node in nodes:
        top, bottom = (layout.rows[side] for side in (node.left_id, node.right_id))
        brackets.append([(node.distance, top), (node.distance, bottom)])
        colours.append(_colour(layout, node.node_id))
        for side, row in ((node.left_id, top), (node.right_id, bottom)):
            brackets.append([(node.distance, row), (starts[side], row)])
            colours.append(_colour(layout, side))
    axes.add_collection(LineCollection(brackets, colors=colours, linewidths=1.6, capstyle="round"))


def _draw_leaves(axes: Axes, layout: Layout, drawn: Mapping[int, Record]) -> None:
    """Draw each concept as a disc, its area in proportion to its episodes, with its size and what it is about."""
    largest = max(concept["n_episodes"] for concept in drawn.values())
    for name in layout.leaves:
        concept, row, colour = drawn[name], layout.rows[name], _colour(layout, name)
        area = 12 + 130 * concept["n_episodes"] / largest
        axes.scatter([concept["distance"]], [row], s=area, color=colour, edgecolors="white", linewidths=0.8, zorder=3)
        label = axes.get_yaxis_transform()
        size, text = f"{concept['n_episodes']:,}", shorten(title(concept), _TITLE_CHARACTERS)
        axes.text(1.045, row, size, transform=label, ha="right", va="center", fontsize=9, color=colour, weight="bold")
        axes.text(1.06, row, text, transform=label, va="center", fontsize=9, color=_INK, parse_math=False)


def _label(axes: Axes, heading: str, n_drawn: int, n_concepts: int) -> None:
    axes.autoscale_view()
    axes.invert_xaxis()
    axes.set_ylim(n_drawn - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xlabel("distance at which branches join", color=_INK, fontsize=9)
    axes.tick_params(axis="x", colors=_INK, labelsize=8)
    axes.grid(axis="x", color="#e8eaed", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#c4c7cc")
    shown = f"all {n_concepts:,}" if n_drawn == n_concepts else f"the {n_drawn} largest of {n_concepts:,}"
    axes.set_title(heading, loc="left", fontsize=13, color=_INK, weight="bold", pad=20, parse_math=False)
    subtitle = f"{shown} concepts; each row has its number of episodes and the most typical one"
    axes.text(0, 1.005, subtitle, transform=axes.transAxes, fontsize=9, color="#5f6368", va="bottom")
