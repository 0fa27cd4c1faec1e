"""One shard of the binding index: the bindings of the concepts hashed to it, in both directions.

Plain Python over :class:`native_simd.BindingIndex`, or over the one that keeps within a memory limit: it turns what
callers have into arrays, and seconds into half-lives. It knows nothing of Ray, of other shards or of how its memory is
placed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import native_simd
from cluster_engine.shards.memory import PlacedMemory
from cluster_engine.shards.merging import NOTHING, join_columns
from cluster_engine.shards.placement import UNPLACED
from cluster_engine.shards.spread import Cues, SpreadRule, cues_of
from cluster_engine.shards.tiered_index import TieredIndex, decay_slots

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.shards.memory import MemoryReport
    from cluster_engine.shards.placement import MemoryPlan

    Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

_FIBONACCI = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: spreads consecutive ids (Knuth, TAOCP 3, section 6.4)


def shard_of(concept_ids: ArrayLike, n_shards: int) -> NDArray[np.int64]:
    """Return the logical shard of each concept.

    Parameters
    ----------
    concept_ids : array_like of int64, shape (m,)
    n_shards : int

    Returns
    -------
    ndarray of int64, shape (m,), in [0, n_shards)
    """
    mixed = np.asarray(concept_ids, np.int64).view(np.uint64) * np.uint64(_FIBONACCI)
    return ((mixed >> np.uint64(32)) % np.uint64(n_shards)).astype(np.int64)


class BindingShard:
    """Bindings (concept, episode, strength), each pair at most once, with strengths in [0, 1].

    Parameters
    ----------
    dimension : int
        Dimension of the vectors that the concepts were formed from.
    n_shards : int
        Logical shards within, a power of two up to 256: as many threads can work on a batch. No answer depends on it.
    threads : int
        Threads of a call; they pay from some 100,000 bindings on.
    plan : MemoryPlan
        Nodes that its memory goes to (:func:`~cluster_engine.shards.placement.plan_memory`); by default where the
        threads that write it live.
    memory_limit_bytes : int, optional
        What the bindings may take in memory; those of concepts that are used little then lie on disk
        (:class:`~cluster_engine.shards.tiered_index.TieredIndex`). No answer depends on it. Default, no limit.
    directory : path, optional
        Where they lie, in a file without a name; default, the system's for temporary files.

    Raises
    ------
    ValueError
        A parameter is out of range.
    CapacityError
        The limit is below what an empty shard takes.
    PlacementError
        The plan requires what the machine refuses.

    Notes
    -----
    Mutations take arrays and an operation id, an int64, and return whether this call was the one that applied: a
    repetition changes nothing. One that is refused (``ValueError``, which names the row) changes nothing either, and
    its id may be used again. Any number of threads may call; each sees the batches of others whole or not at all. A
    batch of m bindings costs O(m) expected, whatever is there (:class:`native_simd.BindingIndex`).
    """

    def __init__(
        self,
        dimension: int,
        n_shards: int = 16,
        *,
        threads: int = 1,
        plan: MemoryPlan = UNPLACED,
        memory_limit_bytes: int | None = None,
        directory: Path | None = None,
    ) -> None:
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1, got {dimension}")
        self.dimension = dimension
        self._threads = threads
        self._placed_index: native_simd.BindingIndex | TieredIndex = (
            native_simd.BindingIndex(n_shards)
            if memory_limit_bytes is None
            else TieredIndex(n_shards, memory_limit_bytes, directory)
        )
        self._memory = PlacedMemory(self._placed_index.memory, plan)

    @property
    def _index(self) -> native_simd.BindingIndex | TieredIndex:
        """The index; adaptive memory follows its calls."""
        if self._memory.is_adaptive:
            self._memory.follow()
        return self._placed_index

    @classmethod
    def load(
        cls,
        dimension: int,
        concept_ids: ArrayLike,
        episode_ids: ArrayLike,
        strengths: ArrayLike,
        operations: ArrayLike = (),
        *,
        n_shards: int = 16,
        threads: int = 1,
        plan: MemoryPlan = UNPLACED,
    ) -> BindingShard:
        """Return a shard with the bindings and the operations of another, of any number of logical shards.

        Parameters
        ----------
        concept_ids, episode_ids, strengths : array_like of int64, int64 and float32, shape (n,)
            As :meth:`bindings` returns them.
        operations : array_like of int64
            As :meth:`operations` returns them.

        Notes
        -----
        Activations and versions of concepts are not part of a snapshot.
        """
        shard = cls(dimension, n_shards, threads=threads, plan=plan)
        shard.bind(concept_ids, episode_ids, strengths, op_id=0)
        shard.restore_operations(operations)
        return shard

    def fill(self, blocks: Iterable[Columns]) -> None:
        """Give a shard that has nothing the bindings of blocks, in order of concept; no operation counts as applied.

        Raises
        ------
        ValueError
            They are not in order, with a memory limit.
        CapacityError
            What is known of concepts takes more than the memory limit alone.
        OSError
            With a memory limit: the disk is full.
        """
        index = self._placed_index
        if isinstance(index, TieredIndex):
            index.fill(blocks)
            return
        index.bind(*join_columns([NOTHING, *blocks]), 0, threads=self._threads)
        index.restore_operations(np.empty(0, np.int64))

    def __len__(self) -> int:
        return self.statistics().n_bindings

    def bind(self, concept_ids: ArrayLike, episode_ids: ArrayLike, strengths: ArrayLike, *, op_id: int) -> bool:
        """Add bindings, or set the strength of those that exist.

        Parameters
        ----------
        concept_ids, episode_ids : array_like of int64, shape (m,)
        strengths : array_like of float32, shape (m,), in [0, 1]
        op_id : int
            Name of this operation; a repetition changes nothing.

        Returns
        -------
        bool
            Whether this call was the one that applied.

        Raises
        ------
        ValueError
            Lengths differ, a strength is outside [0, 1], or a pair occurs twice in the batch; nothing is changed.
        """
        columns = _columns(concept_ids, episode_ids, strengths)
        return self._index.bind(*columns, op_id, threads=self._threads)

    def set_strengths(
        self, concept_ids: ArrayLike, episode_ids: ArrayLike, strengths: ArrayLike, *, op_id: int
    ) -> bool:
        """Set the strengths of bindings that exist; as :meth:`bind`, and ``ValueError`` for one that does not."""
        columns = _columns(concept_ids, episode_ids, strengths)
        return self._index.set_strengths(*columns, op_id, threads=self._threads)

    def add_strengths(self, concept_ids: ArrayLike, episode_ids: ArrayLike, amounts: ArrayLike, *, op_id: int) -> bool:
        """Add amounts in [-1, 1] to the strengths of bindings that exist, as :meth:`set_strengths`.

        A sum below 0 is 0 and one above 1 is 1: that is what adding means here.
        """
        columns = _columns(concept_ids, episode_ids, amounts)
        return self._index.add_strengths(*columns, op_id, threads=self._threads)

    def unbind(self, concept_ids: ArrayLike, episode_ids: ArrayLike, *, op_id: int) -> bool:
        """Remove bindings that exist; ``ValueError`` for one that does not, or comes twice.

        A concept goes with its last binding, and its activations with it.
        """
        concepts, episodes = require_ids(concept_ids, "concept_ids"), require_ids(episode_ids, "episode_ids")
        _require_equal_shapes(concepts, episodes)
        return self._index.unbind(concepts, episodes, op_id, threads=self._threads)

    def decay(self, *, half_life_s: float, dt_s: float, op_id: int) -> bool:
        """Multiply every strength by ``2**-(dt_s / half_life_s)``.

        Parameters
        ----------
        half_life_s : float
            Above 0; infinity is evergreen.
        dt_s : float
            Time that has passed, at least 0.
        op_id : int
        """
        if not half_life_s > 0:
            raise ValueError(f"half_life_s must be above 0, got {half_life_s}")
        if not 0 <= dt_s < np.inf:
            raise ValueError(f"dt_s must be at least 0 and finite, got {dt_s}")
        return self._index.decay(dt_s / half_life_s, op_id, threads=self._threads)

    def decay_slots(self, slots: int, *, half_life_s: float, dt_s: float, op_id: int) -> bool:
        """As :meth:`decay`, of the concepts in a set of slots (:mod:`cluster_engine.shards.slots`)."""
        index, half_lives = self._index, dt_s / half_life_s
        if isinstance(index, TieredIndex):
            return index.decay(half_lives, op_id, slots=slots)
        return decay_slots(index, half_lives, slots, op_id)

    def decay_concepts(self, concept_ids: ArrayLike, rates_per_s: ArrayLike, *, dt_s: float, op_id: int) -> bool:
        """Multiply the strengths of each concept by ``exp(-rate * dt_s)``; 0 is evergreen.

        ``ValueError`` for a concept without bindings or a rate below 0. A concept that comes twice decays twice.
        """
        concepts, rates = require_ids(concept_ids, "concept_ids"), np.ascontiguousarray(rates_per_s, np.float32)
        _require_equal_shapes(concepts, rates)
        return self._index.decay_concepts(concepts, rates, dt_s, op_id)

    def activate(self, concept_ids: ArrayLike, at: int, *, op_id: int) -> bool:
        """Count an activation of each concept at a time, in microseconds; ``ValueError`` for one without bindings."""
        return self._index.activate(require_ids(concept_ids, "concept_ids"), at, op_id)

    def forget(self, below: float, *, op_id: int, keep: int = 1) -> int | None:
        """Remove bindings weaker than `below`, but never an episode: its `keep` >= 1 strongest bindings here stay.

        Weak bindings stay until this is called. Of equally strong bindings, those of smaller concept ids stay.

        Returns
        -------
        int or None
            How many were removed; None for a repetition.
        """
        return self._index.forget(below, op_id, keep=keep, threads=self._threads)

    def fan_out(self, concept_ids: ArrayLike) -> NDArray[np.int64]:
        """Return the number of bindings of each concept; 0 for one that is not here."""
        return self._index.fan_out(require_ids(concept_ids, "concept_ids"), threads=self._threads)

    def states(self, concept_ids: ArrayLike) -> native_simd.ConceptStates:
        """Return fan-out, activations and version of each concept."""
        return self._index.states(require_ids(concept_ids, "concept_ids"), threads=self._threads)

    def episodes_of(self, concept_id: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return (episode ids, strengths) of a concept, strongest first, then by id."""
        found = self._index.episodes_of(require_ids([concept_id], "concept_id"))
        return found.ids, found.strengths

    def concepts_of(self, episode_id: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return (concept ids, strengths) of an episode, strongest first, then by id."""
        found = self._index.concepts_of(require_ids([episode_id], "episode_id"))
        return found.ids, found.strengths

    def spread(
        self,
        episode_cues: Mapping[int, float],
        concept_cues: Mapping[int, float] | None = None,
        *,
        steps: int = 3,
        rule: SpreadRule | None = None,
        k: int | None = None,
    ) -> native_simd.Spread:
        """Return what activating episodes and concepts activates next: episode -> concept -> episode, `steps` times.

        Parameters
        ----------
        episode_cues, concept_cues : mapping of int to float
            Activations by id, in [0, 2**30), rounded to 2**-32. What is not here reaches nothing.
        steps : int
            1 to 256.
        rule : SpreadRule, optional
            How activation is passed on; default, divided by the root of the fan-out, without decay or cutoff.
        k : int, optional
            The best so many of each side; default, all.

        Returns
        -------
        Spread
            Concepts and episodes by what has reached them, strongest first, then by id. Cues do not count for
            themselves (:meth:`native_simd.BindingIndex.spread`).
        """
        return self._spread(cues_of(episode_cues, concept_cues or {}), rule or SpreadRule(), steps, k)

    def spread_step(self, cues: Cues, rule: SpreadRule) -> native_simd.Spread:
        """Take one step over the bindings of this shard alone, for :func:`cluster_engine.shards.spread.spread_over`."""
        return self._spread(cues, rule, 1, None)

    def _spread(self, cues: Cues, rule: SpreadRule, steps: int, k: int | None) -> native_simd.Spread:
        return self._index.spread(
            cues.episodes.ids,
            cues.episodes.units,
            cues.concepts.ids,
            cues.concepts.units,
            steps=steps,
            law=rule.fan_law,
            half_lives=rule.half_lives,
            cutoff_units=rule.cutoff_units,
            k=k,
            threads=self._threads,
        )

    def bindings(self) -> Columns:
        """Return (concept ids, episode ids, strengths) of all bindings, by (concept, episode), of one moment."""
        return self._index.bindings(threads=self._threads)

    def blocks(self) -> Iterator[Columns]:
        """Yield what :meth:`bindings` returns in parts, with a memory limit; changes wait until the last was taken."""
        index = self._index
        if isinstance(index, TieredIndex):
            yield from index.blocks()
        else:
            yield index.bindings(threads=self._threads)

    def concept_ids(self) -> NDArray[np.int64]:
        """Return all concepts, ascending."""
        return np.sort(self._index.tiers.lines().ids)

    def operations(self) -> NDArray[np.int64]:
        """Return the ids of all operations that have been applied, ascending."""
        return self._index.operations()

    def verify_change(
        self, kind: native_simd.ChangeKind, concept_ids: ArrayLike, episode_ids: ArrayLike, *values: ArrayLike
    ) -> None:
        """Raise what :meth:`bind`, :meth:`unbind` and the like would raise for a new operation; change nothing."""
        concepts, episodes = require_ids(concept_ids, "concept_ids"), require_ids(episode_ids, "episode_ids")
        columns = [np.ascontiguousarray(column, np.float32) for column in values]
        _require_equal_shapes(concepts, episodes, *columns)
        self._index.verify_change(kind, concepts, episodes, *columns)

    def restore_operations(self, operations: ArrayLike) -> None:
        """Make these the operations that count as applied; no mutation may be under way."""
        self._index.restore_operations(require_ids(operations, "operations"))

    def restore_states(self, concept_ids: ArrayLike, states: native_simd.ConceptStates) -> None:
        """Give concepts that are here what another shard knew of them; no mutation may be under way."""
        self._index.restore_states(require_ids(concept_ids, "concept_ids"), states)

    def statistics(self) -> native_simd.IndexStatistics:
        """Return counts and memory."""
        return self._index.statistics()

    @property
    def has_limit(self) -> bool:
        """Whether some bindings may lie on disk."""
        return isinstance(self._placed_index, TieredIndex)

    def tier_statistics(self) -> dict[str, Any] | None:
        """Return sizes of the tiers and how often they were asked (`TieredIndex.tier_statistics`); None without."""
        index = self._index
        return index.tier_statistics() if isinstance(index, TieredIndex) else None

    def memory_report(self) -> MemoryReport:
        """Read back from the kernel which nodes the memory lies on; O(pages)."""
        return self._memory.report()


def require_ids(values: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return int64 ids, contiguous; nothing is rounded or wrapped to become one.

    Raises
    ------
    ValueError
        They are not integers, not one row, or do not fit.
    """
    given = np.asarray(values)
    if given.ndim != 1:
        raise ValueError(f"{name} must have shape (m,), got {given.shape}")
    if given.size and not np.can_cast(given.dtype, np.int64):
        raise ValueError(f"{name} must be integers that fit into int64, got {given.dtype}")
    return np.ascontiguousarray(given, np.int64)


def _columns(concept_ids: ArrayLike, episode_ids: ArrayLike, values: ArrayLike) -> Columns:
    concepts, episodes = require_ids(concept_ids, "concept_ids"), require_ids(episode_ids, "episode_ids")
    strengths = np.ascontiguousarray(values, np.float32)
    _require_equal_shapes(concepts, episodes, strengths)
    return concepts, episodes, strengths


def _require_equal_shapes(*columns: NDArray[np.generic]) -> None:
    if any(column.shape != columns[0].shape for column in columns):
        raise ValueError(f"shapes differ: {', '.join(str(column.shape) for column in columns)}")
