"""Strings by number, kept on disk: the names of the episodes of a shard that has a memory limit.

Owns their order and the reading. Refuses to know how a string gets its number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cluster_engine.shards.mapped import write_mapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_TYPES: dict[str, pa.DataType] = {"number": pa.int64(), "name": pa.large_string()}
_SORTED_ROWS = 1 << 18  # at a time: some 30 MB of short strings
_NUMBER_BITS = 63


class KeptNames:
    """Strings, each with a number of 63 bits, spread evenly as a hash is.

    Parameters
    ----------
    directory : path
        Where the file goes, which has no name.
    batches : iterable of (ndarray of int64, list of str)
        In any order; a string may come more than once.
    sorted_rows : int
        So many are sorted at a time.

    Raises
    ------
    ValueError
        Two strings have one number.
    OSError
        The disk is full.
    """

    def __init__(
        self, directory: Path, batches: Iterable[tuple[NDArray[np.int64], list[str]]], sorted_rows: int = _SORTED_ROWS
    ) -> None:
        given = write_mapped(directory, pa.schema(_TYPES), (_batch(*batch) for batch in batches))
        parts = write_mapped(directory, pa.schema(_TYPES), _by_number(given, sorted_rows)).to_batches()
        self._numbers = [np.asarray(part[0], np.int64) for part in parts]
        self._names = [part[1] for part in parts]
        self._firsts = np.array([numbers[0] for numbers in self._numbers], np.int64)

    def find(self, numbers: NDArray[np.int64]) -> list[str | None]:
        """Return the string of each number, None for one that is not here."""
        found: list[str | None] = [None] * len(numbers)
        batches = np.searchsorted(self._firsts, numbers, "right") - 1
        for batch in np.unique(batches[batches >= 0]).tolist():
            known = self._numbers[batch]
            rows = np.flatnonzero(batches == batch)
            at = np.minimum(np.searchsorted(known, numbers[rows]), len(known) - 1)
            is_here = known[at] == numbers[rows]
            names = self._names[batch].take(pa.array(at[is_here])).to_pylist()
            for row, name in zip(rows[is_here].tolist(), names, strict=True):
                found[row] = name
        return found

    def batches(self) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
        """Yield all of them by number, as the constructor takes them."""
        for numbers, names in zip(self._numbers, self._names, strict=True):
            yield numbers, list(map(str, names.to_pylist()))


def _batch(numbers: NDArray[np.int64], names: list[str]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(numbers, pa.int64()), pa.array(names, pa.large_string())], list(_TYPES))


def _by_number(given: pa.Table, sorted_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield each string once, by number: range after range of numbers, each found by a pass over all."""
    n_ranges = -(-given.num_rows // sorted_rows)
    for k in range(n_ranges):
        low, high = ((k + i) * 2**_NUMBER_BITS // n_ranges for i in range(2))
        parts = []
        for batch in given.to_batches():
            numbers = np.asarray(batch[0], np.int64)
            parts.append(batch.filter(pa.array((numbers >= low) & (numbers <= high - 1))))
        table = pa.Table.from_batches(parts).sort_by("number").combine_chunks()
        numbers = np.asarray(table["number"], np.int64)
        is_first = np.diff(numbers, prepend=-1) != 0
        once = table.filter(pa.array(is_first)).combine_chunks()
        _require_one_name(table, once, is_first)
        yield from once.to_batches()


def _require_one_name(table: pa.Table, once: pa.Table, is_first: NDArray[np.bool_]) -> None:
    """Refuse rows whose string is another than that of the first row with their number."""
    expected = once["name"].take(pa.array(np.cumsum(is_first) - 1))
    if not table["name"].equals(expected):
        names = zip(table["name"].to_pylist(), expected.to_pylist(), strict=True)
        name, other = next((a, b) for a, b in names if a != b)
        raise ValueError(f"episodes {other!r} and {name!r} have the same number; rename one")
