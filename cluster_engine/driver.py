"""`consolidate`: episodes in, concepts out. The whole batch, top to bottom.

::

    read -> distinct -> pairs (actors, parallel) -> linkage (here, sequential) -> cut -> form (actors) -> commit

The pairs fill a matrix or leave ranked lists. The driver holds the episodes and the matrix or the lists; the actors
hold their share of the batch, packed, and the shards of the binding index. Nothing is visible in the store until the
commit.
"""

from __future__ import annotations

import dataclasses
import resource
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

import native_simd
from cluster_engine.concepts.hierarchy import join_concepts
from cluster_engine.concepts.identity import name_after, require_distinct
from cluster_engine.concepts.records import (
    Concept,
    binding_table,
    concept_table,
    dendrogram_table,
    episode_table,
    hierarchy_table,
    stored_episodes,
)
from cluster_engine.config import Config, load_config
from cluster_engine.data.merging import merge_episodes
from cluster_engine.data.quarantine import Quarantine, join_quarantines
from cluster_engine.data.reading import read_episodes
from cluster_engine.data.schema import ColumnNames
from cluster_engine.errors import InputError
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.cut import Cut, cut_at, cut_into, group_heights, group_rows
from cluster_engine.linkage.dendrogram import linkage_matrix
from cluster_engine.linkage.duplicates import distinct_points
from cluster_engine.linkage.gain import choose_cut, cross_similarities
from cluster_engine.linkage.linkage import checked_norms
from cluster_engine.progress import Phase, Reporter, timed
from cluster_engine.shards.actor import ActorReport, ConceptMembers
from cluster_engine.shards.linkage import PooledLinkage, pooled_path
from cluster_engine.shards.passes import form_concepts
from cluster_engine.shards.pool import ShardPool, connected
from cluster_engine.shards.shard import shard_of
from cluster_engine.similarity.capacity import count_threads
from cluster_engine.store.catalog import current_version, find_slot
from cluster_engine.store.commit import check_writable, commit_version
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cluster_engine.data.episodes import Episodes
    from cluster_engine.data.files import EpisodeInput
    from cluster_engine.linkage.duplicates import Points


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch did.

    Attributes
    ----------
    version : int
        Version of the store that holds the result.
    slot : str or None
    repeated : bool
        The slot had been committed before; nothing was changed, and the numbers below are those of the version.
    n_episodes, n_new_episodes, n_quarantined : int
        Episodes in the store now, those that were not there before, and rows refused in this batch.
    n_concepts, n_bindings : int
    cut_distance : float
        Distance at which the dendrogram was cut.
    content_sha256 : str
        Digest of all tables but the report: equal results, equal digests.
    seconds : dict of str to float
        Wall time of each phase.
    """

    version: int
    slot: str | None
    repeated: bool
    n_episodes: int
    n_new_episodes: int
    n_quarantined: int
    n_concepts: int
    n_bindings: int
    cut_distance: float
    content_sha256: str
    seconds: dict[str, float] = field(default_factory=dict)


def consolidate(
    input: EpisodeInput,  # noqa: A002  # the public name
    store: str | Path,
    config: Config | str | Path | None = None,
    *,
    slot: str | None = None,
    progress: Reporter | None = None,
) -> BatchReport:
    """Turn episodes into concepts, on Ray.

    Parameters
    ----------
    input : path, directory, glob, URI, or a sequence of those
        Parquet or Arrow files of episodes; see :func:`cluster_engine.data.reading.read_episodes`.
    store : path or URI
        The concept store; made if missing. Episodes it already holds are clustered together with the new ones.
    config : Config or path to YAML, optional
    slot : str, optional
        Name of this batch. A slot that is committed already is not run again.
    progress : callable, optional
        Called with :class:`cluster_engine.progress.Progress`.

    Returns
    -------
    BatchReport

    Raises
    ------
    InputError, ConfigError, CapacityError, PlacementError, PassError, ClusterConnectionError, StoreError
        See :mod:`cluster_engine.errors`. Whatever is raised, the store is as it was.

    Notes
    -----
    The result is the same bytes for any order of the rows, number of actors, threads, hosts, and instruction set.
    """
    settings = config if isinstance(config, Config) else load_config(config) if config is not None else Config()
    check_writable(store)
    if slot is not None and (committed := find_slot(store, slot)) is not None:
        return _describe(ConceptStore.open(store, version=committed), repeated=True)
    base = current_version(store)
    seconds: dict[str, float] = {}

    with timed("read", seconds):
        episodes, n_new, quarantine = _read(input, store, base, settings, progress)
        criterion = Criterion(settings.linkage.method, settings.linkage.metric)
        points = _distinct(episodes, criterion)
    path = pooled_path(points, criterion, settings.memory_limit_bytes)

    with connected(), ShardPool(settings.pool) as pool:
        merges = PooledLinkage(pool, points, criterion, reporter=progress).merges(path, seconds)
        z = linkage_matrix(points.expand(merges), len(episodes))
        with timed("concepts", seconds):
            cut = _cut(z, criterion, episodes, settings)
            groups = group_rows(z, cut.n_merges, settings.cut.min_episodes)
            concepts = _form(pool, episodes, groups, Phase("concepts", len(groups), progress))
        actors = pool.reports

    with timed("commit", seconds):
        nodes = join_concepts(z, cut.n_merges, {int(c.rows[0]): c for c in concepts}, episodes.ids)
        tables = {
            "episodes": episode_table(episodes),
            "concepts": concept_table(concepts, nodes, group_heights(z, cut.n_merges), episodes, settings.n_exemplars),
            "bindings": binding_table(concepts, episodes),
            "hierarchy": hierarchy_table(nodes),
            "dendrogram": dendrogram_table(z),
            "quarantine": quarantine.table,
        }
        tables["report"] = _report_table(tables, n_new, cut, seconds, actors)
        version = commit_version(store, tables, slot=slot, expected_version=base or 0)
    return _describe(ConceptStore.open(store, version=version), repeated=False)


def _read(
    input: EpisodeInput,  # noqa: A002  # as in consolidate
    store: str | Path,
    base: int | None,
    settings: Config,
    progress: Reporter | None,
) -> tuple[Episodes, int, Quarantine]:
    """Return all episodes known after this batch, the number of new ones, and the rows refused."""
    names = settings.input
    columns = ColumnNames(
        id=names.id, vector=names.vector, time=names.time, importance=names.importance, text=names.text
    )
    phase = Phase("read", 0, progress)
    new, quarantine = read_episodes(input, columns=columns, dimension=names.dimension, progress=phase.advance_to)
    if base is None:
        if not len(new):
            raise InputError(f"the input has no usable episode: {_count_reasons(quarantine)}")
        return new, len(new), quarantine
    stored = stored_episodes(ConceptStore.open(store, version=base).episodes())
    episodes, conflicts = merge_episodes(stored, new)
    return episodes, len(episodes) - len(stored), join_quarantines([quarantine, conflicts])


def _distinct(episodes: Episodes, criterion: Criterion) -> Points:
    """Return the distinct vectors; errors name episodes, whose rows are in the order of ids and not in a file's."""

    def name(row: int) -> str:
        return f"episode {episodes.ids[row].as_py()!r}"

    norms = checked_norms(episodes.vectors, criterion, count_threads(), name)
    return distinct_points(episodes.vectors, norms, criterion, name_row=name)


def _count_reasons(quarantine: Quarantine) -> str:
    counts = ", ".join(f"{count} {reason.value}" for reason, count in quarantine.counts().items())
    return f"{len(quarantine)} rows were refused ({counts})" if counts else "it has no rows"


def _cut(z: NDArray[np.float64], criterion: Criterion, episodes: Episodes, settings: Config) -> Cut:
    if settings.cut.distance is not None:
        return cut_at(z, settings.cut.distance)
    if settings.cut.n_groups is not None:
        return cut_into(z, settings.cut.n_groups)
    return choose_cut(z, cross_similarities(z, criterion, episodes.vectors))


def _form(pool: ShardPool, episodes: Episodes, groups: Sequence[NDArray[np.int64]], phase: Phase) -> list[Concept]:
    """Turn each group of rows into a concept, on the actor that owns its shard."""
    ids = np.array([name_after("concept", episodes.ids[int(rows[0])].as_py()) for rows in groups], np.int64)
    require_distinct(ids.tolist())
    shards = shard_of(ids, pool.n_shards)
    of_shard = [np.flatnonzero(shards == shard) for shard in range(pool.n_shards)]
    members = [ConceptMembers.gather(ids[chosen], [groups[i] for i in chosen.tolist()]) for chosen in of_shard]
    formed = form_concepts(pool, members, lambda shard: episodes.vectors[members[shard].rows], phase)
    return [
        Concept(int(ids[i]), groups[i], formation)
        for shard, formations in formed.items()
        for i, formation in zip(of_shard[shard].tolist(), formations, strict=True)
    ]


def _report_table(
    tables: Mapping[str, pa.Table], n_new: int, cut: Cut, seconds: Mapping[str, float], actors: Sequence[ActorReport]
) -> pa.Table:
    """Return the one table that may differ between equal runs."""
    row = {
        "engine_version": installed_version("cluster-engine"),
        "isa": native_simd.active_isa(),
        "n_actors": len(actors),
        "n_threads": sum(actor.threads for actor in actors),
        "n_episodes": tables["episodes"].num_rows,
        "n_new_episodes": n_new,
        "n_quarantined": tables["quarantine"].num_rows,
        "n_concepts": tables["concepts"].num_rows,
        "n_bindings": tables["bindings"].num_rows,
        "cut_distance": cut.distance,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **{f"{phase}_s": spent for phase, spent in seconds.items()},
    }
    return pa.table({name: [value] for name, value in row.items()})


def _describe(version: ConceptStore, *, repeated: bool) -> BatchReport:
    row = version.report().to_pylist()[0]
    counts = {f.name: row[f.name] for f in dataclasses.fields(BatchReport) if f.name in row}
    return BatchReport(
        version=version.version,
        slot=version.slot,
        repeated=repeated,
        content_sha256=version.manifest.content_sha256,
        seconds={name.removesuffix("_s"): value for name, value in row.items() if name.endswith("_s")},
        **counts,
    )
