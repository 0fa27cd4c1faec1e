"""One cycle: what a store knows and the episodes that are new, to the tables of its next version. Top to bottom.

::

    known -> points -> merges up to a level -> groups -> concepts that go on, begin or end -> rules -> tables

Between rebuilds the points are the concepts, each the mean of its members with their number as weight, and the unbound
episodes: average linkage goes on exactly from where these concepts are single clusters. In a rebuild they are all
episodes. Where the work is done, on actors or here, is the `Engine`'s business; where tables go, the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cluster_engine.concepts import records, rules
from cluster_engine.concepts.clustering import (
    EPISODES,
    MEANS,
    Engine,
    Level,
    cluster_points,
    concept_points,
    episode_points,
    mixed_points,
)
from cluster_engine.concepts.formation import Formation, Moments, form_concept
from cluster_engine.concepts.hierarchy import HierarchyNode, join_concepts
from cluster_engine.concepts.journal import Entry, journal_table
from cluster_engine.concepts.population import NEVER, Population
from cluster_engine.concepts.succession import Succession, succeed
from cluster_engine.concepts.transitions import NEW, Group, continued_groups, lasting_groups, matched_groups
from cluster_engine.linkage.cut import group_heights, group_rows
from cluster_engine.linkage.dendrogram import linkage_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cluster_engine.concepts.known import Known, LastCycle
    from cluster_engine.config import Config, RebuildConfig
    from cluster_engine.steps import Steps

    ReadTexts = Callable[[pa.Array[Any]], pa.Array[Any]]


@dataclass(frozen=True, slots=True)
class Moment:
    """When and as what a cycle runs.

    Attributes
    ----------
    number : int
        Of the cycle, from 1.
    as_of_us : int
        Its time, microseconds since 1970; never before that of the last cycle.
    slot : str or None
        Name of the batch.
    """

    number: int
    as_of_us: int
    slot: str | None


@dataclass(frozen=True, slots=True)
class CycleResult:
    """The tables of a cycle.

    Attributes
    ----------
    tables : dict of str to pyarrow.Table
        Those that replace the ones before: concepts, bindings, hierarchy, moments, cycle.
    added : dict of str to pyarrow.Table
        Rows for the tables that grow: episodes, journal.
    is_rebuild : bool
    cut_distance : float
    """

    tables: dict[str, pa.Table]
    added: dict[str, pa.Table]
    is_rebuild: bool
    cut_distance: float


def due_reason(n_concepts: int, n_episodes: int, last: LastCycle, rule: RebuildConfig) -> str | None:
    """Return why a cycle clusters all episodes from scratch; None if it does not.

    It does where there is no concept yet; where the episodes have grown by a factor g since it last did, up to a size
    (as the cost of one is quadratic, all rebuilds together cost 1 / (1 - g**-2) of the last: 1.8 times for 1.5); and
    every so many cycles.
    """
    if not n_concepts:
        return "all are clustered from scratch: there is no concept yet"
    if rule.every_cycles is not None and (last.number + 1) % rule.every_cycles == 0:
        return f"all are clustered from scratch, as every {rule.every_cycles} cycles"
    if rule.growth * last.rebuilt_episodes <= n_episodes <= rule.most_episodes:
        return f"all are clustered from scratch: they were {last.rebuilt_episodes:,} when they last were"
    return None


def is_due(known: Known, settings: Config) -> bool:
    """Return whether a cycle clusters all episodes from scratch."""
    return due_reason(len(known.population), len(known.roster), known.last, settings.rebuild) is not None


def run_cycle(
    known: Known,
    settings: Config,
    moment: Moment,
    *,
    engine: Engine,
    steps: Steps,
    read_texts: ReadTexts,
    is_rebuild: bool,
    threads: int,
) -> CycleResult:
    """Run one cycle.

    Parameters
    ----------
    known : Known
    settings : Config
    moment : Moment
    engine : Engine
        Where the work is done.
    steps : Steps
        Runs "linkage" and "concepts".
    read_texts : callable
        Returns the texts of some episodes, by their ids, null where there is none.
    is_rebuild : bool
        Whether all episodes are clustered from scratch.
    threads : int
        Of what is computed here.

    Raises
    ------
    VectorError
        A vector has no direction; names the episode.
    """
    rows = np.arange(len(known.roster)) if is_rebuild else known.unbound
    vectors = known.vectors(rows)

    def name(row: int) -> str:
        return f"episode {known.roster.ids[int(rows[row])].as_py()!r}"

    if is_rebuild:
        points, criterion = episode_points(vectors, name, threads), EPISODES
        level = Level(settings.cut.distance, settings.cut.n_groups)
    else:
        points, criterion = mixed_points(known.population, vectors, name, threads), MEANS
        level = Level(known.last.cut_distance if settings.cut.distance is None else settings.cut.distance)
    z, distance = cluster_points(points, criterion, level, engine, steps)
    groups = _groups(z, rows, known, settings.cut.min_episodes, is_rebuild=is_rebuild)
    formations = _form(groups, rows, vectors, known, engine=engine, steps=steps)
    groups, formations = _coherent(groups, formations, settings.cut.min_coherence)
    dissolved: list[int] = []
    if is_rebuild:
        groups, unmatched = matched_groups(groups, formations, known.population, known.membership, len(known.roster))
        lasting, dissolved = lasting_groups(groups, unmatched, known, settings.cut.min_episodes)
        groups += lasting
        formations += [form_concept(vectors[group.rows]) for group in lasting]
    succession = succeed(
        known, groups, formations, dissolved, cycle=moment.number, now_us=moment.as_of_us, is_rebuild=is_rebuild
    )
    population, entries = _ruled(known, succession, moment, settings)
    nodes = _hierarchy(population, succession, engine)
    rebuilt_episodes = len(known.roster) if is_rebuild else known.last.rebuilt_episodes
    tables = _tables(
        known,
        replace(succession, population=population),
        nodes,
        now_us=moment.as_of_us,
        settings=settings,
        read_texts=read_texts,
    )
    tables["cycle"] = pa.table(
        {
            "cycle": pa.array([moment.number], pa.int64()),
            "as_of": pa.array([moment.as_of_us], pa.int64()).cast(records.TIME),
            "cut_distance": pa.array([distance], pa.float64()),
            "rebuilt_episodes": pa.array([rebuilt_episodes], pa.int64()),
            "rules_sha256": pa.array([settings.rules_sha256()], pa.large_string()),
        }
    )
    added = {
        "episodes": records.episode_table(known.fresh),
        "journal": journal_table([*known.entries, *entries], moment.number, moment.as_of_us, moment.slot),
    }
    return CycleResult(tables, added, is_rebuild, distance)


def _groups(
    z: NDArray[np.float64], rows: NDArray[np.int64], known: Known, least: int, *, is_rebuild: bool
) -> list[Group]:
    if not is_rebuild:
        return continued_groups(z, rows, known.population, known.sizes, least)
    n = len(rows)
    heights = group_heights(z, len(z), n)
    return [Group(members, heights.get(int(members[0]), 0.0)) for members in group_rows(z, len(z), least, n)]


def _form(
    groups: Sequence[Group],
    rows: NDArray[np.int64],
    vectors: NDArray[np.float32],
    known: Known,
    *,
    engine: Engine,
    steps: Steps,
) -> list[Formation]:
    """Form each group from its episodes, and what its concepts had before. `rows` ascends and has all episodes."""

    def before(group: Group) -> Moments | None:
        parts = sorted(position for position in (group.kept, *group.absorbed) if position != NEW)
        population = known.population
        return Moments(float(population.weights[parts].sum()), population.sums[parts].sum(axis=0)) if parts else None

    def form() -> dict[str, pa.Table]:
        parts = [(vectors[np.searchsorted(rows, group.rows)], before(group)) for group in groups]
        return records.formation_tables(engine.form(parts), vectors.shape[1])

    return records.stored_formations(steps.run("concepts", form))


def _coherent(
    groups: list[Group], formations: list[Formation], least: float | None
) -> tuple[list[Group], list[Formation]]:
    """Leave out new groups that are not coherent enough."""
    if least is None:
        return groups, formations
    kept = [i for i, group in enumerate(groups) if group.kept != NEW or formations[i].coherence >= least]
    return [groups[i] for i in kept], [formations[i] for i in kept]


def _ruled(known: Known, succession: Succession, moment: Moment, settings: Config) -> tuple[Population, list[Entry]]:
    """Return the population after the rules of strength, promotion and retirement, and all entries of the cycle."""
    population = succession.population
    replay = settings.replay.rule()
    gained_ppm = np.array(
        [
            int(rules.replay_weights_ppm(known.roster, rows, moment.as_of_us, replay).sum()) if len(rows) else 0
            for rows in succession.gained
        ],
        np.int64,
    )
    elapsed_us = moment.as_of_us - known.last.as_of_us if known.last.number else 0
    population = rules.weakened(population, elapsed_us, settings.fade.concept_half_life_days)
    population = rules.strengthened(population, gained_ppm, moment.as_of_us, replay, is_replayed=succession.is_replayed)
    sizes = succession.membership.sizes(len(population))
    ready = rules.promoted(population, sizes, moment.number, settings.promote.rule())
    after = rules.retired(ready, moment.number, settings.retire.rule())
    entries = list(succession.entries)
    for position in np.flatnonzero((ready.promoted_cycle != NEVER) & (population.promoted_cycle == NEVER)).tolist():
        reason = (
            f"strength {ready.strengths_ppm[position]} ppm, {ready.n_replays[position]} replays and coherence "
            f"{ready.coherences[position]:.3f} meet the rule of promotion"
        )
        entries.append(Entry(int(ready.ids[position]), "promoted", reason))
    for position in np.flatnonzero(after.is_retired & ~ready.is_retired).tolist():
        reason = f"idle for {after.idle_cycles[position]} cycles, strength {after.strengths_ppm[position]} ppm"
        entries.append(Entry(int(after.ids[position]), "retired", reason))
    return after, entries


def _hierarchy(population: Population, succession: Succession, engine: Engine) -> list[HierarchyNode]:
    if len(population) < 2:
        return []
    points = concept_points(population)
    z = linkage_matrix(points.expand(engine.merge(points, MEANS, None)), len(population))
    return join_concepts(z, population.ids, succession.membership.sizes(len(population)))


def _tables(
    known: Known,
    succession: Succession,
    nodes: list[HierarchyNode],
    *,
    now_us: int,
    settings: Config,
    read_texts: ReadTexts,
) -> dict[str, pa.Table]:
    population, membership, roster = succession.population, succession.membership, known.roster
    exemplars = records.choose_exemplars(membership, settings.n_exemplars)
    texts = read_texts(roster.ids.take(membership.rows[exemplars]))
    return {
        "concepts": records.concept_table(
            population, membership, roster, nodes=nodes, exemplars=exemplars, texts=texts
        ),
        "bindings": records.binding_table(
            population,
            membership,
            roster,
            now_us=now_us,
            fading=settings.fade.rule(),
            foreign=known.foreign,
        ),
        "hierarchy": records.hierarchy_table(nodes),
        "moments": records.moment_table(population),
    }
