"""What is known when a cycle begins: the tables of the version before, and the new episodes, as one.

Knows tables and the vectors that someone else reads. Refuses to know what a cycle makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.concepts.formation import form_concept
from cluster_engine.concepts.journal import Entry
from cluster_engine.concepts.population import Membership, Population, Roster
from cluster_engine.concepts.records import stored_membership, stored_population, vectors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from cluster_engine.data.episodes import Episodes

    ReadVectors = Callable[[pa.Array[Any]], Iterable[pa.Table]]


@dataclass(frozen=True, slots=True)
class LastCycle:
    """Facts of the cycle before; zeros where there was none.

    Attributes
    ----------
    number : int
    as_of_us : int
        Its time, microseconds since 1970.
    cut_distance : float
    rebuilt_episodes : int
        Episodes there were when all of them were last clustered from scratch.
    """

    number: int = 0
    as_of_us: int = 0
    cut_distance: float = 0.0
    rebuilt_episodes: int = 0

    @classmethod
    def of(cls, table: pa.Table) -> LastCycle:
        """Return the facts of a table ``cycle``."""
        (row,) = table.to_pylist()
        as_of_us = table["as_of"].cast(pa.int64())[0].as_py()
        return cls(row["cycle"], as_of_us, row["cut_distance"], row["rebuilt_episodes"])


@dataclass(frozen=True, slots=True)
class Known:
    """What a cycle begins with.

    Attributes
    ----------
    population : Population
        Each concept with members and their sum.
    membership : Membership
    roster : Roster
        All episodes, the new ones too.
    foreign : pyarrow.Table
        Bindings that a service made of concepts or episodes that the store does not have; they are kept as they are.
    last : LastCycle
    entries : list of Entry
        What had changed before the cycle began: episodes that were deleted, concepts that have none any more.
    fresh : Episodes
    read_vectors : callable
        Returns episodes of the store with their vectors (columns episode_id, vector), in any order and pieces.
    """

    population: Population
    membership: Membership
    roster: Roster
    foreign: pa.Table
    last: LastCycle
    entries: list[Entry]
    fresh: Episodes
    read_vectors: ReadVectors

    @classmethod
    def first(cls, fresh: Episodes) -> Known:
        """Return what is known to the first cycle of a store."""
        roster = Roster.join(None, fresh)
        population, membership = Population.empty(fresh.dimension), Membership.empty()
        return cls(population, membership, roster, pa.table({}), LastCycle(), [], fresh, lambda _: ())

    @classmethod
    def after(cls, version: StoredTables, fresh: Episodes, read_vectors: ReadVectors) -> Known:
        """Return what is known after a version of a store.

        Sums that the version lacks are computed from the members' vectors, and concepts without members are left out.
        """
        roster = Roster.join(version.episodes, fresh)
        population = stored_population(version.concepts, version.moments)
        membership, foreign = stored_membership(version.bindings, population, roster)
        known = cls(population, membership, roster, foreign, LastCycle.of(version.cycle), [], fresh, read_vectors)
        return _with_sums(_without_empty(known))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return the number of members of each concept."""
        return self.membership.sizes(len(self.population))

    @property
    def unbound(self) -> NDArray[np.int64]:
        """Return the rows of episodes that no concept has, ascending."""
        is_bound = np.zeros(len(self.roster), np.bool_)
        is_bound[self.membership.rows] = True
        return np.flatnonzero(~is_bound)

    def without(self, removed: NDArray[np.int64]) -> Known:
        """Return what is known once some episodes, by rows, are gone for good; their concepts are formed anew."""
        is_kept = np.ones(len(self.roster), np.bool_)
        is_kept[removed] = False
        row_of = np.cumsum(is_kept) - 1
        is_lost = ~is_kept[self.membership.rows]
        n_lost = np.bincount(self.membership.concepts[is_lost], minlength=len(self.population))
        weights = np.where(n_lost > 0, 0.0, self.population.weights)
        bound = np.flatnonzero(~is_lost)
        membership = Membership(
            self.membership.concepts[bound],
            row_of[self.membership.rows[bound]],
            self.membership.initial[bound],
            self.membership.touched_us[bound],
        )
        foreign = self.foreign
        if len(foreign):
            gone: Any = pc.is_in(foreign["episode_id"], value_set=self.roster.ids.take(removed))
            foreign = foreign.filter(pc.invert(gone))
        entries = [
            Entry(
                int(self.population.ids[concept]), "shrank", "episodes were deleted on request", -int(n_lost[concept])
            )
            for concept in np.flatnonzero(n_lost).tolist()
        ]
        shrunk = replace(
            self,
            population=replace(self.population, weights=weights),
            membership=membership,
            roster=self.roster.take(np.flatnonzero(is_kept)),
            foreign=foreign,
            entries=[*self.entries, *entries],
        )
        return _with_sums(_without_empty(shrunk))

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of some episodes, whose rows ascend: new ones from memory, others from the store."""
        new_rows = self.roster.new_row[rows]
        is_new = new_rows >= 0
        if is_new.all():
            return self.fresh.vectors[new_rows]
        gathered = np.empty((len(rows), self.population.sums.shape[1]), np.float32)
        gathered[is_new] = self.fresh.vectors[new_rows[is_new]]
        stored = np.flatnonzero(~is_new)
        ids = self.roster.ids.take(rows[stored])
        for piece in self.read_vectors(ids):
            gathered[stored[pc.index_in(piece["episode_id"], value_set=ids)]] = vectors_of(piece, "vector")
        return gathered


@dataclass(frozen=True, slots=True)
class StoredTables:
    """The tables of a version that a cycle needs; of the episodes without their vectors."""

    concepts: pa.Table
    bindings: pa.Table
    moments: pa.Table
    cycle: pa.Table
    episodes: pa.Table


def _without_empty(known: Known) -> Known:
    is_empty = known.sizes == 0
    if not is_empty.any():
        return known
    kept = np.flatnonzero(~is_empty)
    place = np.cumsum(~is_empty) - 1
    reason = "it has no episode any more"
    ended = [Entry(concept_id, "dissolved", reason) for concept_id in known.population.ids[is_empty].tolist()]
    return replace(
        known,
        population=known.population.take(kept),
        membership=replace(known.membership, concepts=place[known.membership.concepts]),
        entries=[*known.entries, *ended],
    )


def _with_sums(known: Known) -> Known:
    """Form those concepts anew whose sums the store does not have: a service has changed their members."""
    population = known.population
    lacking = np.flatnonzero(population.weights == 0)
    if not len(lacking):
        return known
    weights, sums = population.weights.copy(), population.sums.copy()
    coherences, centroids = population.coherences.copy(), population.centroids.copy()
    spans = known.membership.spans(len(population))
    for concept in lacking.tolist():
        formation = form_concept(known.vectors(known.membership.rows[spans[concept] : spans[concept + 1]]))
        weights[concept], sums[concept] = formation.moments.weight, formation.moments.sum
        coherences[concept], centroids[concept] = formation.coherence, formation.centroid
    formed = replace(population, weights=weights, sums=sums, coherences=coherences, centroids=centroids)
    return replace(known, population=formed)
