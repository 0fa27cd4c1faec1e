"""Near-duplicates among episodes: which to keep, by what an episode says of itself, and the table of groups.

Knows episodes. Refuses to know how near-duplicates are found, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.errors import InputError
from cluster_engine.linkage.deduplication import Deduplication, deduplicate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.data.episodes import Episodes
    from cluster_engine.progress import Reporter

Preference: TypeAlias = Literal["first", "longest", "most-important", "central"]
"""The episode to keep: the earliest, that of the longest text, the most important, or the one in the middle. Equal
ones, and those without a time, in the order of ids."""


def find_duplicates(
    episodes: Episodes, eps: float, preference: Preference = "first", *, progress: Reporter | None = None
) -> Deduplication:
    """Find near-duplicates among episodes; see :func:`cluster_engine.deduplicate`.

    Raises
    ------
    InputError
        There are no episodes, or no texts to measure.
    """
    if preference == "central":
        return deduplicate(episodes.vectors, eps, preference="central", progress=progress)
    return deduplicate(episodes.vectors, eps, preference=_worth(episodes, preference), progress=progress)


def _worth(episodes: Episodes, preference: Preference) -> NDArray[np.float64]:
    """Return a number for each episode, larger for what is rather kept."""
    if preference == "most-important":
        return episodes.importances.astype(np.float64)
    if preference == "longest":
        if episodes.texts is None:
            raise InputError("the longest text cannot be told: there is no column of texts")
        texts = cast("pa.LargeStringArray", episodes.texts.fill_null(""))
        return np.asarray(pc.utf8_length(texts).to_numpy(), np.float64)
    ticks = episodes.times.view(pa.int64()).fill_null(np.iinfo(np.int64).max).to_numpy()
    ranks = np.unique(ticks, return_inverse=True)[1]  # a float64 does not hold all microseconds, but all ranks
    return -np.asarray(ranks, np.float64)


def group_table(episodes: Episodes, found: Deduplication) -> pa.Table:
    """Return the groups, a row an episode in the order of ids.

    Returns
    -------
    pyarrow.Table
        Columns id, group (int64, from 0 in the order of the ids of the representatives), representative_id,
        is_representative (bool) and similarity (float32, with the representative).
    """
    representatives = found.representatives
    return pa.table(
        {
            "id": episodes.ids,
            "group": pa.array(np.searchsorted(found.kept, representatives), pa.int64()),
            "representative_id": episodes.ids.take(representatives),
            "is_representative": pa.array(representatives == np.arange(len(episodes))),
            "similarity": pa.array(found.similarities.astype(np.float32)),
        }
    )
