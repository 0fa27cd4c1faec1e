"""Commits what shards have in memory as the next version of their store.

Owns the tables of that version: new bindings, everything else as it was. Refuses to know of the log, which is cut by
whoever owns it once the version is published.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster_engine.store.commit import commit_version
from cluster_engine.store.segments import Committed
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.tables import TABLE_NAMES

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
    tables = {name: getattr(store, name)() for name in TABLE_NAMES}
    tables["bindings"] = _renew(tables["bindings"], pa.concat_tables(captures))
    commit_version(uri, tables, slot=planned.slot, expected_version=planned.version - 1)


def _renew(before: pa.Table, captured: pa.Table) -> pa.Table:
    """Return the table of the bindings that were captured; a new one has no contribution to the centroid."""
    joined = captured.join(before.select([*_PAIR, "contribution"]), keys=_PAIR, join_type="left outer")
    return joined.sort_by([(name, "ascending") for name in _PAIR]).select(before.column_names).cast(before.schema)
