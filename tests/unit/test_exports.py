"""Exports of other programs, read from files that those programs wrote.

``exports/`` was written by graphrag 3.3.0 (``graphrag index`` with mock models and ``snapshots.embeddings``), mem0ai
2.2.1 (``Memory.add``, then ``get_all`` as JSON), and langmem 0.0.30 with langgraph-checkpoint-sqlite 3.1.2
(``create_manage_memory_tool`` and ``SqliteStore.put``; the JSON is the ``Item.dict`` of a search).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster_engine.data.adapters import EXPORTS
from cluster_engine.data.adapters.export import utc_time
from cluster_engine.embedding.files import embed_files, read_texts
from cluster_engine.errors import ConfigError, EpisodeFileError, InputError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster_engine.data.adapters import ExportFormat

FOLDER = Path(__file__).parent / "exports"


class LengthEmbedder:
    dimension = 2

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        return np.array([(1, len(text)) for text in texts], np.float32)


def rows_of(name: ExportFormat, path: Path) -> list[dict[str, Any]]:
    return [row for export in EXPORTS[name](path) for row in export.table.to_pylist()]


def test_text_units_of_graphrag_have_the_time_of_their_document() -> None:
    rows = rows_of("graphrag", FOLDER / "graphrag")
    documents = pq.read_table(FOLDER / "graphrag" / "documents.parquet").to_pylist()
    assert len(rows) == 3
    assert rows[0]["text"].startswith("Mara waters the tomatoes")
    for row in rows:
        owner = next(doc for doc in documents if row["id"] in doc["text_unit_ids"])
        assert row["time"].strftime("%Y-%m-%d %H:%M:%S +0000") == owner["creation_date"]
        assert row["vector"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def test_entities_of_graphrag_are_their_descriptions() -> None:
    texts = {row["text"] for row in rows_of("graphrag-entities", FOLDER / "graphrag")}
    assert texts == {"GREENHOUSE: A place where plants grow", "MARA: Mara looks after the greenhouse"}


def test_vectors_of_graphrag_are_found_by_id(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "graphrag" / "text_units.parquet", tmp_path)
    ids = pq.read_table(tmp_path / "text_units.parquet")["id"].to_pylist()
    embeddings = pa.table({"id": [ids[2], "another", ids[0]], "embedding": [[2.0, 0.5], [9.0, 9.0], [0.5, 0.0]]})
    pq.write_table(embeddings, tmp_path / "embeddings.text_unit_text.parquet")
    rows = rows_of("graphrag", tmp_path)
    assert [row["vector"] for row in rows] == [[0.5, 0.0], None, [2.0, 0.5]]
    assert "time" not in rows[0]  # there are no documents to tell it
    episodes, quarantine = read_texts(tmp_path, None, input_format="graphrag")
    assert dict(zip(episodes.ids.to_pylist(), episodes.vectors.tolist(), strict=True)) == {
        ids[0]: [0.5, 0.0],
        ids[2]: [2.0, 0.5],
    }
    assert [row["reason"] for row in quarantine.table.to_pylist()] == ["null_vector"]


def test_memories_of_mem0() -> None:
    rows = rows_of("mem0", FOLDER / "mem0.json")
    stored = json.loads((FOLDER / "mem0.json").read_text())["results"]
    assert [row["text"] for row in rows] == [memory["memory"] for memory in stored]
    assert [row["id"] for row in rows] == [memory["id"] for memory in stored]
    assert [row["time"].isoformat() for row in rows] == [memory["created_at"] for memory in stored]


def test_memories_of_langmem_are_the_same_from_a_database_and_from_json() -> None:
    from_json, from_database = (rows_of("langmem", FOLDER / f"langmem.{kind}") for kind in ("json", "sqlite"))
    assert {row["text"] for row in from_json} == {
        "Mara is allergic to peanuts",
        "She moved to Lisbon in March",
        "Jo prefers trains to planes",
        '{"city": "Lisbon", "name": "Jo"}',
    }
    assert "profiles.jo/profile" in {row["id"] for row in from_json}
    without_vectors = [{name: row[name] for name in ("id", "text", "time")} for row in from_database]
    assert sorted(without_vectors, key=lambda row: row["id"]) == sorted(from_json, key=lambda row: row["id"])


def test_vectors_of_langmem_are_those_of_the_database() -> None:
    rows = rows_of("langmem", FOLDER / "langmem.sqlite")
    with closing(sqlite3.connect(FOLDER / "langmem.sqlite")) as database:
        stored = {
            f"{prefix}/{key}": np.frombuffer(blob, np.float32).tolist()
            for prefix, key, blob in database.execute("SELECT prefix, key, embedding FROM store_vectors")
        }
    assert {row["id"]: row["vector"] for row in rows} == stored
    assert {len(row["vector"]) for row in rows} == {6}


@pytest.mark.parametrize(
    ("name", "path", "n"),
    [
        ("graphrag", "graphrag", 3),
        ("graphrag-entities", "graphrag", 2),
        ("mem0", "mem0.json", 4),
        ("langmem", "langmem.json", 4),
        ("langmem", "langmem.sqlite", 4),
    ],
)
def test_an_export_becomes_a_file_of_episodes(tmp_path: Path, name: ExportFormat, path: str, n: int) -> None:
    output = tmp_path / "out.parquet"
    written = embed_files(FOLDER / path, LengthEmbedder(), output, input_format=name)
    assert (written.n_episodes, len(written.quarantine)) == (n, 0)
    table = pq.read_table(output)
    assert table["vector"].to_pylist() == [[1.0, float(len(text))] for text in table["text"].to_pylist()]


def test_vectors_are_taken_as_they_are_where_an_export_has_them(tmp_path: Path) -> None:
    written = embed_files(FOLDER / "langmem.sqlite", None, tmp_path / "out.parquet", input_format="langmem")
    assert (written.n_episodes, written.dimension) == (4, 6)
    with pytest.raises(ConfigError, match=r"mem0.json: no vectors"):
        embed_files(FOLDER / "mem0.json", None, tmp_path / "none.parquet", input_format="mem0")


@pytest.mark.parametrize(
    ("name", "file", "content", "error"),
    [
        ("mem0", "a.json", b"{", EpisodeFileError),
        ("mem0", "a.json", b"{}", SchemaError),
        ("mem0", "a.json", b'[{"id": 3, "memory": "x"}]', SchemaError),
        ("mem0", "a.json", b'[{"id": "3", "memory": "x", "created_at": "soon"}]', EpisodeFileError),
        ("langmem", "a.json", b'{"results": []}', SchemaError),
        ("langmem", "a.json", b'[{"key": "x"}]', SchemaError),
        ("langmem", "a.db", b"not a database", EpisodeFileError),
        ("graphrag", "text_units.parquet", b"PAR1", EpisodeFileError),
        ("graphrag", "other.parquet", b"", InputError),
    ],
)
def test_what_is_no_export_is_refused(
    tmp_path: Path, name: ExportFormat, file: str, content: bytes, error: type[Exception]
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(error):
        EXPORTS[name](tmp_path)


def test_a_table_of_another_release_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "chunk": ["b"]}), tmp_path / "text_units.parquet")
    with pytest.raises(SchemaError, match=r"graphrag 3.3.0 writes it: no column 'text'"):
        EXPORTS["graphrag"](tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-29 19:29:59 +0100", "2026-11-29T18:29:59+00:00"),
        ("2026-11-29 19:29:59", "2026-11-29T19:29:59+00:00"),
        ("2026-11-29T19:29:59.500Z", "2026-11-29T19:29:59.500000+00:00"),
        ("2026-11-29T19:29:59-02:00", "2026-11-29T21:29:59+00:00"),
    ],
)
def test_times_are_utc_where_they_do_not_say(text: str, expected: str) -> None:
    time = utc_time(text, "here")
    assert time is not None
    assert time.isoformat() == expected
