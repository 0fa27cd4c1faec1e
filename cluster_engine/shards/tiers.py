"""A binding index that keeps within a memory limit: what it uses little lies on disk.

Three tiers. The first is the line of a concept, 64 bytes, always in memory: fan-out, activations, version, uses of
late. The second are the arrays of the native index, with the bindings of concepts that are *here*. The third is a file,
mapped into memory, with the bindings of all concepts as they were when it was written; it is read for those that are
*outside*.

Owns what comes and goes, and when. Refuses to know the store, the log and Ray: the file is a cache, and what was in it
comes from the version and the log again.
"""

from __future__ import annotations

import logging
import resource
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import native_simd
from cluster_engine.errors import CapacityError
from cluster_engine.shards.kept import (
    BLOCK_ROWS,
    NOTHING,
    KeptBindings,
    decay_factor,
    spans,
    take_rows,
    whole_concepts,
)
from cluster_engine.shards.merging import choose_forgotten, join_columns, merge_bindings, merge_ranked
from cluster_engine.shards.slots import ALL_SLOTS, are_in, slots_of
from cluster_engine.shards.spread import Cues, SpreadRule, spread_over
from native_simd import UNITS, Activations, BindingLists, ConceptLines, Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from native_simd import ChangeKind, ConceptStates, IndexStatistics, Spread, SpreadLaw

    Int64Array = NDArray[np.int64]
    Float32Array = NDArray[np.float32]
    Columns = tuple[Int64Array, Int64Array, Float32Array]

logger = logging.getLogger(__name__)

TierName = Literal["line", "memory", "disk"]

_BYTES_A_BINDING = 100  # in memory, at most, as a rule (native_simd/README.md, "Memory")
_SPARE_SHARE = 8  # of the limit: so much is free after a round of evictions
_ROUND_SHARE = 16  # of the bindings here: so many go before memory is looked at again
_MOST_DECAYS = 256  # on what is read from disk, before it is written anew
_SORTED_SHARE = 1024  # bytes of the limit for a binding that is sorted at a time


class TieredIndex:
    """What :class:`native_simd.BindingIndex` is, within a memory limit; the same answers to the byte.

    Parameters
    ----------
    n_shards : int
    limit_bytes : int
        Of the index, lines of all concepts included. What a call needs for itself comes beside it: the bindings that a
        batch touches, the answer, and some blocks of 65,536 bindings.
    directory : path, optional
        Where the file goes, 40 bytes a binding; default, the system's for temporary files.

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
    *What comes.* A concept whose bindings change comes, for the batch. One that is read comes if there is room, or if
    it was used more, lately, than all that would have to go for it together: the rule of TinyLFU (Einziger, Friedman
    and Manes, ACM Transactions on Storage 13, 2017), for concepts of any size (Einziger, Eytan, Friedman and Manes,
    *Lightweight Robust Size Aware Cache Management*, 2021). So neither a pass over everything nor what is read once
    drives out what is read often.

    *What goes.* Above the limit, the least used of every 8 concepts, whose bindings are in the file as they are. When
    most that are here have changed since the file was written, it is written anew, and all may go. So changes cost a
    pass over everything once they come to half of what memory holds. Decays do not count: they are remembered, and
    applied to what is read, each rounding as in memory.

    Reads of what is here wait for nothing but the native index, as ever. What may need the disk, and every change, is
    one at a time.
    """

    def __init__(self, n_shards: int, limit_bytes: int, directory: Path | None = None) -> None:
        self._index = native_simd.BindingIndex(n_shards)
        self.memory = self._index.memory
        self.tiers = self._index.tiers
        if limit_bytes < (n_bytes := self.tiers.n_bytes):
            raise CapacityError(
                f"an empty index of {n_shards} shards takes {n_bytes} bytes, and may take {limit_bytes}"
            )
        self._limit_bytes = limit_bytes
        self._directory = directory or Path(tempfile.gettempdir())
        self._kept: KeptBindings | None = None
        self._n_writes = 0
        self._moving = threading.RLock()  # of the tiers, and of what is kept
        self._counting = threading.Lock()
        self._hits: Counter[tuple[str, TierName]] = Counter()
        self._misses: Counter[tuple[str, TierName]] = Counter()

    # ---- changes ----

    def fill(self, blocks: Iterable[Columns]) -> None:
        """Give an index that has nothing bindings in order of concept.

        Raises
        ------
        ValueError
            They are not.
        CapacityError
            The lines of all concepts alone are beyond the limit.
        OSError
            The disk is full.
        """
        with self._moving:
            self._kept = KeptBindings(self._directory, whole_concepts(blocks), self._limit_bytes // _SORTED_SHARE + 1)
            self._n_writes += 1
            self.tiers.adopt(*self._kept.lines())
            n_bytes = self.tiers.n_bytes
            if n_bytes > self._limit_bytes:
                raise CapacityError(
                    f"the lines of all concepts take {n_bytes} bytes, more than the limit of {self._limit_bytes}"
                )
            lines = self._all_lines()
            self._take_in(lines.take(np.cumsum(lines.fan_outs) <= self._room()))
            self._trim()

    def bind(
        self, concept_ids: Int64Array, episode_ids: Int64Array, strengths: Float32Array, op_id: int, *, threads: int = 1
    ) -> bool:
        """As `BindingIndex.bind`."""
        with self._here("bind", concept_ids):
            return self._index.bind(concept_ids, episode_ids, strengths, op_id, threads=threads)

    def set_strengths(
        self, concept_ids: Int64Array, episode_ids: Int64Array, strengths: Float32Array, op_id: int, *, threads: int = 1
    ) -> bool:
        """As `BindingIndex.set_strengths`."""
        with self._here("set_strengths", concept_ids):
            return self._index.set_strengths(concept_ids, episode_ids, strengths, op_id, threads=threads)

    def add_strengths(
        self, concept_ids: Int64Array, episode_ids: Int64Array, amounts: Float32Array, op_id: int, *, threads: int = 1
    ) -> bool:
        """As `BindingIndex.add_strengths`."""
        with self._here("add_strengths", concept_ids):
            return self._index.add_strengths(concept_ids, episode_ids, amounts, op_id, threads=threads)

    def unbind(self, concept_ids: Int64Array, episode_ids: Int64Array, op_id: int, *, threads: int = 1) -> bool:
        """As `BindingIndex.unbind`."""
        with self._here("unbind", concept_ids):
            return self._index.unbind(concept_ids, episode_ids, op_id, threads=threads)

    def verify_change(
        self, kind: ChangeKind, concept_ids: Int64Array, episode_ids: Int64Array, values: Float32Array | None = None
    ) -> None:
        """As `BindingIndex.verify_change`."""
        with self._here("verify", concept_ids, change=False):
            self._index.verify_change(kind, concept_ids, episode_ids, values)

    def decay_concepts(self, concept_ids: Int64Array, rates: Float32Array, dt: float, op_id: int) -> bool:
        """As `BindingIndex.decay_concepts`."""
        with self._here("decay_concepts", concept_ids):
            return self._index.decay_concepts(concept_ids, rates, dt, op_id)

    def activate(self, concept_ids: Int64Array, at: int, op_id: int) -> bool:
        """As `BindingIndex.activate`: a matter of lines."""
        with self._changing():
            return self._index.activate(concept_ids, at, op_id)

    def decay(self, half_lives: float, op_id: int, *, slots: int = ALL_SLOTS, threads: int = 1) -> bool:
        """As `BindingIndex.decay`, of the concepts in some slots."""
        with self._changing():
            if slots == ALL_SLOTS:
                is_applied = self._index.decay(half_lives, op_id, threads=threads)
            else:
                is_applied = decay_slots(self._index, half_lives, slots, op_id)
            if is_applied and self._kept is not None:
                self._kept.decays.append((decay_factor(half_lives), slots))
                if len(self._kept.decays) > _MOST_DECAYS:
                    self._write_anew()
            return is_applied

    def forget(self, below: float, op_id: int, *, keep: int = 1, threads: int = 1) -> int | None:
        """As `BindingIndex.forget`; what goes comes first, all at a time."""
        with self._changing():
            if not self._n_outside():
                return self._index.forget(below, op_id, keep=keep, threads=threads)
            weak = weak_bindings(self.blocks(), below)
            n_strong = count_strong(self.blocks(), np.unique(weak[1]), below)
            concepts, episodes = choose_forgotten(*weak, n_strong, keep)
            return len(concepts) if self.unbind(concepts, episodes, op_id, threads=threads) else None

    def restore_operations(self, op_ids: Int64Array) -> None:
        """As `BindingIndex.restore_operations`."""
        self._index.restore_operations(op_ids)

    def restore_states(self, concept_ids: Int64Array, states: ConceptStates) -> None:
        """As `BindingIndex.restore_states`."""
        self._index.restore_states(concept_ids, states)

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
            self._count("episodes_of", self.tiers.use(concept_ids).tiers)
            return found
        with self._moving:
            lines = self.tiers.use(concept_ids)
            self._count("episodes_of", lines.tiers)
            found = self._index.episodes_of(concept_ids)
            _, firsts = np.unique(concept_ids, return_index=True)
            outside = (lines := lines.take(firsts)).take(lines.tiers == Tier.OUTSIDE)
            concepts, episodes, strengths = self._read("episodes_of", outside)
            self._invite(outside)
            return _joined(found, concept_ids, (concepts, episodes, strengths))

    def concepts_of(self, episode_ids: Int64Array) -> BindingLists:
        """As `BindingIndex.concepts_of`."""
        with self._moving:
            found = self._index.concepts_of(episode_ids)
            concepts, episodes, strengths = self._of_episodes("concepts_of", np.unique(episode_ids))
            lines = self.tiers.use(np.unique(np.concatenate([found.ids, concepts])))
            self._count("concepts_of", lines.tiers)
            self._invite(lines.take(lines.tiers == Tier.OUTSIDE))
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
        """As `BindingIndex.spread`: in each step, concepts outside that it reaches are an index of their own."""

        def take_step(cues: Cues, rule: SpreadRule) -> list[Spread]:
            arguments = (cues.episodes.ids, cues.episodes.units, cues.concepts.ids, cues.concepts.units)
            how: dict[str, Any] = {
                "steps": 1,
                "law": rule.fan_law,
                "half_lives": rule.half_lives,
                "cutoff_units": rule.cutoff_units,
            }
            parts = [self._index.spread(*arguments, **how, threads=threads)]
            self._count("spread", self.tiers.find(parts[0].concepts.ids).tiers)
            for columns in self._blocks_reached(cues):
                part = native_simd.BindingIndex(1)
                part.bind(*columns, 0)
                parts.append(part.spread(*arguments, **how))
            return parts

        with self._moving:
            cues = Cues(Activations(episode_ids, episode_units), Activations(concept_ids, concept_units))
            if self._n_outside():
                rule = SpreadRule(law, half_lives, cutoff_units / UNITS)
                found = spread_over(take_step, cues, rule, steps=steps, k=k)
            else:
                found = self._index.spread(
                    episode_ids,
                    episode_units,
                    concept_ids,
                    concept_units,
                    steps=steps,
                    law=law,
                    half_lives=half_lives,
                    cutoff_units=cutoff_units,
                    k=k,
                    threads=threads,
                )
            self._invite((lines := self.tiers.use(found.concepts.ids)).take(lines.tiers == Tier.OUTSIDE))
            self._trim()
            return found

    def bindings(self, *, threads: int = 1) -> Columns:
        """As `BindingIndex.bindings`."""
        with self._moving:
            if not self._n_outside():
                return self._index.bindings(threads=threads)
            return join_columns(list(self.blocks()))

    def blocks(self) -> Iterator[Columns]:
        """Yield all bindings by (concept, episode), of one moment; changes wait until the last was taken."""
        with self._moving:
            lines = self._all_lines()
            for some in spans(lines.fan_outs):
                yield self._columns(lines.take(some))

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
        found = self._index.statistics()
        with self._moving, self._counting:
            return {
                "limit_bytes": self._limit_bytes,
                "line_bytes": found.n_line_bytes,
                "n_concepts_outside": found.n_concepts_outside,
                "n_bindings_outside": found.n_bindings_outside,
                "kept_bytes": self._kept.n_bytes if self._kept is not None else 0,
                "n_writes": self._n_writes,
                "hits": _by_operation(self._hits),
                "misses": _by_operation(self._misses),
            }

    def check(self) -> None:
        """As `BindingIndex.check`."""
        self._index.check()

    def write(self) -> None:
        """Write the file anew, with everything as it is.

        Raises
        ------
        OSError
            The disk is full; nothing was changed.
        """
        with self._moving:
            kept = KeptBindings(self._directory, self.blocks(), self._limit_bytes // _SORTED_SHARE + 1)
            ids, _, rows = kept.lines()
            self.tiers.settle(ids, rows)
            self._kept, self._n_writes = kept, self._n_writes + 1

    # ---- what comes and goes ----

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep within the limit whatever the block does."""
        with self._moving:
            try:
                yield
            finally:
                self._trim()

    @contextmanager
    def _here(self, operation: str, concept_ids: Int64Array, *, change: bool = True) -> Iterator[None]:
        """Have the bindings of concepts here while the block changes them."""
        with self._changing():
            lines = self.tiers.use(concept_ids, change=change)
            self._count(operation, lines.tiers)
            outside = lines.take(lines.tiers == Tier.OUTSIDE)
            _, firsts = np.unique(outside.ids, return_index=True)
            self._take_in(outside.take(firsts), operation, change=change)
            yield

    def _take_in(self, lines: ConceptLines, operation: str = "invite", *, change: bool = False) -> None:
        """Take bindings of concepts back in."""
        for some in spans(lines.fan_outs):
            part = lines.take(some)
            _, episodes, strengths = self._read(operation, part)
            offsets = np.concatenate([[0], np.cumsum(part.fan_outs)])
            self.tiers.admit(part.ids, offsets, episodes, strengths, change=change)

    def _invite(self, outside: ConceptLines) -> None:
        """Take in what was read, as far as there is room; of the others, the most used if it is worth what must go."""
        if not len(outside.ids):
            return
        tiers = self.tiers
        fits = np.cumsum(outside.fan_outs) <= self._room()
        self._take_in(outside.take(fits))
        others = outside.take(~fits)
        if len(others.ids):
            best = others.take(slice(at := int(np.argmax(others.uses)), at + 1))
            n_wanted = int(best.fan_outs[0])
            leaving, n_uses = tiers.choose(n_wanted)
            if best.uses[0] > n_uses and self._index.fan_out(leaving).sum() >= n_wanted:
                tiers.evict(leaving)
                self._take_in(best)
        self._trim()

    def _trim(self) -> None:
        """Keep within the limit, as far as the disk allows."""
        tiers = self.tiers
        if tiers.n_bytes <= self._limit_bytes:
            return
        tiers.shrink()
        while tiers.n_bytes > self._limit_bytes - self._limit_bytes // _SPARE_SHARE:
            found = self._index.statistics()
            if not found.n_bindings:
                return
            if (self._kept is None or 2 * found.n_unkept > found.n_bindings) and not self._write_anew():
                return
            leaving, _ = tiers.choose(max(found.n_bindings // _ROUND_SHARE, 1))
            tiers.evict(leaving)
            tiers.shrink()

    def _write_anew(self) -> bool:
        """Write the file anew, and return whether that went well: what is in memory stays there if it did not."""
        try:
            self.write()
        except OSError as error:
            logger.warning("bindings stay in memory beyond the limit limit_bytes=%d error=%s", self._limit_bytes, error)
            return False
        return True

    def _room(self) -> int:
        """Return how many more bindings there is room for."""
        return max(self._limit_bytes - self.tiers.n_bytes, 0) // _BYTES_A_BINDING

    def _n_outside(self) -> int:
        return self.tiers.counts()[1]

    # ---- what is outside ----

    def _all_lines(self) -> ConceptLines:
        lines = self.tiers.lines()
        return lines.take(np.argsort(lines.ids))

    def _columns(self, lines: ConceptLines) -> Columns:
        """Return the bindings of concepts, by (concept, episode)."""
        here = lines.ids[lines.tiers == Tier.HERE]
        outside = self._read("sweep", lines.take(lines.tiers == Tier.OUTSIDE))
        return merge_bindings([_lists(self._index.episodes_of(here), here), outside])

    def _read(self, operation: str, outside: ConceptLines) -> Columns:
        """Return the bindings of concepts that are outside, one after the other."""
        if not len(outside.ids):
            return NOTHING
        assert self._kept is not None  # noqa: S101 - where else would they be
        kept = self._kept
        return self._from_disk(operation, len(outside.ids), lambda: kept.of_concepts(outside.kept_at, outside.fan_outs))

    def _of_episodes(self, operation: str, episode_ids: Int64Array) -> Columns:
        """Return the bindings of episodes to concepts that are outside."""
        if self._kept is None or not self._n_outside():
            return NOTHING
        kept = self._kept
        columns = self._from_disk(operation, len(episode_ids), lambda: kept.of_episodes(episode_ids))
        return take_rows(columns, self.tiers.find(columns[0]).tiers == Tier.OUTSIDE)

    def _blocks_reached(self, cues: Cues) -> Iterator[Columns]:
        """Yield the bindings of all concepts outside that cues reach in a step."""
        reached = [cues.concepts.ids]
        for start in range(0, len(cues.episodes.ids), BLOCK_ROWS):
            concepts = self._of_episodes("spread", cues.episodes.ids[start : start + BLOCK_ROWS])[0]
            reached.append(np.unique(concepts))
        lines = self.tiers.find(np.unique(np.concatenate(reached)))
        lines = lines.take(lines.tiers == Tier.OUTSIDE)
        self._count("spread", lines.tiers)
        for some in spans(lines.fan_outs):
            yield self._read("spread", lines.take(some))

    # ---- accounts ----

    def _count_lines(self, operation: str, fan_outs: Int64Array) -> None:
        known = int(np.count_nonzero(fan_outs))
        with self._counting:
            self._hits[operation, "line"] += known
            self._misses[operation, "line"] += len(fan_outs) - known

    def _count(self, operation: str, tiers: NDArray[np.uint8]) -> None:
        unknown, here, outside = np.bincount(tiers, minlength=len(Tier)).tolist()
        with self._counting:
            self._hits[operation, "line"] += here + outside
            self._misses[operation, "line"] += unknown
            self._hits[operation, "memory"] += here
            self._misses[operation, "memory"] += outside

    def _from_disk(self, operation: str, n: int, read: Callable[[], Columns]) -> Columns:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
        columns = read()
        is_cached = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt == before
        with self._counting:
            (self._hits if is_cached else self._misses)[operation, "disk"] += n
        return columns


def decay_slots(index: native_simd.BindingIndex, half_lives: float, slots: int, op_id: int) -> bool:
    """Let the bindings here of the concepts in some slots decay; return whether this operation was new."""
    concepts, episodes, strengths = index.bindings()
    rows = np.flatnonzero(are_in(slots_of(concepts), slots))
    return index.set_strengths(concepts[rows], episodes[rows], strengths[rows] * decay_factor(half_lives), op_id)


def weak_bindings(blocks: Iterable[Columns], below: float) -> Columns:
    """Return (concept ids, episodes, strengths) of the bindings weaker than ``below``."""
    return join_columns([NOTHING, *(take_rows(block, block[2] < np.float32(below)) for block in blocks)])


def count_strong(blocks: Iterable[Columns], episodes: Int64Array, below: float) -> Int64Array:
    """Return how many bindings of each episode are not weaker than ``below``; episodes ascend."""
    counts = np.zeros(len(episodes), np.int64)
    for _, bound, strengths in blocks:
        strong = bound[strengths >= np.float32(below)]
        at = np.searchsorted(episodes, strong)
        known = at < len(episodes)
        known[known] = episodes[at[known]] == strong[known]
        counts += np.bincount(at[known], minlength=len(episodes))
    return counts


def _lists(found: BindingLists, names: Int64Array) -> Columns:
    """Return lists end to end, with what each is of."""
    return np.repeat(names, np.diff(found.offsets)), found.ids, found.strengths


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


def _by_operation(counts: Counter[tuple[str, TierName]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (operation, tier), n in counts.items():
        found.setdefault(operation, {})[tier] = n
    return found
