"""Removing old versions: what goes, what stays, and that no crash leaves a version without its files."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from crashes import PowerLoss, StrikingOs, fail_at, in_child, kill_at
from pyarrow import fs
from store_tables import episode_rows, journal_rows, version_tables

from cluster_engine.errors import CommitConflictError, StoreCorruptError, StoreError
from cluster_engine.store import files
from cluster_engine.store.catalog import current_version, find_slot, list_versions
from cluster_engine.store.commit import commit_version, restore_version
from cluster_engine.store.location import Location, locate
from cluster_engine.store.retention import remove_versions
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster_engine.store.location import StoreUri


def make_versions(store: StoreUri) -> None:
    """Commit 6 versions: the 3rd and 4th use files of the 1st, the 6th is the 2nd again."""
    commit_version(store, version_tables(1) | {"episodes": episode_rows(range(40))}, slot="a")
    commit_version(store, version_tables(2), slot="b")
    restore_version(store, 1, slot="c")
    commit_version(store, {}, added={"episodes": episode_rows([50]), "journal": journal_rows(2, [1])}, slot="d")
    commit_version(store, version_tables(5))
    restore_version(store, 2, slot="f")


def seen(store: StoreUri) -> dict[int, str]:
    """Return the digest of every version, each checked to the last byte."""
    digests = {}
    for version in list_versions(locate(store)):
        opened = ConceptStore.open(store, version=version)
        opened.verify()
        digests[version] = opened.manifest.content_sha256
    return digests


def slots(store: StoreUri) -> dict[str, int | None]:
    return {slot: find_slot(store, slot) for slot in "abcdef"}


SLOTS = {"a": 1, "b": 2, "c": 3, "d": 4, "e": None, "f": 6}


def files_of(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in (store / "versions").rglob("*.parquet")}


def named(store: Path) -> set[str]:
    """Return the files that the manifests name."""
    versions = [ConceptStore.open(store, version=version) for version in list_versions(locate(store))]
    return {file.path for version in versions for file in version.manifest.files}


@pytest.mark.parametrize("keep", range(1, 8))
def test_the_newest_stay_whole_and_only_their_files(keep: int, tmp_path: Path) -> None:
    make_versions(tmp_path)
    before = seen(tmp_path)
    gone = list(range(1, 7 - keep))
    assert remove_versions(tmp_path, keep) == gone
    assert seen(tmp_path) == {version: digest for version, digest in before.items() if version not in gone}
    assert files_of(tmp_path) == named(tmp_path)
    assert slots(tmp_path) == SLOTS
    assert remove_versions(tmp_path, keep) == []
    assert current_version(tmp_path) == 6
    assert commit_version(tmp_path, version_tables(7)) == 7


def test_slots_of_removed_versions_are_not_run_again(tmp_path: Path) -> None:
    make_versions(tmp_path)
    remove_versions(tmp_path, 3)
    remove_versions(tmp_path, 1)
    for slot in "abcdf":
        with pytest.raises(CommitConflictError, match=f"slot '{slot}' already, as version {SLOTS[slot]}"):
            commit_version(tmp_path, version_tables(7), slot=slot)
    assert commit_version(tmp_path, version_tables(7), slot="e") == 7


def test_who_reads_a_removed_version_is_told_so(tmp_path: Path) -> None:
    make_versions(tmp_path)
    opened, carried = (ConceptStore.open(tmp_path, version=version) for version in (5, 2))
    concepts = opened.concepts()
    remove_versions(tmp_path, 1)
    for use in (opened.concepts, opened.bindings, opened.verify):
        with pytest.raises(StoreError, match=r"version 5 of the store .* was removed; open the store again") as raised:
            use()
        assert not isinstance(raised.value, StoreCorruptError)
    assert concepts["concept_id"].to_pylist() == [5]
    assert carried.concepts()["concept_id"].to_pylist() == [2]  # the files are those of version 6 too
    with pytest.raises(StoreError, match=r"version 5 of the store .* was removed; it has 6 to 6"):
        ConceptStore.open(tmp_path, version=5)
    with pytest.raises(StoreError, match=r"version 5 of the store .* was removed"):
        restore_version(tmp_path, 5)
    with pytest.raises(StoreError, match="has no version 7; it has 6 to 6"):
        ConceptStore.open(tmp_path, version=7)
    assert ConceptStore.open(tmp_path).history()["version"].to_pylist() == [6]


def test_a_version_that_goes_while_it_is_opened_is_another_one_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_versions(tmp_path)
    read = Location.read

    def remove_then_read(location: Location, path: str) -> Any:  # noqa: ANN401 - whatever `read` returns
        data = read(location, path)
        if path == "manifests/00000006.json":
            monkeypatch.undo()
            commit_version(tmp_path, version_tables(9))
            remove_versions(tmp_path, 1)
        return data

    monkeypatch.setattr(Location, "read", remove_then_read)
    assert ConceptStore.open(tmp_path).version == 7


def test_damaged_slots_of_removed_versions_are_named(tmp_path: Path) -> None:
    make_versions(tmp_path)
    remove_versions(tmp_path, 1)
    path = tmp_path / "removed.json"
    pristine = path.read_bytes()
    for position in range(len(pristine)):
        path.write_bytes(pristine[:position] + bytes([pristine[position] ^ 1]) + pristine[position + 1 :])
        with pytest.raises(StoreError, match=str(path)):
            find_slot(tmp_path, "a")
    path.write_bytes(pristine)
    assert find_slot(tmp_path, "a") == 1


@pytest.mark.parametrize("keep", [0, -1])
def test_the_current_version_cannot_be_asked_to_go(keep: int, tmp_path: Path) -> None:
    make_versions(tmp_path)
    with pytest.raises(ValueError, match="the current version stays"):
        remove_versions(tmp_path, keep)
    assert len(seen(tmp_path)) == 6


def test_of_no_store_nothing_is_removed_nor_made(tmp_path: Path) -> None:
    assert remove_versions(tmp_path / "nowhere", 1) == []
    assert not (tmp_path / "nowhere").exists()


def count_calls(base: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    store = base.with_name("counted")
    shutil.copytree(base, store)
    counting = StrikingOs(lambda _, __, call, args: call(*args))
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", counting)
        remove_versions(store, 2)
    shutil.rmtree(store)
    return counting.called


def remove_struck(strike: Callable[..., Any], store: Path) -> None:
    """Remove versions with a struck `os`; only in a child process, for it stays struck."""
    pytest.MonkeyPatch().setattr(files, "os", StrikingOs(strike))
    remove_versions(store, 2)


def require_whole(store: Path, before: dict[int, str], *, is_done: bool) -> None:
    """Whatever has a manifest has its files and every batch is known; the next writers finish what was begun."""
    found = seen(store)
    assert found.items() <= before.items()
    assert found.keys() >= {5, 6}
    assert not is_done or found.keys() == {5, 6}
    assert slots(store) == SLOTS
    assert commit_version(store, version_tables(7)) == 7
    remove_versions(store, 3)
    assert seen(store).items() >= {5: before[5], 6: before[6]}.items()
    assert slots(store) == SLOTS
    assert files_of(store) == named(store)
    assert not list(store.rglob(".pending*"))


@pytest.mark.parametrize("is_repeated", [False, True])
def test_killed_anywhere_every_version_is_whole_and_every_batch_known(
    *, is_repeated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    make_versions(base)
    if is_repeated:
        remove_versions(base, 4)
    before = seen(base)
    n_calls = len(count_calls(base, monkeypatch))
    assert n_calls > 20
    for k in range(n_calls):
        store = tmp_path / f"store{k}"
        shutil.copytree(base, store)
        assert in_child(partial(remove_struck, kill_at(k, torn=k % 2 == 1), store)) == -signal.SIGKILL
        require_whole(store, before, is_done=False)
        shutil.rmtree(store)


@pytest.mark.parametrize(("seed", "chance"), [(0, 0.5), (1, 0.5), (2, 1.0)])
def test_power_lost_anywhere_every_version_is_whole_and_every_batch_known(
    seed: int, chance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    make_versions(base)
    remove_versions(base, 5)
    before = seen(base)
    n_calls = len(count_calls(base, monkeypatch))
    for k in range(n_calls + 1):
        store = tmp_path / f"store{k}"
        shutil.copytree(base, store)
        disk = PowerLoss(k, random.Random(f"{seed} {k}"), chance)

        def remove_then_lose_power(disk: PowerLoss = disk, store: Path = store) -> None:
            remove_struck(disk, store)
            disk.strike()

        assert in_child(remove_then_lose_power) == -signal.SIGKILL
        require_whole(store, before, is_done=k == n_calls)
        shutil.rmtree(store)


@pytest.mark.parametrize("for_good", [False, True])
def test_failing_anywhere_every_version_is_whole_and_every_batch_known(
    *, for_good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    make_versions(base)
    before = seen(base)
    for k in range(len(count_calls(base, monkeypatch))):
        store = tmp_path / f"store{k}"
        shutil.copytree(base, store)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", StrikingOs(fail_at(k, errno.EIO, for_good=for_good, after_the_call=False)))
            with pytest.raises(StoreError, match=f"cannot remove versions of the store.*{os.strerror(errno.EIO)}"):
                remove_versions(store, 2)
        require_whole(store, before, is_done=False)
        shutil.rmtree(store)


def test_a_store_that_is_not_local_is_cleared_of_what_no_manifest_names(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    remote = Location(
        "test://bucket/store", fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem()), "store"
    )
    make_versions(remote)
    before = seen(remote)
    store = tmp_path / "bucket/store"
    for crashed in ("00000003-00ff", "00000007-00ff"):
        (store / "versions" / crashed).mkdir()
        (store / "versions" / crashed / "report.parquet").write_bytes(b"PAR")
    assert remove_versions(remote, 3) == [1, 2, 3]
    assert seen(remote) == {version: before[version] for version in (4, 5, 6)}
    assert slots(remote) == SLOTS
    assert files_of(store) == named(store) | {"versions/00000007-00ff/report.parquet"}
    assert remove_versions(remote, 1) == [4, 5]
    assert files_of(store) == named(store) | {"versions/00000007-00ff/report.parquet"}
    assert len(remote.names("versions")) == 2
