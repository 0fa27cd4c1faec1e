"""Promise 8: of writers at once one commits; who was stopped and wakes after another took over is refused."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import threading
import time
import warnings
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from crashes import PowerLoss, StrikingOs, fail_at, in_child, kill_at
from pyarrow import fs
from store_tables import version_tables

from cluster_engine.errors import CommitConflictError, FencedError, LeaseHeldError, StoreCorruptError, StoreError
from cluster_engine.store import files, lease
from cluster_engine.store.catalog import current_version, find_slot
from cluster_engine.store.commit import commit_version, restore_version
from cluster_engine.store.lease import Fence, Lease, hold_lease, read_lease
from cluster_engine.store.location import Location, locate
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_ROUNDS = int(os.environ.get("CLUSTER_ENGINE_ROUNDS", "3"))
COMMITTED, REPEATED, FENCED, FAILED = range(4)  # exit codes of a runner
LONG_S = 1000.0


def held(store: Path) -> Lease:
    found = read_lease(locate(store))
    assert found is not None
    return found


def run_batch(store: Path, number: int) -> int:
    """Run a batch of one slot until it is done; the first that has the lease stops itself first."""
    while True:
        with suppress(FencedError), hold_lease(store, f"runner {number}", ttl_s=0.5, wait_s=LONG_S) as fence:
            assert fence is not None
            if fence.token == 1:
                return wake_too_late(store, fence)
            if find_slot(store, "night 1") is not None:
                return REPEATED
            commit_version(store, version_tables(number), slot="night 1", fence=fence)
            return COMMITTED


def wake_too_late(store: Path, fence: Fence) -> int:
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        commit_version(store, version_tables(99), fence=fence)  # of another slot: the fence alone refuses it
    except FencedError:
        return FENCED
    return COMMITTED


def fork(work: Callable[[], int]) -> int:
    """Run ``work`` in a forked process, which exits with what it returns; return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Arrow survives a fork
        pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            code = work()
        finally:
            os._exit(code)
    return pid


@pytest.mark.parametrize("number", range(N_ROUNDS))
def test_of_eight_runners_one_commits_and_the_one_that_was_stopped_is_refused(number: int, tmp_path: Path) -> None:
    pids = {fork(partial(run_batch, tmp_path, 8 * number + runner)) for runner in range(1, 9)}
    stopped, codes = 0, []
    while len(codes) < 7:
        pid, status = os.waitpid(-1, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            stopped = pid
        else:
            codes.append(os.waitstatus_to_exitcode(status))
    os.kill(stopped, signal.SIGCONT)
    assert stopped in pids
    assert os.waitstatus_to_exitcode(os.waitpid(stopped, 0)[1]) == FENCED
    assert sorted(codes) == [COMMITTED] + [REPEATED] * 6
    assert ConceptStore.open(tmp_path).history()["slot"].to_pylist() == ["night 1"]
    assert held(tmp_path).token >= 8


def test_each_holder_has_the_next_token_and_is_the_only_one(tmp_path: Path) -> None:
    for token in (1, 2, 3):
        with hold_lease(tmp_path, f"holder {token}", ttl_s=LONG_S) as fence:
            assert fence == Fence(token)
            told = re.escape(f"is held by holder {token} until {held(tmp_path).until}")
            with pytest.raises(LeaseHeldError, match=told), hold_lease(tmp_path, "another"):
                pass
            assert datetime.fromisoformat(held(tmp_path).until) > datetime.now(timezone.utc)
            commit_version(tmp_path, version_tables(token), fence=fence)
    assert current_version(tmp_path) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"lease.json", ".lock", "versions", "manifests"}


def test_who_waits_has_it_when_it_is_given_back(tmp_path: Path) -> None:
    tokens: list[int] = []

    def wait() -> None:
        with hold_lease(tmp_path, "who waits", wait_s=LONG_S) as fence:
            assert fence is not None
            tokens.append(fence.token)

    waiting = threading.Thread(target=wait)
    with hold_lease(tmp_path, "first", ttl_s=LONG_S):
        waiting.start()
    waiting.join()
    assert tokens == [2]


def test_it_is_given_back_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_lease(tmp_path, "first", ttl_s=LONG_S):
        raise ZeroDivisionError
    with hold_lease(tmp_path, "second") as fence:
        assert fence == Fence(2)


def test_a_holder_renews_for_as_long_as_it_holds(tmp_path: Path) -> None:
    with hold_lease(tmp_path, "first", ttl_s=0.2):
        for _ in range(3):  # three times what it was taken for, at least
            until = datetime.fromisoformat(held(tmp_path).until)
            while datetime.now(timezone.utc) < until:
                time.sleep(0.01)
        with pytest.raises(LeaseHeldError, match="held by first"), hold_lease(tmp_path, "another"):
            pass


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every lease have run out."""
    monkeypatch.setattr(lease, "_now", lambda: datetime.now(timezone.utc) + timedelta(seconds=2 * LONG_S))


def test_a_fence_is_refused_once_another_has_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_version(tmp_path, version_tables(1))
    with hold_lease(tmp_path, "first", ttl_s=LONG_S) as old:
        later(monkeypatch)
        commit_version(tmp_path, version_tables(2), fence=old)  # it has run out, but nobody has taken it
        with hold_lease(tmp_path, "second", ttl_s=LONG_S) as new:
            for use in (
                lambda: commit_version(tmp_path, version_tables(3), fence=old),
                lambda: restore_version(tmp_path, 1, fence=old),
            ):
                with pytest.raises(FencedError, match="token 1 is lost: it has token 2, of second") as raised:
                    use()
                assert isinstance(raised.value, CommitConflictError)
            assert restore_version(tmp_path, 1, fence=new) == 3
    assert held(tmp_path) == Lease(2, "second", held(tmp_path).until)  # the first gave nothing back


def test_without_any_lease_a_fence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FencedError, match="there is none"):
        commit_version(tmp_path, version_tables(1), fence=Fence(1))
    assert current_version(tmp_path) is None


def test_a_damaged_lease_is_named_and_never_taken(tmp_path: Path) -> None:
    with hold_lease(tmp_path, "first"):
        pass
    path = tmp_path / "lease.json"
    pristine = path.read_bytes()
    for position in range(len(pristine)):
        path.write_bytes(pristine[:position] + bytes([pristine[position] ^ 1]) + pristine[position + 1 :])
        with pytest.raises(StoreCorruptError, match=str(path)), hold_lease(tmp_path, "second"):
            pass


@pytest.mark.parametrize("ttl_s", [0, -1.0])
def test_a_lease_has_a_time(ttl_s: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ttl_s must be positive"), hold_lease(tmp_path / "new", "x", ttl_s=ttl_s):
        pass
    assert not (tmp_path / "new").exists()


def test_a_store_that_is_not_local_has_no_lease(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    remote = Location("test://bucket/s", fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem()), "s")
    with hold_lease(remote, "first") as fence, hold_lease(remote, "second") as other:
        assert (fence, other) == (None, None)
        commit_version(remote, version_tables(1), fence=fence)
    with pytest.raises(FencedError, match="there is none"):
        commit_version(remote, version_tables(2), fence=Fence(1))


def hold_and_commit(store: Path, taken: Path) -> None:
    with hold_lease(store, "first", ttl_s=LONG_S) as fence:
        assert fence is not None
        taken.write_text(str(fence.token))
        commit_version(store, {}, fence=fence)


def run_struck(strike: Callable[..., Any], store: Path, taken: Path) -> None:
    """Hold the lease and commit, with a struck `os`; only in a child process, for it stays struck."""
    pytest.MonkeyPatch().setattr(files, "os", StrikingOs(strike))
    hold_and_commit(store, taken)


def count_calls(base: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    store = base.with_name("counted")
    shutil.copytree(base, store)
    counting = StrikingOs(lambda _, __, call, args: call(*args))
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", counting)
        hold_and_commit(store, base.with_name("ignored"))
    shutil.rmtree(store)
    return len(counting.called)


def require_next(store: Path, taken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next holder has a token that nobody had, and commits; the old fence is refused."""
    n_taken = int(taken.read_text()) if taken.exists() else 0
    version = current_version(store)
    assert version in {1, 2}
    with monkeypatch.context() as patch:
        later(patch)
        with hold_lease(store, "next", ttl_s=LONG_S) as fence:
            assert fence is not None
            assert fence.token > n_taken
            if n_taken:
                with pytest.raises(FencedError):
                    commit_version(store, version_tables(3), fence=Fence(n_taken))
            assert commit_version(store, version_tables(3), fence=fence) == version + 1
    ConceptStore.open(store).verify()
    assert not list(store.rglob(".pending*"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A store of one version, whose lease was taken twice."""
    store = tmp_path / "base"
    commit_version(store, version_tables(1))
    for holder in ("a", "b"):
        with hold_lease(store, holder):
            pass
    return store


@pytest.mark.parametrize("torn", [False, True])
def test_killed_anywhere_the_next_holder_goes_on(
    *, torn: bool, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(count_calls(base, monkeypatch)):
        store, taken = tmp_path / f"store{k}", tmp_path / f"taken{k}"
        shutil.copytree(base, store)
        assert in_child(partial(run_struck, kill_at(k, torn=torn), store, taken)) == -signal.SIGKILL
        require_next(store, taken, monkeypatch)
        shutil.rmtree(store)


@pytest.mark.parametrize(("seed", "chance"), [(0, 0.5), (1, 1.0)])
def test_power_lost_anywhere_no_token_is_had_twice(
    seed: int, chance: float, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(count_calls(base, monkeypatch)):
        store, taken = tmp_path / f"store{k}", tmp_path / f"taken{k}"
        shutil.copytree(base, store)
        disk = PowerLoss(k, random.Random(f"{seed} {k}"), chance)
        assert in_child(partial(run_struck, disk, store, taken)) == -signal.SIGKILL
        require_next(store, taken, monkeypatch)
        shutil.rmtree(store)


@pytest.mark.parametrize("for_good", [False, True])
def test_failing_anywhere_the_next_holder_goes_on(
    *, for_good: bool, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(count_calls(base, monkeypatch)):
        store, taken = tmp_path / f"store{k}", tmp_path / f"taken{k}"
        shutil.copytree(base, store)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", StrikingOs(fail_at(k, errno.EIO, for_good=for_good, after_the_call=False)))
            try:
                hold_and_commit(store, taken)
            except StoreError as error:
                assert os.strerror(errno.EIO) in str(error)  # noqa: PT017 - where it is not raised, all must be well
        require_next(store, taken, monkeypatch)
        shutil.rmtree(store)
