"""Committing: numbers, slots, writers at once, stores that cannot be written, other filesystems."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pytest
from pyarrow import fs
from store_tables import episode_rows, version_tables

from cluster_engine.errors import CommitConflictError, StoreCorruptError, StoreError, StoreFormatError
from cluster_engine.store.catalog import current_version, find_slot
from cluster_engine.store.commit import check_writable, commit_version
from cluster_engine.store.location import Location
from cluster_engine.store.lock import hold_lock
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.tables import TABLE_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def contents(uri: str | os.PathLike[str] | Location) -> list[int]:
    """Return what was committed as each version, in order, every checksum checked."""
    numbers: list[int] = []
    for version in ConceptStore.open(uri).history()["version"].to_numpy():
        store = ConceptStore.open(uri, version=version)
        store.verify()
        numbers.append(int(store.cycle()["cycle"].to_numpy()[0]))
    return numbers


def listing(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return every path below ``root`` with its mode and content."""
    return {
        str(path.relative_to(root)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }


def fork(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked process, which exits with 0, 3 for a conflict, or 1; return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Arrow survives a fork
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except CommitConflictError:
            code = 3
        finally:
            os._exit(code)
    return pid


def wait_all(pids: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def make_newer(store: Path) -> None:
    """Rewrite the newest manifest as a later release might."""
    newest = max((store / "manifests").glob("*.json"))
    fields = json.loads(newest.read_bytes())
    newest.write_text(json.dumps({"format": fields["format"] + 1, "parts": "of a kind unknown today"}))


def test_versions_are_consecutive_and_old_ones_stay(tmp_path: Path) -> None:
    store = tmp_path / "a" / "new" / "store"
    assert current_version(store) is None
    assert [commit_version(store, version_tables(number)) for number in (10, 20, 30)] == [1, 2, 3]
    assert current_version(store) == 3
    assert contents(store) == [10, 20, 30]


def test_layout_is_the_documented_one(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1))
    files = {f"versions/00000001/{name}.parquet" for name in TABLE_NAMES} | {"manifests/00000001.json", ".lock"}
    assert set(listing(tmp_path)) == files | {"versions", "versions/00000001", "manifests"}


def test_file_uri_and_relative_path_name_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert commit_version("store", version_tables(1)) == 1
    assert commit_version(f"file://{tmp_path}/store", version_tables(2)) == 2
    assert contents(tmp_path / "store") == [1, 2]


def test_a_slot_commits_once(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1), slot="night 1")
    commit_version(tmp_path, version_tables(2))
    before = listing(tmp_path)
    with pytest.raises(CommitConflictError, match="'night 1' already, as version 1"):
        commit_version(tmp_path, version_tables(3), slot="night 1")
    assert listing(tmp_path) == before
    assert find_slot(tmp_path, "night 1") == 1
    assert find_slot(tmp_path, "night 2") is None
    assert find_slot(tmp_path / "nowhere", "night 1") is None


def test_unexpected_version_is_a_conflict(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1), expected_version=0)
    before = listing(tmp_path)
    for wrong in (0, 2):
        with pytest.raises(CommitConflictError, match=f"at version 1, not {wrong}"):
            commit_version(tmp_path, version_tables(2), expected_version=wrong)
    assert listing(tmp_path) == before
    assert commit_version(tmp_path, version_tables(2), expected_version=1) == 2


def run_at_once(store: Path, works: Sequence[Callable[[], object]]) -> list[int]:
    """Start all ``works`` in processes while the lock is held, let go, and return their exit codes."""
    with hold_lock(store / ".lock", timeout_s=0):
        pids = [fork(work) for work in works]
    return wait_all(pids)


def test_eight_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(0))
    works = [partial(commit_version, tmp_path, version_tables(number), lock_timeout_s=100) for number in range(1, 9)]
    assert run_at_once(tmp_path, works) == [0] * 8
    committed = contents(tmp_path)
    assert committed[0] == 0
    assert sorted(committed) == list(range(9))
    assert current_version(tmp_path) == 9


@pytest.mark.parametrize("condition", [{"expected_version": 1}, {"slot": "night 1"}])
def test_of_eight_writers_under_one_condition_one_commits(condition: dict[str, Any], tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(0))
    works = [
        partial(commit_version, tmp_path, version_tables(number), lock_timeout_s=100, **condition)
        for number in range(1, 9)
    ]
    codes = run_at_once(tmp_path, works)
    assert sorted(codes) == [0] + [3] * 7
    assert contents(tmp_path) == [0, codes.index(0) + 1]


def test_writer_that_cannot_get_the_lock_leaves_the_holders_files(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1))
    for pending in ("versions/.pending-live/episodes.parquet", "manifests/.pending-live"):
        (tmp_path / pending).parent.mkdir(exist_ok=True)
        (tmp_path / pending).write_bytes(b"half")
    before = listing(tmp_path)
    with hold_lock(tmp_path / ".lock", timeout_s=0):
        with pytest.raises(CommitConflictError, match=r"another writer has held .*\.lock for 0.05 s"):
            commit_version(tmp_path, version_tables(2), lock_timeout_s=0.05)
        assert listing(tmp_path) == before
        assert contents(tmp_path) == [1]


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with hold_lock(tmp_path / ".lock", timeout_s=0):
        pid = fork(lambda: os.read(read_end, 1))
    with hold_lock(tmp_path / ".lock", timeout_s=0):
        os.write(write_end, b"x")
    assert wait_all([pid]) == [0]
    os.close(read_end)
    os.close(write_end)


def test_a_published_version_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As where a shared filesystem does not carry flock: the other writer is seen only when publishing.
    commit_version(tmp_path, version_tables(1))
    other = (tmp_path / "manifests/00000001.json").read_bytes()
    link = os.link

    def link_second(source: Path, target: Path) -> None:
        target.write_bytes(other)
        link(source, target)

    monkeypatch.setattr(os, "link", link_second)
    with pytest.raises(CommitConflictError, match=r"00000002\.json first"):
        commit_version(tmp_path, version_tables(2))
    assert (tmp_path / "manifests/00000002.json").read_bytes() == other


def test_newer_format_is_refused_untouched(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1), slot="night 1")
    commit_version(tmp_path, version_tables(2))
    make_newer(tmp_path)
    (tmp_path / ".lock").unlink()
    (tmp_path / "versions/.pending-x").mkdir()
    before = listing(tmp_path)
    for use in (
        lambda: commit_version(tmp_path, version_tables(3)),
        lambda: check_writable(tmp_path),
        lambda: current_version(tmp_path),
        lambda: find_slot(tmp_path, "night 1"),
        lambda: ConceptStore.open(tmp_path),
        lambda: ConceptStore.open(tmp_path, version=1),
    ):
        with pytest.raises(StoreFormatError, match=r"00000002.json has store format 2.* up to 1"):
            use()
    assert listing(tmp_path) == before


def test_names_that_are_not_the_stores_are_left_alone(tmp_path: Path) -> None:
    commit_version(tmp_path, version_tables(1))
    for name in ("versions/README", "versions/.nfs0001", "manifests/notes.txt", "episodes.bak"):
        (tmp_path / name).write_text("mine")
    before = listing(tmp_path)
    commit_version(tmp_path, version_tables(2))
    assert listing(tmp_path).items() >= before.items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tables: tables.pop("bindings"), "missing: bindings"),
        (lambda tables: tables.update(extra=tables["report"]), "unknown: extra"),
        (lambda tables: tables.update(report=pa.table({"a": [{"b": 1}]})), "table report, column a: struct"),
        (
            lambda tables: tables.update(report=pa.table({"a": pa.array([["x"]], pa.list_(pa.binary()))})),
            "column a: list",
        ),
        (lambda tables: tables.update(report=pa.table({"a": pa.array(["x"]).dictionary_encode()})), "a: dictionary"),
        (lambda tables: tables.update(report=pa.table({"a": pa.array([b"0" * 16], pa.uuid())})), "extension"),
        (lambda tables: tables.update(concepts=tables["report"]), "needs a column concept_id"),
        (
            lambda tables: tables.update(concepts=pa.table({"concept_id": [1], "state": ["x"], "centroid": [[1.0]]})),
            "concepts, column centroid: want fixed_size_list<float>, got list<item: double>",
        ),
        (lambda tables: tables.update(cycle=tables["cycle"][:0]), "table cycle has one row, not 0"),
        (lambda tables: tables.update(episodes=episode_rows([1, 3, 2])), "not in ascending order of episode_id"),
        (lambda tables: tables.update(episodes=episode_rows([1, 1])), "not in ascending order of episode_id"),
    ],
)
def test_tables_that_are_not_a_version_are_refused_before_anything_is_made(
    change: Callable[[dict[str, pa.Table]], object], message: str, tmp_path: Path
) -> None:
    tables = version_tables(1)
    change(tables)
    with pytest.raises(ValueError, match=message):
        commit_version(tmp_path / "store", tables)
    assert not (tmp_path / "store").exists()


def test_check_writable_makes_a_store_directory_and_leaves_no_probe(tmp_path: Path) -> None:
    store = tmp_path / "a" / "store"
    check_writable(store)
    check_writable(store)
    assert set(listing(store)) == {".lock", "versions", "manifests"}
    assert current_version(store) is None
    assert commit_version(store, version_tables(1)) == 1
    before = listing(store)
    check_writable(store)
    assert listing(store) == before


@pytest.mark.parametrize("use", [check_writable, lambda uri: commit_version(uri, version_tables(1))])
@pytest.mark.parametrize(
    ("store", "culprit"), [("file", "file"), ("file/a/store", "file"), ("broken", "broken/versions")]
)
def test_store_under_a_file_is_not_writable(
    use: Callable[[Path], object], store: str, culprit: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/versions").write_text("")
    with pytest.raises(StoreError, match=rf"Not a directory \(ENOTDIR\) at '{tmp_path / culprit}'"):
        use(tmp_path / store)


def test_store_of_another_user_is_not_writable() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory, "store")
        commit_version(store, version_tables(1))
        Path(directory).chmod(0o755)
        for path in (store, store / "versions", store / "manifests"):
            path.chmod(0o777)

        def use(action: Callable[[], object], denied: Path) -> None:
            os.setuid(65534)
            with pytest.raises(StoreError, match=rf"Permission denied \(EACCES\) at '{denied}"):
                action()

        new = Path(directory, "new")
        assert wait_all([fork(lambda: use(lambda: check_writable(new), new))]) == [0]
        assert stat.S_IMODE((store / ".lock").stat().st_mode) & 0o022 == 0
        assert wait_all([fork(lambda: use(lambda: check_writable(store), store / ".lock"))]) == [0]
        (store / ".lock").unlink()
        (store / "manifests").chmod(0o755)
        assert wait_all([fork(lambda: use(lambda: check_writable(store), store / "manifests"))]) == [0]
        (store / "manifests").chmod(0o700)
        assert wait_all([fork(lambda: use(lambda: ConceptStore.open(store), store))]) == [1]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(mount)], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mount of a disk here: {error}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_read_only_disk_can_be_read_and_says_why_it_cannot_be_written(disk: Path) -> None:
    commit_version(disk / "store", version_tables(1))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for use in (check_writable, lambda uri: commit_version(uri, version_tables(2))):
        with pytest.raises(StoreError, match=r"Read-only file system \(EROFS\)"):
            use(disk / "store")
    assert contents(disk / "store") == [1]


@pytest.fixture
def remote(tmp_path: Path) -> Location:
    """A filesystem of which the store must not know that it is local."""
    (tmp_path / "bucket").mkdir()
    bucket = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())
    return Location("test://bucket/store", bucket, "store")


def test_remote_store_commits_and_reads(remote: Location) -> None:
    assert current_version(remote) is None
    check_writable(remote)
    assert commit_version(remote, version_tables(1), slot="night 1", expected_version=0) == 1
    assert commit_version(remote, version_tables(2)) == 2
    assert contents(remote) == [1, 2]
    assert find_slot(remote, "night 1") == 1
    with pytest.raises(CommitConflictError, match="as version 1"):
        commit_version(remote, version_tables(3), slot="night 1")
    with pytest.raises(CommitConflictError, match="at version 2, not 1"):
        commit_version(remote, version_tables(3), expected_version=1)


class StrikingFilesystem:
    """A filesystem that calls ``strike(path)`` before it changes ``path``."""

    def __init__(self, inner: fs.FileSystem, strike: Callable[[str], object]) -> None:
        self.inner, self.strike = inner, strike

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a filesystem has
        call = getattr(self.inner, name)
        if name not in {"create_dir", "open_output_stream"}:
            return call

        def struck(path: str, **options: bool) -> Any:  # noqa: ANN401
            self.strike(path)
            return call(path, **options)

        return struck


def striking(remote: Location, strike: Callable[[str], object]) -> Location:
    filesystem = StrikingFilesystem(remote.filesystem, strike)
    return Location(remote.uri, cast("fs.FileSystem", filesystem), remote.root)


def test_remote_failure_anywhere_leaves_the_old_version(remote: Location) -> None:
    commit_version(remote, version_tables(1))
    operations: list[str] = []
    commit_version(striking(remote, operations.append), version_tables(2))
    assert operations[-1] == "store/manifests/00000002.json"
    for k in range(len(operations)):
        met: list[str] = []

        def strike(path: str, k: int = k, met: list[str] = met) -> None:
            met.append(path)
            if len(met) == k + 1:
                raise PermissionError(13, "Permission denied")

        with pytest.raises(StoreError, match=r"cannot write the store test://bucket/store: .*denied"):
            commit_version(striking(remote, strike), version_tables(3))
        assert contents(remote) == [1, 2]
        # Whether a manifest that failed to be written is there cannot be known: its files stay.
        assert len(remote.names("versions")) == (3 if k == len(operations) - 1 else 2)
    assert commit_version(remote, version_tables(3)) == 3


def test_remote_writers_of_one_number_never_mix_files(remote: Location) -> None:
    # The race that pyarrow.fs cannot close: both have looked, neither manifest was there.
    commit_version(remote, version_tables(1))
    raced: list[int] = []

    def race_before_manifest(path: str) -> None:
        if path.endswith(".json") and not raced:
            raced.append(commit_version(remote, version_tables(2)))

    assert commit_version(striking(remote, race_before_manifest), version_tables(3)) == 2
    assert raced == [2]
    assert contents(remote) == [1, 3]


def test_remote_manifest_that_is_there_is_a_conflict(remote: Location) -> None:
    commit_version(remote, version_tables(1))
    raced: list[int] = []

    def race_before_files(path: str) -> None:
        if path.endswith("report.parquet") and not raced:
            raced.append(commit_version(remote, version_tables(2)))

    with pytest.raises(CommitConflictError, match=r"00000002\.json first"):
        commit_version(striking(remote, race_before_files), version_tables(3))
    assert contents(remote) == [1, 2]
    assert len(remote.names("versions")) == 2


def test_remote_damage_is_named(remote: Location, tmp_path: Path) -> None:
    commit_version(remote, version_tables(1))
    (path,) = (tmp_path / "bucket/store/versions").glob("*/episodes.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreCorruptError, match=r"episodes.parquet: want \d+ bytes, got \d+ bytes"):
        ConceptStore.open(remote)
    shutil.rmtree(path.parent)
    with pytest.raises(StoreCorruptError, match="got no file"):
        ConceptStore.open(remote)
