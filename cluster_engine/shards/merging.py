"""Answers of several actors made one, in an order that does not depend on their number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cluster_engine.store.search import Neighbours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cluster_engine.shards.shard import Columns

    Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]


NOTHING: Columns = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
"""No bindings."""


def join_columns(parts: Sequence[Columns]) -> Columns:
    """Return (concepts, episodes, strengths) of all parts, one after the other."""
    concepts, episodes, strengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    return concepts, episodes, strengths


def merge_bindings(parts: Sequence[Columns]) -> Columns:
    """Return bindings by (concept, episode)."""
    concepts, episodes, strengths = join_columns(parts)
    order = np.lexsort((episodes, concepts))
    return concepts[order], episodes[order], strengths[order]


def take_rows(columns: Columns, rows: NDArray[Any] | slice) -> Columns:
    """Return some bindings, by number or mask."""
    concepts, episodes, strengths = columns
    return concepts[rows], episodes[rows], strengths[rows]


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
