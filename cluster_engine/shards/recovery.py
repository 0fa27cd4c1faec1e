"""From the store and the log to the state of some slots: a version, and the mutations that followed it.

Owns the choice of the version and the replay. Refuses to write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import native_simd
from cluster_engine.errors import CapacityError, CommitConflictError, StoreCorruptError, StoreError
from cluster_engine.shards.centroids import Centroids
from cluster_engine.shards.mutation import KINDS, SET_CENTROIDS, Mutation
from cluster_engine.shards.names import EpisodeNames, is_string, names_from_columns, number_episodes
from cluster_engine.shards.operations import OperationMemory
from cluster_engine.shards.shard import BindingShard
from cluster_engine.shards.slots import are_in, slots_of
from cluster_engine.store.catalog import list_versions, read_manifest
from cluster_engine.store.log import LogFile, Record
from cluster_engine.store.segments import HEADER, Committed, Segment, list_segments, plan_replay, require_whole
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cluster_engine.shards.placement import MemoryPlan
    from cluster_engine.store.location import Location

OPERATIONS = "operations"
STATES = "states"
CENTROIDS = "centroids"
_STATE_COLUMNS = ("last_activation", "n_activations", "version")
_FORGOTTEN_EVERY = 1 << 16  # 18 bytes an operation: about 1 MB


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """How a shard is made.

    Attributes
    ----------
    n_shards : int
        Logical shards.
    threads : int
        Of a call.
    plan : MemoryPlan
        Where its memory goes.
    memory_limit_bytes : int or None
        Of bindings and centroids.
    """

    n_shards: int
    threads: int
    plan: MemoryPlan
    memory_limit_bytes: int | None


@dataclass(slots=True)
class Recovered:
    """The state of some slots.

    Attributes
    ----------
    slots : int
        Set of the slots.
    committed : Committed
        The version that the log follows.
    is_carried : bool
        Whether that version is newer than the log, which has no mutations: operations and activations go on.
    shard : BindingShard
    names : EpisodeNames or None
        Strings of the episodes; None if the store's ids are integers.
    episode_type : DataType
        Of the ids of episodes in the store.
    centroids : Centroids
    operations : OperationMemory
    n_replayed : int
        Mutations applied from the log.
    lengths : dict of str to int
        Valid bytes of each segment that was read.
    next_op : int
        The next operation id of `shard`.
    """

    slots: int
    committed: Committed
    is_carried: bool
    shard: BindingShard
    names: EpisodeNames | None
    episode_type: pa.DataType
    centroids: Centroids
    operations: OperationMemory = field(default_factory=OperationMemory)
    n_replayed: int = 0
    lengths: dict[str, int] = field(default_factory=dict)
    next_op: int = 1

    def records(self) -> list[Record]:
        """Return what the log keeps of a state beside the bindings, which are in the store."""
        concepts = self.shard.concept_ids()
        found = self.shard.states(concepts)
        columns = {name: getattr(found, name) for name in _STATE_COLUMNS}
        kept = [
            Record(OPERATIONS, columns=self.operations.columns()),
            Record(STATES, columns={"concept_ids": concepts, **columns}),
        ]
        if len((centroids := self.centroids.columns())["concept_ids"]):
            kept.append(Record(CENTROIDS, columns=centroids))
        return kept

    def apply(self, mutation: Mutation, slots: int) -> None:
        """Apply a verified mutation to these slots, which are among those it touches."""
        if mutation.kind == SET_CENTROIDS:
            self.centroids.set(*mutation.columns)
        elif mutation.columns or slots == self.slots:
            mutation.apply(self.shard, self.next_op)
        else:
            mutation.apply_within(self.shard, slots, self.next_op)
        self.next_op += 1
        if self.next_op % _FORGOTTEN_EVERY == 0:
            self.shard.restore_operations(())  # `operations` says what is a repetition; here no id comes again

    def replay(self, record: Record, held: int) -> None:
        """Apply what a record says of some of these slots."""
        if record.kind == OPERATIONS:
            self.operations.restore(record.columns, held)
        elif record.kind == STATES:
            self._restore_states(record.columns, held)
        elif record.kind == CENTROIDS:
            self._restore_centroids(record.columns, held)
        elif record.kind != HEADER:
            slots = int(record.fields["slots"], 16) & held
            mutation = Mutation.from_record(record)
            if mutation.columns and mutation.slots(-1) & ~slots:
                mutation = mutation.take(mutation.rows_in(slots))
            if self.names is not None:
                self.names.add(names_from_columns(record.columns))
            if slots:
                self.apply(mutation, slots)
                self.operations.add(record.fields["op_id"], slots)
                self.n_replayed += 1

    def _restore_states(self, columns: Mapping[str, NDArray[Any]], held: int) -> None:
        concepts = columns["concept_ids"]
        rows = np.flatnonzero(are_in(slots_of(concepts), held))
        states = native_simd.ConceptStates(np.empty(0, np.int64), *(columns[name][rows] for name in _STATE_COLUMNS))
        self.shard.restore_states(concepts[rows], states)

    def _restore_centroids(self, columns: Mapping[str, NDArray[Any]], held: int) -> None:
        """Set what was set before the log began, unless a newer version has centroids of its own."""
        concepts = columns["concept_ids"]
        rows = np.flatnonzero(are_in(slots_of(concepts), held))
        if len(rows) and not self.is_carried:
            self.centroids.set(concepts[rows], columns["vectors"].reshape(len(concepts), -1)[rows])


def recover(
    location: Location, directory: Path, slots: int, chain: tuple[int, int], settings: ShardSettings
) -> tuple[Recovered, Segment | None]:
    """Return the state of some slots.

    Parameters
    ----------
    location : Location
        The store.
    directory : Path
        Its log.
    slots : int
        Set of slots.
    chain : (int, int)
        Life and actor of who asks. If it has begun its chain, the log may follow a version that is not the newest.
    settings : ShardSettings

    Returns
    -------
    Recovered
    Segment or None
        The last one of the chain.

    Raises
    ------
    CommitConflictError
        The log has mutations that follow another version than the newest.
    StoreError
        The store or the log cannot be read.
    """
    try:
        return _recover(location, directory, slots, chain, settings)
    except FileNotFoundError:  # a version was published meanwhile, and what it does not need is gone
        return _recover(location, directory, slots, chain, settings)


def _recover(
    location: Location, directory: Path, slots: int, chain: tuple[int, int], settings: ShardSettings
) -> tuple[Recovered, Segment | None]:
    segments = list_segments(directory)
    last = next((segment for segment in reversed(segments) if segment.place.chain == chain), None)
    committed, planned = _choose_version(location, segments, slots)
    newest = _committed(location, list_versions(location)[-1])
    is_carried = committed != newest and last is None
    if is_carried and (n := sum(_count_mutations(segment, held) for segment, held in planned)):
        raise CommitConflictError(
            f"the log {directory} has {n} mutations that follow version {committed.version} of the "
            f"store, and another writer has committed version {newest.version}; move the log away to start from that "
            "without them"
        )
    recovered = _load(location, newest if is_carried else committed, slots, settings, directory)
    recovered.is_carried = is_carried
    for segment, held in planned:
        _replay_segment(recovered, segment, held)
    require_whole(planned, recovered.lengths)
    recovered.shard.restore_operations(())
    return recovered, last


def _committed(location: Location, version: int) -> Committed:
    return Committed(version, read_manifest(location, version).slot)


def _choose_version(
    location: Location, segments: Sequence[Segment], slots: int
) -> tuple[Committed, list[tuple[Segment, int]]]:
    """Return the newest version that the log follows, and what to replay after it."""
    versions = list_versions(location)
    if not versions:
        raise StoreError(f"no store at {location.uri} yet: no version was committed there; run consolidate first")
    for version in reversed(versions):
        committed = _committed(location, version)
        planned, unmatched = plan_replay(segments, slots, committed)
        if not unmatched:
            return committed, planned
    raise CommitConflictError(
        f"the log {segments[0].path.parent} follows no version that the store has ({versions[0]} to {versions[-1]}); "
        "restore the store, or move the log away to start without it"
    )


def _count_mutations(segment: Segment, held: int) -> int:
    with LogFile(segment.path) as log:
        records = (record for _, record in log.records() if record.kind in KINDS)
        return sum(1 for record in records if int(record.fields["slots"], 16) & held)


def _replay_segment(recovered: Recovered, segment: Segment, held: int) -> None:
    with LogFile(segment.path) as log:
        offset = 0
        try:
            for offset, record in log.records():  # noqa: B007 - which record it was
                recovered.replay(record, held)
        except (ValueError, KeyError, TypeError) as error:
            raise log.corrupt(offset, f"a mutation does not fit the state before it ({error})") from error
        recovered.lengths[segment.path.name] = log.n_valid_bytes


def _load(location: Location, committed: Committed, slots: int, settings: ShardSettings, directory: Path) -> Recovered:
    """Return the state of a version; what is beyond the memory limit, if there is one, lies in the directory."""
    limit_bytes = settings.memory_limit_bytes
    kept = directory if limit_bytes is not None else None
    store = ConceptStore.open(location, version=committed.version)
    episode_type = store.binding_schema().field("episode_id").type
    centroids, dimension = _load_centroids(store, slots, kept)
    names = EpisodeNames(kept) if is_string(episode_type) else None
    if names is not None:
        names.load(list(map(str, episodes.to_pylist())) for _, episodes, _ in _bindings(store, slots))
    shard = BindingShard(
        dimension,
        settings.n_shards,
        threads=settings.threads,
        plan=settings.plan,
        memory_limit_bytes=limit_bytes and _left(limit_bytes, centroids),
        directory=kept,
    )
    numbered = (
        (bound, number_episodes(episodes, is_string_ids=names is not None), strengths)
        for bound, episodes, strengths in _bindings(store, slots)
    )
    try:
        shard.fill(numbered)
    except ValueError as error:
        raise StoreCorruptError(f"version {committed.version} of {location.uri}: {error}") from error
    return Recovered(slots, committed, False, shard, names, episode_type, centroids)  # noqa: FBT003 - a field


def _bindings(
    store: ConceptStore, slots: int
) -> Iterator[tuple[NDArray[np.int64], pa.Array[Any], NDArray[np.float32]]]:
    """Yield the bindings of concepts in some slots: concept ids, ids of episodes as the store has them, strengths."""
    for batch in store.binding_batches(["concept_id", "episode_id", "strength"]):
        concepts = np.asarray(batch["concept_id"], np.int64)
        rows = np.flatnonzero(are_in(slots_of(concepts), slots))
        yield (
            concepts[rows],
            batch["episode_id"].take(pa.array(rows, pa.int64())),
            np.asarray(batch["strength"], np.float32)[rows],
        )


def _left(limit_bytes: int, centroids: Centroids) -> int:
    """Return what a memory limit leaves for bindings."""
    if centroids.n_bytes >= limit_bytes:
        raise CapacityError(
            f"the index of centroids takes {centroids.n_bytes} bytes, and the limit of memory is {limit_bytes}"
        )
    return limit_bytes - centroids.n_bytes


def _load_centroids(store: ConceptStore, slots: int, directory: Path | None) -> tuple[Centroids, int]:
    """Return the centroids of concepts in some slots, and their dimension."""
    table = store.concepts()
    ids = np.asarray(table["concept_id"], np.int64)
    table = table.take(pa.array(np.flatnonzero(are_in(slots_of(ids), slots)), pa.int64())).combine_chunks()
    vectors = np.asarray(pc.list_flatten(table["centroid"]), np.float32).reshape(-1, store.dimension)
    facts = table.select([field.name for field in table.schema if not pa.types.is_nested(field.type)])
    return Centroids(np.asarray(table["concept_id"], np.int64), vectors, facts, directory), store.dimension
