"""Promises 1 and 9: wherever a commit is killed, loses power or fails, a reader sees the old version or the new one.

What this cannot show: a disk that lies about `fsync`.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from crashes import PowerLoss, StrikingOs, fail_at, in_child, kill_at
from store_tables import episode_rows, journal_rows, version_tables

from cluster_engine.errors import StoreError
from cluster_engine.store import files
from cluster_engine.store.commit import commit_version, restore_version
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.tables import TABLE_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator


Work = Callable[[Path], object]


def make_tables(seed: int) -> dict[str, pa.Table]:
    rng = np.random.default_rng(seed)
    n_rows, dimension = int(rng.integers(1, 40)), int(rng.integers(1, 9))
    quarantine = pa.table({"x": rng.integers(0, 99, n_rows)})
    episodes = episode_rows(sorted(rng.choice(99, n_rows, replace=False).tolist()), seed, dimension)
    return version_tables(seed) | {"quarantine": quarantine, "episodes": episodes}


def large_tables() -> dict[str, pa.Table]:
    """Tables of which one takes several writes: 4 MiB that do not compress."""
    return version_tables() | {"episodes": episode_rows([1], dimension=1 << 20)}


def replace(seed: int) -> Work:
    """Commit all tables anew."""
    return lambda store: commit_version(store, make_tables(seed))


def grow(seed: int) -> Work:
    """Replace some tables, leave some, and add rows that are written together with those of the last two parts."""
    tables = version_tables(seed)
    changed = {name: tables[name] for name in ("bindings", "concepts", "cycle")}
    added = {"episodes": episode_rows([150 + seed % 3, 160, 170], seed), "journal": journal_rows(seed, [seed])}
    return lambda store: commit_version(store, changed, added=added)


def undo(_: int) -> Work:
    """Go back to the first version."""
    return lambda store: restore_version(store, 1)


def next_work(seed: int, *, is_first: bool) -> Work:
    """Return work whose outcome does not depend on whether the work before was done; the cheaper kind in most cases."""
    return replace(seed + 200) if is_first or seed % 4 == 0 else undo(seed)


CHANGES = (replace, grow, undo)
N_BASE = 3  # versions that a store has before


def make_versions(store: Path, seed: int) -> None:
    """Commit some versions, whose episodes are in parts of 16, 4 and 2 rows."""
    commit_version(store, version_tables(seed) | {"episodes": episode_rows(range(0, 32, 2), seed)})
    commit_version(store, {}, added={"episodes": episode_rows(range(100, 104), seed)})
    commit_version(store, {}, added={"episodes": episode_rows(range(1, 33, 30), seed)})


def content(work: Work, base: Path) -> str | None:
    """Return the digest of what is undisturbed work on a copy of a store."""
    store = base.with_name("calm")
    copy_store(base, store)
    work(store)
    digest = seen(store)
    shutil.rmtree(store, ignore_errors=True)
    return digest


def seen(store: Path) -> str | None:
    """Return the digest of what a reader sees, every byte of it checked, or None if there is no version yet."""
    try:
        snapshot = ConceptStore.open(store)
    except StoreError as error:
        assert "yet" in str(error)  # noqa: PT017 - the only error that may be is that nothing was committed
        return None
    snapshot.verify()
    return snapshot.manifest.content_sha256


def leftovers(store: Path) -> list[str]:
    versions = {path.stem for path in (store / "manifests").glob("[0-9]*.json")}
    unpublished = [path.name for path in (store / "versions").iterdir() if path.name not in versions]
    return unpublished + [path.name for path in (store / "manifests").glob(".*")]


def make_base(root: Path, seed: int, *, is_empty: bool = False) -> Path:
    """Make a store of some versions, or of none, with what a crashed writer may leave."""
    base = root / "base"
    if not is_empty:
        make_versions(base, seed)
    unpublished = f"versions/{1 if is_empty else N_BASE + 1:08d}"
    for leftover in ("versions/.pending-a", unpublished, "manifests"):
        (base / leftover).mkdir(parents=True, exist_ok=True)
    (base / "versions/.pending-a/episodes.parquet").write_bytes(b"PAR1 cut sho")
    (base / unpublished / "episodes.parquet").write_bytes(b"")
    (base / "manifests/.pending-b").write_bytes(b"{")
    return base


def copy_store(base: Path, store: Path) -> None:
    """Copy ``base``, if there is such a store, to ``store``."""
    if base.exists():
        shutil.copytree(base, store)


def count_calls(base: Path, work: Work, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the calls of one undisturbed commit to a copy of ``base``."""
    store = base.with_name("counted")
    copy_store(base, store)
    counting = StrikingOs(lambda _, __, call, args: call(*args))
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", counting)
        work(store)
    assert not leftovers(store)
    shutil.rmtree(store)
    return counting.called


def strike_work(strike: Callable[..., Any], store: Path, work: Work) -> None:
    """Work with a struck `os`; only in a child process, for it stays struck."""
    pytest.MonkeyPatch().setattr(files, "os", StrikingOs(strike))
    work(store)


@pytest.mark.parametrize("seed", range(20))
def test_killed_anywhere_a_reader_sees_old_or_new(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = CHANGES[seed % len(CHANGES)]
    is_first = seed in {0, 9}
    base = make_base(tmp_path, seed, is_empty=is_first)
    new, later = change(seed + 100), next_work(seed, is_first=is_first)
    before, after, finally_ = seen(base), content(new, base), content(later, base)
    calls = count_calls(base, new, monkeypatch)
    outcomes = []
    for k in range(len(calls)):
        store = tmp_path / "store"
        shutil.copytree(base, store)
        work = partial(strike_work, kill_at(k, torn=seed % 2 == 1), store, new)
        assert in_child(work) == -signal.SIGKILL
        outcomes.append(seen(store))
        later(store)
        assert seen(store) == finally_
        assert not leftovers(store)
        shutil.rmtree(store)
    linked = calls.index("link")
    assert outcomes == [before] * (linked + 1) + [after] * (len(calls) - linked - 1)


@pytest.mark.parametrize(("seed", "chance"), [(0, 0.5), (1, 1.0)])
@pytest.mark.parametrize("change", [None, *CHANGES])
def test_power_lost_anywhere_a_reader_sees_old_or_new(
    *,
    change: Callable[[int], Work] | None,
    chance: float,
    seed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = make_base(tmp_path, seed)
    if change is None:
        shutil.rmtree(base)  # the first commit makes the directory too
    new, later = (change or replace)(seed + 100), next_work(seed, is_first=change is None)
    before, after, finally_ = seen(base), content(new, base), content(later, base)
    n_calls = len(count_calls(base, new, monkeypatch))
    for k in range(n_calls + 1):
        store = tmp_path / "store"
        copy_store(base, store)
        disk = PowerLoss(k, random.Random(f"{seed} {k}"), chance)

        def commit_then_lose_power(disk: PowerLoss = disk, store: Path = store) -> None:
            strike_work(disk, store, new)
            disk.strike()

        assert in_child(commit_then_lose_power) == -signal.SIGKILL
        assert seen(store) in ({after} if k == n_calls else {before, after}), f"power lost at call {k}"
        later(store)
        assert seen(store) == finally_
        shutil.rmtree(store)


def test_directories_made_by_a_writer_killed_before_it_synced_them_are_synced(tmp_path: Path) -> None:
    made = [tmp_path / "store" / name for name in ("versions", "manifests")]
    for directory in made:
        directory.mkdir(parents=True)
    disk = PowerLoss(-1, random.Random(0), chance=1.0)
    disk.unsynced_names = [(directory, None, None) for directory in made]

    def commit_then_lose_power() -> None:
        strike_work(disk, tmp_path / "store", replace(1))
        disk.strike()

    assert in_child(commit_then_lose_power) == -signal.SIGKILL
    assert seen(tmp_path / "store") == content(replace(1), tmp_path / "none")


@pytest.mark.parametrize("after_the_call", [False, True])
@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize(
    ("change", "code"),
    [(None, errno.EIO), (replace, errno.ENOSPC), (grow, errno.EIO), (grow, errno.ENOSPC), (undo, errno.EIO)],
)
def test_failing_anywhere_a_commit_changes_nothing_or_succeeds(
    *,
    code: int,
    for_good: bool,
    after_the_call: bool,
    change: Callable[[int], Work] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = make_base(tmp_path, 1, is_empty=change is None)
    new, later = (change or replace)(2), next_work(code, is_first=change is None)
    before, after, finally_ = seen(base), content(new, base), content(later, base)
    calls = count_calls(base, new, monkeypatch)
    linked, first_made = calls.index("link"), next(k for k, name in enumerate(calls) if name in {"mkdir", "write"})
    for k in range(len(calls)):
        store = tmp_path / "store"
        shutil.copytree(base, store)
        strike = fail_at(k, code, for_good=for_good, after_the_call=after_the_call)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(files, "os", StrikingOs(strike))
                new(store)
        except StoreError as error:
            text = str(error)
            assert str(store) in text
            assert os.strerror(code) in text
            published = "is published" in text
            assert seen(store) == (after if published else before)
            assert published == (k > linked or (k == linked and after_the_call))
            # Until the first new file, what the crashed writer left may still be there.
            assert for_good or published or k < first_made or not leftovers(store)
        else:
            assert seen(store) == after
            assert calls[k] == "unlink"  # removing the second name of the manifest can wait for the next writer
        later(store)
        assert seen(store) == finally_
        assert not leftovers(store)
        shutil.rmtree(store)


def test_failing_commits_leak_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base(tmp_path, 1)
    n_calls = len(count_calls(base, grow(2), monkeypatch))
    before = set(Path("/proc/self/fd").iterdir())
    for k in range(n_calls):
        monkeypatch.setattr(files, "os", StrikingOs(fail_at(k, errno.EIO, for_good=True, after_the_call=False)))
        with suppress(StoreError):
            grow(2)(base)
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("stop", [None, errno.ENOSPC, 0])
def test_short_writes_are_continued_until_they_show_their_cause(
    stop: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, new = make_base(tmp_path, 1), partial(commit_version, tables=large_tables())
    before, after = seen(base), content(new, base)
    writes = [k for k, name in enumerate(count_calls(base, new, monkeypatch)) if name == "write"]
    assert len(writes) > len(TABLE_NAMES) + 1  # the tables and the manifest, one of them in pieces
    for k in writes:

        def strike(index: int, name: str, call: Callable[..., Any], args: tuple[Any, ...], k: int = k) -> Any:  # noqa: ANN401
            if index == k:
                fd, data = args
                return call(fd, data[: len(data) // 3])
            if index == k + 1 and stop is not None:
                if stop:
                    raise OSError(stop, os.strerror(stop))
                return 0
            return call(*args)

        store = tmp_path / "store"
        shutil.copytree(base, store)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", StrikingOs(strike))
            if stop is None:
                new(store)
            else:
                with pytest.raises(StoreError, match="No space left" if stop else "no progress"):
                    new(store)
        assert seen(store) == (after if stop is None else before)
        shutil.rmtree(store)


def test_repeated_link_after_a_lost_reply_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def strike(_: int, name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:  # noqa: ANN401
        if name == "link":
            call(*args)
        return call(*args)

    monkeypatch.setattr(files, "os", StrikingOs(strike))
    assert commit_version(tmp_path / "store", make_tables(1)) == 1
    assert not leftovers(tmp_path / "store")


def test_file_size_limit_is_a_store_error(tmp_path: Path) -> None:
    store = tmp_path / "store"
    commit_version(store, make_tables(1))
    before = seen(store)

    def commit_limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with pytest.raises(StoreError, match=r"File too large \(EFBIG\) at .*episodes.parquet"):
            commit_version(store, large_tables())

    assert in_child(commit_limited) == 0
    assert seen(store) == before
    assert not leftovers(store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mount of a small disk here: {error}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_full_disk_leaves_the_old_version(small_disk: Path, tmp_path: Path) -> None:
    store = small_disk / "store"
    commit_version(store, make_tables(1))
    with pytest.raises(StoreError, match=r"No space left on device \(ENOSPC\) at .*episodes.parquet"):
        commit_version(store, large_tables())
    assert seen(store) == content(replace(1), tmp_path / "none")
    assert not leftovers(store)
    commit_version(store, make_tables(2))
    assert seen(store) == content(replace(2), tmp_path / "none")
