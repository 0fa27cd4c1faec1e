"""Files, refusals, records and progress of `read_episodes`."""

from __future__ import annotations

import logging
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster_engine.data.quarantine import Reason
from cluster_engine.data.reading import read_episodes
from cluster_engine.data.vector_buffer import VectorBuffer
from cluster_engine.errors import ConfigError, EpisodeFileError

if TYPE_CHECKING:
    from pathlib import Path

VECTORS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


def write(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table({"id": [3, 1, 2], "vector": VECTORS} | columns), path)
    return path


def save(table: pa.Table, path: Path, container: str) -> None:
    if container == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as sink:
            sink.write_table(table)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "episodes.parquet"


def test_polars_files_are_read_as_polars_writes_them(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"id": ["c", "a", "b"], "vector": VECTORS, "text": ["x", None, "z"]},
        schema_overrides={"vector": pl.Array(pl.Float64, 2), "text": pl.Categorical},
    )
    frame.write_parquet(tmp_path / "a.parquet")
    frame.with_columns(pl.col("id") + "2").write_ipc(tmp_path / "b.arrow", compression="zstd")
    episodes, quarantine = read_episodes(tmp_path)
    assert episodes.ids.to_pylist() == ["a", "a2", "b", "b2", "c", "c2"]
    assert episodes.texts.to_pylist() == [None, None, "z", "z", "x", "x"]
    assert len(quarantine) == 0


def test_the_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "vector": [[1.0, 2.0]]})
    with pa.ipc.new_stream(str(tmp_path / "a.parquet"), table.schema) as sink:
        sink.write_table(table)
    pq.write_table(table, tmp_path / "b.data")
    episodes, quarantine = read_episodes([tmp_path / "a.parquet", tmp_path / "b.data"])
    assert len(episodes) == 1
    detail = f"row 0 of {tmp_path / 'a.parquet'} is kept"
    assert quarantine.table.select(["file", "reason", "detail"]).to_pylist() == [
        {"file": str(tmp_path / "b.data"), "reason": "duplicate_id", "detail": detail}
    ]


# --- files that cannot be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"id,vector\n1,2\n", b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff", b"FEA1" * 9]
)
def test_what_is_neither_parquet_nor_arrow_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(EpisodeFileError) as caught:
        read_episodes(path)
    assert str(path) in str(caught.value)


def test_one_unreadable_file_stops_the_whole_input(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.parquet", {}).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EpisodeFileError, match=r"b\.parquet: cannot be read: "):
        read_episodes(tmp_path)


def test_corrupt_offsets_are_an_error_and_not_a_crash(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 2, 2**30, 6], np.int32))
    lists = pa.Array.from_buffers(pa.list_(pa.float64()), 3, [None, offsets], children=[pa.array(np.arange(6.0))])
    save(pa.table({"id": [1, 2, 3], "vector": lists}), tmp_path / "a.arrow", "ipc")
    with pytest.raises(EpisodeFileError, match=r"a\.arrow: cannot be read: .*[Oo]ffset"):
        read_episodes(tmp_path)


def test_invalid_utf8_is_an_error(path: Path) -> None:
    ids = pa.array([b"\xff", b"a", b"b"]).view(pa.string())
    with pytest.raises(EpisodeFileError, match="UTF8"):
        read_episodes(write(path, {"id": ids}))


# --- quarantine, sizes, progress ------------------------------------------------------------------------------------


def test_details_say_what_is_wrong(path: Path) -> None:
    bad: list[tuple[Any, list[float | None] | None, float, str, str]] = [
        (None, [1.0, 1.0], 1, "null_id", "the id is null"),
        (2**63, [1.0, 1.0], 1, "id_out_of_range", "the id 9223372036854775808 is beyond 9223372036854775807"),
        (3, None, 1, "null_vector", "the vector is null"),
        (4, [1.0, None], 1, "null_element", "element 1 is null"),
        (5, [1.0, np.nan], 1, "not_a_number", "element 1 is nan"),
        (6, [-np.inf, 1.0], 1, "infinite", "element 0 is -inf"),
        (7, [1.0, 1e300], 1, "beyond_float32", "element 1 is 1e+300"),
        (8, [0.0, 0.0], 1, "zero_vector", "the squared norm is 0.0 as float32"),
        (9, [1e-300, 0.0], 1, "norm_underflow", "the squared norm is 0.0 as float32"),
        (10, [3e38, 0.0], 1, "norm_overflow", "the squared norm is inf as float32"),
        (11, [1.0, 1.0], 1.5, "bad_importance", "the importance 1.5 is not in [0, 1]"),
        (12, [1.0, 1.0, 1.0], 1, "wrong_dimension", "the vector has 3 elements, expected 2"),
        (13, [], 1, "wrong_dimension", "the vector has no elements"),
    ]
    good = [(20 + i, [1.0, float(i)], 1.0, "", "") for i in range(5)]
    ids, vectors, importances, reasons, details = zip(*bad, *good, strict=True)
    ids_column = pa.array(ids, pa.uint64())
    table = pa.table({"id": ids_column, "vector": list(vectors), "importance": pa.array(importances, pa.float64())})
    pq.write_table(table, path)
    episodes, quarantine = read_episodes(path)
    assert episodes.ids.to_pylist() == [20, 21, 22, 23, 24]
    assert quarantine.table["row_number"].to_pylist() == list(range(13))
    assert quarantine.table["reason"].to_pylist() == list(reasons[:13])
    assert quarantine.table["detail"].to_pylist() == list(details[:13])
    assert quarantine.table["episode_id"].to_pylist() == [None, None, *map(str, ids[2:13])]
    assert quarantine.counts()[Reason.WRONG_DIMENSION] == 2


def test_row_numbers_count_through_batches_and_row_groups(tmp_path: Path) -> None:
    n = 20_000
    vectors = np.ones((n, 3), np.float32)
    bad = [0, 8191, 8192, 12_345, n - 1]
    vectors[bad, 1] = np.nan
    lists = pa.FixedSizeListArray.from_arrays(vectors.ravel(), 3)
    table = pa.table({"id": np.arange(n)[::-1], "vector": lists})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7_000)
    with pa.ipc.new_stream(str(tmp_path / "b.arrow"), table.schema) as sink:
        sink.write_table(table.set_column(0, "id", pa.array(np.arange(n, 2 * n))))
    episodes, quarantine = read_episodes(tmp_path)
    assert quarantine.table["row_number"].to_pylist() == bad + bad
    assert len(episodes) == 2 * (n - len(bad))
    assert np.all(np.diff(episodes.ids.to_numpy()) > 0)


def test_equally_common_lengths_settle_on_the_larger(path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2, 3], "vector": [[1.0], [1.0, 2.0], [np.nan]]}), path)
    episodes, quarantine = read_episodes(path)
    assert episodes.dimension == 2
    assert quarantine.table["reason"].to_pylist() == ["wrong_dimension", "not_a_number"]


@pytest.mark.parametrize("dimension", [None, 5])
def test_an_input_without_rows(path: Path, dimension: int | None) -> None:
    schema = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32())), ("text", pa.string())])
    pq.write_table(schema.empty_table(), path)
    episodes, quarantine = read_episodes(path, dimension=dimension)
    assert episodes.vectors.shape == (0, dimension or 0)
    assert episodes.ids.equals(pa.array([], pa.large_string()))
    assert episodes.texts.equals(pa.array([], pa.large_string()))
    assert len(episodes) == len(quarantine) == 0


def test_an_input_without_good_rows_keeps_its_stated_dimension(path: Path) -> None:
    zeros = pa.array([[0.0, 0.0]] * 3, pa.list_(pa.float32(), 2))
    episodes, quarantine = read_episodes(write(path, {"vector": zeros}))
    assert episodes.vectors.shape == (0, 2)
    assert quarantine.counts() == {Reason.ZERO_VECTOR: 3}


def test_progress_counts_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {})
    write(tmp_path / "b.parquet", {"id": [4, 5, 6]})
    calls: list[tuple[int, int | None]] = []
    read_episodes(tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [(3, 6), (6, 6)]
    save(pa.table({"id": [7], "vector": [[1.0, 1.0]]}), tmp_path / "c.arrow", "ipc")
    calls.clear()
    read_episodes(tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [(3, None), (6, None), (7, None)]


def test_counts_are_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cluster_engine.data.reading"):
        read_episodes(write(path, {"importance": [0.5, 2.0, 0.5]}))
    assert "n_files=1 n_episodes=2 n_quarantined=1" in caplog.text


def test_a_buffer_is_permuted_in_place() -> None:
    n, d = 20_000, 160
    rows = np.random.default_rng(0).permutation(n)[: n - 7]
    source = np.arange(n * d, dtype=np.float32).reshape(n, d)
    tracemalloc.start()
    buffer = VectorBuffer(d)
    for start in range(0, n, 3_000):
        buffer.append(source[start : start + 3_000])
    selected = buffer.select(rows)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(selected, source[rows])
    assert peak_bytes < 1.2 * source.nbytes


def test_a_dimension_below_one_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        read_episodes(write(path, {}), dimension=0)


def test_a_squared_norm_must_be_a_normal_float32(path: Path) -> None:
    lengths = [2.0**-63 * (1 - 2**-20), 2.0**-63, 2.0**64 * (1 - 2**-24), 2.0**64]
    pq.write_table(pa.table({"id": [0, 1, 2, 3], "vector": [[0.0, x] for x in lengths]}), path)
    episodes, quarantine = read_episodes(path)
    assert episodes.ids.to_pylist() == [1, 2]
    assert quarantine.table["reason"].to_pylist() == ["norm_underflow", "norm_overflow"]
