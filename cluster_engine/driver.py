"""`consolidate`: episodes in, concepts out. The whole batch, top to bottom.

::

    lease -> read -> pairs (actors, parallel) -> merges (here, sequential) -> concepts (actors) -> rules -> commit

Between reading and committing lies one cycle (:mod:`cluster_engine.cycle`). Nothing is visible in the store until the
commit; what a batch that was killed had finished, the next start of the same batch finds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.batch import Batch, BatchReport, repeated_report, report_cycle, report_table
from cluster_engine.concepts.difference import Difference, diff_concepts
from cluster_engine.concepts.known import Known, StoredTables
from cluster_engine.concepts.records import episode_table, stored_episodes, text_column
from cluster_engine.config import Config, load_config
from cluster_engine.cycle import CycleResult, Moment, is_due, run_cycle
from cluster_engine.data.merging import leave_out_stored
from cluster_engine.data.quarantine import Quarantine, join_quarantines
from cluster_engine.data.reading import read_episodes
from cluster_engine.embedding.embedder import load_embedder
from cluster_engine.embedding.files import read_texts
from cluster_engine.errors import InputError
from cluster_engine.progress import Phase, Published, Reporter, Spent, measured
from cluster_engine.shards.engine import PooledEngine
from cluster_engine.shards.pool import ShardPool, connected
from cluster_engine.similarity.capacity import count_threads
from cluster_engine.steps import Steps
from cluster_engine.store.catalog import current_version, find_slot, list_versions
from cluster_engine.store.commit import check_writable, commit_version
from cluster_engine.store.lease import hold_lease
from cluster_engine.store.location import locate
from cluster_engine.store.retention import remove_versions
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.work import Work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from cluster_engine.data.episodes import Episodes
    from cluster_engine.data.files import EpisodeInput
    from cluster_engine.shards.actor import ActorReport
    from cluster_engine.store.lease import Fence

_FACTS = ["episode_id", "time", "importance", "evergreen"]


def consolidate(
    input: EpisodeInput,  # noqa: A002  # the public name
    store: str | Path,
    config: Config | str | Path | None = None,
    *,
    slot: str | None = None,
    as_of: datetime | None = None,
    rebuild: bool = False,
    progress: Reporter | None = None,
) -> BatchReport:
    """Fold episodes into the concepts of a store, on Ray: one cycle.

    Parameters
    ----------
    input : path, directory, glob, URI, or a sequence of those
        Parquet or Arrow files of episodes; see :func:`cluster_engine.data.reading.read_episodes`. Episodes that the
        store has already are passed over. Texts, or an export of another program, where `config.input` says so.
    store : path or URI
        The concept store; made if missing.
    config : Config or path to YAML, optional
    slot : str, optional
        Name of this batch. A slot that is committed already is not run again.
    as_of : datetime, optional
        Time of the cycle, with a zone, to which strengths fade; default, the slot if it is an ISO 8601 time, else that
        of the newest episode. Never the clock of this machine, and never before the cycle before.
    rebuild : bool
        Cluster all episodes from scratch, and match the groups to the concepts there are.
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
    The result is the same bytes for any order of the rows, number of actors, threads, hosts, and instruction set. Of
    several that run on a store at a time, one works and the others wait for it (`Config.lease`).
    """
    return _run_alone(Batch(input, store, _settings(config), slot, as_of, is_rebuild=rebuild), progress)


def retain(
    store: str | Path,
    since: datetime,
    config: Config | str | Path | None = None,
    *,
    slot: str | None = None,
    progress: Reporter | None = None,
) -> BatchReport:
    """Delete the episodes from before a time, for good, in a cycle of its own; the only way that episodes go.

    Evergreen episodes and those without a time stay. Concepts are formed anew from what they have left; one that has
    nothing left ends. Versions before this one still have the episodes, until
    :func:`cluster_engine.store.retention.remove_versions`.

    Parameters
    ----------
    store : path or URI
    since : datetime
        With a zone.
    config, slot, progress
        As of :func:`consolidate`.

    Returns
    -------
    BatchReport

    Raises
    ------
    InputError
        No episode would be left.
    """
    return _run_alone(Batch([], store, _settings(config), slot, since=since), progress)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a batch would do.

    Attributes
    ----------
    report : BatchReport
        With version 0.
    difference : Difference
        Between the current version and the one that would be.
    journal : pyarrow.Table
        What would change, and why.
    concepts : pyarrow.Table
        Those that there would be.
    """

    report: BatchReport
    difference: Difference
    journal: pa.Table
    concepts: pa.Table


def preview(
    input: EpisodeInput,  # noqa: A002  # the public name
    store: str | Path,
    config: Config | str | Path | None = None,
    *,
    slot: str | None = None,
    as_of: datetime | None = None,
    rebuild: bool = False,
    since: datetime | None = None,
    progress: Reporter | None = None,
) -> Preview:
    """Do all of a batch but the commit: nothing is written anywhere.

    Parameters
    ----------
    input, store, config, slot, as_of, rebuild, progress
        As of :func:`consolidate`.
    since : datetime, optional
        As of :func:`retain`, of whose batch this is then the preview; `input` is not looked at.
    """
    batch = Batch(input, store, _settings(config), slot, as_of, is_rebuild=rebuild, since=since)
    stored = _opened(batch)
    steps = Steps()
    cycled = _cycle(batch, stored, steps, progress)
    after = cycled.result.tables | {"episodes": pa.table({"episode_id": cycled.known.roster.ids})}
    names = ("concepts", "bindings", "episodes")
    before = {name: after[name].slice(0, 0) for name in names}
    if stored is not None:
        before = {
            "concepts": stored.concepts(),
            "bindings": stored.bindings(),
            "episodes": stored.episodes(["episode_id"]),
        }
    difference = diff_concepts(before, after)
    return Preview(cycled.report(steps), difference, cycled.result.added["journal"], after["concepts"])


def _settings(config: Config | str | Path | None) -> Config:
    return config if isinstance(config, Config) else load_config(config) if config is not None else Config()


def _run_alone(batch: Batch, progress: Reporter | None) -> BatchReport:
    """Run a batch while no other works on the store."""
    check_writable(batch.store)
    if (done := _repetition(batch)) is not None:
        return done
    lease = batch.settings.lease
    with hold_lease(batch.store, ttl_s=lease.ttl_s, wait_s=lease.wait_s) as fence:
        done = _repetition(batch)  # whoever had the lease before may have done it
        return done if done is not None else _run(batch, fence, progress)


def _repetition(batch: Batch) -> BatchReport | None:
    if batch.slot is None or (committed := find_slot(batch.store, batch.slot)) is None:
        return None
    versions = list_versions(locate(batch.store))
    told = committed if committed in versions else versions[-1]  # its own may have been removed since
    return replace(repeated_report(ConceptStore.open(batch.store, version=told)), version=committed, slot=batch.slot)


def _opened(batch: Batch) -> ConceptStore | None:
    """Return the current version of the store; None where there is none yet, and the batch can do without."""
    base = current_version(batch.store)
    return None if base is None and batch.since is None else ConceptStore.open(batch.store, version=base)


def _run(batch: Batch, fence: Fence | None, progress: Reporter | None) -> BatchReport:
    stored = _opened(batch)
    work = Work(batch.store, batch.key(stored))
    steps = Steps(work)
    cycled = _cycle(batch, stored, steps, Published(work.publish_status, batch.slot, progress))
    report = cycled.report(steps)
    with measured("commit", report.spent):
        tables = {**cycled.result.tables, "quarantine": cycled.quarantine.table}
        tables["report"] = report_table(report, cycled.actors)
        added = dict(cycled.result.added)
        if batch.since is not None and stored is not None:
            del added["episodes"]
            kept = stored.select_episodes(cycled.known.roster.ids)
            tables["episodes"] = pa.concat_tables(kept).sort_by("episode_id")
        base = 0 if stored is None else stored.version
        version = commit_version(batch.store, tables, added=added, slot=batch.slot, expected_version=base, fence=fence)
    work.clear()
    if batch.settings.keep_versions is not None and locate(batch.store).is_local:
        remove_versions(batch.store, batch.settings.keep_versions)
    manifest = ConceptStore.open(batch.store, version=version).manifest
    return replace(report, version=version, content_sha256=manifest.content_sha256)


@dataclass(frozen=True, slots=True)
class _Cycled:
    """A cycle that has run and is not committed."""

    known: Known
    quarantine: Quarantine
    moment: Moment
    result: CycleResult
    actors: Sequence[ActorReport]
    spent: dict[str, Spent]

    def report(self, steps: Steps) -> BatchReport:
        spent = {**steps.spent, **self.spent}
        return report_cycle(self.result, self.moment, self.known, self.quarantine, spent=spent, resumed=steps.resumed)


def _cycle(batch: Batch, stored: ConceptStore | None, steps: Steps, reporter: Reporter | None) -> _Cycled:
    known, quarantine = _known(batch, stored, steps, reporter)
    moment = Moment(known.last.number + 1, batch.as_of_us(known), batch.slot)
    with connected(), ShardPool(batch.settings.pool) as pool:
        engine = PooledEngine(pool, batch.settings.memory_limit_bytes, reporter)
        result = run_cycle(
            known,
            batch.settings,
            moment,
            engine=engine,
            steps=steps,
            read_texts=lambda ids: _texts(stored, known.fresh, ids),
            is_rebuild=batch.is_rebuild or is_due(known, batch.settings),
            threads=count_threads(),
        )
        return _Cycled(known, quarantine, moment, result, pool.reports, engine.spent)


def _known(
    batch: Batch, stored: ConceptStore | None, steps: Steps, progress: Reporter | None
) -> tuple[Known, Quarantine]:
    """Return what is known: of the store, and of the input or without what is to be deleted; and the rows refused."""
    if batch.since is not None and stored is not None:
        known = _after(stored, _stored_twins(stored, None))
        known = known.without(known.roster.rows_before(batch.since))
        if not len(known.roster):
            raise InputError(f"no episode of the store is from {batch.since.isoformat()} or later; nothing was deleted")
        return known, Quarantine.empty()
    fresh, quarantine = _read(batch, stored, steps, progress)
    known = Known.first(fresh) if stored is None else _after(stored, fresh)
    if not len(known.roster):
        raise InputError(f"the input has no usable episode: {_count_reasons(quarantine)}")
    return known, quarantine


def _after(stored: ConceptStore, fresh: Episodes) -> Known:
    tables = StoredTables(
        concepts=stored.concepts(),
        bindings=stored.bindings(),
        moments=stored.moments(),
        cycle=stored.cycle(),
        episodes=stored.episodes(_FACTS),
    )
    return Known.after(tables, fresh, lambda ids: stored.select_episodes(ids, ["vector"]))


def _read(
    batch: Batch, stored: ConceptStore | None, steps: Steps, progress: Reporter | None
) -> tuple[Episodes, Quarantine]:
    """Return the episodes that the store does not have, and the rows refused."""

    def read() -> dict[str, pa.Table]:
        told = batch.settings.input
        if told.has_texts:
            embedder = None if told.embedder is None else load_embedder(told.embedder)
            new, quarantine = read_texts(
                batch.input, embedder, input_format=told.format, columns=told.columns, progress=progress
            )
        else:
            phase = Phase("read", 0, progress)
            new, quarantine = read_episodes(
                batch.input, columns=told.columns, dimension=told.dimension, progress=phase.advance_to
            )
        if stored is not None:
            new, conflicts = leave_out_stored(_stored_twins(stored, new), new)
            quarantine = join_quarantines([quarantine, conflicts])
        return {"fresh": episode_table(new), "quarantine": quarantine.table}

    made = steps.run("read", read)
    return stored_episodes(made["fresh"]), Quarantine(made["quarantine"])


def _stored_twins(stored: ConceptStore, new: Episodes | None) -> Episodes:
    """Return those stored episodes whose ids new ones have, or none, of the store's types."""
    kind = stored.episodes(["episode_id"]).schema.field("episode_id").type
    ids = new.ids if new is not None and new.ids.type == kind else pa.nulls(0, kind)
    return stored_episodes(pa.concat_tables(stored.select_episodes(ids)))


def _texts(stored: ConceptStore | None, fresh: Episodes, ids: pa.Array[Any]) -> pa.Array[Any]:
    """Return the texts of some episodes, null where there is none."""
    parts = [pa.table({"episode_id": fresh.ids, "text": text_column(fresh)})]
    if stored is not None:
        parts += stored.select_episodes(ids, ["text"])
    known = pa.concat_tables(parts).combine_chunks()
    texts: pa.Array[Any] = known["text"].take(pc.index_in(ids, value_set=known["episode_id"])).combine_chunks()
    return texts


def _count_reasons(quarantine: Quarantine) -> str:
    counts = ", ".join(f"{count} {reason.value}" for reason, count in quarantine.counts().items())
    return f"{len(quarantine)} rows were refused ({counts})" if counts else "it has no rows"
