"""Episodes by number: an integer id is its own number, a string's number is a hash that is checked.

Owns the strings of the episodes that are bound here. Refuses to know what is bound to what.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import native_simd
from cluster_engine.concepts.identity import name_after
from cluster_engine.shards.kept_names import KeptNames
from cluster_engine.shards.shard import require_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray


def is_string(kind: pa.DataType) -> bool:
    """Return whether a column of episode ids has strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def number_episodes(episode_ids: ArrayLike, *, is_string_ids: bool) -> NDArray[np.int64]:
    """Return the number of each episode, the same on every machine and in every version of a store.

    Raises
    ------
    ValueError
        The ids are not of the kind that the store has.
    """
    if not is_string_ids:
        return require_ids(episode_ids, "episode_ids")
    ids: list[Any] = np.asarray(episode_ids, dtype=object).tolist()
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise ValueError("episode_ids must be strings, as in this store")
    return np.fromiter((name_after("episode", name) for name in ids), np.int64, len(ids))


@dataclass(frozen=True, slots=True)
class NamedActivations:
    """Episodes that activation has reached, by their ids in the store, strongest first, then by number."""

    ids: list[str]
    activations: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NamedSpread:
    """What a spread has reached, in a store whose ids are strings."""

    concepts: native_simd.Activations
    episodes: NamedActivations


class EpisodeNames:
    """The strings of numbered episodes.

    Parameters
    ----------
    directory : path, optional
        Those that are loaded lie there, in a file without a name, and only what comes after is in memory. Default, all
        are in memory.

    Notes
    -----
    Of two strings with one number, for which the chance is m^2 / 2^64 with m episodes, the second is refused.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._kept: KeptNames | None = None
        self._names: dict[int, str] = {}

    def load(self, batches: Iterable[list[str]]) -> None:
        """Add the strings of a version, which may repeat."""
        numbered = ((number_episodes(names, is_string_ids=True), names) for names in batches)
        if self._directory is not None:
            self._kept = KeptNames(self._directory, numbered)
            return
        for numbers, names in numbered:
            self.add(self.unknown(numbers, names))

    def keep(self) -> None:
        """Write those in memory to disk, too, if there is a directory for them; no other call may add any meanwhile.

        Raises
        ------
        OSError
            The disk is full; nothing was changed.
        """
        if self._kept is not None and self._directory is not None and self._names:
            numbers = np.fromiter(self._names, np.int64, len(self._names))
            added = (numbers, list(self._names.values()))
            self._kept = KeptNames(self._directory, chain(self._kept.batches(), [added]))
            self._names = {}  # readers look here first, and then there

    def unknown(self, numbers: NDArray[np.int64], names: Iterable[str]) -> dict[int, str]:
        """Return those that are not here yet.

        Raises
        ------
        RowError
            A number is that of another string.
        """
        found: dict[int, str] = {}
        for row, (number, here, name) in enumerate(zip(numbers.tolist(), self._find(numbers), names, strict=True)):
            known = here or found.get(number)
            if known is None:
                found[number] = name
            elif known != name:
                raise native_simd.RowError(row, f"episodes {known!r} and {name!r} have the same number; rename one")
        return found

    def add(self, names: Mapping[int, str]) -> None:
        """Add strings by number."""
        self._names.update(names)

    def known(self, numbers: NDArray[np.int64]) -> dict[int, str]:
        """Return the strings of those numbers that are here."""
        found = zip(numbers.tolist(), self._find(numbers), strict=True)
        return {number: name for number, name in found if name is not None}

    def of(self, numbers: NDArray[np.int64]) -> list[str]:
        """Return the strings of numbers that are here."""
        known = self.known(numbers)
        return [known[number] for number in numbers.tolist()]

    def _find(self, numbers: NDArray[np.int64]) -> list[str | None]:
        found = [self._names.get(number) for number in numbers.tolist()]
        missing = np.array([row for row, name in enumerate(found) if name is None], np.int64)
        if self._kept is not None and len(missing):
            for row, name in zip(missing.tolist(), self._kept.find(numbers[missing]), strict=True):
                found[row] = name
        return found


def names_to_columns(names: Mapping[int, str]) -> dict[str, NDArray[Any]]:
    """Return strings by number as columns of a log record."""
    texts = [name.encode() for name in names.values()]
    return {
        "name_numbers": np.fromiter(names, np.int64, len(names)),
        "name_ends": np.cumsum([len(text) for text in texts], dtype=np.int64),
        "name_text": np.frombuffer(b"".join(texts), np.uint8),
    }


def names_from_columns(columns: Mapping[str, NDArray[Any]]) -> dict[int, str]:
    """Return what `names_to_columns` was given; nothing, where it was not called."""
    if "name_numbers" not in columns:
        return {}
    text, ends = columns["name_text"].tobytes(), columns["name_ends"].tolist()
    spans = zip(columns["name_numbers"].tolist(), [0, *ends[:-1]], ends, strict=True)
    return {number: text[start:end].decode() for number, start, end in spans}
