"""Every store and every log that a release wrote is read by this one.

``golden/format-<n>`` was written by the first release with that format and is never written again; `expected.json` says
what its log leaves. A new format gets a directory beside.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cluster_engine.shards.checkpoint import commit_checkpoint, plan_checkpoint
from cluster_engine.shards.durable import DurableShards, next_life
from cluster_engine.store.catalog import find_slot
from cluster_engine.store.log import LOG_FORMAT
from cluster_engine.store.manifest import FORMAT
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.tables import TABLE_NAMES

GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())


def test_there_is_one_of_every_format() -> None:
    assert [path.name for path in GOLDEN] == [f"format-{number}" for number in range(1, max(FORMAT, LOG_FORMAT) + 1)]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_its_tables_are_read(golden: Path) -> None:
    store = ConceptStore.open(golden)
    store.verify()
    rows = {name: getattr(store, name)().num_rows for name in TABLE_NAMES}
    assert rows["episodes"] == 15
    assert [len(store.manifest.parts(name)) for name in ("episodes", "journal")] == [2, 1]
    assert rows["bindings"] == sum(store.concepts()["n_episodes"].to_pylist())
    assert store.slot == "first"
    assert [find_slot(golden, slot) for slot in ("begin", "first", "none")] == [1, 2, None]  # the first was removed
    episodes = store.episodes()
    assert episodes["episode_id"].to_pylist() == list(range(100, 115))
    nearest = store.search(np.array(episodes["vector"].to_pylist()), k=1).concept_ids[:, 0]
    bound = dict(
        zip(store.bindings()["episode_id"].to_pylist(), store.bindings()["concept_id"].to_pylist(), strict=True)
    )
    assert dict(zip(range(100, 115), nearest.tolist(), strict=True)) == bound


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_its_log_is_replayed_and_carried_into_the_next_version(golden: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(golden, store)
    expected = json.loads((golden / "expected.json").read_text())
    for version in (2, 3):
        shards = DurableShards(store, life=next_life(store))
        assert shards.version == version
        assert [list(row) for row in zip(*(column.tolist() for column in shards.shard.bindings()), strict=True)] == (
            expected["bindings"]
        )
        states = shards.shard.states([expected["activated"]])
        assert (states.n_activations[0], states.last_activation[0]) == (2, 1_700_000_000_000_000)
        assert all(shards.has_applied(op_id) for op_id in expected["operations"])
        if version == 2:
            planned = plan_checkpoint(2)
            commit_checkpoint(store, planned, [shards.capture(planned)])
            shards.release(planned)
        shards.close()
    assert ConceptStore.open(store).bindings()["strength"].to_pylist() == [row[2] for row in expected["bindings"]]
