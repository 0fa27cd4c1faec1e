"""Texts become episodes: whatever file they are in, in whatever batches, with bad rows told."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.make_demo_episodes import find_gist
from cluster_engine.cli import main
from cluster_engine.data.quarantine import Reason
from cluster_engine.data.reading import read_episodes
from cluster_engine.data.schema import ColumnNames
from cluster_engine.embedding.embedder import Embedder, load_embedder
from cluster_engine.embedding.files import embed_files, read_texts
from cluster_engine.errors import ConfigError, EpisodeFileError, SchemaError, VectorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cluster_engine.data.episodes import Episodes
    from cluster_engine.data.quarantine import Quarantine

DIMENSION = 6


def vector_of(text: str) -> list[float]:
    return [1 + byte / 16 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSION]]


class HashEmbedder:
    """Vectors from hashes, and a count of the texts that were asked for."""

    dimension = DIMENSION

    def __init__(self) -> None:
        self.n_texts = 0

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        self.n_texts += len(texts)
        return np.array([vector_of(text) for text in texts], np.float32).reshape(len(texts), DIMENSION)


ROWS = [
    {"id": "b", "text": "two\nlines, and a comma", "time": "2024-03-01T10:00:00Z", "importance": 0.5},
    {"id": "a", "text": "plain", "time": "2024-02-29T23:59:59Z", "importance": 1.0},
    {"id": "007", "text": "naïve café", "time": None, "importance": None},
]


def write_rows(path: Path) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ROWS[0].keys())
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        times = pa.array([row["time"] for row in ROWS], pa.string()).cast(pa.timestamp("us", "UTC"))
        columns: dict[str, Any] = {name: [row[name] for row in ROWS] for name in ("id", "text", "importance")}
        pq.write_table(pa.table({**columns, "time": times}), path)


def facts(episodes: Episodes) -> list[tuple[Any, ...]]:
    assert episodes.texts is not None
    columns = (episodes.ids, episodes.times, episodes.importances, episodes.texts, episodes.vectors)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def reasons(quarantine: Quarantine) -> list[tuple[int, str]]:
    rows = quarantine.table.to_pylist()
    return [(row["row_number"], row["reason"]) for row in rows]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_every_format_gives_the_same_episodes(tmp_path: Path, suffix: str) -> None:
    write_rows(tmp_path / f"texts{suffix}")
    episodes, quarantine = read_texts(str(tmp_path), HashEmbedder())
    assert len(quarantine) == 0
    assert episodes.ids.to_pylist() == ["007", "a", "b"]
    assert episodes.texts is not None
    assert episodes.texts.to_pylist() == ["naïve café", "plain", "two\nlines, and a comma"]
    assert episodes.vectors.tolist() == [vector_of(text) for text in episodes.texts.to_pylist()]
    assert [time and time.isoformat() for time in episodes.times.to_pylist()] == [
        None,
        "2024-02-29T23:59:59+00:00",
        "2024-03-01T10:00:00+00:00",
    ]
    assert episodes.importances.tolist() == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_the_file_holds_the_episodes(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"texts{suffix}"
    write_rows(source)
    written = embed_files(str(source), HashEmbedder(), tmp_path / "out.parquet")
    assert (written.n_episodes, written.dimension, len(written.quarantine)) == (3, DIMENSION, 0)
    from_file, quarantine = read_episodes(str(tmp_path / "out.parquet"))
    assert len(quarantine) == 0
    assert facts(from_file) == facts(read_texts(str(source), HashEmbedder())[0])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_lines_of_plain_text_are_called_after_their_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes("\ufefffirst\r\n\n   \nfourth line\nno end".encode())
    episodes, quarantine = read_texts(str(tmp_path), HashEmbedder())
    assert len(quarantine) == 0
    assert episodes.texts is not None
    named = dict(zip(episodes.ids.to_pylist(), episodes.texts.to_pylist(), strict=True))
    assert named == {"notes.txt:1": "first", "notes.txt:4": "fourth line", "notes.txt:5": "no end"}


def test_two_plain_texts_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.txt").write_text("x\n")
    with pytest.raises(SchemaError, match=r"a/notes.txt and .*b/notes.txt"):
        read_texts(str(tmp_path), HashEmbedder())


def test_bad_rows_are_quarantined_with_their_place(tmp_path: Path) -> None:
    columns = {
        "id": ["a", None, "c", "d", "e", None],
        "text": ["good", "x", None, " \n\t", "y", None],
        "importance": [1.0, 1.0, 1.0, 1.0, 7.0, 1.0],
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    expected = [
        (1, Reason.NULL_ID.value),
        (2, Reason.NO_TEXT.value),
        (3, Reason.NO_TEXT.value),
        (4, Reason.BAD_IMPORTANCE.value),
        (5, Reason.NULL_ID.value),
    ]
    embedder = HashEmbedder()
    written = embed_files(str(tmp_path / "in.parquet"), embedder, tmp_path / "out.parquet")
    assert reasons(written.quarantine) == expected
    assert written.n_episodes == 1
    assert embedder.n_texts == 2  # of "good" and "y": no vector is made of nothing
    episodes, quarantine = read_texts(str(tmp_path / "in.parquet"), HashEmbedder())
    assert reasons(quarantine) == expected
    assert quarantine.table.equals(written.quarantine.table)
    assert episodes.ids.to_pylist() == ["a"]


def test_batches_and_order_make_no_difference_and_equal_texts_are_embedded_once(tmp_path: Path) -> None:
    n = 20_000
    rows = np.random.default_rng(0).permutation(n)
    table = pa.table({"id": pa.array(rows), "text": [f"text {row % 700}" for row in rows]})
    (tmp_path / "in").mkdir()
    pq.write_table(table.slice(0, 13_000), tmp_path / "in" / "1.parquet", row_group_size=3_000)
    pq.write_table(table.slice(13_000), tmp_path / "in" / "2.parquet", row_group_size=11_000)
    embedder = HashEmbedder()
    seen: list[tuple[int, int]] = []
    written = embed_files(
        str(tmp_path / "in"), embedder, tmp_path / "out.parquet", progress=lambda p: seen.append((p.done, p.total))
    )
    assert written.n_episodes == n
    assert embedder.n_texts < 5 * 700
    assert seen[-1] == (n, n)
    assert seen == sorted(seen)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["id"].to_pylist() == rows.tolist()  # in the order of the input
    expected = np.array([vector_of(f"text {row % 700}") for row in rows], np.float32)
    assert np.array_equal(np.array(found["vector"].to_pylist(), np.float32), expected)


class BrokenEmbedder(HashEmbedder):
    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        found = super().embed(texts)
        for row, text in enumerate(texts):
            if text == "not a number":
                found[row, 2] = np.nan
            if text == "nothing":
                found[row] = 0
        return found


class ShortEmbedder(HashEmbedder):
    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        return super().embed(texts)[:, 1:]


def test_vectors_that_are_none_are_quarantined(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": [1, 2, 3], "text": ["not a number", "good", "nothing"]}), source)
    written = embed_files(str(source), BrokenEmbedder(), tmp_path / "out.parquet")
    expected = [(0, Reason.NOT_A_NUMBER.value), (2, Reason.ZERO_VECTOR.value)]
    assert reasons(written.quarantine) == reasons(read_texts(str(source), BrokenEmbedder())[1]) == expected
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == [2]


def test_an_embedder_that_does_not_keep_its_word_leaves_no_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "text": ["x"]}), tmp_path / "in.parquet")
    with pytest.raises(VectorError, match=r"ShortEmbedder.embed returned float32 of shape \(1, 5\)"):
        embed_files(str(tmp_path / "in.parquet"), ShortEmbedder(), tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_vector_column_beside_the_texts_is_not_looked_at(tmp_path: Path) -> None:
    table = pa.table({"key": [1, 2], "body": ["x", "y"], "vector": ["not", "vectors"]})
    pq.write_table(table, tmp_path / "in.parquet")
    episodes, _ = read_texts(str(tmp_path), HashEmbedder(), columns=ColumnNames(id="key", text="body"))
    assert episodes.vectors.tolist() == [vector_of("x"), vector_of("y")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"id": 1}\n', "no column 'text'"),
        ("a.csv", "id;text\n1;x\n", "no column 'id'"),
        ("a.csv", "id,text,time\n1,x,yesterday\n", "column 'time' has type string"),
    ],
)
def test_lines_without_the_columns_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SchemaError, match=message):
        read_texts(str(tmp_path), HashEmbedder())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"id": 1, "text": "x"\n'),
        ("a.jsonl", b""),
        ("a.csv", b"id,text\n1,x,y\n"),
        ("a.csv", b"id,text\n1,\xff\xfe\n"),
        ("a.txt", b"fine\n\xff\xfe\n"),
    ],
)
def test_files_that_are_not_what_they_are_called_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EpisodeFileError, match=rf"{name}: cannot be read"):
        read_texts(str(tmp_path), HashEmbedder())


# --- embedders by name -----------------------------------------------------------------------------------------------


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("plug_in")
    vars(module).update(Embedder=HashEmbedder, make=HashEmbedder, ready=HashEmbedder(), number=lambda: 3)
    monkeypatch.setitem(sys.modules, "plug_in", module)
    return module


@pytest.mark.parametrize("attribute", ["Embedder", "make", "ready"])
def test_an_embedder_is_a_class_a_function_or_an_object(plug_in: ModuleType, attribute: str) -> None:
    found = load_embedder(f"plug_in:{attribute}")
    assert isinstance(found, Embedder)
    assert (found is plug_in.ready) == (attribute == "ready")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", "known: minilm"),
        ("plug_in:nothing", "cannot be loaded"),
        ("no_such_module:it", "cannot be loaded"),
        ("plug_in:number", "no method embed"),
        ("plug_in:", "known: minilm"),
    ],
)
def test_a_name_that_is_none_is_refused(plug_in: ModuleType, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_embedder(name)


@pytest.mark.parametrize("missing", ["onnxruntime", "tokenizers"])
def test_without_the_extra_a_user_is_told_which_it_is(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delitem(sys.modules, "cluster_engine.embedding.onnx", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf"{missing}.*pip install 'cluster-engine\[text\]'"):
        load_embedder()


def test_the_model_that_the_extra_installs() -> None:
    minilm = load_embedder()
    assert minilm.dimension == 384
    texts = [
        "The cat sleeps on the sofa.",
        "A kitten naps on the couch.",
        "Interest rates rose by half a percent.",
        "word " * 1_000,
    ]
    vectors = minilm.embed(texts)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert vectors[0] @ vectors[1] > 2 * abs(vectors[0] @ vectors[2])
    alone = np.vstack([minilm.embed([text]) for text in reversed(texts)])[::-1]
    assert np.array_equal(alone, vectors)
    assert minilm.embed([]).shape == (0, 384)


def test_the_model_makes_the_vectors_of_the_demo() -> None:
    demo = pq.read_table("demo/episodes.parquet").take(list(range(0, 5_978, 300)))
    stored = np.array(demo["vector"].to_pylist(), np.float32)
    vectors = load_embedder().embed([find_gist(str(text)) for text in demo["text"].to_pylist()])
    assert (stored * vectors).sum(axis=1) == pytest.approx(np.ones(len(stored)), abs=2e-3)  # float16, other CPUs


# --- the command -----------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["embed", *(str(arg) for arg in args)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_command_writes_episodes_and_what_it_refused(
    plug_in: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("key,body\n1,one\n2,\n3,three\n")
    output, refused = tmp_path / "out.parquet", tmp_path / "refused.parquet"
    options = ["--input", tmp_path / "in.csv", "--output", output, "--embedder", "plug_in:make"]
    options += ["--id-column", "key", "--text-column", "body", "--quarantine", refused]
    code, out, _ = run(capsys, *options, "--json")
    assert code == 0
    assert json.loads(out) == {"output": str(output), "n_episodes": 2, "n_quarantined": 1, "dimension": DIMENSION}
    assert read_episodes(str(output))[0].ids.to_pylist() == ["1", "3"]
    assert pq.read_table(refused)["reason"].to_pylist() == ["no_text"]
    code, out, _ = run(capsys, *options)
    assert (code, out.splitlines()[-1]) == (0, "1 rows were refused (1 no_text)")


def test_the_command_refuses_an_output_that_cannot_be(
    plug_in: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("x\n")
    output = tmp_path / "no such folder" / "out.parquet"
    code, out, err = run(capsys, "--input", tmp_path / "in.txt", "--output", output, "--embedder", "plug_in:make")
    assert (code, out) == (2, "")
    assert "cannot be written" in err
