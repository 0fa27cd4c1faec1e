"""Shards whose acknowledged changes survive the death of their process: a version of the store, and a log after it.

Owns the order of things: a mutation is verified, logged, applied, made durable, acknowledged. Refuses to know of Ray
and of other actors, but for their logs, which it reads when it owns slots that were theirs.

When a mutation returns, it is on disk. A crash before may leave it done or not; the same operation id settles it: sent
again, it is applied where it was not. Readers see a mutation once it is in the log, and that survives the death of the
process; only with the power can be lost what a reader saw and nobody was promised.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

import native_simd
from cluster_engine.errors import StoreError
from cluster_engine.shards.forgetting import count_strong, weak_bindings
from cluster_engine.shards.mapped import write_mapped
from cluster_engine.shards.mutation import Mutation
from cluster_engine.shards.names import names_to_columns
from cluster_engine.shards.placement import UNPLACED
from cluster_engine.shards.recovery import ShardSettings, recover
from cluster_engine.shards.slots import slots_owned
from cluster_engine.store import files
from cluster_engine.store.location import Location, StoreUri, locate, store_errors
from cluster_engine.store.lock import hold_lock
from cluster_engine.store.log import LogWriter, create_log, resume_log
from cluster_engine.store.segments import (
    LOG_DIRECTORY,
    Committed,
    Place,
    Segment,
    list_segments,
    remove_segments,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.search.conditions import Condition
    from cluster_engine.shards.placement import MemoryPlan
    from cluster_engine.shards.shard import BindingShard, Columns
    from cluster_engine.store.search import Neighbours

logger = logging.getLogger(__name__)

_LOCK_TIMEOUT_S = 10.0  # a killed predecessor is gone within it; chosen, not measured


class DurableShards:
    """The shards of one actor: their bindings in memory, what changed since the version on disk in a log.

    Parameters
    ----------
    uri : path, URI or Location
        A store on a local filesystem, or one that is shared and has locks.
    life : int
        Start of the service, from 1; goes up. A process that is started again goes on in the same life.
    actor, n_actors : int
        Which of how many.
    n_shards : int
        Logical shards in all, a power of two up to 256.
    threads : int
        Of a call.
    plan : MemoryPlan
        Where the memory of the bindings goes.
    memory_limit_bytes : int, optional
        What bindings and centroids may take in memory; the rest lies on disk, in files without names beside the log
        (:class:`~cluster_engine.shards.tiered_index.TieredIndex`). Default, no limit.

    Raises
    ------
    CapacityError
        The memory limit is below what must be in memory.
    CommitConflictError
        Another process serves these shards, or the log follows another version than the newest.
    StoreCorruptError
        The log or the store is damaged; names the file and the offset.
    StoreError
        The store is not local, has no version, or cannot be read or written.

    Notes
    -----
    Any number of threads may call. Changes are applied one at a time, in the order of the log; reads go on meanwhile.
    """

    def __init__(
        self,
        uri: StoreUri,
        *,
        life: int,
        actor: int = 0,
        n_actors: int = 1,
        n_shards: int = 16,
        threads: int = 1,
        plan: MemoryPlan = UNPLACED,
        memory_limit_bytes: int | None = None,
    ) -> None:
        self._location = locate(uri)
        self._actor = actor
        self._directory = log_directory(self._location)
        self._writing = threading.Lock()
        self._n_logged = 0
        self._resources = ExitStack()
        with store_errors(self._location, "open the log of"), ExitStack() as opened:
            files.make_directory(self._directory)
            opened.enter_context(hold_lock(self._directory / f".lock-{actor:04d}", _LOCK_TIMEOUT_S))
            slots = slots_owned(actor, n_shards, n_actors)
            self._state, last = recover(
                self._location,
                self._directory,
                slots,
                (life, actor),
                ShardSettings(n_shards, threads, plan, memory_limit_bytes),
            )
            for leftover in self._directory.glob(f".pending-*-{actor:04d}-*"):
                files.remove_file(leftover)
            self._place = last.place if last else Place(life, 1, actor)
            self._log = self._resume(last) if last else self._begin()
            self._resources = opened.pop_all()
        logger.info(
            "opened shards actor=%d life=%d version=%d replayed=%d log=%s",
            actor,
            life,
            self._state.committed.version,
            self._state.n_replayed,
            self._place.name,
        )

    @property
    def shard(self) -> BindingShard:
        """The bindings, for reading."""
        return self._state.shard

    @property
    def version(self) -> int:
        """Version of the store that the log follows."""
        return self._state.committed.version

    @property
    def is_string_ids(self) -> bool:
        """Whether the store's episodes have strings for ids."""
        return self._state.names is not None

    def close(self) -> None:
        """Make the log durable and let another process have it. No call may be under way or come after."""
        with self._writing, self._resources, store_errors(self._location, "close the log of"):
            try:
                self._log.sync(self._log.n_bytes)
            finally:
                self._log.close()

    def change(self, mutation: Mutation, op_id: int, names: list[str] | None = None) -> bool:
        """Apply a batch once, durably.

        Parameters
        ----------
        mutation : Mutation
        op_id : int
            An int64. What an operation of this id has changed, it does not change again.
        names : list of str, optional
            Of the episodes, where the store's ids are strings and the batch may bind new ones.

        Returns
        -------
        bool
            False if nothing was left to do.

        Raises
        ------
        RowError, ValueError
            The batch is refused: nothing was changed, nothing logged.
        StoreError
            The log cannot be written. Unless the message says otherwise, nothing was changed.
        """
        with self._writing:
            log = self._log
            slots = self._slots_left(mutation, op_id)
            if slots:
                self._apply(mutation, op_id, slots, names)
            n_bytes = log.n_bytes
        log.sync(n_bytes)
        return bool(slots)

    def verify(self, mutation: Mutation, op_id: int) -> None:
        """Raise what `change` would raise now."""
        with self._writing:
            self._verified(mutation, self._slots_left(mutation, op_id))

    def unbind_weak(self, concept_ids: ArrayLike, episode_ids: ArrayLike, below: float, op_id: int) -> int:
        """Remove those of some bindings that are there and still weaker than ``below``; return how many."""
        given = Mutation.of("unbind", concept_ids, episode_ids)
        with self._writing:
            log = self._log
            weak = self._still_weak(given, below)
            slots = self._slots_left(weak, op_id)
            weak = weak.take(weak.rows_in(slots))
            if slots:
                self._apply(weak, op_id, slots, None)
            n_bytes = log.n_bytes
        log.sync(n_bytes)
        return weak.n_rows

    def weak_bindings(self, below: float) -> Columns:
        """Return (concept ids, episodes, strengths) of the bindings weaker than ``below``."""
        return weak_bindings(self.shard.blocks(), below)

    def count_strong(self, episodes: NDArray[np.int64], below: float) -> NDArray[np.int64]:
        """Return how many bindings of each episode are not weaker than ``below``; episodes ascend."""
        return count_strong(self.shard.blocks(), episodes, below)

    def has_applied(self, op_id: int) -> bool:
        """Return whether an operation of this id has changed anything here."""
        with self._writing:
            return bool(self._state.operations.slots(op_id))

    def names(self, episodes: NDArray[np.int64]) -> list[str]:
        """Return the ids of numbered episodes, in a store whose ids are strings."""
        assert self._state.names is not None  # noqa: S101 - the caller has asked `is_string_ids`
        return self._state.names.of(episodes)

    def known_names(self, episodes: NDArray[np.int64]) -> dict[int, str]:
        """Return the ids of those numbered episodes that are bound here, in a store whose ids are strings."""
        assert self._state.names is not None  # noqa: S101 - as above
        return self._state.names.known(episodes)

    def search(self, vectors: ArrayLike, k: int, *, where: Sequence[Condition] = (), exact: bool) -> Neighbours:
        """Return the concepts of these shards nearest to each vector; see `ConceptStore.search`."""
        with self.shard.reading("search", len(np.asarray(vectors))):  # float32 rows, with a memory limit
            return self._state.centroids.search(vectors, k, where=where, exact=exact)

    def capture(self, committed: Committed) -> pa.Table:
        """Begin a segment, and return the bindings at its beginning: what is to become a version.

        Parameters
        ----------
        committed : Committed
            The version, and the slot that will be committed with it. Whether it is or not, nothing is lost.

        Returns
        -------
        Table
            concept_id, episode_id, strength; by concept, then number of the episode.
        """
        with self._writing:
            with store_errors(self._location, "write the bindings of"):
                table = self._capture()
            self._rotate(committed)
        return table

    def release(self, committed: Committed) -> None:
        """Remove what the log has of before a version, now that it is published."""
        with self._writing, store_errors(self._location, "clear the log of"):
            segments = list_segments(self._directory)
            chain = [segment for segment in segments if segment.place.chain == self._place.chain]
            last = max(segment.place for segment in chain if segment.follows == committed)
            self._state.committed = committed
            obsolete = [s for s in segments if s.place.life < last.life or (s in chain and s.place < last)]
            remove_segments(self._directory, obsolete)

    def statistics(self) -> dict[str, Any]:
        """Return counts and sizes."""
        found = self.shard.statistics()
        with self._writing:
            return {
                "version": self.version,
                "n_bindings": found.n_bindings,
                "n_concepts": found.n_concepts,
                "n_centroids": len(self._state.centroids),
                "n_bytes": found.n_bytes,
                "largest_fan_out": found.largest_fan_out,
                "n_operations": len(self._state.operations),
                "n_logged": self._n_logged,
                "n_replayed": self._state.n_replayed,
                "log_bytes": self._log.n_bytes,
                "n_syncs": self._log.n_syncs,
                "sync_s": self._log.sync_s,
                "tiers": self.shard.tier_statistics(),
            }

    def _slots_left(self, mutation: Mutation, op_id: int) -> int:
        """Return the slots that a mutation touches and that an operation of this id has not changed yet."""
        return mutation.slots(self._state.slots) & ~self._state.operations.slots(op_id)

    def _verified(self, mutation: Mutation, slots: int) -> tuple[Mutation, NDArray[np.int64] | None]:
        """Return the part of a mutation in some slots, and its rows (None: all), or raise what refuses it."""
        rows = mutation.rows_in(slots) if mutation.columns else None
        if rows is None or len(rows) == mutation.n_rows:
            mutation.verify(self.shard)
            return mutation, None
        part = mutation.take(rows)
        try:
            part.verify(self.shard)
        except native_simd.RowError as refusal:
            raise native_simd.RowError(int(rows[refusal.row]), refusal.reason) from None
        return part, rows

    def _apply(self, mutation: Mutation, op_id: int, slots: int, names: list[str] | None) -> None:
        """Verify, log and apply a mutation of some slots."""
        part, rows = self._verified(mutation, slots)
        record = part.to_record(op_id, slots)
        fresh: dict[int, str] = {}
        if names is not None and self._state.names is not None:
            chosen = names if rows is None else [names[row] for row in rows.tolist()]
            fresh = self._state.names.unknown(part.columns[1], chosen)
            record = replace(record, columns={**record.columns, **names_to_columns(fresh)})
        n_bytes = self._log.n_bytes
        self._log.append(record)
        if self._state.names is not None:
            self._state.names.add(fresh)  # before any reader meets their numbers
        try:
            self._state.apply(part, slots)
        except BaseException:
            self._log.cut(n_bytes)
            raise
        self._state.operations.add(op_id, slots)
        self._n_logged += 1

    def _still_weak(self, given: Mutation, below: float) -> Mutation:
        """Return the bindings of a batch that are here and weaker than `below`."""
        concepts, episodes, _ = self.weak_bindings(below)
        weak = set(zip(concepts.tolist(), episodes.tolist(), strict=True))
        pairs = zip(given.columns[0].tolist(), given.columns[1].tolist(), strict=True)
        return given.take(np.flatnonzero([pair in weak for pair in pairs]))

    def _resume(self, last: Segment) -> LogWriter:
        """Go on in the chain of this life, whose torn end goes."""
        return resume_log(last.path, self._state.lengths[last.path.name])

    def _begin(self) -> LogWriter:
        """Begin the chain of this life: after the log that was replayed, or after a version."""
        state = self._state
        goes_on = bool(state.lengths) and not state.is_carried
        log = self._create(self._place, None if goes_on else state.committed, state.lengths)
        log.rename(self._directory / self._place.name)
        return log

    def _rotate(self, committed: Committed) -> None:
        """Begin a segment with a state that is to become a version."""
        old = self._log
        old.sync(old.n_bytes)
        place = self._place._replace(number=self._place.number + 1)
        with store_errors(self._location, "write the log of"):
            log = self._create(place, committed, {self._place.name: old.n_bytes})
            try:
                log.rename(self._directory / place.name)
            except OSError as error:
                log.close()
                old.refuse(error)  # what goes there would come before a segment that may be there
                raise
            log.n_syncs, log.sync_s = old.n_syncs, old.sync_s
            self._log, self._place = log, place
            old.close()

    def _create(self, place: Place, follows: Committed | None, before: dict[str, int]) -> LogWriter:
        path = self._directory / place.pending_name
        files.remove_file(path)
        segment = Segment(path, place, self._state.slots, follows, before)
        return create_log(path, [segment.header(), *(self._state.records() if follows else [])])

    def _capture(self) -> pa.Table:
        """Return all bindings: in a file where memory has a limit, in memory otherwise."""
        types = {"concept_id": pa.int64(), "episode_id": self._state.episode_type, "strength": pa.float32()}
        schema = pa.schema(types)
        batches = (self._batch(block, schema) for block in self.shard.blocks())
        if not self.shard.has_limit:
            return pa.Table.from_batches(batches, schema)
        if self._state.names is not None:
            self._state.names.keep()
        return write_mapped(self._directory, schema, batches)

    def _batch(self, block: Columns, schema: pa.Schema) -> pa.RecordBatch:
        concepts, episodes, strengths = block
        ids = pa.array(episodes if self._state.names is None else self._state.names.of(episodes))
        return pa.record_batch([concepts, ids.cast(schema.field("episode_id").type), strengths], schema=schema)


def log_directory(location: Location) -> Path:
    """Return where the log of a store is.

    Raises
    ------
    StoreError
        The store is on no filesystem that a file can grow on.
    """
    if not location.is_local:
        raise StoreError(f"the store {location.uri} cannot be served: its log needs a local or a shared filesystem")
    return Path(location.root) / LOG_DIRECTORY


def next_life(uri: StoreUri) -> int:
    """Return the number of the next life of a service on a store."""
    directory = log_directory(locate(uri))
    lives = [segment.place.life for segment in list_segments(directory)] if directory.is_dir() else []
    return max(lives, default=0) + 1
