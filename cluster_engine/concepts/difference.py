"""What changed from one version's concepts to another's: told from the tables of both, in either direction of time.

Concepts are the same where their ids are. Where a concept went, or came from, is told by its episodes: more than half
of them went to one other concept, or came from it. So a difference needs no journal, and says the same of a batch that
was committed, undone or only tried.

Owns the comparison. Refuses to know stores, and reasons: those are in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

Kind: TypeAlias = Literal["born", "split", "gone", "absorbed", "grown", "shrunk", "exchanged", "kept"]
"""What became of a concept; "exchanged": it gained as many episodes as it lost; "kept": it has those that it had."""


@dataclass(frozen=True, slots=True)
class Change:
    """One concept in two versions.

    Attributes
    ----------
    concept_id : int
    kind : str
        One of `Kind`.
    other_id : int or None
        What it was split from, or absorbed into.
    n_before, n_after : int
        Its bindings in both versions; 0 where it is not there.
    n_gained, n_lost : int
        Bindings that only the later, and only the earlier version has.
    state_before, state_after : str or None
        None where it is not there.
    strength_before, strength_after : int or None
        In parts per million.
    """

    concept_id: int
    kind: Kind
    other_id: int | None
    n_before: int
    n_after: int
    n_gained: int
    n_lost: int
    state_before: str | None
    state_after: str | None
    strength_before: int | None
    strength_after: int | None

    @property
    def is_restated(self) -> bool:
        """Whether the concept is in both versions, in another state."""
        return None not in (self.state_before, self.state_after) and self.state_before != self.state_after


@dataclass(frozen=True, slots=True)
class Flow:
    """Episodes that left one concept and are now in another."""

    from_id: int
    to_id: int
    n_episodes: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Two versions side by side.

    Attributes
    ----------
    changes : tuple of Change
        Every concept that has other episodes or another state; the greatest change first, then by id.
    n_kept : int
        Concepts that have the episodes and the state that they had.
    flows : tuple of Flow
        The largest first, then by ids.
    n_bound, n_unbound, n_moved : int
        Episodes in a concept that were in none, in none that were in one, and those that left one concept for another.
    before, after : dict of str to int
        Counts of either version: concepts of each state, "bindings", and "episodes" where they were given.
    """

    changes: tuple[Change, ...]
    n_kept: int
    flows: tuple[Flow, ...]
    n_bound: int
    n_unbound: int
    n_moved: int
    before: dict[str, int]
    after: dict[str, int]

    def of_kind(self, *kinds: Kind) -> list[Change]:
        """Return the changes of these kinds, in order."""
        return [change for change in self.changes if change.kind in kinds]


def diff_concepts(before: Mapping[str, pa.Table], after: Mapping[str, pa.Table]) -> Difference:
    """Compare the concepts of two versions. O(b log b) for b bindings.

    Parameters
    ----------
    before, after : mapping of str to pyarrow.Table
        "concepts" (concept_id, state, strength_ppm) and "bindings" (concept_id, episode_id), and "episodes" if they are
        to be counted; a table may have more columns.
    """
    pairs = _Pairs.join(before["bindings"], after["bindings"])
    earlier, later = _facts(before["concepts"]), _facts(after["concepts"])
    n_before, n_after = pairs.sizes(pairs.is_before), pairs.sizes(pairs.is_after)
    n_gained, n_lost = pairs.sizes(~pairs.is_before), pairs.sizes(~pairs.is_after)
    moves = pairs.moves()
    became = _majority(moves, n_before, later.keys())
    came = _majority([(there, here, n) for here, there, n in moves], n_after, earlier.keys())
    changes = []
    for name in earlier.keys() | later.keys():
        gained, lost = n_gained.get(name, 0), n_lost.get(name, 0)
        if name not in later:
            kind, other = _ending(became.get(name))
        elif name not in earlier:
            kind, other = _beginning(came.get(name))
        else:
            kind, other = _growth(gained, lost), None
        (state_before, strength_before), (state_after, strength_after) = (
            facts.get(name, (None, None)) for facts in (earlier, later)
        )
        sizes = (n_before.get(name, 0), n_after.get(name, 0), gained, lost)
        states = (state_before, state_after, strength_before, strength_after)
        changes.append(Change(name, kind, other, *sizes, *states))
    changed = [change for change in changes if change.kind != "kept" or change.is_restated]
    flows = [Flow(*move) for move in moves]
    return Difference(
        changes=tuple(sorted(changed, key=lambda c: (-c.n_gained - c.n_lost, c.concept_id))),
        n_kept=len(changes) - len(changed),
        flows=tuple(sorted(flows, key=lambda flow: (-flow.n_episodes, flow.from_id, flow.to_id))),
        **pairs.count_episodes(),
        before=_counts(before, earlier),
        after=_counts(after, later),
    )


_Facts: TypeAlias = "dict[int, tuple[str, int]]"
_Moves: TypeAlias = "list[tuple[int, int, int]]"


def _facts(concepts: pa.Table) -> _Facts:
    columns = [concepts[name].to_pylist() for name in ("concept_id", "state", "strength_ppm")]
    return {name: (state, strength) for name, state, strength in zip(*columns, strict=True)}


def _counts(tables: Mapping[str, pa.Table], facts: _Facts) -> dict[str, int]:
    states = [state for state, _ in facts.values()]
    counts = {state: states.count(state) for state in sorted(set(states))}
    return counts | {name: tables[name].num_rows for name in ("bindings", "episodes") if name in tables}


def _majority(moves: _Moves, sizes: Mapping[int, int], present: AbstractSet[int]) -> dict[int, int]:
    """Return, by concept, where more than half of its episodes went; of two such concepts, that with more of them."""
    found: dict[int, tuple[int, int]] = {}
    for here, there, n in moves:
        if 2 * n > sizes[here] and there in present:
            found[here] = min(found.get(here, (-n, there)), (-n, there))
    return {here: there for here, (_, there) in found.items()}


def _ending(target: int | None) -> tuple[Kind, int | None]:
    return ("gone" if target is None else "absorbed"), target


def _beginning(source: int | None) -> tuple[Kind, int | None]:
    return ("born" if source is None else "split"), source


def _growth(gained: int, lost: int) -> Kind:
    if gained == lost:
        return "exchanged" if gained else "kept"
    return "grown" if gained > lost else "shrunk"


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Every binding of either version, once: concept and episode as codes, and which versions have it."""

    names: NDArray[np.int64]
    concepts: NDArray[np.int64]
    episodes: NDArray[np.int64]
    is_before: NDArray[np.bool_]
    is_after: NDArray[np.bool_]

    @classmethod
    def join(cls, before: pa.Table, after: pa.Table) -> _Pairs:
        owners = np.concatenate([np.asarray(table["concept_id"], np.int64) for table in (before, after)])
        names, concepts = np.unique(owners, return_inverse=True)
        kind = before["episode_id"].type
        ids = pa.chunked_array([*before["episode_id"].chunks, *after["episode_id"].cast(kind).chunks], kind)
        episodes = np.asarray(ids.combine_chunks().dictionary_encode().indices, np.int64)
        keys = episodes * len(names) + concepts
        is_before = np.arange(len(keys)) < before.num_rows
        distinct, inverse = np.unique(keys, return_inverse=True)
        sides = [np.bincount(inverse[side], minlength=len(distinct)) > 0 for side in (is_before, ~is_before)]
        codes = np.divmod(distinct, max(1, len(names)))
        return cls(names, codes[1], codes[0], sides[0], sides[1])

    def sizes(self, chosen: NDArray[np.bool_]) -> dict[int, int]:
        counts = np.bincount(self.concepts[chosen], minlength=len(self.names))
        return dict(zip(self.names.tolist(), counts.tolist(), strict=True))

    def moves(self) -> _Moves:
        """Return (from, to, n): n episodes have lost their binding to the one and gained one to the other."""
        lost, gained = np.flatnonzero(~self.is_after), np.flatnonzero(~self.is_before)  # by episode, as the keys are
        first = np.searchsorted(self.episodes[gained], self.episodes[lost], "left")
        n = np.searchsorted(self.episodes[gained], self.episodes[lost], "right") - first
        sources = np.repeat(self.concepts[lost], n)
        offsets = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        targets = self.concepts[gained][np.repeat(first, n) + offsets]
        keys, counts = np.unique(sources * len(self.names) + targets, return_counts=True)
        here, there = np.divmod(keys, max(1, len(self.names)))
        return list(zip(self.names[here].tolist(), self.names[there].tolist(), counts.tolist(), strict=True))

    def count_episodes(self) -> dict[str, int]:
        n = int(self.episodes.max(initial=-1)) + 1
        had, has, lost, gained = (
            np.bincount(self.episodes[chosen], minlength=n) > 0
            for chosen in (self.is_before, self.is_after, ~self.is_after, ~self.is_before)
        )
        return {
            "n_bound": int((has & ~had).sum()),
            "n_unbound": int((had & ~has).sum()),
            "n_moved": int((lost & gained).sum()),
        }
