"""Concepts, episodes and bindings as the tables of a store, and back; ``docs/store.md`` says what columns mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cluster_engine.concepts.fading import Fading, faded
from cluster_engine.concepts.formation import Formation, Moments
from cluster_engine.concepts.population import NEVER, Membership, Population, Roster
from cluster_engine.data.episodes import Episodes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cluster_engine.concepts.hierarchy import HierarchyNode

TIME = pa.timestamp("us", "UTC")


def vectors_of(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a fixed_size_list column as (n, d) numbers."""
    column: Any = _array(table, name)
    vectors: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=True).reshape(len(table), column.type.list_size)
    return vectors


def vector_column(vectors: NDArray[np.float32] | NDArray[np.float64]) -> pa.Array[Any]:
    """Return (n, d) numbers as a fixed_size_list column, without a copy."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def episode_table(episodes: Episodes) -> pa.Table:
    """Return episodes, in the order of their ids."""
    return pa.table(
        {
            "episode_id": episodes.ids,
            "time": episodes.times,
            "importance": pa.array(episodes.importances),
            "evergreen": pa.array(episodes.evergreen),
            "text": text_column(episodes),
            "vector": vector_column(episodes.vectors),
        }
    )


def text_column(episodes: Episodes) -> pa.Array[Any]:
    """Return the texts of episodes, null where there is none."""
    return episodes.texts if episodes.texts is not None else pa.nulls(len(episodes), pa.large_string())


def stored_episodes(table: pa.Table) -> Episodes:
    """Return the episodes of a store's table."""
    table = table.combine_chunks()
    return Episodes(
        ids=_array(table, "episode_id"),
        vectors=vectors_of(table, "vector"),
        times=_array(table, "time"),
        importances=table["importance"].to_numpy(),
        evergreen=table["evergreen"].to_numpy(),
        texts=_array(table, "text"),
    )


def stored_population(concepts: pa.Table, moments: pa.Table) -> Population:
    """Return the concepts of a store's tables; one without moments has a weight of 0."""
    concepts = concepts.sort_by("concept_id").combine_chunks()
    ids = concepts["concept_id"].to_numpy()
    dimension = concepts.schema.field("centroid").type.list_size
    weights, sums = np.zeros(len(ids)), np.zeros((len(ids), dimension))
    if len(moments):
        at = np.searchsorted(ids, moments["concept_id"].to_numpy())
        weights[at] = moments["weight"].to_numpy()
        sums[at] = vectors_of(moments.combine_chunks(), "sum")
    never: Any = pa.scalar(NEVER, pa.int64())
    return Population(
        ids=ids,
        strengths_ppm=concepts["strength_ppm"].to_numpy(),
        n_replays=concepts["n_replays"].to_numpy(),
        idle_cycles=concepts["idle_cycles"].to_numpy(),
        born_cycle=concepts["born_cycle"].to_numpy(),
        promoted_cycle=concepts["promoted_cycle"].fill_null(never).to_numpy(),
        is_retired=np.array(concepts["state"].to_pylist(), np.str_) == "retired",
        born_us=_microseconds(concepts, "born_time"),
        replayed_us=_microseconds(concepts, "replay_time"),
        distances=concepts["distance"].to_numpy(),
        coherences=concepts["coherence"].to_numpy(),
        centroids=vectors_of(concepts, "centroid"),
        weights=weights,
        sums=sums,
    )


def stored_membership(bindings: pa.Table, population: Population, roster: Roster) -> tuple[Membership, pa.Table]:
    """Return the bindings of a store's table, and apart those of concepts or episodes that it does not have."""
    ids = bindings["concept_id"].to_numpy()
    concepts = np.searchsorted(population.ids, ids)
    is_known = concepts < len(population)
    is_known[is_known] = population.ids[concepts[is_known]] == ids[is_known]
    rows = roster.rows_of(bindings["episode_id"].combine_chunks())
    is_known &= rows >= 0
    known = np.flatnonzero(is_known)
    membership = Membership.ordered(
        concepts[known],
        rows[known],
        bindings["initial"].to_numpy()[known],
        _microseconds(bindings, "touched")[known],
    )
    return membership, bindings.take(np.flatnonzero(~is_known))


def concept_table(
    population: Population,
    membership: Membership,
    roster: Roster,
    *,
    nodes: Sequence[HierarchyNode],
    exemplars: NDArray[np.int64],
    texts: pa.Array[Any],
) -> pa.Table:
    """Return one row a concept, the largest first, then by id.

    Parameters
    ----------
    exemplars : ndarray of int64
        Positions in the membership, as `choose_exemplars` returns them.
    texts : pyarrow.Array
        Of the exemplars' episodes, null where there is none.
    """
    m = len(population)
    sizes = membership.sizes(m)
    order = np.lexsort((population.ids, -sizes))
    parents = {side: node.node_id for node in nodes for side in (node.left_id, node.right_id)}
    first_us, last_us, is_timed = _spans(membership, roster, m)
    offsets = pa.array(np.searchsorted(membership.concepts[exemplars], np.arange(m + 1)).astype(np.int32))
    ids = population.ids.tolist()
    columns = {
        "concept_id": pa.array(population.ids),
        "state": pa.array(population.states.tolist(), pa.large_string()),
        "parent_id": pa.array([parents.get(name) for name in ids], pa.int64()),
        "n_episodes": pa.array(sizes),
        "coherence": pa.array(population.coherences),
        "distance": pa.array(population.distances),
        "strength_ppm": pa.array(population.strengths_ppm),
        "n_replays": pa.array(population.n_replays),
        "idle_cycles": pa.array(population.idle_cycles),
        "born_cycle": pa.array(population.born_cycle),
        "promoted_cycle": pa.array(population.promoted_cycle, mask=population.promoted_cycle == NEVER),
        "born_time": pa.array(population.born_us).cast(TIME),
        "replay_time": pa.array(population.replayed_us).cast(TIME),
        "first_time": pa.array(first_us, mask=~is_timed).cast(TIME),
        "last_time": pa.array(last_us, mask=~is_timed).cast(TIME),
        "exemplar_ids": _lists(offsets, roster.ids.take(membership.rows[exemplars])),
        "exemplar_texts": _lists(offsets, texts),
        "centroid": vector_column(population.centroids),
    }
    return pa.table(columns).take(order)


def choose_exemplars(membership: Membership, n: int) -> NDArray[np.int64]:
    """Return the n most typical members of each concept: by similarity when bound, descending, then id.

    Returns
    -------
    ndarray of int64
        Positions in the membership, by concept, the most typical first.
    """
    order = np.lexsort((membership.rows, -membership.initial, membership.concepts))
    concepts = membership.concepts[order]
    rank = np.arange(len(order)) - np.searchsorted(concepts, concepts)
    return order[rank < n]


def binding_table(
    population: Population,
    membership: Membership,
    roster: Roster,
    *,
    now_us: int,
    fading: Fading,
    foreign: pa.Table,
) -> pa.Table:
    """Return one row a binding, by concept id, then episode id, with strengths as they are at a time; `foreign` too."""
    table = pa.table(
        {
            "concept_id": pa.array(population.ids[membership.concepts]),
            "episode_id": roster.ids.take(membership.rows),
            "strength": pa.array(
                faded(membership.initial, membership.touched_us, roster.evergreen[membership.rows], now_us, fading)
            ),
            "initial": pa.array(membership.initial),
            "touched": pa.array(membership.touched_us).cast(TIME),
        }
    )
    if not len(foreign):
        return table
    both = pa.concat_tables([table, foreign.select(table.column_names).cast(table.schema)])
    return both.sort_by([("concept_id", "ascending"), ("episode_id", "ascending")])


def moment_table(population: Population) -> pa.Table:
    """Return the sums of the unit vectors of each concept's members."""
    return pa.table(
        {
            "concept_id": pa.array(population.ids),
            "weight": pa.array(population.weights),
            "sum": vector_column(population.sums),
        }
    )


def formation_tables(formations: Sequence[Formation], dimension: int) -> dict[str, pa.Table]:
    """Return formations as tables, to be kept while a batch goes on."""
    sums = np.array([formation.moments.sum for formation in formations], np.float64).reshape(-1, dimension)
    centroids = np.array([formation.centroid for formation in formations], np.float32).reshape(-1, dimension)
    strengths = np.concatenate([np.empty(0, np.float32), *(formation.strengths for formation in formations)])
    columns = {
        "weight": pa.array([formation.moments.weight for formation in formations], pa.float64()),
        "coherence": pa.array([formation.coherence for formation in formations], pa.float64()),
        "n_strengths": pa.array([len(formation.strengths) for formation in formations], pa.int64()),
        "sum": vector_column(sums),
        "centroid": vector_column(centroids),
    }
    return {"formations": pa.table(columns), "strengths": pa.table({"strength": pa.array(strengths)})}


def stored_formations(tables: Mapping[str, pa.Table]) -> list[Formation]:
    """Return the formations of such tables."""
    table = tables["formations"].combine_chunks()
    if not len(table):
        return []
    ends = np.cumsum(table["n_strengths"].to_numpy())
    strengths = np.split(tables["strengths"]["strength"].to_numpy(), ends[:-1])
    facts = (table["weight"].to_numpy().tolist(), table["coherence"].to_numpy().tolist())
    rows = zip(*facts, vectors_of(table, "sum"), vectors_of(table, "centroid"), strengths, strict=True)
    return [
        Formation(Moments(weight, total), centroid, coherence, own) for weight, coherence, total, centroid, own in rows
    ]


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


def _spans(
    membership: Membership, roster: Roster, m: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the first and last time of each concept's episodes, and which concepts have any."""
    times_us, known = roster.times_us()
    timed = known[membership.rows]
    concepts, times_us = membership.concepts[timed], times_us[membership.rows[timed]]
    first, last = np.full(m, np.iinfo(np.int64).max), np.full(m, np.iinfo(np.int64).min)
    np.minimum.at(first, concepts, times_us)
    np.maximum.at(last, concepts, times_us)
    is_timed = np.bincount(concepts, minlength=m) > 0
    return np.where(is_timed, first, 0), np.where(is_timed, last, 0), is_timed


def _lists(offsets: pa.Array[Any], values: pa.Array[Any]) -> pa.Array[Any]:
    return pa.ListArray.from_arrays(offsets, values)  # type: ignore[no-any-return, call-overload]  # stubs lack arrays


def _array(table: pa.Table, name: str) -> pa.Array[Any]:
    column: pa.Array[Any] = table[name].combine_chunks()
    return column


def _microseconds(table: pa.Table, name: str) -> NDArray[np.int64]:
    column: Any = table[name]
    times: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    return times
