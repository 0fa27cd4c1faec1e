"""Where the bindings of concepts are: in memory, as far as a limit allows, or on disk.

Three tiers. The first is the line of a concept, 64 bytes, always in memory: fan-out, activations, version, uses of
late. The second are the arrays of the native index, with the bindings of concepts that are *here*. The third is a file,
mapped into memory, with the bindings of all concepts as they were when it was written; it is read for those that are
*outside*.

Owns what comes, what goes, and when. Refuses to know the store, the log and Ray: the file is a cache, and what was in
it comes from the version and the log again.
"""

from __future__ import annotations

import logging
import resource
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cluster_engine.errors import CapacityError
from cluster_engine.shards.kept import KeptBindings, decay_factor, spans, whole_concepts
from cluster_engine.shards.merging import NOTHING, merge_bindings, take_rows
from native_simd import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    import native_simd
    from cluster_engine.shards.shard import Columns
    from native_simd import BindingLists, ConceptLines

logger = logging.getLogger(__name__)

TierName = Literal["line", "memory", "disk"]

_BYTES_A_BINDING = 100  # in memory, at most, as a rule (native_simd/README.md, "Binding index")
_SPARE_SHARE = 8  # of the limit: so much is free after concepts have gone
_ROUND_SHARE = 16  # of the bindings here: so many go before memory is looked at again
_MOST_DECAYS = 256  # to apply to what is read from disk, before it is written anew
_SORTED_SHARE = 1024  # bytes of the limit for each binding that is sorted at a time


class TierCounts:
    """How often each tier was asked, by operation; any number of threads may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hits: Counter[tuple[str, TierName]] = Counter()
        self._misses: Counter[tuple[str, TierName]] = Counter()

    def add(self, operation: str, tier: TierName, *, hits: int = 0, misses: int = 0) -> None:
        """Count rows that a tier had, and rows that it had not."""
        with self._lock:
            self._hits[operation, tier] += hits
            self._misses[operation, tier] += misses

    def add_lines(self, operation: str, tiers: NDArray[np.uint8]) -> None:
        """Count rows that need bindings, by the tiers of their concepts."""
        unknown, here, outside = np.bincount(tiers, minlength=len(Tier)).tolist()
        self.add(operation, "line", hits=here + outside, misses=unknown)
        self.add(operation, "memory", hits=here, misses=outside)

    def as_dicts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return ``hits`` and ``misses``, by operation, then by tier."""
        found: dict[str, dict[str, dict[str, int]]] = {"hits": {}, "misses": {}}
        with self._lock:
            for name, counts in (("hits", self._hits), ("misses", self._misses)):
                for (operation, tier), n in counts.items():
                    found[name].setdefault(operation, {})[tier] = n
        return found


class Tiers:
    """The tiers of one index. One thread at a time may call.

    Parameters
    ----------
    index : BindingIndex
    limit_bytes : int
        Of the index, lines of all concepts included.
    directory : path
        Where the file goes, 40 bytes a binding.

    Raises
    ------
    CapacityError
        The limit is below what an empty index takes.

    Attributes
    ----------
    counts : TierCounts

    Notes
    -----
    *What comes.* A concept whose bindings change comes, for the batch. One that is read comes if there is room, or if
    it was used more, of late, than all that would have to go for it together: the rule of TinyLFU (Einziger, Friedman
    and Manes, ACM Transactions on Storage 13, 2017), for concepts of any size (Einziger, Eytan, Friedman and Manes,
    *Lightweight Robust Size Aware Cache Management*, 2021). So neither a pass over everything nor what is read once
    drives out what is read often.

    *What goes.* Above the limit, the least used of every 8 concepts that are in the file as they are. When most of what
    is here has changed since the file was written, it is written anew, and all may go: changes cost a pass over
    everything each time they come to half of what memory holds. Decays do not count: they are remembered, and applied
    to what is read, each rounding as in memory.
    """

    def __init__(self, index: native_simd.BindingIndex, limit_bytes: int, directory: Path) -> None:
        if limit_bytes < (n_bytes := index.tiers.n_bytes):
            raise CapacityError(
                f"an index of {index.n_shards} logical shards takes {n_bytes} bytes, and the limit is {limit_bytes}"
            )
        self.counts = TierCounts()
        self._index = index
        self._lines = index.tiers
        self._limit_bytes = limit_bytes
        self._directory = directory
        self._kept: KeptBindings | None = None
        self._n_writes = 0

    @property
    def n_outside(self) -> int:
        """Concepts that are outside."""
        return self._lines.counts()[1]

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
        self._kept = KeptBindings(self._directory, whole_concepts(blocks), self._sorted_rows)
        self._n_writes += 1
        self._lines.adopt(*self._kept.lines())
        if (n_bytes := self._lines.n_bytes) > self._limit_bytes:
            raise CapacityError(f"the lines of all concepts take {n_bytes} bytes, and the limit is {self._limit_bytes}")
        lines = self._all_lines()
        self._take_in(lines.take(np.cumsum(lines.fan_outs) <= self._room()), "fill")
        self.trim()

    def bring(self, operation: str, concept_ids: NDArray[np.int64], *, change: bool) -> None:
        """Take in the bindings of concepts, whatever the limit: a call needs them, and with ``change`` changes them."""
        lines = self._lines.use(concept_ids, change=change)
        self.counts.add_lines(operation, lines.tiers)
        outside = lines.take(lines.tiers == Tier.OUTSIDE)
        _, firsts = np.unique(outside.ids, return_index=True)
        self._take_in(outside.take(firsts), operation, change=change)

    def use(self, operation: str, concept_ids: NDArray[np.int64]) -> ConceptLines:
        """Count a read of the bindings of concepts, and return those that are outside, each once."""
        lines = self._lines.use(concept_ids)
        self.counts.add_lines(operation, lines.tiers)
        return self._outside(concept_ids)

    def invite(self, outside: ConceptLines) -> None:
        """Take in what was read, as far as there is room; of the others, the most used if it is worth what must go."""
        if not len(outside.ids):
            return
        fits = np.cumsum(outside.fan_outs) <= self._room()
        self._take_in(outside.take(fits), "invite")
        others = outside.take(~fits)
        if len(others.ids):
            best = others.take(slice(at := int(np.argmax(others.uses)), at + 1))
            leaving, n_uses = self._lines.choose(int(best.fan_outs[0]))
            if best.uses[0] > n_uses and self._index.fan_out(leaving).sum() >= best.fan_outs[0]:
                self._lines.evict(leaving)
                self._take_in(best, "invite")
        self.trim()

    def trim(self) -> None:
        """Keep within the limit, as far as the disk allows."""
        if self._lines.n_bytes <= self._limit_bytes:
            return
        self._lines.shrink()
        while self._lines.n_bytes > self._limit_bytes - self._limit_bytes // _SPARE_SHARE:
            found = self._index.statistics()
            if not found.n_bindings:
                return
            if (self._kept is None or 2 * found.n_unkept > found.n_bindings) and not self._try_to_write():
                return
            leaving, _ = self._lines.choose(max(found.n_bindings // _ROUND_SHARE, 1))
            self._lines.evict(leaving)
            self._lines.shrink()

    def write(self) -> None:
        """Write the file anew, with everything as it is.

        Raises
        ------
        OSError
            The disk is full; nothing was changed.
        """
        kept = KeptBindings(self._directory, self.blocks(), self._sorted_rows)
        ids, _, rows = kept.lines()
        self._lines.settle(ids, rows)
        self._kept, self._n_writes = kept, self._n_writes + 1

    def remember_decay(self, half_lives: float, slots: int) -> None:
        """Let what is outside decay, too: the concepts in these slots."""
        if self._kept is not None:
            self._kept.decays.append((decay_factor(half_lives), slots))
            if len(self._kept.decays) > _MOST_DECAYS:
                self._try_to_write()

    def blocks(self) -> Iterator[Columns]:
        """Yield all bindings, here and outside, by (concept, episode)."""
        lines = self._all_lines()
        for some in spans(lines.fan_outs):
            part = lines.take(some)
            here = part.ids[part.tiers == Tier.HERE]
            outside = self.read("sweep", part.take(part.tiers == Tier.OUTSIDE))
            yield merge_bindings([end_to_end(self._index.episodes_of(here), here), outside])

    def read(self, operation: str, outside: ConceptLines) -> Columns:
        """Return the bindings of concepts that are outside, one after the other."""
        if self._kept is None or not len(outside.ids):
            return NOTHING
        kept = self._kept
        return self._from_disk(operation, len(outside.ids), lambda: kept.of_concepts(outside.kept_at, outside.fan_outs))

    def read_episodes(self, operation: str, episode_ids: NDArray[np.int64]) -> Columns:
        """Return the bindings of episodes to concepts that are outside."""
        if self._kept is None or not self.n_outside:
            return NOTHING
        kept = self._kept
        columns = self._from_disk(operation, len(episode_ids), lambda: kept.of_episodes(episode_ids))
        return take_rows(columns, self._lines.find(columns[0]).tiers == Tier.OUTSIDE)

    def read_reached(self, concept_ids: NDArray[np.int64]) -> Iterator[Columns]:
        """Yield the bindings of those of some concepts that are outside, which a spread reaches."""
        outside = self._outside(concept_ids)
        for some in spans(outside.fan_outs):
            yield self.read("spread", outside.take(some))

    def statistics(self) -> dict[str, Any]:
        """Return sizes of the tiers, and how often each of them was asked; see `TieredIndex.tier_statistics`."""
        found = self._index.statistics()
        return {
            "limit_bytes": self._limit_bytes,
            "line_bytes": found.n_line_bytes,
            "n_concepts_outside": found.n_concepts_outside,
            "n_bindings_outside": found.n_bindings_outside,
            "kept_bytes": self._kept.n_bytes if self._kept is not None else 0,
            "n_writes": self._n_writes,
            **self.counts.as_dicts(),
        }

    @property
    def _sorted_rows(self) -> int:
        return self._limit_bytes // _SORTED_SHARE + 1

    def _room(self) -> int:
        """Return how many more bindings there is room for."""
        return max(self._limit_bytes - self._lines.n_bytes, 0) // _BYTES_A_BINDING

    def _all_lines(self) -> ConceptLines:
        lines = self._lines.lines()
        return lines.take(np.argsort(lines.ids))

    def _outside(self, concept_ids: NDArray[np.int64]) -> ConceptLines:
        lines = self._lines.find(np.unique(concept_ids))
        return lines.take(lines.tiers == Tier.OUTSIDE)

    def _take_in(self, outside: ConceptLines, operation: str, *, change: bool = False) -> None:
        for some in spans(outside.fan_outs):
            part = outside.take(some)
            _, episodes, strengths = self.read(operation, part)
            offsets = np.concatenate([[0], np.cumsum(part.fan_outs)])
            self._lines.admit(part.ids, offsets, episodes, strengths, change=change)

    def _try_to_write(self) -> bool:
        """Write the file anew, and return whether that went well; if it did not, what is in memory stays there."""
        try:
            self.write()
        except OSError as error:
            logger.warning("bindings stay in memory limit_bytes=%d error=%s", self._limit_bytes, error)
            return False
        return True

    def _from_disk(self, operation: str, n: int, read: Callable[[], Columns]) -> Columns:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
        columns = read()
        is_cached = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt == before
        self.counts.add(operation, "disk", hits=n if is_cached else 0, misses=0 if is_cached else n)
        return columns


def end_to_end(found: BindingLists, names: NDArray[np.int64]) -> Columns:
    """Return lists one after the other, with what each is of."""
    return np.repeat(names, np.diff(found.offsets)), found.ids, found.strengths
