"""Which weak bindings go: all that are below a strength, but never an episode's strongest.

Owns the rule, for bindings that come in parts. Refuses to know where they are and how they are removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.shards.merging import NOTHING, join_columns, take_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from cluster_engine.shards.shard import Columns


def weak_bindings(blocks: Iterable[Columns], below: float) -> Columns:
    """Return (concept ids, episodes, strengths) of the bindings weaker than ``below``."""
    return join_columns([NOTHING, *(take_rows(block, block[2] < np.float32(below)) for block in blocks)])


def count_strong(blocks: Iterable[Columns], episodes: NDArray[np.int64], below: float) -> NDArray[np.int64]:
    """Return how many bindings of each episode are not weaker than ``below``; episodes ascend."""
    counts = np.zeros(len(episodes), np.int64)
    for _, bound, strengths in blocks:
        strong = bound[strengths >= np.float32(below)]
        at = np.searchsorted(episodes, strong)
        known = at < len(episodes)
        known[known] = episodes[at[known]] == strong[known]
        counts += np.bincount(at[known], minlength=len(episodes))
    return counts


def choose_forgotten(
    concepts: NDArray[np.int64],
    episodes: NDArray[np.int64],
    strengths: NDArray[np.float32],
    n_strong: NDArray[np.int64],
    keep: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which weak bindings go, so that each episode keeps its `keep` strongest bindings.

    Parameters
    ----------
    concepts, episodes, strengths : ndarray, shape (m,)
        All weak bindings.
    n_strong : ndarray of int64
        Bindings that are not weak, of each episode in `episodes`, ascending.
    keep : int

    Returns
    -------
    (ndarray of int64, ndarray of int64)
        Concepts and episodes of the bindings that go. Of equally strong ones, those of smaller concept ids stay.
    """
    order = np.lexsort((concepts, -strengths, episodes))
    _, starts, counts = np.unique(episodes[order], return_index=True, return_counts=True)
    ranks = np.arange(len(order)) - np.repeat(starts, counts) + np.repeat(n_strong, counts)
    gone = order[ranks >= keep]
    return concepts[gone], episodes[gone]
