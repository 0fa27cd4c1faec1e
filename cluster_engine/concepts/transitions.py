"""What becomes of concepts when they are clustered again: which group goes on as which concept.

Two ways. Between rebuilds the concepts are points of the clustering themselves, each its members' mean with their
number as weight, so a group says by itself what joined (`continued_groups`). In a rebuild all episodes are clustered
from scratch, and groups are told from the members that they share with concepts (`matched_groups`): identity is
overlap, and where that is weak, a centroid that has hardly moved. An id is never given to a second group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.linkage.cut import group_heights, group_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cluster_engine.concepts.formation import Formation
    from cluster_engine.concepts.known import Known
    from cluster_engine.concepts.population import Membership, Population

NEW = -1
"""In place of a concept: there was none."""
_SAME_CENTROID = 0.9  # cosine; chosen, not measured


@dataclass(frozen=True, slots=True)
class Group:
    """What a cycle makes one concept of.

    Attributes
    ----------
    rows : ndarray of int64, shape (k,)
        Episodes that it is formed from, ascending: those that join, or in a rebuild all.
    distance : float
        At which its last two parts joined.
    kept : int
        Position of the concept that it goes on as, or `NEW`.
    absorbed : tuple of int
        Positions of other concepts that end in it.
    split_from : int
        Position of the concept that a new one was part of, or `NEW`.
    """

    rows: NDArray[np.int64]
    distance: float
    kept: int = NEW
    absorbed: tuple[int, ...] = ()
    split_from: int = NEW


def continued_groups(
    z: NDArray[np.float64], unbound: NDArray[np.int64], population: Population, sizes: NDArray[np.int64], least: int
) -> list[Group]:
    """Return the groups that change anything: concepts that gain episodes or join, and new ones.

    Parameters
    ----------
    z : ndarray, shape (t, 4)
        Merges up to the cut, of the concepts in their order, then the unbound episodes.
    unbound : ndarray of int64
        Rows of those episodes.
    population : Population
    sizes : ndarray of int64
        Members of each concept.
    least : int
        Episodes that a new concept needs.

    Notes
    -----
    Where concepts join, an active one goes on before a proto-concept and that before a retired one; then the one with
    most members, the older, the one of smaller id.
    """
    m = len(population)
    n = m + len(unbound)
    heights = group_heights(z, len(z), n)
    precedence = _precedence(population, sizes)
    groups = []
    for points in group_rows(z, len(z), 1, n):
        concepts, rows = points[points < m], unbound[points[points >= m] - m]
        distance = heights.get(int(points[0]), 0.0)
        if not len(concepts):
            if len(rows) >= least:
                groups.append(Group(rows, distance))
        elif len(concepts) > 1 or len(rows):
            kept, *absorbed = sorted(concepts.tolist(), key=lambda position: precedence[position])
            groups.append(Group(rows, distance, kept, tuple(sorted(absorbed))))
    return groups


def _precedence(population: Population, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each concept in the order in which one goes on when several join."""
    rank = np.where(population.is_retired, 2, np.where(population.promoted_cycle < 0, 1, 0))
    order = np.lexsort((population.ids, population.born_cycle, -sizes, rank))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def matched_groups(
    groups: Sequence[Group], formations: Sequence[Formation], population: Population, membership: Membership, n: int
) -> tuple[list[Group], list[int]]:
    """Tell which groups of a rebuild go on as which concepts.

    Parameters
    ----------
    groups : sequence of Group
        Of all n episodes; none has a concept yet.
    formations : sequence of Formation
        Of the groups.
    population, membership
        Before the rebuild.
    n : int
        Episodes in all.

    Returns
    -------
    groups : list of Group
        The same, each with what it goes on as, absorbed, or was split from.
    unmatched : list of int
        Positions of concepts that no group has to do with: their episodes are in no group, or too scattered.

    Notes
    -----
    Pairs of a group and a concept are taken by the number of members they share, then by the share of both that this
    is, then by id. A pair is one and the same where they share half of the smaller, or their centroids are closer than
    a cosine of 0.9. A concept that goes on nowhere is absorbed by the group that has most of its members, if that is
    half of them; a group that is new was split from the concept that half of its members belonged to.
    """
    shared = _shared_members(groups, membership, n)
    sizes = membership.sizes(len(population))
    concept_of, group_of = [NEW] * len(groups), [NEW] * len(population)
    for concept, group, overlap in shared:
        if concept_of[group] != NEW or group_of[concept] != NEW:
            continue
        is_half = 2 * overlap >= min(int(sizes[concept]), len(groups[group].rows))
        if is_half or _are_close(population.centroids[concept], formations[group].centroid):
            concept_of[group], group_of[concept] = concept, group
    absorbed: list[list[int]] = [[] for _ in groups]
    split_from = [NEW] * len(groups)
    settled = [group != NEW for group in group_of]
    for concept, group, overlap in shared:  # the greatest overlap of each comes first
        if not settled[concept] and 2 * overlap >= sizes[concept]:
            absorbed[group].append(concept)
            settled[concept] = True
        if concept_of[group] == NEW and split_from[group] == NEW and 2 * overlap >= len(groups[group].rows):
            split_from[group] = concept
    told = [
        replace(
            group,
            kept=concept_of[i],
            absorbed=tuple(sorted(absorbed[i])),
            split_from=NEW if split_from[i] in absorbed[i] else split_from[i],
        )
        for i, group in enumerate(groups)
    ]
    return told, [concept for concept, is_settled in enumerate(settled) if not is_settled]


def lasting_groups(
    groups: Sequence[Group], unmatched: Sequence[int], known: Known, least: int
) -> tuple[list[Group], list[int]]:
    """Let concepts that no group of a rebuild goes on as keep the members that no group has, if they are enough.

    Returns
    -------
    groups : list of Group
    dissolved : list of int
        Positions of those that have fewer than `least` left, and end.
    """
    is_grouped = np.zeros(len(known.roster), np.bool_)
    for group in groups:
        is_grouped[group.rows] = True
    spans = known.membership.spans(len(known.population))
    lasting, dissolved = [], []
    for concept in unmatched:
        members = known.membership.rows[spans[concept] : spans[concept + 1]]
        left = members[~is_grouped[members]]
        if len(left) < least:
            dissolved.append(concept)
        else:
            lasting.append(Group(left, float(known.population.distances[concept]), concept))
    return lasting, dissolved


def _shared_members(groups: Sequence[Group], membership: Membership, n: int) -> list[tuple[int, int, int]]:
    """Return (concept, group, members in common) for all that have any, in the order in which pairs are taken."""
    label = np.full(n, NEW)
    for i, group in enumerate(groups):
        label[group.rows] = i
    grouped = label[membership.rows] != NEW
    pairs = np.column_stack((membership.concepts[grouped], label[membership.rows[grouped]]))
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    sizes = np.array([len(group.rows) for group in groups], np.int64)
    members = np.bincount(membership.concepts, minlength=1)
    union = members[found[:, 0]] + sizes[found[:, 1]] - counts
    order = np.lexsort((found[:, 1], found[:, 0], -counts / union, -counts))
    return [(int(c), int(g), int(k)) for (c, g), k in zip(found[order], counts[order], strict=True)]


def _are_close(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    product = a.astype(np.float64) * b.astype(np.float64)
    return bool(product.sum() >= _SAME_CENTROID)
