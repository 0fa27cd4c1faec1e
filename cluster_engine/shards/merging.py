"""Answers of several actors made one, in an order that does not depend on their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.store.search import Neighbours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cluster_engine.shards.shard import Columns

    Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]


def join_columns(parts: Sequence[Columns]) -> Columns:
    """Return (concepts, episodes, strengths) of all parts, one after the other."""
    concepts, episodes, strengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    return concepts, episodes, strengths


def merge_bindings(parts: Sequence[Columns]) -> Columns:
    """Return bindings by (concept, episode)."""
    concepts, episodes, strengths = join_columns(parts)
    order = np.lexsort((episodes, concepts))
    return concepts[order], episodes[order], strengths[order]


def merge_ranked(parts: Sequence[Ranked]) -> Ranked:
    """Return ids with strengths, strongest first, then by id."""
    ids, strengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((ids, -strengths))
    return ids[order], strengths[order]


def merge_neighbours(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Return the k nearest of all parts to each query, by similarity descending, then by concept id."""
    ids = np.concatenate([part.concept_ids for part in parts], axis=1)
    similarities = np.concatenate([part.similarities for part in parts], axis=1)
    order = np.lexsort((ids, -similarities), axis=1)[:, :k]
    return Neighbours(np.take_along_axis(ids, order, axis=1), np.take_along_axis(similarities, order, axis=1))


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
