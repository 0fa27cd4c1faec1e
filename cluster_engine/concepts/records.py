"""Concepts and bindings as the tables of a store. Column meanings are those of ``docs/store.md``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.data.episodes import Episodes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cluster_engine.concepts.formation import Formation
    from cluster_engine.concepts.hierarchy import HierarchyNode


@dataclass(frozen=True, slots=True)
class Concept:
    """A group of episodes that became a concept.

    Attributes
    ----------
    concept_id : int
    rows : ndarray of int64, shape (k,)
        Rows of its episodes, ascending.
    formation : Formation
    """

    concept_id: int
    rows: NDArray[np.int64]
    formation: Formation


def vector_column(vectors: NDArray[np.float32]) -> pa.Array[Any]:
    """Return (n, d) float32 as a fixed_size_list column, without a copy."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def episode_table(episodes: Episodes) -> pa.Table:
    """Return the episodes, in the order of their ids."""
    columns = {
        "episode_id": episodes.ids,
        "time": episodes.times,
        "importance": pa.array(episodes.importances),
        "vector": vector_column(episodes.vectors),
    }
    if episodes.texts is not None:
        columns["text"] = episodes.texts
    return pa.table(columns)


def stored_episodes(table: pa.Table) -> Episodes:
    """Return the episodes of a store's table."""
    table = table.combine_chunks()
    vectors: Any = table["vector"].combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=True)
    return Episodes(
        ids=table["episode_id"].combine_chunks(),
        vectors=flat.reshape(len(table), vectors.type.list_size),
        times=table["time"].combine_chunks(),
        importances=table["importance"].combine_chunks().to_numpy(),
        texts=table["text"].combine_chunks() if "text" in table.column_names else None,
    )


def concept_table(
    concepts: Sequence[Concept],
    nodes: Sequence[HierarchyNode],
    heights: Mapping[int, float],
    episodes: Episodes,
    n_exemplars: int,
) -> pa.Table:
    """Return one row a concept, the largest first, then by id.

    Exemplars are the episodes of greatest strength, ties by id. `heights` tells, by the first row of a concept, the
    distance at which its last two parts joined; a single episode is at 0.
    """
    parents = {side: node.node_id for node in nodes for side in (node.left_id, node.right_id)}
    ordered = sorted(concepts, key=lambda concept: (-len(concept.rows), concept.concept_id))
    exemplars = [_strongest(concept, n_exemplars) for concept in ordered]
    offsets = pa.array(np.cumsum([0, *map(len, exemplars)], dtype=np.int32))
    rows = pa.array(np.concatenate([*exemplars, np.empty(0, np.int64)]), pa.int64())
    spans = [pc.min_max(episodes.times.take(pa.array(concept.rows, pa.int64()))) for concept in ordered]
    centroids = [concept.formation.centroid for concept in ordered]
    columns = {
        "concept_id": pa.array([concept.concept_id for concept in ordered], pa.int64()),
        "parent_id": pa.array([parents.get(concept.concept_id) for concept in ordered], pa.int64()),
        "n_episodes": pa.array([len(concept.rows) for concept in ordered], pa.int64()),
        "coherence": pa.array([concept.formation.coherence for concept in ordered], pa.float32()),
        "distance": pa.array([heights.get(int(concept.rows[0]), 0.0) for concept in ordered], pa.float64()),
        "first_time": pa.array([span["min"].as_py() for span in spans], episodes.times.type),
        "last_time": pa.array([span["max"].as_py() for span in spans], episodes.times.type),
        "exemplar_ids": _lists(offsets, episodes.ids.take(rows)),
        "centroid": vector_column(np.array(centroids, np.float32).reshape(-1, episodes.dimension)),
    }
    if episodes.texts is not None:
        columns["exemplar_texts"] = _lists(offsets, episodes.texts.take(rows))
    return pa.table(columns)


def _strongest(concept: Concept, n: int) -> NDArray[np.int64]:
    return concept.rows[np.argsort(-concept.formation.strengths, kind="stable")[:n]]


def _lists(offsets: pa.Array[Any], values: pa.Array[Any]) -> pa.Array[Any]:
    return pa.ListArray.from_arrays(offsets, values)  # type: ignore[no-any-return, call-overload]  # stubs lack arrays


def binding_table(concepts: Sequence[Concept], episodes: Episodes) -> pa.Table:
    """Return one row a binding, by concept id, then episode id."""
    ordered = sorted(concepts, key=lambda concept: concept.concept_id)
    rows = np.concatenate([*(concept.rows for concept in ordered), np.empty(0, np.int64)])
    empty = np.empty(0, np.float32)
    return pa.table(
        {
            "concept_id": pa.array(
                np.repeat(
                    np.array([concept.concept_id for concept in ordered], np.int64),
                    np.array([len(concept.rows) for concept in ordered], np.int64),
                )
            ),
            "episode_id": episodes.ids.take(pa.array(rows)),
            "strength": pa.array(np.concatenate([*(c.formation.strengths for c in ordered), empty])),
            "contribution": pa.array(np.concatenate([*(c.formation.contributions for c in ordered), empty])),
        }
    )


def hierarchy_table(nodes: Sequence[HierarchyNode]) -> pa.Table:
    """Return one row a node, from the bottom up."""
    return pa.table(
        {
            "node_id": pa.array([node.node_id for node in nodes], pa.int64()),
            "left_id": pa.array([node.left_id for node in nodes], pa.int64()),
            "right_id": pa.array([node.right_id for node in nodes], pa.int64()),
            "distance": pa.array([node.distance for node in nodes], pa.float64()),
            "n_episodes": pa.array([node.n_episodes for node in nodes], pa.int64()),
        }
    )


def dendrogram_table(z: NDArray[np.float64]) -> pa.Table:
    """Return SciPy's Z over the episodes in id order."""
    return pa.table(
        {
            "left": pa.array(z[:, 0].astype(np.int64)),
            "right": pa.array(z[:, 1].astype(np.int64)),
            "distance": pa.array(z[:, 2].copy()),
            "n_episodes": pa.array(z[:, 3].astype(np.int64)),
        }
    )
