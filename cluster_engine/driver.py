"""`consolidate`: episodes in, concepts out. The whole batch, top to bottom.

::

    lease -> read -> pairs (actors, parallel) -> merges (here, sequential) -> concepts (actors) -> rules -> commit

Between reading and committing lies one cycle (:mod:`cluster_engine.cycle`). Nothing is visible in the store until the
commit; what a batch that was killed had finished, the next start of the same batch finds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.batch import Batch, BatchReport, repeated_report, report_cycle, report_table
from cluster_engine.concepts.known import Known, StoredTables
from cluster_engine.concepts.records import episode_table, stored_episodes, text_column
from cluster_engine.config import Config, load_config
from cluster_engine.cycle import Moment, is_due, run_cycle
from cluster_engine.data.merging import leave_out_stored
from cluster_engine.data.quarantine import Quarantine, join_quarantines
from cluster_engine.data.reading import read_episodes
from cluster_engine.embedding.embedder import load_embedder
from cluster_engine.embedding.files import read_texts
from cluster_engine.errors import InputError
from cluster_engine.progress import Phase, Published, Reporter, timed
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
    from datetime import datetime
    from pathlib import Path

    from cluster_engine.data.episodes import Episodes
    from cluster_engine.data.files import EpisodeInput
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
    dry_run: bool = False,
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
    dry_run : bool
        Do all but the commit.
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
    settings = config if isinstance(config, Config) else load_config(config) if config is not None else Config()
    batch = Batch(input, store, settings, slot, as_of, is_rebuild=rebuild)
    return _run_alone(batch, progress, dry_run=dry_run)


def retain(
    store: str | Path,
    since: datetime,
    config: Config | str | Path | None = None,
    *,
    slot: str | None = None,
    dry_run: bool = False,
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
    config, slot, dry_run, progress
        As of :func:`consolidate`.

    Returns
    -------
    BatchReport

    Raises
    ------
    InputError
        No episode would be left.
    """
    settings = config if isinstance(config, Config) else load_config(config) if config is not None else Config()
    return _run_alone(Batch([], store, settings, slot, since=since), progress, dry_run=dry_run)


def _run_alone(batch: Batch, progress: Reporter | None, *, dry_run: bool) -> BatchReport:
    """Run a batch while no other works on the store."""
    if (done := _repetition(batch)) is not None:
        return done
    if dry_run:
        return _run(batch, None, progress, dry_run=True)
    check_writable(batch.store)
    lease = batch.settings.lease
    with hold_lease(batch.store, ttl_s=lease.ttl_s, wait_s=lease.wait_s) as fence:
        done = _repetition(batch)  # whoever had the lease before may have done it
        return done if done is not None else _run(batch, fence, progress, dry_run=False)


def _repetition(batch: Batch) -> BatchReport | None:
    if batch.slot is None or (committed := find_slot(batch.store, batch.slot)) is None:
        return None
    versions = list_versions(locate(batch.store))
    told = committed if committed in versions else versions[-1]  # its own may have been removed since
    return replace(repeated_report(ConceptStore.open(batch.store, version=told)), version=committed, slot=batch.slot)


def _run(batch: Batch, fence: Fence | None, progress: Reporter | None, *, dry_run: bool) -> BatchReport:
    base = current_version(batch.store)
    stored = None if base is None and batch.since is None else ConceptStore.open(batch.store, version=base)
    work = None if dry_run else Work(batch.store, batch.key(stored))
    steps = Steps(work)
    reporter = progress if work is None else Published(work.publish_status, batch.slot, progress)
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
        actors = pool.reports

    seconds = {**steps.seconds, **engine.seconds}
    report = report_cycle(result, moment, known, quarantine, seconds=seconds, resumed=steps.resumed)
    if dry_run:
        return report
    with timed("commit", seconds):
        tables = {**result.tables, "quarantine": quarantine.table, "report": report_table(report, actors)}
        added = dict(result.added)
        if batch.since is not None and stored is not None:
            del added["episodes"]
            tables["episodes"] = pa.concat_tables(stored.select_episodes(known.roster.ids)).sort_by("episode_id")
        version = commit_version(
            batch.store, tables, added=added, slot=batch.slot, expected_version=base or 0, fence=fence
        )
    if work is not None:
        work.clear()
    if batch.settings.keep_versions is not None and locate(batch.store).is_local:
        remove_versions(batch.store, batch.settings.keep_versions)
    manifest = ConceptStore.open(batch.store, version=version).manifest
    return replace(report, version=version, content_sha256=manifest.content_sha256)


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
