"""Why a concept is what it is: its journal, and that of the concepts that it came from or took in.

Owns the following of links. Refuses to know stores, and how an answer is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.concepts.journal import CHANGE_KINDS

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the journal, as part of one concept's story.

    Attributes
    ----------
    concept_id : int
        Whose row it is.
    depth : int
        0 for the concept itself, 1 for those that it came from or took in, and so on.
    cycle : int
    as_of : datetime
    slot : str or None
    kind : str
        One of `CHANGE_KINDS`.
    other_ids : tuple of int
    n_episodes : int
        Gained; negative: lost.
    reason : str
    """

    concept_id: int
    depth: int
    cycle: int
    as_of: datetime
    slot: str | None
    kind: str
    other_ids: tuple[int, ...]
    n_episodes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle changed.

    Attributes
    ----------
    cycle : int
    as_of : datetime
    slot : str or None
    counts : dict of str to int
        Rows of each kind that occurs, in the order of `CHANGE_KINDS`.
    n_gained, n_lost : int
        Episodes that concepts gained and lost, added up.
    """

    cycle: int
    as_of: datetime
    slot: str | None
    counts: dict[str, int]
    n_gained: int
    n_lost: int


def trace_concept(journal: pa.Table, concept_id: int) -> list[Event]:
    """Return the story of a concept, in the order of the journal.

    Its own rows; and where one names others (what it was split from, or took in), the rows of those from the cycles
    before. A row is there once, with the least depth. O(n log n) for n rows, and the size of the answer.

    Parameters
    ----------
    journal : pyarrow.Table
        By cycle, ascending.
    concept_id : int
        Of a concept that is, or was; an unknown one has no story.
    """
    rows_of = _RowsByConcept(np.asarray(journal["concept_id"], np.int64))
    cycles = np.asarray(journal["cycle"], np.int64)
    seen: dict[int, int] = {}  # by concept: its rows before this one are in the story
    depths: dict[int, int] = {}  # by row
    reached = [(concept_id, journal.num_rows)]
    depth = 0
    while reached:  # the least depth first, so that the first depth of a row is its least
        found = np.unique(np.concatenate([rows_of.between(name, seen.get(name, 0), end) for name, end in reached]))
        for name, end in reached:
            seen[name] = max(seen.get(name, 0), end)
        depths |= {row: depth for row in found.tolist() if row not in depths}
        links = journal.select(["kind", "other_ids"]).take(found).to_pylist()
        ends = np.searchsorted(cycles, cycles[found], "left")  # where the cycle of each row begins
        reached = [
            (other, end)
            for end, link in zip(ends.tolist(), links, strict=True)
            if link["kind"] != "absorbed"  # where this one went, not where it came from
            for other in link["other_ids"] or []
        ]
        depth += 1
    rows = np.array(sorted(depths), np.int64)
    records = journal.take(rows).to_pylist()
    return [_event(record, depths[row]) for row, record in zip(rows.tolist(), records, strict=True)]


class _RowsByConcept:
    """The rows of the journal in the order of their concepts."""

    def __init__(self, names: NDArray[np.int64]) -> None:
        self._rows = np.argsort(names, kind="stable")
        self._names = names[self._rows]

    def between(self, name: int, start: int, end: int) -> NDArray[np.int64]:
        """Return the rows of a concept that are not before `start`, but before `end`."""
        first, last = (int(np.searchsorted(self._names, name, side)) for side in ("left", "right"))
        rows = self._rows[first:last]
        return rows[(rows >= start) & (rows < end)]


def read_events(journal: pa.Table) -> list[Event]:
    """Return rows of the journal as they are, each at depth 0."""
    return [_event(record, 0) for record in journal.to_pylist()]


def _event(record: dict[str, Any], depth: int) -> Event:
    return Event(
        concept_id=record["concept_id"],
        depth=depth,
        cycle=record["cycle"],
        as_of=record["as_of"],
        slot=record["slot"],
        kind=record["kind"],
        other_ids=tuple(record["other_ids"] or ()),
        n_episodes=record["n_episodes"],
        reason=record["reason"],
    )


def summarise_cycles(journal: pa.Table) -> list[Cycle]:
    """Return what each cycle of a journal changed, ascending. O(n log n) for n rows."""
    numbers, first, inverse = np.unique(np.asarray(journal["cycle"], np.int64), return_index=True, return_inverse=True)
    kinds = np.asarray(pc.index_in(journal["kind"], pa.array(CHANGE_KINDS, journal["kind"].type)))
    counts = np.zeros((len(numbers), len(CHANGE_KINDS)), np.int64)
    np.add.at(counts, (inverse, kinds), 1)
    changes = np.asarray(journal["n_episodes"], np.int64)
    gained, lost = (np.zeros(len(numbers), np.int64) for _ in range(2))
    np.add.at(gained, inverse, np.maximum(changes, 0))
    np.add.at(lost, inverse, np.maximum(-changes, 0))
    facts = journal.select(["as_of", "slot"]).take(first).to_pylist()
    return [
        Cycle(
            int(number),
            fact["as_of"],
            fact["slot"],
            {kind: n for kind, n in zip(CHANGE_KINDS, row.tolist(), strict=True) if n},
            int(n_gained),
            int(n_lost),
        )
        for number, fact, row, n_gained, n_lost in zip(numbers, facts, counts, gained, lost, strict=True)
    ]
