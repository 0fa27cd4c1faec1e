"""What a cycle changed, and why: one entry a change, for people and for whoever must undo it.

Knows entries; who makes them says what happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

ChangeKind = Literal[
    "born", "grew", "shrank", "merged", "absorbed", "split", "promoted", "retired", "revived", "dissolved"
]
CHANGE_KINDS: tuple[str, ...] = get_args(ChangeKind)


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of one concept.

    Attributes
    ----------
    concept_id : int
    kind : str
        "born" of unbound episodes, or "split" from the concept in `other_ids`; "grew" or "shrank" by `n_episodes`;
        "merged" with those in `other_ids`, which end, or "absorbed" by the one in it; "promoted", "retired", "revived";
        or "dissolved", when its episodes are no group any more.
    reason : str
        One sentence.
    n_episodes : int
        Gained; lost, below 0.
    other_ids : tuple of int
    """

    concept_id: int
    kind: ChangeKind
    reason: str
    n_episodes: int = 0
    other_ids: tuple[int, ...] = ()


def journal_table(entries: Sequence[Entry], cycle: int, as_of_us: int, slot: str | None) -> pa.Table:
    """Return the entries of a cycle as rows of the table ``journal``, by concept id, then in the order of kinds."""
    ordered = sorted(entries, key=lambda entry: (entry.concept_id, CHANGE_KINDS.index(entry.kind)))
    n = len(ordered)
    return pa.table(
        {
            "cycle": pa.array([cycle] * n, pa.int64()),
            "as_of": pa.array([as_of_us] * n, pa.int64()).cast(pa.timestamp("us", "UTC")),
            "slot": pa.array([slot] * n, pa.large_string()),
            "concept_id": pa.array([entry.concept_id for entry in ordered], pa.int64()),
            "kind": pa.array([entry.kind for entry in ordered], pa.large_string()),
            "other_ids": pa.array([list(entry.other_ids) for entry in ordered], pa.list_(pa.int64())),
            "n_episodes": pa.array([entry.n_episodes for entry in ordered], pa.int64()),
            "reason": pa.array([entry.reason for entry in ordered], pa.large_string()),
        }
    )
