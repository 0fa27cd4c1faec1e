"""Promise 5, the store's part: a phase of a batch is there as a whole, or was never done."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from crashes import PowerLoss, StrikingOs, fail_at, in_child, kill_at
from pyarrow import fs
from store_tables import episode_rows, version_tables

from cluster_engine.errors import StoreError
from cluster_engine.store import files
from cluster_engine.store.commit import commit_version
from cluster_engine.store.location import Location
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.work import Work, read_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def phase(seed: int) -> dict[str, pa.Table]:
    merges = np.random.default_rng(seed).integers(0, 99, (7, 2))
    return {
        "merges": pa.table({"left": merges[:, 0], "right": merges[:, 1]}),
        "points": episode_rows(range(seed, seed + 5), seed),
    }


def test_what_was_saved_is_loaded_by_whoever_has_the_key(tmp_path: Path) -> None:
    assert Work(tmp_path, "k1").load("linkage") is None
    assert not (tmp_path / "work").exists()
    Work(tmp_path, "k1").save("linkage", phase(1))
    Work(tmp_path, "k1").save("cut", phase(2))
    assert Work(tmp_path, "k1").load("linkage") == phase(1)
    assert Work(tmp_path, "k1").load("cut") == phase(2)
    assert Work(tmp_path, "k1").load("read") is None
    assert Work(tmp_path, "k2").load("linkage") is None
    Work(tmp_path, "k1").save("linkage", phase(3))
    assert Work(tmp_path, "k1").load("linkage") == phase(3)


def test_a_batch_of_another_key_removes_what_is_left(tmp_path: Path) -> None:
    Work(tmp_path, "k1").save("linkage", phase(1))
    assert Work(tmp_path, "k2").load("linkage") is None
    assert Work(tmp_path, "k1").load("linkage") == phase(1)  # asking is not beginning
    Work(tmp_path, "k2").save("read", phase(2))
    assert Work(tmp_path, "k1").load("linkage") is None
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["k2"]


def test_nothing_is_left_when_it_is_cleared_and_the_store_never_sees_it(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1))
    work = Work(tmp_path, "k1")
    work.save("linkage", phase(1))
    work.publish_status({"phase": "linkage"})
    commit_version(tmp_path, version_tables(2))
    assert work.load("linkage") == phase(1)
    assert ConceptStore.open(tmp_path).version == 2
    work.clear()
    work.clear()
    assert work.load("linkage") is None
    assert read_status(tmp_path) is None
    assert list((tmp_path / "work").iterdir()) == []
    work.save("linkage", phase(2))
    assert work.load("linkage") == phase(2)


def test_every_flipped_byte_makes_a_phase_not_done(tmp_path: Path) -> None:
    work = Work(tmp_path, "k1")
    work.save("linkage", phase(1))
    for path in sorted((tmp_path / "work/k1").iterdir()):
        pristine = path.read_bytes()
        for position in range(0, len(pristine), 11):
            path.write_bytes(pristine[:position] + bytes([pristine[position] ^ 1]) + pristine[position + 1 :])
            assert work.load("linkage") is None
        for changed in (pristine[:-1], b""):
            path.write_bytes(changed)
            assert work.load("linkage") is None
        path.unlink()
        assert work.load("linkage") is None
        path.write_bytes(pristine)
    assert work.load("linkage") == phase(1)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".pending-x", "a.b", "ä"])
def test_names_stay_in_the_directory(name: str, tmp_path: Path) -> None:
    work = Work(tmp_path, "k1")
    for use in (
        lambda: Work(tmp_path, name),
        lambda: work.load(name),
        lambda: work.save(name, phase(1)),
        lambda: work.save("linkage", {name: phase(1)["merges"]}),
    ):
        with pytest.raises(ValueError, match="want letters, digits, - and _"):
            use()
    assert work.load("linkage") is None


def test_others_see_the_last_status(tmp_path: Path) -> None:
    assert read_status(tmp_path / "nowhere") is None
    work = Work(tmp_path, "k1")
    for n_done in range(3):
        work.publish_status({"phase": "linkage", "n_done": n_done})
        assert read_status(tmp_path) == {"phase": "linkage", "n_done": n_done}
    Work(tmp_path, "k2").save("read", phase(1))
    assert read_status(tmp_path) == {"phase": "linkage", "n_done": 2}
    (tmp_path / "work/status.json").write_bytes(b"")
    assert read_status(tmp_path) is None
    (tmp_path / "work/status.json").write_bytes(b"[1]")
    assert read_status(tmp_path) is None


def test_a_store_that_is_not_local_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    remote = Location("test://bucket/s", fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem()), "s")
    work = Work(remote, "k1")
    work.save("linkage", phase(1))
    work.publish_status({"phase": "linkage"})
    assert work.load("linkage") is None
    assert read_status(remote) is None
    work.clear()
    assert list((tmp_path / "bucket").iterdir()) == []


def use_work(store: Path) -> Iterator[None]:
    """Begin another batch, save a phase twice, tell of it, and clear it; a step at a time."""
    work = Work(store, "k2")
    work.save("linkage", phase(1))
    yield
    work.publish_status({"n_done": 1})
    work.save("linkage", phase(2))
    yield
    work.clear()
    yield


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A store with what a batch of another key left."""
    store = tmp_path / "base"
    Work(store, "k1").save("linkage", phase(9))
    Work(store, "k1").publish_status({"n_done": 9})
    return store


def count_calls(base: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    store = base.with_name("counted")
    shutil.copytree(base, store)
    counting = StrikingOs(lambda _, __, call, args: call(*args))
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", counting)
        list(use_work(store))
    shutil.rmtree(store)
    return len(counting.called)


def use_struck(strike: Callable[..., Any], store: Path, done: Path) -> None:
    """Work with a struck `os`; only in a child process, for it stays struck."""
    pytest.MonkeyPatch().setattr(files, "os", StrikingOs(strike))
    for n_steps, _ in enumerate(use_work(store), 1):
        done.write_text(str(n_steps))


def require_whole(store: Path, n_steps: int) -> None:
    """A phase is one of those that were saved; what was begun anew goes through."""
    allowed = [(None, phase(1)), (phase(1), None, phase(2)), (phase(2), None), (None,)][n_steps]
    assert Work(store, "k2").load("linkage") in allowed
    assert read_status(store) in (None, {"n_done": 9}, {"n_done": 1})
    list(use_work(store))
    assert list((store / "work").iterdir()) == []


def test_killed_anywhere_a_phase_is_whole_or_not_done(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(count_calls(base, monkeypatch)):
        store, done = tmp_path / f"store{k}", tmp_path / f"done{k}"
        shutil.copytree(base, store)
        assert in_child(partial(use_struck, kill_at(k, torn=k % 2 == 1), store, done)) == -signal.SIGKILL
        require_whole(store, int(done.read_text()) if done.exists() else 0)
        shutil.rmtree(store)


@pytest.mark.parametrize(("seed", "chance"), [(0, 0.5), (1, 1.0)])
def test_power_lost_anywhere_a_phase_is_whole_or_not_done(
    seed: int, chance: float, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(count_calls(base, monkeypatch)):
        store, done = tmp_path / f"store{k}", tmp_path / f"done{k}"
        shutil.copytree(base, store)
        disk = PowerLoss(k, random.Random(f"{seed} {k}"), chance)
        assert in_child(partial(use_struck, disk, store, done)) == -signal.SIGKILL
        require_whole(store, int(done.read_text()) if done.exists() else 0)
        shutil.rmtree(store)


@pytest.mark.parametrize("for_good", [False, True])
def test_failing_anywhere_it_says_so_and_a_phase_is_whole_or_not_done(
    *, for_good: bool, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(count_calls(base, monkeypatch)):
        store = tmp_path / f"store{k}"
        shutil.copytree(base, store)
        n_steps = []
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", StrikingOs(fail_at(k, errno.ENOSPC, for_good=for_good, after_the_call=False)))
            with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)):
                n_steps.extend(use_work(store))
        require_whole(store, len(n_steps))
        shutil.rmtree(store)
