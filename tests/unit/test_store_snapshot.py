"""Reading a version: what is there, what is damaged, what is missing."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_tables import version_tables

from cluster_engine.errors import StoreCorruptError, StoreError
from cluster_engine.store.commit import commit_version
from cluster_engine.store.manifest import FileEntry, Manifest, decode_manifest
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.tables import GROWING_TABLE_NAMES, TABLE_NAMES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    commit_version(tmp_path, version_tables(1, report=0.5), slot="night 1")
    commit_version(tmp_path, version_tables(2))
    commit_version(tmp_path, version_tables(1, report=0.7), slot="night 3")
    return tmp_path


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def test_open_shows_the_current_version_or_the_one_asked_for(store: Path) -> None:
    current = ConceptStore.open(str(store))
    assert (current.uri, current.version, current.slot) == (str(store), 3, "night 3")
    assert current.manifest.version == 3
    second = ConceptStore.open(store, version=2)
    assert (second.version, second.slot) == (2, None)
    expected = version_tables(2)
    for name in TABLE_NAMES:
        assert getattr(second, name)().equals(expected[name]), name


def test_a_snapshot_does_not_move(store: Path) -> None:
    before = ConceptStore.open(store)
    commit_version(store, version_tables(4))
    assert before.version == 3
    assert before.episodes().equals(version_tables(1)["episodes"])
    assert ConceptStore.open(store).version == 4


def test_a_snapshot_travels_to_another_process(store: Path) -> None:
    copy = pickle.loads(pickle.dumps(ConceptStore.open(store)))  # noqa: S301 - our own bytes
    assert copy.version == 3
    assert copy.bindings().equals(version_tables(1)["bindings"])


@pytest.mark.parametrize("directory", ["", "nowhere", "file"])
def test_no_store_yet_says_so(directory: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=rf"no store at {tmp_path / directory} yet"):
        ConceptStore.open(tmp_path / directory)


@pytest.mark.parametrize("version", [0, -1, 4])
def test_no_such_version_says_which_there_are(version: int, store: Path) -> None:
    with pytest.raises(StoreError, match=f"no version {version}; it has 1 to 3"):
        ConceptStore.open(store, version=version)


@pytest.mark.parametrize("uri", ["", "gopher://x/y", "s3:// /"])
def test_uri_without_a_filesystem_says_so(uri: str) -> None:
    with pytest.raises(StoreError, match=r"empty|no filesystem"):
        ConceptStore.open(uri)


def test_history_has_one_row_per_version(store: Path) -> None:
    history = ConceptStore.open(store, version=1).history()
    assert history["version"].to_pylist() == [1, 2, 3]
    assert history["slot"].to_pylist() == ["night 1", None, "night 3"]
    for column in ("n_bindings", "n_concepts", "n_episodes", "n_quarantined"):
        assert history[column].to_pylist() == [1] * 3
    sizes = [
        sum(path.stat().st_size for path in (store / f"versions/{version:08d}").iterdir()) for version in (1, 2, 3)
    ]
    assert history["n_bytes"].to_pylist() == sizes


def test_equal_results_have_equal_digests_whatever_the_report_says(store: Path) -> None:
    first, second, third = ConceptStore.open(store).history()["content_sha256"].to_pylist()
    assert first == third != second
    reports = [ConceptStore.open(store, version=version).manifest.parts("report")[0].sha256 for version in (1, 3)]
    assert reports[0] != reports[1]


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_every_flipped_byte_of_a_file_is_found_and_named(name: str, store: Path) -> None:
    path = store / f"versions/00000003/{name}.parquet"
    pristine = path.read_bytes()
    for position in range(0, len(pristine), 7):
        flip(path, position)
        damaged = ConceptStore.open(store)
        with pytest.raises(StoreCorruptError, match=rf"{path}: want sha256 [0-9a-f]{{64}}, got [0-9a-f]{{64}}"):
            getattr(damaged, name)()
        with pytest.raises(StoreCorruptError, match=str(path)):
            damaged.verify()
        path.write_bytes(pristine)
    ConceptStore.open(store).verify()


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda _: b"", None])
@pytest.mark.parametrize("name", TABLE_NAMES)
def test_wrong_size_or_no_file_is_found_at_open_and_at_reading(name: str, change: object, store: Path) -> None:
    opened = ConceptStore.open(store)
    opened.verify()  # so that no checksum is asked for again
    path = store / f"versions/00000003/{name}.parquet"
    data = path.read_bytes()
    path.unlink()
    if callable(change):
        path.write_bytes(change(data))
    wrong_size = rf"{path}: want {len(data)} bytes, got \d+ bytes"
    with pytest.raises(StoreCorruptError, match=wrong_size if change else f"{path}: want {len(data)} .* no file"):
        ConceptStore.open(store)
    with pytest.raises(StoreError, match=wrong_size if change else f"{path}.*No such file"):
        getattr(opened, name)()
    ConceptStore.open(store, version=2).verify()


def test_verify_names_every_damaged_file(store: Path) -> None:
    for name in ("bindings", "report"):
        flip(store / f"versions/00000003/{name}.parquet", 9)
    with pytest.raises(StoreCorruptError, match=r"bindings.parquet.*; .*report.parquet"):
        ConceptStore.open(store).verify()


def test_checksums_are_taken_once_but_verify_takes_them_again(store: Path) -> None:
    opened = ConceptStore.open(store)
    opened.episodes()
    flip(store / "versions/00000003/episodes.parquet", -1)
    flip(store / "versions/00000003/episodes.parquet", 0)
    with pytest.raises(StoreCorruptError, match="not Parquet"):
        opened.episodes()
    with pytest.raises(StoreCorruptError, match="sha256"):
        opened.verify()


def test_every_flipped_byte_of_a_manifest_is_found_and_named(store: Path) -> None:
    path = store / "manifests/00000003.json"
    data = path.read_bytes()
    for position, byte in enumerate(data):
        for bit in (0x01, 0x10, 0x80):
            damaged = data[:position] + bytes([byte ^ bit]) + data[position + 1 :]
            with pytest.raises(StoreError, match=r"^manifests/00000003\.json"):
                decode_manifest(damaged, 3, "manifests/00000003.json")
    flip(path, 200)
    with pytest.raises(StoreCorruptError, match=str(path)):
        ConceptStore.open(store)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"format": 1}', '{"format": "2"}', '{"format": 0}'])
def test_what_is_no_manifest_is_corrupt(content: str, store: Path) -> None:
    (store / "manifests/00000003.json").write_text(content)
    with pytest.raises(StoreCorruptError, match=r"00000003\.json is not a manifest"):
        ConceptStore.open(store)


def test_manifest_copied_to_another_number_is_corrupt(store: Path) -> None:
    data = (store / "manifests/00000003.json").read_bytes()
    (store / "manifests/00000004.json").write_bytes(data)
    with pytest.raises(StoreCorruptError, match=r"00000004\.json says version 3"):
        ConceptStore.open(store)


def entry(name: str, path: str | None = None) -> FileEntry:
    return FileEntry(name, path or f"versions/00000001/{name}.parquet", 1, 1, "0" * 64)


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/report.parquet",
        "versions/../report.parquet",
        "versions/1/report.parquet",
        "versions/00000001/x/report.parquet",
        "versions/00000001/cycle.parquet",
        "versions/00000003/report.parquet",
    ],
)
def test_manifest_cannot_point_outside_the_versions_up_to_its_own(path: str) -> None:
    entries = tuple(entry(name, path if name == "report" else None) for name in TABLE_NAMES)
    data = Manifest(1, 2, None, "0", entries).encode()
    with pytest.raises(StoreCorruptError, match="says that table report is in"):
        decode_manifest(data, 2, "m")


@pytest.mark.parametrize("names", [TABLE_NAMES[1:], (*TABLE_NAMES, "report"), TABLE_NAMES[::-1]])
def test_manifest_without_just_the_tables_of_a_version_is_corrupt(names: tuple[str, ...]) -> None:
    data = Manifest(1, 1, None, "0", tuple(entry(name) for name in names)).encode()
    with pytest.raises(StoreCorruptError, match="not the tables of a version"):
        decode_manifest(data, 1, "m")


@settings(deadline=None)
@given(
    version=st.integers(1, 10**12),
    slot=st.none() | st.text(),
    n_bytes=st.integers(0, 2**50),
    n_parts=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    sha256=st.binary(min_size=32, max_size=32),
)
def test_manifests_come_back_as_they_were(
    version: int, slot: str | None, n_bytes: int, n_parts: tuple[int, int], sha256: bytes
) -> None:
    repeated = dict(zip(GROWING_TABLE_NAMES, n_parts, strict=True))
    entries = tuple(
        FileEntry(name, f"versions/{version:08d}/{name}.parquet", n_bytes, part, sha256.hex())
        for name in TABLE_NAMES
        for part in range(repeated.get(name, 1))
    )
    manifest = Manifest(1, version, slot, "0.1.0", entries)
    data = manifest.encode()
    assert decode_manifest(data, version, "m") == manifest
    assert [len(manifest.parts(name)) for name in GROWING_TABLE_NAMES] == list(n_parts)
    keys = list(json.loads(data))
    assert keys == sorted(keys)


def test_search_reads_the_centroids_of_the_version(store: Path) -> None:
    found = ConceptStore.open(store, version=2).search(np.array([[2.0, 1.0]]))
    assert found.concept_ids.tolist() == [[2]]
    assert found.similarities[0, 0] == pytest.approx(3 / 10**0.5, abs=1e-6)
