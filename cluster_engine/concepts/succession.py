"""The population after a cycle's groups: who goes on, who is new, who ended, whom each episode is bound to, and why.

Knows positions and columns. Rules of strength come after, in :mod:`cluster_engine.concepts.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster_engine.concepts.identity import name_after, require_distinct
from cluster_engine.concepts.journal import Entry
from cluster_engine.concepts.population import NEVER, Membership, Population
from cluster_engine.concepts.transitions import NEW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cluster_engine.concepts.formation import Formation
    from cluster_engine.concepts.known import Known
    from cluster_engine.concepts.transitions import Group


@dataclass(frozen=True, slots=True)
class Succession:
    """What came of the groups.

    Attributes
    ----------
    population : Population
    membership : Membership
    is_replayed : ndarray of bool, shape (m,)
        Concepts that are new, or gained episodes that were unbound.
    gained : list of ndarray of int64
        For each concept the rows of the episodes that it gained and that were unbound.
    entries : list of Entry
    """

    population: Population
    membership: Membership
    is_replayed: NDArray[np.bool_]
    gained: list[NDArray[np.int64]]
    entries: list[Entry]


def succeed(
    known: Known,
    groups: Sequence[Group],
    formations: Sequence[Formation],
    dissolved: Sequence[int],
    *,
    cycle: int,
    now_us: int,
    is_rebuild: bool,
) -> Succession:
    """Let groups go on as concepts.

    Parameters
    ----------
    known : Known
    groups, formations
        One formation a group. In a rebuild groups have all their members, else those that join; what no group names
        stays as it is, but in a rebuild, where `dissolved` names it.
    cycle : int
        Number of this cycle.
    now_us : int
        Its time.
    """
    population = known.population
    unbound = np.zeros(len(known.roster), np.bool_)
    unbound[known.unbound] = True
    ended = {*dissolved, *(position for group in groups for position in group.absorbed)}
    changed = {group.kept for group in groups if group.kept != NEW}
    untouched = np.array([p for p in range(len(population)) if p not in ended and p not in changed], np.int64)
    ids = np.array([_id_of(group, known, cycle) for group in groups], np.int64)
    all_ids = np.concatenate((population.ids[untouched], ids))
    require_distinct(all_ids.tolist())
    order = np.argsort(all_ids)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    place_of_group = place[len(untouched) :]

    columns = _columns(population, groups, formations, cycle, now_us)
    following = Population(
        ids=all_ids[order],
        **{
            name: np.concatenate((getattr(population, name)[untouched], column))[order]
            for name, column in columns.items()
        },
    )
    goes_to = np.full(len(population), NEW)
    goes_to[untouched] = place[: len(untouched)]
    for group, where in zip(groups, place_of_group.tolist(), strict=True):
        goes_to[[*group.absorbed, *([group.kept] if group.kept != NEW else [])]] = where
    membership = _bind(
        known.membership,
        groups,
        formations,
        goes_to=goes_to,
        place_of_group=place_of_group,
        now_us=now_us,
        is_rebuild=is_rebuild,
    )
    gained = [np.empty(0, np.int64)] * len(following)
    is_replayed = np.zeros(len(following), np.bool_)
    for group, where in zip(groups, place_of_group.tolist(), strict=True):
        gained[where] = group.rows[unbound[group.rows]]
        is_replayed[where] = group.kept == NEW or len(gained[where]) > 0
    membership.touched_us[is_replayed[membership.concepts]] = now_us
    sizes = membership.sizes(len(following))
    n_gained = [len(gained[where]) for where in place_of_group.tolist()]
    entries = _entries(known, groups, ids, sizes[place_of_group].tolist(), n_gained)
    entries += [_dissolution(int(population.ids[position]), int(known.sizes[position])) for position in dissolved]
    return Succession(following, membership, is_replayed, gained, entries)


def _id_of(group: Group, known: Known, cycle: int) -> int:
    if group.kept != NEW:
        return int(known.population.ids[group.kept])
    return name_after("concept", f"{cycle}/{known.roster.ids[int(group.rows[0])].as_py()}")


def _columns(
    population: Population, groups: Sequence[Group], formations: Sequence[Formation], cycle: int, now_us: int
) -> dict[str, NDArray[Any]]:
    """Return the columns of the concepts that the groups become, but their ids."""
    facts: dict[str, list[Any]] = {field.name: [] for field in fields(Population) if field.name != "ids"}
    for group, formation in zip(groups, formations, strict=True):
        parts = [position for position in (group.kept, *group.absorbed, group.split_from) if position != NEW]
        is_active = bool((population.promoted_cycle[parts] != NEVER).any())
        promoted_cycle = population.promoted_cycle[group.kept] if group.kept != NEW else NEVER
        row = {
            "strengths_ppm": max(population.strengths_ppm[parts].tolist(), default=0),
            "n_replays": max(population.n_replays[parts].tolist(), default=0),
            "idle_cycles": population.idle_cycles[group.kept] if group.kept != NEW else 0,
            "born_cycle": population.born_cycle[group.kept] if group.kept != NEW else cycle,
            "promoted_cycle": cycle if is_active and promoted_cycle == NEVER else promoted_cycle,
            "is_retired": group.kept != NEW and population.is_retired[group.kept],
            "born_us": population.born_us[group.kept] if group.kept != NEW else now_us,
            "replayed_us": population.replayed_us[group.kept] if group.kept != NEW else now_us,
            "distances": group.distance,
            "coherences": formation.coherence,
            "centroids": formation.centroid,
            "weights": formation.moments.weight,
            "sums": formation.moments.sum,
        }
        for name, value in row.items():
            facts[name].append(value)
    empty = Population.empty(population.sums.shape[1])
    columns = {}
    for name, values in facts.items():
        like = getattr(empty, name)
        columns[name] = np.array(values, like.dtype).reshape((len(values), *like.shape[1:]))
    return columns


def _bind(
    membership: Membership,
    groups: Sequence[Group],
    formations: Sequence[Formation],
    *,
    goes_to: NDArray[np.int64],
    place_of_group: NDArray[np.int64],
    now_us: int,
    is_rebuild: bool,
) -> Membership:
    """Return the bindings after the groups: what stays keeps its strength, what is new begins with its similarity."""
    sizes = [len(group.rows) for group in groups]
    concepts = np.repeat(place_of_group, sizes)
    rows = np.concatenate([np.empty(0, np.int64), *(group.rows for group in groups)])
    strengths = np.concatenate([np.empty(0, np.float32), *(formation.strengths for formation in formations)])
    moved = goes_to[membership.concepts]
    if is_rebuild:  # a binding goes on only if its group has the episode still
        stays = _pairs_in(moved, membership.rows, concepts, rows)
        known = _pairs_in(concepts, rows, moved[stays], membership.rows[stays])
    else:
        stays, known = moved != NEW, np.zeros(len(rows), np.bool_)
    fresh = ~known
    return Membership.ordered(
        np.concatenate((moved[stays], concepts[fresh])),
        np.concatenate((membership.rows[stays], rows[fresh])),
        np.concatenate((membership.initial[stays], strengths[fresh])),
        np.concatenate((membership.touched_us[stays], np.full(int(fresh.sum()), now_us))),
    )


def _pairs_in(
    concepts: NDArray[np.int64], rows: NDArray[np.int64], of_concepts: NDArray[np.int64], of_rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which pairs (concept, row) are among others; a concept of `NEW` is in none."""
    span = int(max(rows.max(initial=0), of_rows.max(initial=0))) + 1
    found: NDArray[np.bool_] = np.isin(concepts * span + rows, of_concepts * span + of_rows)
    both: NDArray[np.bool_] = np.logical_and(found, concepts != NEW)
    return both


def _entries(
    known: Known, groups: Sequence[Group], ids: NDArray[np.int64], sizes: list[int], n_gained: list[int]
) -> list[Entry]:
    entries = []
    sizes_before = known.sizes
    for group, concept_id, size, n_unbound in zip(groups, ids.tolist(), sizes, n_gained, strict=True):
        others = tuple(int(known.population.ids[position]) for position in group.absorbed)
        if group.split_from != NEW:
            parent = int(known.population.ids[group.split_from])
            reason = f"{size} episodes, most of them of concept {parent}, are a group of their own at the cut"
            entries.append(Entry(concept_id, "split", reason, size, (parent,)))
        elif group.kept == NEW:
            reason = f"{size} episodes that were bound to no concept are a group at the cut"
            entries.append(Entry(concept_id, "born", reason, size))
        if others:
            joined = int(sizes_before[list(group.absorbed)].sum())
            reason = f"the mean similarity to {len(others)} other concepts is within the cut: it goes on for all"
            entries.append(Entry(concept_id, "merged", reason, joined, others))
            reason = f"its episodes and those of concept {concept_id} are one group at the cut"
            entries += [
                Entry(other, "absorbed", reason, -int(sizes_before[position]), (concept_id,))
                for other, position in zip(others, group.absorbed, strict=True)
            ]
        if group.kept == NEW:
            continue
        gained = size - int(sizes_before[[group.kept, *group.absorbed]].sum())
        if gained > 0:
            entries.append(Entry(concept_id, "grew", f"{gained} episodes joined within the cut", gained))
        elif gained < 0:
            entries.append(Entry(concept_id, "shrank", f"{-gained} episodes are in other groups, or in none", gained))
        if known.population.is_retired[group.kept] and n_unbound:
            entries.append(Entry(concept_id, "revived", "it gained episodes after it had retired"))
    return entries


def _dissolution(concept_id: int, n_episodes: int) -> Entry:
    reason = "clustered from scratch, its episodes are in other groups, or in none"
    return Entry(concept_id, "dissolved", reason, -n_episodes)
