"""Dendrograms as Newick text (https://phylipweb.github.io/phylip/newicktree.html). Owns the syntax, not the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster_engine.linkage.leaf_order import children_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cluster_engine.linkage.leaf_order import LeafOrder

_BARE = re.compile(r"[A-Za-z0-9.+-]+")  # an underscore without quotes would be read as a blank


def newick_pieces(z: NDArray[np.float64], order: LeafOrder, names: Sequence[Any]) -> Iterator[str]:
    """Yield the text piece by piece, one a leaf, from left to right; each tree is one line. O(n log n).

    The length of a branch is the height of the node above it minus its own; leaves lie at 0.

    Parameters
    ----------
    z : ndarray, shape (n_merges, 4)
        SciPy's linkage matrix.
    order : LeafOrder
        Of z.
    names : sequence
        Of the leaves; quoted where the syntax needs it.
    """
    n = len(names)
    start, stop = order.start[n:], order.start[n:] + order.size[n:]
    ended = n + np.lexsort((np.arange(len(z)), stop))  # merges by where they end, inner ones first
    n_begun = np.bincount(start, minlength=n).tolist()
    n_ended = np.cumsum(np.bincount(stop - 1, minlength=n)).tolist()
    tails, closings = _tails(z, order, order.leaves), _tails(z, order, ended)
    first = 0
    for leaf, n_open, last, tail in zip(order.leaves.tolist(), n_begun, n_ended, tails, strict=True):
        yield f"{'(' * n_open}{quote(str(names[leaf]))}{tail}{''.join(closings[first:last])}"
        first = last


def _tails(z: NDArray[np.float64], order: LeafOrder, nodes: NDArray[np.int64]) -> list[str]:
    """Return what ends each of some nodes: a merge's parenthesis, the length of its branch, the comma of a left one."""
    n = len(order.leaves)
    children = children_of(z)
    heights = np.concatenate((np.zeros(n), z[:, 2]))
    lengths = np.full(len(heights), np.nan)  # none above a root
    lengths[children] = z[:, 2, np.newaxis] - heights[children]
    is_left = np.zeros(len(heights), np.bool_)
    is_left[children] = order.start[children] == order.start[n:, np.newaxis]
    tails = [
        f"{')' * is_merge}:{length!r}{',' * is_first}"
        for is_merge, length, is_first in zip(
            (nodes >= n).tolist(), lengths[nodes].tolist(), is_left[nodes].tolist(), strict=True
        )
    ]
    for k in np.flatnonzero(np.isnan(lengths[nodes])).tolist():
        tails[k] = ");\n" if nodes[k] >= n else ";\n"
    return tails


def quote(name: str) -> str:
    """Return a name as Newick has it: in single quotes, its own doubled, unless it is bare letters and digits."""
    return name if _BARE.fullmatch(name) else "'" + name.replace("'", "''") + "'"
