"""Growing tables: what is added, what is carried over, what is rewritten, and how little of it."""

from __future__ import annotations

import io
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_tables import episode_rows, journal_rows, version_tables

from cluster_engine.errors import CommitConflictError, StoreCorruptError, StoreError
from cluster_engine.store.catalog import find_slot
from cluster_engine.store.commit import commit_version, restore_version
from cluster_engine.store.manifest import FileEntry
from cluster_engine.store.parts import count_kept
from cluster_engine.store.retention import remove_versions
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.tables import GROWING_TABLE_NAMES, TABLE_NAMES, write_table


def entry(n_rows: int) -> FileEntry:
    return FileEntry("episodes", "versions/00000001/episodes.parquet", 1, n_rows, "0" * 64)


def n_rows_of(store: Path, name: str) -> list[int]:
    return [part.n_rows for part in ConceptStore.open(store).manifest.parts(name)]


def written(store: Path, version: int) -> set[str]:
    directory = store / f"versions/{version:08d}"
    return {path.stem for path in directory.iterdir()} if directory.exists() else set()


@given(st.lists(st.integers(1, 50), max_size=200))
def test_parts_stay_few_and_rows_are_rewritten_rarely(batches: list[int]) -> None:
    parts: list[list[int]] = []  # of each part, how often each of its rows was written
    for n_rows in batches:
        n_kept = count_kept([entry(len(part)) for part in parts], n_rows)
        joined = [count + 1 for part in parts[n_kept:] for count in part] + [1] * n_rows
        parts = [*parts[:n_kept], joined]
        n = sum(map(len, parts))
        assert len(parts) <= math.log2(n) + 1
        assert max(count for part in parts for count in part) <= math.log(n) / math.log(1.5) + 1


def test_a_table_in_neither_is_in_the_same_files(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1))
    before = ConceptStore.open(tmp_path)
    commit_version(tmp_path, {"cycle": version_tables(2)["cycle"]}, added={"journal": journal_rows(2, [5])})
    assert written(tmp_path, 2) == {"cycle", "journal"}
    after = ConceptStore.open(tmp_path)
    after.verify()
    for name in set(TABLE_NAMES) - {"cycle", "journal"}:
        assert after.manifest.parts(name) == before.manifest.parts(name)
        assert getattr(after, name)().equals(getattr(before, name)())
    assert after.cycle()["cycle"].to_pylist() == [2]
    assert after.journal()["concept_id"].to_pylist() == [1, 5]
    assert before.journal()["concept_id"].to_pylist() == [1]


def test_a_version_of_nothing_new_has_no_directory_and_an_equal_digest(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1), slot="a")
    assert commit_version(tmp_path, {}, added={"episodes": episode_rows([])}, slot="b") == 2
    assert not (tmp_path / "versions/00000002").exists()
    first, second = ConceptStore.open(tmp_path).history()["content_sha256"].to_pylist()
    assert first == second


def test_small_parts_are_rewritten_together_in_the_bytes_of_one_table(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1) | {"episodes": episode_rows(range(0, 200, 2))})
    commit_version(tmp_path, {}, added={"episodes": episode_rows(range(1, 21, 2), seed=1)})
    assert n_rows_of(tmp_path, "episodes") == [100, 10]
    commit_version(tmp_path, {}, added={"episodes": episode_rows([300], seed=2)})
    assert n_rows_of(tmp_path, "episodes") == [100, 10, 1]
    before = ConceptStore.open(tmp_path)
    commit_version(tmp_path, {}, added={"episodes": episode_rows([3, 5, -7, 400], seed=3).sort_by("episode_id")[:0]})
    commit_version(tmp_path, {}, added={"episodes": episode_rows([-7, 301, 303, 305, 400], seed=3)})
    assert n_rows_of(tmp_path, "episodes") == [100, 16]
    after = ConceptStore.open(tmp_path)
    assert after.manifest.parts("episodes")[0] == before.manifest.parts("episodes")[0]
    expected = pa.concat_tables(
        [
            episode_rows(range(1, 21, 2), seed=1),
            episode_rows([300], seed=2),
            episode_rows([-7, 301, 303, 305, 400], seed=3),
        ]
    ).sort_by("episode_id")
    buffer = io.BytesIO()
    n_bytes, sha256 = write_table(expected, buffer.write)
    part = after.manifest.parts("episodes")[1]
    assert (part.n_bytes, part.sha256) == (n_bytes, sha256)
    assert (tmp_path / part.path).read_bytes() == buffer.getvalue()
    assert before.episodes()["episode_id"].to_pylist() == sorted([*range(0, 200, 2), *range(1, 21, 2), 300])


def test_parts_of_more_rows_than_a_row_group_are_joined_by_id(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(120_000)
    halves = [np.sort(ids[:70_000]).tolist(), np.sort(ids[70_000:]).tolist()]
    parts = [episode_rows(half, seed) for seed, half in enumerate(halves)]
    commit_version(tmp_path, version_tables(1) | {"episodes": parts[0]})
    commit_version(tmp_path, {}, added={"episodes": parts[1]})
    assert n_rows_of(tmp_path, "episodes") == [120_000]
    assert ConceptStore.open(tmp_path).episodes().equals(pa.concat_tables(parts).sort_by("episode_id"))


@pytest.mark.parametrize("n_first", [50, 2])
def test_columns_are_those_asked_for_in_order_of_id(n_first: int, tmp_path: Path) -> None:
    text = pa.array(["b", "c"], pa.large_string())
    commit_version(tmp_path, version_tables(1) | {"episodes": episode_rows(range(10, 10 + n_first))})
    commit_version(tmp_path, {}, added={"episodes": episode_rows([1, 99]).append_column("text", text)})
    store = ConceptStore.open(tmp_path)
    assert len(store.manifest.parts("episodes")) == (2 if n_first == 50 else 1)
    ids = [1, *range(10, 10 + n_first), 99]
    assert store.episodes(["episode_id"]).to_pydict() == {"episode_id": ids}
    texts = {"text": ["b", *[None] * n_first, "c"]}
    assert store.episodes(["text", "no such column"]).to_pydict() == texts
    whole = store.episodes()
    assert whole.column_names == ["episode_id", "vector", "text"]
    assert whole["text"].to_pylist() == texts["text"]


@pytest.mark.parametrize("n_first", [50, 2])
def test_vectors_are_not_decoded_unless_asked_for(
    n_first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Watched(pa.parquet.ParquetFile):  # type: ignore[misc] # pyarrow has no types
        def read(self, columns: Any = None, **options: Any) -> Any:  # noqa: ANN401
            asked.append(columns)
            return super().read(columns=columns, **options)

        def iter_batches(self, *args: Any, columns: Any = None, **options: Any) -> Any:  # noqa: ANN401
            asked.append(columns)
            return super().iter_batches(*args, columns=columns, **options)

    commit_version(tmp_path, version_tables(1) | {"episodes": episode_rows(range(10, 10 + n_first))})
    commit_version(tmp_path, {}, added={"episodes": episode_rows([1, 99])})
    store = ConceptStore.open(tmp_path)
    monkeypatch.setattr("pyarrow.parquet.ParquetFile", Watched)
    store.episodes(["episode_id"])
    assert asked
    assert all(columns == ["episode_id"] for columns in asked)


def test_damage_is_found_before_rows_are_written_again(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1))
    path = tmp_path / "versions/00000001/episodes.parquet"
    pristine = path.read_bytes()
    middle = len(pristine) // 3
    path.write_bytes(pristine[:middle] + bytes([pristine[middle] ^ 1]) + pristine[middle + 1 :])
    with pytest.raises(StoreCorruptError, match=f"{path}: want sha256"):
        commit_version(tmp_path, {}, added={"episodes": episode_rows([9])})
    assert {path.name for path in (tmp_path / "versions").iterdir()} == {"00000001"}
    path.write_bytes(pristine)
    assert commit_version(tmp_path, {}, added={"episodes": episode_rows([9])}) == 2


@pytest.mark.parametrize(
    ("tables", "added", "message"),
    [
        ({}, {"bindings": version_tables()["bindings"]}, "added to episodes and journal only, not to bindings"),
        ({"journal": journal_rows(2, [1])}, {"journal": journal_rows(2, [1])}, "not both: journal"),
        ({}, {"nothing": journal_rows(2, [1])}, "unknown: nothing"),
        ({}, {"episodes": episode_rows([3, 2])}, "not in ascending order"),
        (
            {},
            {"episodes": episode_rows([3], dimension=3)},
            r"column vector: want fixed_size_list.*\[2\] as in the store, got .*\[3\]",
        ),
        (
            {},
            {"episodes": episode_rows([3]).set_column(0, "episode_id", pa.array(["a"]))},
            "column episode_id: want int64 as in the store, got string",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    tables: dict[str, pa.Table], added: dict[str, pa.Table], message: str, tmp_path: Path
) -> None:
    commit_version(tmp_path, version_tables(1))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        commit_version(tmp_path, tables, added=added)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_first_version_may_have_its_growing_tables_as_rows_added(tmp_path: Path) -> None:
    tables = version_tables(1)
    added = {name: tables.pop(name) for name in GROWING_TABLE_NAMES}
    with pytest.raises(ValueError, match="missing: episodes, journal"):
        commit_version(tmp_path / "other", tables)
    commit_version(tmp_path / "store", tables, added=added)
    assert ConceptStore.open(tmp_path / "store").episodes().equals(added["episodes"])


def test_undo_has_the_files_of_the_version_it_goes_back_to(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1), slot="a")
    commit_version(tmp_path, version_tables(2), slot="b")
    assert restore_version(tmp_path, 1, slot="undo b", expected_version=2) == 3
    first, restored = ConceptStore.open(tmp_path, version=1), ConceptStore.open(tmp_path)
    assert (restored.version, restored.slot) == (3, "undo b")
    assert restored.manifest.files == first.manifest.files
    assert restored.manifest.content_sha256 == first.manifest.content_sha256
    restored.verify()
    assert written(tmp_path, 3) == set()
    commit_version(tmp_path, {}, added={"episodes": episode_rows([7])})
    assert ConceptStore.open(tmp_path).episodes()["episode_id"].to_pylist() == [1, 7]


def test_undo_is_refused_as_a_commit_is(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .* yet"):
        restore_version(tmp_path / "nowhere", 1)
    commit_version(tmp_path, version_tables(1), slot="a")
    commit_version(tmp_path, version_tables(2))
    with pytest.raises(CommitConflictError, match="at version 2, not 1"):
        restore_version(tmp_path, 1, expected_version=1)
    with pytest.raises(CommitConflictError, match="'a' already, as version 1"):
        restore_version(tmp_path, 1, slot="a")
    with pytest.raises(StoreError, match="no version 3; it has 1 to 2"):
        restore_version(tmp_path, 3)
    (tmp_path / "versions/00000001/report.parquet").unlink()
    with pytest.raises(StoreCorruptError, match="got no file"):
        restore_version(tmp_path, 1)
    assert {path.name for path in (tmp_path / "manifests").iterdir()} == {"00000001.json", "00000002.json"}


class Histories(RuleBasedStateMachine):
    """Histories of commits, undos and removals, against what each version and slot has."""

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        self.store = Path(self.scratch.name)
        self.n_ids = 0
        self.seed = seed
        tables = version_tables(1) | {"episodes": self.some_episodes(5)}
        self.model = {1: tables}
        self.slots = {"slot 1": 1}
        commit_version(self.store, tables, slot="slot 1")

    def some_episodes(self, n: int) -> pa.Table:
        """Return episodes with ids that none has, between those that there are."""
        ids = [((self.n_ids + i) * 7_919 + self.seed) % 1_000_003 for i in range(n)]
        self.n_ids += n
        return episode_rows(sorted(ids), self.n_ids)

    @property
    def newest(self) -> int:
        return max(self.model)

    @rule(n=st.integers(0, 6), names=st.sets(st.sampled_from(["bindings", "concepts", "report", "cycle"])))
    def commit(self, n: int, names: set[str]) -> None:
        before, number = self.model[self.newest], self.newest + 1
        tables = {name: version_tables(number)[name] for name in names}
        added = {"episodes": self.some_episodes(n), "journal": journal_rows(number, list(range(n)))}
        assert commit_version(self.store, tables, added=added, expected_version=number - 1) == number
        grown = {name: pa.concat_tables([before[name], added[name]]) for name in added}
        grown["episodes"] = grown["episodes"].sort_by("episode_id")
        self.model[number] = before | tables | grown

    @rule()
    def replace_all(self) -> None:
        number = self.newest + 1
        self.model[number] = version_tables(number) | {"episodes": self.some_episodes(3)}
        self.slots[f"slot {number}"] = number
        assert commit_version(self.store, self.model[number], slot=f"slot {number}") == number

    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        version, number = data.draw(st.sampled_from(sorted(self.model))), self.newest + 1
        assert restore_version(self.store, version) == number
        self.model[number] = self.model[version]
        assert digest(self.store, number) == digest(self.store, version)

    @rule(keep=st.integers(1, 8))
    def remove(self, keep: int) -> None:
        gone = sorted(self.model)[:-keep]
        assert remove_versions(self.store, keep) == gone
        for version in gone:
            del self.model[version]

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.slots)))
        with pytest.raises(CommitConflictError, match=f"already, as version {self.slots[slot]}"):
            commit_version(self.store, {}, slot=slot)

    @invariant()
    def is_as_the_model(self) -> None:
        if hasattr(self, "model"):
            n_parts = len(ConceptStore.open(self.store).manifest.parts("episodes"))
            assert n_parts <= math.log2(self.model[self.newest]["episodes"].num_rows) + 1
            assert ConceptStore.open(self.store).history()["version"].to_pylist() == sorted(self.model)
            for version, tables in self.model.items():
                require_equal(ConceptStore.open(self.store, version=version), tables)
            assert all(find_slot(self.store, slot) == version for slot, version in self.slots.items())

    def teardown(self) -> None:
        if hasattr(self, "scratch"):
            self.scratch.cleanup()


def digest(store: Path, version: int) -> str:
    return ConceptStore.open(store, version=version).manifest.content_sha256


def require_equal(store: ConceptStore, tables: dict[str, pa.Table]) -> None:
    for name in TABLE_NAMES:
        assert getattr(store, name)().equals(tables[name]), name


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
