"""Which files an input names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pyarrow import fs

from cluster_engine.data.files import find_files
from cluster_engine.errors import EpisodeFileError, InputError

if TYPE_CHECKING:
    from pathlib import Path

TREE = (
    "a.parquet",
    "b.arrow",
    "c.txt",
    "_SUCCESS",
    "_tmp.parquet",
    ".hidden.parquet",
    "[x].parquet",
    "day=1/d.feather",
    "day=1/deep/e.IPC",
    "day=2/f.arrows",
    "_delta_log/g.parquet",
    "day=1/.staging/h.parquet",
)
DATA = ("[x].parquet", "a.parquet", "b.arrow", "day=1/d.feather", "day=1/deep/e.IPC", "day=2/f.arrows")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in TREE:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path / "in")
    return tmp_path / "in"


def names(*args: object) -> list[str]:
    return [file.name for file in find_files(*args)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (".", DATA),
        ("./", DATA),
        ("**", DATA),
        ("**/*.parquet", ("[x].parquet", "a.parquet")),
        ("**/d*", ("day=1/d.feather", "day=1/deep/e.IPC", "day=2/f.arrows")),
        ("*.parquet", ("[x].parquet", "a.parquet")),
        ("_*.parquet", ("_tmp.parquet",)),
        ("?.txt", ("c.txt",)),
        ("[ab].*", ("a.parquet", "b.arrow")),
        ("[x].parquet", ("[x].parquet",)),
        ("day=*/", ("day=1/d.feather", "day=1/deep/e.IPC", "day=2/f.arrows")),
        ("day=*/d*/*", ("day=1/deep/e.IPC",)),
        (("b.arrow", "a.parquet", "./a.parquet", "*.parquet"), ("[x].parquet", "a.parquet", "b.arrow")),
    ],
)
def test_relative_items(tree: Path, item: str | tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert names(item) == list(expected)


def test_absolute_paths_uris_and_file_systems_agree(tree: Path) -> None:
    absolute = [str(tree / name) for name in DATA]
    assert names(tree) == absolute
    assert names(tree.as_uri()) == absolute
    assert names(f"{tree.as_uri()}/**") == absolute
    assert names(f"{tree.as_uri()}/day=*/deep") == [str(tree / "day=1/deep/e.IPC")]
    assert names(".", fs.SubTreeFileSystem(str(tree), fs.LocalFileSystem())) == list(DATA)


def test_a_file_reached_twice_is_read_once(tree: Path) -> None:
    (tree / "loop").symlink_to(tree)
    (tree / "z.parquet").symlink_to(tree / "a.parquet")
    assert names(["z.parquet", "a.parquet", str(tree / "b.arrow"), "b.arrow"]) == [str(tree / "b.arrow"), "a.parquet"]
    assert names(".") == list(DATA)


@pytest.mark.parametrize("item", ["nowhere", "nowhere/*.parquet", "*.csv", "day=9", "day=1/.staging/*.arrow"])
def test_what_matches_nothing_is_named(tree: Path, item: str) -> None:
    with pytest.raises(InputError, match="no file matches") as caught:
        find_files(["a.parquet", item])
    assert item in str(caught.value)


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(InputError, match="empty sequence"):
        find_files([])


def test_a_pipe_is_refused_instead_of_waited_for(tree: Path) -> None:
    os.mkfifo(tree / "pipe.parquet")
    with pytest.raises(EpisodeFileError, match=r"pipe\.parquet: not a regular file"):
        find_files("pipe.parquet")
    assert "pipe.parquet" not in names(".")


def test_credentials_of_a_uri_are_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        find_files("nosuch://key:secret@bucket/x.parquet")
    assert "nosuch://bucket/x.parquet" in str(caught.value)
    assert "secret" not in str(caught.value)
