"""Commits what shards have in memory as the next version of their store.

Owns the tables of that version: new bindings, and moments only of concepts that have the episodes they had; everything
else is as it was. Refuses to know of the log, which is cut by whoever owns it once the version is published.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.store.commit import commit_version
from cluster_engine.store.segments import Committed
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster_engine.store.location import StoreUri

_PAIR = ["concept_id", "episode_id"]


def plan_checkpoint(version: int) -> Committed:
    """Return the version after this one, and a slot that no other batch has."""
    return Committed(version + 1, f"checkpoint-{version + 1:08d}-{secrets.token_hex(8)}")


def commit_checkpoint(uri: StoreUri, planned: Committed, captures: Sequence[pa.Table]) -> None:
    """Commit captured bindings as the planned version.

    Parameters
    ----------
    uri : path, URI or Location
    planned : Committed
    captures : sequence of Table
        Bindings of each actor, as `DurableShards.capture` returns them.

    Raises
    ------
    CommitConflictError
        Another writer has committed that version.
    StoreError
        The store cannot be read or written.
    """
    store = ConceptStore.open(uri, version=planned.version - 1)
    before, captured = store.bindings(), pa.concat_tables(captures)
    tables = {
        "bindings": _renew(before, captured, store.cycle()["as_of"][0]),
        "moments": _keep_moments(store.moments(), before, captured),
    }
    commit_version(uri, tables, slot=planned.slot, expected_version=planned.version - 1)


def _renew(before: pa.Table, captured: pa.Table, as_of: pa.Scalar[Any]) -> pa.Table:
    """Return the table of the bindings that were captured; one that is new or has another strength begins anew."""
    known = before.rename_columns({"strength": "strength_before"})
    joined = captured.join(known, keys=_PAIR, join_type="left outer").sort_by([(name, "ascending") for name in _PAIR])
    is_same = pc.equal(joined["strength"], joined["strength_before"]).fill_null(fill_value=False)
    initial = pc.if_else(is_same, joined["initial"], joined["strength"])
    touched = pc.if_else(is_same, joined["touched"], as_of)
    columns = {name: joined[name] for name in [*_PAIR, "strength"]} | {"initial": initial, "touched": touched}
    return pa.table(columns).select(before.column_names).cast(before.schema)


def _keep_moments(moments: pa.Table, before: pa.Table, captured: pa.Table) -> pa.Table:
    """Return the moments of the concepts whose sets of episodes are the same."""
    sides = before.select(_PAIR), captured.select(_PAIR)
    only = [one.join(other, keys=_PAIR, join_type="left anti")["concept_id"] for one, other in (sides, sides[::-1])]
    changed = pa.chunked_array([chunk for column in only for chunk in column.chunks], pa.int64())
    return moments.filter(pc.invert(pc.is_in(moments["concept_id"], changed)))
