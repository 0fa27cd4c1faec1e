"""Bindings kept on disk: all of one shard as they were at one moment, and the decays that came after.

Owns the two orders, by concept and by episode, in which they lie in memory-mapped files, and the reading of either.
Refuses to know which of them are still true: that is the business of :mod:`cluster_engine.shards.tiers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

import native_simd
from cluster_engine.shards.mapped import write_mapped
from cluster_engine.shards.merging import NOTHING, join_columns, merge_bindings, take_rows
from cluster_engine.shards.slots import ALL_SLOTS, are_in, slots_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cluster_engine.shards.shard import Columns

    Int64Array = NDArray[np.int64]

BLOCK_ROWS = 1 << 16  # bindings that are looked at together: 20 bytes each, and some times that to sort them
_SAMPLE = 1 << 16  # episodes that say where ranges begin
_TYPES: dict[str, pa.DataType] = {"concept_id": pa.int64(), "episode_id": pa.int64(), "strength": pa.float32()}


class _MappedBindings:
    """Bindings in a file.

    Attributes
    ----------
    batches : list of (concept ids, episode ids, strengths)
        As they were written, and read-only.
    starts : ndarray of int64, shape (b + 1,)
        The first row of each batch, then the number of rows.
    n_bytes : int
    """

    def __init__(self, directory: Path, batches: Iterable[Columns]) -> None:
        names = list(_TYPES)
        table = write_mapped(
            directory, pa.schema(_TYPES), (pa.record_batch(list(columns), names) for columns in batches)
        )
        parts = table.to_batches()
        self.batches: list[Columns] = [
            (np.asarray(part[0], np.int64), np.asarray(part[1], np.int64), np.asarray(part[2], np.float32))
            for part in parts
        ]
        self.starts = np.cumsum([0, *(part.num_rows for part in parts)])
        self.n_bytes = table.nbytes


class KeptBindings:
    """The bindings of one moment.

    Parameters
    ----------
    directory : path
        Where the files go, 40 bytes a binding; they have no names.
    blocks : iterable of (concept ids, episode ids, strengths)
        By (concept, episode), the bindings of a concept in one block; none empty.
    rows_at_a_time : int
        Bindings that are sorted by episode together.

    Attributes
    ----------
    decays : list of (float32, int)
        Factors since that moment, and the slots that they are of.

    Raises
    ------
    OSError
        The disk is full.
    """

    def __init__(self, directory: Path, blocks: Iterable[Columns], rows_at_a_time: int = 1 << 20) -> None:
        self._by_concept = _MappedBindings(directory, blocks)
        self._by_episode = _MappedBindings(directory, _by_episode(self._by_concept, rows_at_a_time))
        self._first_episodes = np.array([episodes[0] for _, episodes, _ in self._by_episode.batches], np.int64)
        self.decays: list[tuple[np.float32, int]] = []

    @property
    def n_bytes(self) -> int:
        """Of the files."""
        return self._by_concept.n_bytes + self._by_episode.n_bytes

    def lines(self) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Return (concept ids, their bindings, the first row of each), by concept."""
        parts = []
        for (concepts, _, _), start in zip(self._by_concept.batches, self._by_concept.starts, strict=False):
            ids, firsts, counts = np.unique(concepts, return_index=True, return_counts=True)
            parts.append((ids, counts, start + firsts))
        empty = np.empty(0, np.int64)
        ids, counts, rows = (np.concatenate(column) for column in zip((empty,) * 3, *parts, strict=True))
        return ids, counts, rows

    def of_concepts(self, rows: Int64Array, counts: Int64Array) -> Columns:
        """Return the bindings of concepts, one after the other: so many each, from these rows on."""
        batches = np.searchsorted(self._by_concept.starts, rows, "right") - 1
        parts = [NOTHING]
        for batch, row, count in zip(batches.tolist(), rows.tolist(), counts.tolist(), strict=True):
            first = row - int(self._by_concept.starts[batch])
            parts.append(take_rows(self._by_concept.batches[batch], slice(first, first + count)))
        return self._decayed(join_columns(parts))

    def of_episodes(self, episode_ids: Int64Array) -> Columns:
        """Return the bindings of episodes, by no order that counts; O(log n) each."""
        parts = [NOTHING]
        batches = np.searchsorted(self._first_episodes, episode_ids, "right") - 1
        for batch in np.unique(batches[batches >= 0]).tolist():
            columns = self._by_episode.batches[batch]
            wanted = episode_ids[batches == batch]
            firsts = np.searchsorted(columns[1], wanted)
            counts = np.searchsorted(columns[1], wanted, "right") - firsts
            rows = np.repeat(firsts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
            parts.append(take_rows(columns, rows))
        return self._decayed(join_columns(parts))

    def _decayed(self, columns: Columns) -> Columns:
        """Return bindings as they are now: each factor rounds once, as it does in memory."""
        concepts, episodes, strengths = columns
        slots = slots_of(concepts) if any(held != ALL_SLOTS for _, held in self.decays) else None
        for factor, held in self.decays:
            strengths *= factor if slots is None or held == ALL_SLOTS else np.where(are_in(slots, held), factor, 1)
        return concepts, episodes, strengths


def decay_factor(half_lives: float) -> np.float32:
    """Return what `native_simd.BindingIndex.decay` multiplies by."""
    factor = np.ones(1, np.float32)
    if half_lives > 0 and (half_life := 1 / half_lives) > 0:  # as the native index has it
        native_simd.decay_half_life(factor, np.zeros(1, np.int64), now=1, half_life=half_life)
    elif half_lives > 0:
        factor[0] = 0
    return np.float32(factor[0])


def spans(counts: Int64Array, most: int = BLOCK_ROWS) -> Iterator[slice]:
    """Yield neighbours that have so many rows together at most, or one that has more.

    Examples
    --------
    >>> list(spans(np.array([2, 2, 9, 1, 3]), most=4))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 5, None)]
    """
    ends, start = np.cumsum(counts), 0
    while start < len(counts):
        before = ends[start] - counts[start]
        stop = max(int(np.searchsorted(ends, before + most, "right")), start + 1)
        yield slice(start, stop)
        start = stop


def whole_concepts(blocks: Iterable[Columns]) -> Iterator[Columns]:
    """Yield bindings, by concept, as `KeptBindings` takes them: by episode within a concept, and no concept divided.

    Raises
    ------
    ValueError
        The concepts do not ascend.
    """
    pending = NOTHING
    for block in blocks:
        joined = join_columns([pending, block])
        concepts = joined[0]
        if (np.diff(concepts) < 0).any():
            raise ValueError("bindings are not in order of concept")
        last = int(np.searchsorted(concepts, concepts[-1])) if len(concepts) else 0
        if last:
            yield merge_bindings([take_rows(joined, slice(last))])
        pending = take_rows(joined, slice(last, None))
    if len(pending[0]):
        yield merge_bindings([pending])


def _by_episode(table: _MappedBindings, rows_at_a_time: int) -> Iterator[Columns]:
    """Yield all rows by (episode, concept), range after range of episodes, each found by a pass over all."""
    n_rows = int(table.starts[-1])
    n_ranges = -(-n_rows // rows_at_a_time)
    if not n_ranges:
        return
    step = -(-n_rows // _SAMPLE)
    sample = np.sort(np.concatenate([episodes[::step] for _, episodes, _ in table.batches]))
    int64 = np.iinfo(np.int64)
    bounds = np.unique(sample[np.arange(1, n_ranges) * len(sample) // n_ranges])
    bounds = bounds[bounds > int64.min]
    for low, high in zip([int64.min, *bounds], [*(bounds - 1), int64.max], strict=True):
        inside = [take_rows(part, (part[1] >= low) & (part[1] <= high)) for part in table.batches]
        columns = join_columns(inside)
        if len(columns[0]):
            yield take_rows(columns, np.lexsort((columns[0], columns[1])))
