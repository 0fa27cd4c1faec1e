"""New episodes joined to stored ones.

Knows two sets of episodes, each already checked. Refuses to know where either came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.data.episodes import Episodes
from cluster_engine.data.quarantine import Quarantine, Reason, join_quarantines, quarantine_rows
from cluster_engine.errors import SchemaError

if TYPE_CHECKING:
    import numpy.typing as npt

_COMPARED_ROWS = 8192  # vectors compared at a time, so that no second copy of them is made


def merge_episodes(stored: Episodes, new: Episodes) -> tuple[Episodes, Quarantine]:
    """Join episodes by id; what is stored stays as it is.

    A new episode whose id is stored is the same episode if its content is equal (vector by its bytes, time, importance,
    text), and nothing is added. If its content differs it is quarantined: episodes never change.

    Parameters
    ----------
    stored, new : Episodes
        With ids of one type and vectors of one dimension; 0, which is unknown, agrees with any. A side without texts
        has null texts.

    Returns
    -------
    episodes : Episodes
        All of `stored` and what `new` adds, by ascending id.
    quarantine : Quarantine
        The conflicts, with reason ``conflicting_id``, by id as text; file and row number are null.

    Raises
    ------
    SchemaError
        If the id types or dimensions differ.

    Notes
    -----
    O(n d + n log n); memory is both inputs and the result.
    """
    _require_agreement(stored, new)
    matches = pc.index_in(new.ids, value_set=stored.ids)
    known = matches.is_valid().to_numpy(zero_copy_only=False)
    rows, stored_rows = np.flatnonzero(known), matches.drop_null().to_numpy().astype(np.int64)
    return _union(stored, new, np.flatnonzero(~known)), _conflicts(stored, stored_rows, new, rows)


def _require_agreement(stored: Episodes, new: Episodes) -> None:
    if stored.ids.type != new.ids.type:
        raise SchemaError(f"stored episodes have {stored.ids.type} ids, new ones {new.ids.type} ids")
    if stored.dimension and new.dimension and stored.dimension != new.dimension:
        raise SchemaError(f"stored vectors have {stored.dimension} elements, new ones {new.dimension}")


def _conflicts(
    stored: Episodes, stored_rows: npt.NDArray[np.int64], new: Episodes, rows: npt.NDArray[np.int64]
) -> Quarantine:
    """Compare new rows with the stored rows of the same ids."""
    differs = {
        "vector": ~_equal_vectors(stored, stored_rows, new, rows),
        "time": _differ(stored.times.take(stored_rows), new.times.take(rows)),
        "importance": stored.importances[stored_rows] != new.importances[rows],
        "text": _differ(_texts(stored).take(stored_rows), _texts(new).take(rows)),
    }
    conflicts = np.flatnonzero(np.logical_or.reduce(list(differs.values())))
    details = [
        f"differs from the stored episode in {', '.join(name for name, rows in differs.items() if rows[conflict])}"
        for conflict in conflicts.tolist()
    ]
    nulls = [None] * len(conflicts)
    ids = new.ids.take(rows[conflicts])
    return join_quarantines([quarantine_rows(nulls, nulls, ids, Reason.CONFLICTING_ID, details)])


def _union(stored: Episodes, new: Episodes, added: npt.NDArray[np.int64]) -> Episodes:
    """Join `stored` and the `added` rows of `new`, sorted by id."""
    ids = pa.concat_arrays([stored.ids, new.ids.take(added)])
    order = pc.sort_indices(ids)
    places = np.empty(len(ids), np.int64)
    places[order.to_numpy()] = np.arange(len(ids))
    dimension = stored.dimension or new.dimension
    vectors = np.empty((len(ids), dimension), np.float32)
    for part, rows in ((stored.vectors, places[: len(stored)]), (new.vectors[added], places[len(stored) :])):
        vectors[rows] = part.reshape(len(rows), dimension)
    texts = None
    if stored.texts is not None or new.texts is not None:
        texts = pa.concat_arrays([_texts(stored), _texts(new).take(added)]).take(order)
    return Episodes(
        ids=ids.take(order),
        vectors=vectors,
        times=pa.concat_arrays([stored.times, new.times.take(added)]).take(order),
        importances=np.concatenate([stored.importances, new.importances[added]])[order.to_numpy()],
        texts=texts,
    )


def _equal_vectors(
    stored: Episodes, stored_rows: npt.NDArray[np.int64], new: Episodes, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    equal = np.empty(len(rows), bool)
    for start in range(0, len(rows), _COMPARED_ROWS):
        part = slice(start, start + _COMPARED_ROWS)
        bits = stored.vectors[stored_rows[part]].view(np.int32), new.vectors[rows[part]].view(np.int32)
        equal[part] = (bits[0] == bits[1]).all(axis=1)
    return equal


def _differ(left: pa.Array[Any], right: pa.Array[Any]) -> npt.NDArray[np.bool_]:
    """Compare element by element; null equals null and differs from everything else."""
    same = pc.coalesce(pc.equal(left, right), pc.and_(left.is_null(), right.is_null()))
    return ~same.to_numpy(zero_copy_only=False)


def _texts(episodes: Episodes) -> pa.Array[Any]:
    return pa.nulls(len(episodes), pa.large_string()) if episodes.texts is None else episodes.texts
