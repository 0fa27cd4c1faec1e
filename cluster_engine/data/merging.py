"""New episodes beside stored ones.

Knows two sets of episodes, each already checked. Refuses to know where either came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.data.quarantine import Reason, join_quarantines, quarantine_rows
from cluster_engine.errors import SchemaError

if TYPE_CHECKING:
    import numpy.typing as npt

    from cluster_engine.data.episodes import Episodes
    from cluster_engine.data.quarantine import Quarantine

_COMPARED_ROWS = 8192  # vectors compared at a time, so that no second copy of them is made


def leave_out_stored(stored: Episodes, new: Episodes) -> tuple[Episodes, Quarantine]:
    """Leave out of new episodes those that are stored already, and refuse other content under a stored id.

    Content is the vector by its bytes, time, importance, whether it is evergreen, and text. Episodes never change.

    Parameters
    ----------
    stored : Episodes
        At least those stored episodes whose ids `new` has; of the store's id type and dimension.
    new : Episodes
        Of a dimension of 0, which is unknown, or the store's. A side without texts has null texts.

    Returns
    -------
    fresh : Episodes
        Those that the store does not have.
    conflicts : Quarantine
        Those that it has with other content, with reason ``conflicting_id``, by id as text; file and row number are
        null.

    Raises
    ------
    SchemaError
        If the id types or dimensions differ.

    Notes
    -----
    O(n d + n log n).
    """
    _require_agreement(stored, new)
    matches = pc.index_in(new.ids, value_set=stored.ids)
    known = matches.is_valid().to_numpy(zero_copy_only=False)
    rows, stored_rows = np.flatnonzero(known), matches.drop_null().to_numpy().astype(np.int64)
    differs = _differences(stored, stored_rows, new, rows)
    fresh = new if not len(rows) else new.take(np.flatnonzero(~known))
    return fresh, _conflicts(new, rows, differs)


def _require_agreement(stored: Episodes, new: Episodes) -> None:
    if stored.ids.type != new.ids.type:
        raise SchemaError(f"stored episodes have {stored.ids.type} ids, new ones {new.ids.type} ids")
    if stored.dimension and new.dimension and stored.dimension != new.dimension:
        raise SchemaError(f"stored vectors have {stored.dimension} elements, new ones {new.dimension}")


def _differences(
    stored: Episodes, stored_rows: npt.NDArray[np.int64], new: Episodes, rows: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Compare new rows with the stored rows of the same ids, column by column."""
    return {
        "vector": ~_equal_vectors(stored, stored_rows, new, rows),
        "time": _differ(stored.times.take(stored_rows), new.times.take(rows)),
        "importance": stored.importances[stored_rows] != new.importances[rows],
        "evergreen": stored.evergreen[stored_rows] != new.evergreen[rows],
        "text": _differ(_texts(stored).take(stored_rows), _texts(new).take(rows)),
    }


def _conflicts(new: Episodes, rows: npt.NDArray[np.int64], differs: dict[str, npt.NDArray[np.bool_]]) -> Quarantine:
    conflicts = np.flatnonzero(np.logical_or.reduce(list(differs.values())))
    details = [
        f"differs from the stored episode in {', '.join(name for name, rows in differs.items() if rows[conflict])}"
        for conflict in conflicts.tolist()
    ]
    nulls = [None] * len(conflicts)
    ids = new.ids.take(rows[conflicts])
    return join_quarantines([quarantine_rows(nulls, nulls, ids, Reason.CONFLICTING_ID, details)])


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
