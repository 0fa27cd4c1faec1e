"""A binding index that keeps within a memory limit.

Owns the answers: of what is here and what is outside, together those of one index. What is where is the business of
:mod:`cluster_engine.shards.tiers`.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import native_simd
from cluster_engine.shards.forgetting import choose_forgotten, count_strong, weak_bindings
from cluster_engine.shards.kept import BLOCK_ROWS, decay_factor
from cluster_engine.shards.merging import join_columns, merge_ranked
from cluster_engine.shards.slots import ALL_SLOTS, are_in, slots_of
from cluster_engine.shards.spread import Cues, SpreadRule, spread_over
from cluster_engine.shards.tiers import Tiers
from native_simd import UNITS, Activations, BindingLists

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from cluster_engine.shards.shard import Columns
    from native_simd import ChangeKind, ConceptStates, IndexStatistics, Spread, SpreadLaw

    Int64Array = NDArray[np.int64]
    Float32Array = NDArray[np.float32]


class TieredIndex:
    """What :class:`native_simd.BindingIndex` is, within a memory limit; the same answers to the byte.

    Parameters
    ----------
    n_shards : int
    limit_bytes : int
        What the index may take between calls. What a call needs for itself comes beside it: the bindings that a batch
        touches, the answer, and some blocks of 65,536 bindings.
    directory : path, optional
        Where the file of what is outside goes; default, the system's for temporary files.

    Raises
    ------
    CapacityError
        The limit is below what an empty index takes.

    Attributes
    ----------
    memory : IndexMemory
    tiers : IndexTiers

    Notes
    -----
    Any number of threads may call. Reads of lines, and of concepts that are here, wait for nothing but the native
    index. What may need the disk, and every change, is one at a time. :class:`~cluster_engine.shards.tiers.Tiers` says
    what comes and what goes.
    """

    def __init__(self, n_shards: int, limit_bytes: int, directory: Path | None = None) -> None:
        self._index = native_simd.BindingIndex(n_shards)
        self._tiers = Tiers(self._index, limit_bytes, directory or Path(tempfile.gettempdir()))
        self._moving = threading.RLock()  # of `_tiers`
        self.memory = self._index.memory
        self.tiers = self._index.tiers

    # ---- changes ----

    def fill(self, blocks: Iterable[Columns]) -> None:
        """Give an index that has nothing bindings in order of concept; see `Tiers.fill`."""
        with self._moving:
            self._tiers.fill(blocks)

    def bind(
        self, concept_ids: Int64Array, episode_ids: Int64Array, strengths: Float32Array, op_id: int, *, threads: int = 1
    ) -> bool:
        """As `BindingIndex.bind`."""
        with self._changing("bind", concept_ids):
            return self._index.bind(concept_ids, episode_ids, strengths, op_id, threads=threads)

    def set_strengths(
        self, concept_ids: Int64Array, episode_ids: Int64Array, strengths: Float32Array, op_id: int, *, threads: int = 1
    ) -> bool:
        """As `BindingIndex.set_strengths`."""
        with self._changing("set_strengths", concept_ids):
            return self._index.set_strengths(concept_ids, episode_ids, strengths, op_id, threads=threads)

    def add_strengths(
        self, concept_ids: Int64Array, episode_ids: Int64Array, amounts: Float32Array, op_id: int, *, threads: int = 1
    ) -> bool:
        """As `BindingIndex.add_strengths`."""
        with self._changing("add_strengths", concept_ids):
            return self._index.add_strengths(concept_ids, episode_ids, amounts, op_id, threads=threads)

    def unbind(self, concept_ids: Int64Array, episode_ids: Int64Array, op_id: int, *, threads: int = 1) -> bool:
        """As `BindingIndex.unbind`."""
        with self._changing("unbind", concept_ids):
            return self._index.unbind(concept_ids, episode_ids, op_id, threads=threads)

    def verify_change(
        self, kind: ChangeKind, concept_ids: Int64Array, episode_ids: Int64Array, values: Float32Array | None = None
    ) -> None:
        """As `BindingIndex.verify_change`."""
        with self._limited():
            self._tiers.bring("verify", concept_ids, change=False)
            self._index.verify_change(kind, concept_ids, episode_ids, values)

    def decay_concepts(self, concept_ids: Int64Array, rates: Float32Array, dt: float, op_id: int) -> bool:
        """As `BindingIndex.decay_concepts`."""
        with self._changing("decay_concepts", concept_ids):
            return self._index.decay_concepts(concept_ids, rates, dt, op_id)

    def activate(self, concept_ids: Int64Array, at: int, op_id: int) -> bool:
        """As `BindingIndex.activate`: a matter of lines."""
        with self._limited():
            return self._index.activate(concept_ids, at, op_id)

    def decay(self, half_lives: float, op_id: int, *, slots: int = ALL_SLOTS, threads: int = 1) -> bool:
        """As `BindingIndex.decay`, of the concepts in some slots."""
        with self._limited():
            is_applied = (
                self._index.decay(half_lives, op_id, threads=threads)
                if slots == ALL_SLOTS
                else decay_slots(self._index, half_lives, slots, op_id)
            )
            if is_applied:
                self._tiers.remember_decay(half_lives, slots)
            return is_applied

    def forget(self, below: float, op_id: int, *, keep: int = 1, threads: int = 1) -> int | None:
        """As `BindingIndex.forget`; what goes comes first, all at a time."""
        with self._limited():
            if not self._tiers.n_outside:
                return self._index.forget(below, op_id, keep=keep, threads=threads)
            weak = weak_bindings(self._tiers.blocks(), below)
            n_strong = count_strong(self._tiers.blocks(), np.unique(weak[1]), below)
            concepts, episodes = choose_forgotten(*weak, n_strong, keep)
            return len(concepts) if self.unbind(concepts, episodes, op_id, threads=threads) else None

    def restore_operations(self, op_ids: Int64Array) -> None:
        """As `BindingIndex.restore_operations`."""
        with self._limited():  # they take memory, too
            self._index.restore_operations(op_ids)

    def restore_states(self, concept_ids: Int64Array, states: ConceptStates) -> None:
        """As `BindingIndex.restore_states`."""
        with self._limited():
            self._index.restore_states(concept_ids, states)

    def write(self) -> None:
        """Write what is outside anew, with everything as it is; see `Tiers.write`."""
        with self._moving:
            self._tiers.write()

    # ---- reads ----

    def fan_out(self, concept_ids: Int64Array, *, threads: int = 1) -> Int64Array:
        """As `BindingIndex.fan_out`."""
        found = self._index.fan_out(concept_ids, threads=threads)
        self._count_lines("fan_out", found)
        return found

    def states(self, concept_ids: Int64Array, *, threads: int = 1) -> ConceptStates:
        """As `BindingIndex.states`."""
        found = self._index.states(concept_ids, threads=threads)
        self._count_lines("states", found.fan_out)
        return found

    def episodes_of(self, concept_ids: Int64Array) -> BindingLists:
        """As `BindingIndex.episodes_of`."""
        found = self._index.episodes_of(concept_ids)
        if (np.diff(found.offsets) > 0).all():  # what is here is here as a whole
            self._tiers.counts.add_lines("episodes_of", self.tiers.use(concept_ids).tiers)
            return found
        with self._moving:
            found = self._index.episodes_of(concept_ids)
            outside = self._tiers.use("episodes_of", concept_ids)
            columns = self._tiers.read("episodes_of", outside)
            self._tiers.invite(outside)
            return _joined(found, concept_ids, columns)

    def concepts_of(self, episode_ids: Int64Array) -> BindingLists:
        """As `BindingIndex.concepts_of`."""
        with self._moving:
            found = self._index.concepts_of(episode_ids)
            concepts, episodes, strengths = self._tiers.read_episodes("concepts_of", np.unique(episode_ids))
            self._tiers.invite(self._tiers.use("concepts_of", np.unique(np.concatenate([found.ids, concepts]))))
            return _joined(found, episode_ids, (episodes, concepts, strengths))

    def spread(
        self,
        episode_ids: Int64Array,
        episode_units: Int64Array,
        concept_ids: Int64Array,
        concept_units: Int64Array,
        *,
        steps: int,
        law: SpreadLaw = "sqrt",
        half_lives: float = 0.0,
        cutoff_units: int = 0,
        k: int | None = None,
        threads: int = 1,
    ) -> Spread:
        """As `BindingIndex.spread`."""
        cues = Cues(Activations(episode_ids, episode_units), Activations(concept_ids, concept_units))
        rule = SpreadRule(law, half_lives, cutoff_units / UNITS)
        with self._limited():
            if not self._tiers.n_outside:
                found = _spread(self._index, cues, rule, steps=steps, k=k, threads=threads)
            else:
                found = spread_over(lambda at, how: self._take_step(at, how, threads), cues, rule, steps=steps, k=k)
            self._tiers.invite(self._tiers.use("spread", found.concepts.ids))
            return found

    def _take_step(self, cues: Cues, rule: SpreadRule, threads: int) -> list[Spread]:
        """Take a step over what is here, and over the concepts outside that it reaches: an index of their own."""
        parts = [_spread(self._index, cues, rule, threads=threads)]
        reached = [cues.concepts.ids]
        for start in range(0, len(cues.episodes.ids), BLOCK_ROWS):
            some = cues.episodes.ids[start : start + BLOCK_ROWS]
            reached.append(np.unique(self._tiers.read_episodes("spread", some)[0]))
        for columns in self._tiers.read_reached(np.concatenate(reached)):
            outside = native_simd.BindingIndex(1)
            outside.bind(*columns, 0)
            parts.append(_spread(outside, cues, rule))
        return parts

    def bindings(self, *, threads: int = 1) -> Columns:
        """As `BindingIndex.bindings`."""
        with self._moving:
            if not self._tiers.n_outside:
                return self._index.bindings(threads=threads)
            return join_columns(list(self._tiers.blocks()))

    def blocks(self) -> Iterator[Columns]:
        """Yield all bindings by (concept, episode), of one moment: changes wait until the last was taken."""
        with self._moving:
            yield from self._tiers.blocks()

    def operations(self) -> Int64Array:
        """As `BindingIndex.operations`."""
        return self._index.operations()

    def statistics(self) -> IndexStatistics:
        """As `BindingIndex.statistics`; bindings outside are counted as bindings, too."""
        found = self._index.statistics()
        return replace(found, n_bindings=found.n_bindings + found.n_bindings_outside)

    def tier_statistics(self) -> dict[str, Any]:
        """Return sizes of the tiers, and how often each of them was asked.

        Returns
        -------
        dict of str to int or dict
            ``hits`` and ``misses`` by operation, then by tier. A row of a call asks for the line of its concept; if it
            needs bindings and there are some, it asks memory for them; what is not there is asked of the disk, which
            misses if a page was not in the page cache.
        """
        with self._moving:
            return self._tiers.statistics()

    def reading(self, operation: str, n: int) -> AbstractContextManager[None]:
        """Count so many rows that the block reads from disk; see `TierCounts.reading`."""
        return self._tiers.counts.reading(operation, n)

    def check(self) -> None:
        """As `BindingIndex.check`."""
        self._index.check()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Keep within the limit whatever the block does."""
        with self._moving:
            try:
                yield
            finally:
                self._tiers.trim()

    @contextmanager
    def _changing(self, operation: str, concept_ids: Int64Array) -> Iterator[None]:
        """Have the bindings of concepts here while the block changes them."""
        with self._limited():
            self._tiers.bring(operation, concept_ids, change=True)
            yield

    def _count_lines(self, operation: str, fan_outs: Int64Array) -> None:
        known = int(np.count_nonzero(fan_outs))
        self._tiers.counts.add(operation, "line", hits=known, misses=len(fan_outs) - known)


def decay_slots(index: native_simd.BindingIndex, half_lives: float, slots: int, op_id: int) -> bool:
    """Let the bindings of the concepts in some slots decay; return whether this operation was new."""
    concepts, episodes, strengths = index.bindings()
    rows = np.flatnonzero(are_in(slots_of(concepts), slots))
    return index.set_strengths(concepts[rows], episodes[rows], strengths[rows] * decay_factor(half_lives), op_id)


def _spread(
    index: native_simd.BindingIndex,
    cues: Cues,
    rule: SpreadRule,
    *,
    steps: int = 1,
    k: int | None = None,
    threads: int = 1,
) -> Spread:
    return index.spread(
        cues.episodes.ids,
        cues.episodes.units,
        cues.concepts.ids,
        cues.concepts.units,
        steps=steps,
        law=rule.fan_law,
        half_lives=rule.half_lives,
        cutoff_units=rule.cutoff_units,
        k=k,
        threads=threads,
    )


def _joined(found: BindingLists, names: Int64Array, others: Columns) -> BindingLists:
    """Return lists of what is here with others (names, ids, strengths), strongest first, then by id."""
    ids, strengths = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for i, name in enumerate(names.tolist()):
        here, outside = slice(found.offsets[i], found.offsets[i + 1]), others[0] == name
        ranked = merge_ranked([(found.ids[here], found.strengths[here]), (others[1][outside], others[2][outside])])
        ids.append(ranked[0])
        strengths.append(ranked[1])
    offsets = np.cumsum([0, *(len(part) for part in ids[1:])])
    return BindingLists(offsets, np.concatenate(ids), np.concatenate(strengths))
