"""Two tiers of a :class:`~native_simd.BindingIndex`: concepts whose bindings are here, and concepts outside.

Of a concept outside the index has the line alone: fan-out, activations, version, how often it was used lately, and a
number that says where the caller keeps its bindings. It owns these; it refuses to know where that is, how bindings get
there, and when one should go.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from native_simd.arguments import require_flag, require_integer
from native_simd.arrays import check_status, require_contiguous
from native_simd.binding_arguments import require_column
from native_simd.isa import ffi, lib
from native_simd.packing import RowError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]
    Float32Array = NDArray[np.float32]
    Uint8Array = NDArray[np.uint8]

_USES_A_CONCEPT = 10  # between two halvings: ten times what is counted (Einziger et al., "TinyLFU", section 3.4)
_INT64_MAX = np.iinfo(np.int64).max


class Tier(IntEnum):
    """Where the bindings of a concept are."""

    UNKNOWN = 0
    """There is no such concept."""

    HERE = 1
    """In the index, all of them."""

    OUTSIDE = 2
    """Outside, all of them."""


@dataclass(frozen=True, slots=True)
class ConceptLines:
    """Concepts, of shape (n,).

    Attributes
    ----------
    ids, fan_outs : ndarray of int64
    kept_at : ndarray of int64
        What `IndexTiers.adopt` or `IndexTiers.settle` was told; -1 of bindings that have changed since.
    uses : ndarray of uint8
        Lately.
    tiers : ndarray of uint8
        `Tier` of each.
    """

    ids: Int64Array
    fan_outs: Int64Array
    kept_at: Int64Array
    uses: Uint8Array
    tiers: Uint8Array

    def take(self, rows: NDArray[Any] | slice) -> ConceptLines:
        """Return some of them, by number or mask."""
        return ConceptLines(*(getattr(self, column)[rows] for column in self.__slots__))

    @classmethod
    def room_for(cls, n: int) -> ConceptLines:
        """Return arrays for n concepts, of which the library writes what they are."""
        ids, fan_outs, kept_at = (np.empty(n, np.int64) for _ in range(3))
        return cls(ids, fan_outs, kept_at, np.empty(n, np.uint8), np.empty(n, np.uint8))


class IndexTiers:
    """The tiers of one index; any number of threads may call.

    Notes
    -----
    Calls of the index refuse a batch that needs a concept outside (`RowError`); lists, sweeps over all bindings and
    spreads pass it over; its fan-out, activations and version are known as ever.

    Uses are counted up to 255 and halved when there have been ten times as many as concepts, so that they tell of
    lately: a count for every concept where TinyLFU has a sketch (Einziger, Friedman and Manes, *TinyLFU: A Highly
    Efficient Cache Admission Policy*, ACM Transactions on Storage 13, 2017), since every concept has a line.
    """

    def __init__(self, handle: Any) -> None:  # noqa: ANN401 - a cffi pointer
        self._handle = handle
        self._hand = ffi.new("int64_t *")
        self._n_uses = 0

    def find(self, concept_ids: Int64Array) -> ConceptLines:
        """Return what is known of concepts."""
        return self._find(lib.NS_LOOK, concept_ids)

    def use(self, concept_ids: Int64Array, *, change: bool = False) -> ConceptLines:
        """Count a use of the bindings of each concept, and return what is known of it.

        With ``change``, those that are here are about to change: what is kept of them elsewhere counts no more.
        """
        found = self._find(lib.NS_CHANGE if require_flag(change, "change") else lib.NS_USE, concept_ids)
        self._n_uses += len(found.ids)
        if self._n_uses > _USES_A_CONCEPT * self.counts()[0]:
            self._n_uses = 0
            lib.ns_index_halve_uses(self._handle)
        return found

    def adopt(self, concept_ids: Int64Array, fan_outs: Int64Array, kept_at: Int64Array) -> None:
        """Add concepts whose bindings are outside.

        Parameters
        ----------
        concept_ids : ndarray of int64, shape (n,)
            `RowError` for one that is known.
        fan_outs : ndarray of int64, shape (n,)
            From 1 to 2**32 - 2 (`RowError`).
        kept_at : ndarray of int64, shape (n,)
            Where they are, in the caller's words; at least 0 (`RowError`).
        """
        concepts = require_contiguous(concept_ids, np.int64, "concept_ids")
        counts = _require_beside(fan_outs, "fan_outs", len(concepts))
        places = _require_beside(kept_at, "kept_at", len(concepts))
        bad_row = ffi.new("int64_t *")
        status = lib.ns_index_adopt(
            self._handle, *_pointers(concepts), len(concepts), *_pointers(counts, places), bad_row
        )
        row = int(bad_row[0])
        _check(
            status,
            row,
            concepts,
            twice="is here already",
            unusable=lambda: f"{counts[row]} bindings at {places[row]} cannot be",
        )

    def evict(self, concept_ids: Int64Array) -> None:
        """Let bindings of concepts go; `RowError` for a concept that has none here, or none that are kept outside."""
        concepts = require_contiguous(concept_ids, np.int64, "concept_ids")
        bad_row = ffi.new("int64_t *")
        status = lib.ns_index_evict(self._handle, *_pointers(concepts), len(concepts), bad_row)
        _check(status, int(bad_row[0]), concepts, unknown="has no bindings here that are kept outside")

    def admit(
        self,
        concept_ids: Int64Array,
        offsets: Int64Array,
        episode_ids: Int64Array,
        strengths: Float32Array,
        *,
        change: bool = False,
    ) -> None:
        """Take bindings of concepts back in.

        Parameters
        ----------
        concept_ids : ndarray of int64, shape (n,)
            `RowError` for one that is not outside.
        offsets : ndarray of int64, shape (n + 1,)
            Bindings of concept i are ``offsets[i]:offsets[i + 1]``, as many as went (`RowError`).
        episode_ids : ndarray of int64, shape (m,)
            `RowError` if one occurs twice.
        strengths : ndarray of float32, shape (m,), in [0, 1]
        change : bool
            They are about to change.
        """
        concepts = require_contiguous(concept_ids, np.int64, "concept_ids")
        ends = _require_beside(offsets, "offsets", len(concepts) + 1)
        episodes = require_contiguous(episode_ids, np.int64, "episode_ids")
        values = require_column(strengths, "strengths", len(episodes))
        if ends[0] != 0 or (np.diff(ends) < 0).any() or ends[-1] != len(episodes):
            raise ValueError(f"offsets must rise from 0 to the {len(episodes)} bindings")
        bad_row = ffi.new("int64_t *")
        status = lib.ns_index_admit(
            self._handle,
            *_pointers(concepts),
            len(concepts),
            *_pointers(ends, episodes),
            ffi.from_buffer("float[]", values),
            int(require_flag(change, "change")),
            bad_row,
        )
        _check(
            status,
            int(bad_row[0]),
            concepts,
            unknown="is not outside",
            twice="has an episode twice",
            unusable=lambda: "had other bindings, or strengths outside [0, 1]",
        )

    def settle(self, concept_ids: Int64Array, kept_at: Int64Array) -> None:
        """Say where bindings are kept by now; what is not known, or below 0, is passed over."""
        concepts = require_contiguous(concept_ids, np.int64, "concept_ids")
        places = _require_beside(kept_at, "kept_at", len(concepts))
        lib.ns_index_settle(self._handle, *_pointers(concepts), len(concepts), *_pointers(places))

    def lines(self) -> ConceptLines:
        """Return all concepts, of one moment."""
        capacity = self.counts()[0]
        while True:
            found = ConceptLines.room_for(capacity)
            n = int(lib.ns_index_lines(self._handle, capacity, *_pointers(found.ids), *_written(found)))
            if n <= capacity:
                return found.take(slice(n))
            capacity = n  # there are more by now

    def choose(self, n_bindings: int, *, most: int = 1 << 16) -> tuple[Int64Array, int]:
        """Choose concepts that should go to make room for so many bindings, and return the sum of their uses beside.

        Of every 8 in the order of their lines, the least used goes, until there is room, or all were looked at once.
        The next call goes on from there.

        Parameters
        ----------
        n_bindings : int
            At least 1.
        most : int
            Concepts, at least 1.
        """
        n_wanted = min(require_integer(n_bindings, "n_bindings", least=1), _INT64_MAX)
        capacity = min(require_integer(most, "most", least=1), max(self.counts()[0], 1))
        ids, n_uses = np.empty(capacity, np.int64), ffi.new("int64_t *")
        n = int(lib.ns_index_choose(self._handle, self._hand, n_wanted, capacity, *_pointers(ids), n_uses))
        return ids[:n], int(n_uses[0])

    def _find(self, how: int, concept_ids: Int64Array) -> ConceptLines:
        concepts = require_contiguous(concept_ids, np.int64, "concept_ids")
        found = ConceptLines.room_for(len(concepts))
        found.ids[:] = concepts
        lib.ns_index_find(self._handle, how, *_pointers(concepts), len(concepts), *_written(found))
        return found

    def counts(self) -> tuple[int, int]:
        """Return how many concepts there are, and how many of them are outside; O(shards)."""
        n_outside = ffi.new("int64_t *")
        n = int(lib.ns_index_n_concepts(self._handle, n_outside))
        return n, int(n_outside[0])

    @property
    def n_bytes(self) -> int:
        """Memory of the index, as `IndexStatistics` has it, at O(shards)."""
        return int(lib.ns_index_bytes(self._handle))

    def shrink(self) -> None:
        """Give back what memory is to spare; O(n), and the next spread numbers episodes anew."""
        lib.ns_index_shrink(self._handle)


def _require_beside(values: object, name: str, n: int) -> Int64Array:
    column: Int64Array = require_contiguous(values, np.int64, name)
    if len(column) != n:
        raise TypeError(f"{name} must have shape ({n},), got {column.shape}")
    return column


def _written(found: ConceptLines) -> list[Any]:
    """Return the addresses of what the library writes of concepts."""
    bytes_ = (ffi.from_buffer("uint8_t[]", column) for column in (found.uses, found.tiers))
    return [*_pointers(found.fan_outs, found.kept_at), *bytes_]


def _pointers(*columns: Int64Array) -> list[Any]:
    return [ffi.from_buffer("int64_t[]", column) for column in columns]


def _check(
    status: int,
    row: int,
    concepts: Int64Array,
    *,
    unknown: str = "",
    twice: str = "",
    unusable: Any = None,  # noqa: ANN401 - a callable
) -> None:
    """Raise what refused a batch of concepts."""
    if status in (lib.NS_E_UNKNOWN, lib.NS_E_TWICE, lib.NS_E_ROW):
        why = {lib.NS_E_UNKNOWN: unknown, lib.NS_E_TWICE: twice}.get(status) or unusable()
        raise RowError(
            row, f"concept {concepts[row]}: {why}" if status == lib.NS_E_ROW else f"concept {concepts[row]} {why}"
        )
    check_status(status)
