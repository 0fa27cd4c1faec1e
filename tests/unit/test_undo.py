"""Going back: to the version before the last change, byte for byte, however often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from cycles import History, episodes, topic
from hypothesis import given, settings
from hypothesis import strategies as st
from store_tables import version_tables

from cluster_engine.errors import StoreError
from cluster_engine.store.catalog import find_slot
from cluster_engine.store.commit import commit_version
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.undo import undo

if TYPE_CHECKING:
    from pathlib import Path

    from cluster_engine.cycle import CycleResult


def commit(store: Path, result: CycleResult, slot: str | None = None) -> str:
    tables = {**result.tables, "quarantine": pa.table({"file": ["x"]}), "report": pa.table({"seconds": [0.0]})}
    version = commit_version(store, tables, added=result.added, slot=slot)
    return ConceptStore.open(store, version=version).manifest.content_sha256


def go_back(store: Path, **options: int) -> str:
    version = undo(store, to=options.get("to"))
    restored = ConceptStore.open(store, version=version)
    restored.verify()
    return restored.manifest.content_sha256


def test_each_of_fifty_cycles_can_be_undone(tmp_path: Path) -> None:
    history, digests = History(), []
    for cycle in range(50):
        vectors = np.concatenate([topic(axis, 2, 16, seed=100 * cycle + axis) for axis in range(cycle % 5, 8)])
        ids = list(range(1000 * cycle, 1000 * cycle + len(vectors)))
        result = history.run(episodes(vectors, ids, days=float(cycle)), day=cycle)
        digests.append(commit(tmp_path, result))
        if cycle:
            assert go_back(tmp_path) == digests[-2]
            assert commit(tmp_path, result) == digests[-1]
    rows = ConceptStore.open(tmp_path).history().num_rows
    assert rows == 50 + 2 * 49
    assert go_back(tmp_path, to=1) == digests[0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_undone_twice_goes_back_twice(tmp_path_factory: pytest.TempPathFactory, changes: list[bool]) -> None:
    """Against a stack of states: a commit pushes one, an undo takes one away."""
    store = tmp_path_factory.mktemp("store")
    states: list[str] = []
    for number, is_commit in enumerate([True, *changes], start=1):
        if is_commit:
            commit_version(store, version_tables(number) if not states else _changed(number))
            states.append(ConceptStore.open(store).manifest.content_sha256)
        elif len(states) == 1:
            with pytest.raises(StoreError, match="nothing to undo"):
                go_back(store)
        else:
            states.pop()
            assert go_back(store) == states[-1]


def _changed(number: int) -> dict[str, pa.Table]:
    return {name: table for name, table in version_tables(number).items() if name in ("bindings", "concepts")}


def test_what_was_undone_is_not_run_again(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1), slot="one")
    commit_version(tmp_path, _changed(2), slot="two")
    go_back(tmp_path)
    assert find_slot(tmp_path, "two") == 2
    with pytest.raises(StoreError, match="no version 9"):
        go_back(tmp_path, to=9)
    with pytest.raises(StoreError, match="no store"):
        go_back(tmp_path / "none")
