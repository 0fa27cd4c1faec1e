"""Containers, types, refusals and records of `read_episodes`."""

from __future__ import annotations

import logging
import tracemalloc
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster_engine.data.quarantine import Reason
from cluster_engine.data.reading import read_episodes
from cluster_engine.data.schema import ColumnNames
from cluster_engine.data.vector_buffer import VectorBuffer
from cluster_engine.errors import ConfigError, EpisodeFileError, SchemaError

if TYPE_CHECKING:
    from pathlib import Path

VECTORS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
UTC = timezone.utc


def write(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table({"id": [3, 1, 2], "vector": VECTORS} | columns), path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "episodes.parquet"


# --- columns and types ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        *((pa.array([3, 1, 2], t), pa.array([1, 2, 3], pa.int64())) for t in (pa.int8(), pa.int64(), pa.uint32())),
        (pa.array([2**63 - 1, 1, 2], pa.uint64()), pa.array([1, 2, 2**63 - 1])),
        (pa.array([-(2**63), 1, 2]), pa.array([-(2**63), 1, 2])),
        (pa.array([3, 1, 2], pa.uint16()).dictionary_encode(), pa.array([1, 2, 3], pa.int64())),
        *(
            (pa.array(["é", "", "z"]).cast(t), pa.array(["", "z", "é"], pa.large_string()))
            for t in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()))
        ),
    ],
    ids=str,
)
def test_id_types(path: Path, ids: pa.Array, expected: pa.Array) -> None:
    episodes, quarantine = read_episodes(write(path, {"id": ids}))
    assert episodes.ids.equals(expected)
    assert len(quarantine) == 0


@pytest.mark.parametrize("floats", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("layout", ["list", "large_list", "fixed_size_list", "tensor"])
def test_vector_types(path: Path, floats: pa.DataType, layout: str) -> None:
    rows = [[np.float16(x) for x in vector] for vector in VECTORS]
    fixed = pa.array(rows, pa.list_(floats, 2))
    column = {
        "list": pa.array(rows, pa.list_(floats)),
        "large_list": pa.array(rows, pa.large_list(floats)),
        "fixed_size_list": fixed,
        "tensor": pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(floats, [2]), fixed),
    }[layout]
    episodes, _ = read_episodes(write(path, {"vector": column}))
    np.testing.assert_array_equal(episodes.vectors, np.array([VECTORS[1], VECTORS[2], VECTORS[0]], np.float32))
    assert episodes.vectors.dtype == np.float32


def test_null_rows_that_hide_elements_and_sliced_lists(tmp_path: Path) -> None:
    values = pa.array(np.arange(1, 13, dtype=np.float32))
    mask = pa.array([False, False, True, False, False])
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4, 7, 9, 11], pa.int32()), values, mask=mask)
    table = pa.table({"id": [0, 1, 2, 3, 4], "vector": lists}).slice(1)
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as sink:
        sink.write_table(table)
    episodes, quarantine = read_episodes(tmp_path)
    assert episodes.vectors.tolist() == [[3, 4], [8, 9], [10, 11]]
    assert quarantine.table.select(["row_number", "reason"]).to_pylist() == [{"row_number": 1, "reason": "null_vector"}]


MOMENT = datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)
MIDNIGHT = datetime(1969, 12, 30, tzinfo=UTC)
PLUS_TWO = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        *((pa.array([MOMENT] * 3, pa.timestamp(unit, "UTC")), MOMENT) for unit in ("s", "ms", "us", "ns")),
        (pa.array([MOMENT.replace(tzinfo=None)] * 3, pa.timestamp("ms")), MOMENT),
        (pa.array([MOMENT.astimezone(PLUS_TWO)] * 3, pa.timestamp("us", "+02:00")), MOMENT),
        (pa.array([MOMENT] * 3, pa.timestamp("s", "America/New_York")), MOMENT),
        (pa.array([date(1969, 12, 30)] * 3, pa.date32()), MIDNIGHT),
        (pa.array([date(1969, 12, 30)] * 3, pa.date64()), MIDNIGHT),
        (pa.array([-1] * 3).cast(pa.timestamp("ns")), datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
        (pa.array([datetime(9999, 12, 31)] * 3, pa.timestamp("us")), datetime(9999, 12, 31, tzinfo=UTC)),  # noqa: DTZ001 naive on purpose
        (pa.nulls(3), None),
    ],
    ids=str,
)
def test_time_types(tmp_path: Path, times: pa.Array, expected: datetime | None) -> None:
    table = pa.table({"id": [3, 1, 2], "vector": VECTORS, "time": times})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as sink:
        sink.write_table(table)
    episodes, quarantine = read_episodes(tmp_path)
    assert episodes.times.type == pa.timestamp("us", "UTC")
    assert episodes.times.to_pylist() == [expected] * 3
    assert len(quarantine) == 0


@pytest.mark.parametrize(
    "times",
    [
        pa.array([253402300800, -62135596801, None]).cast(pa.timestamp("s")),
        pa.array([2**63 - 1, -(2**63), None]).cast(pa.timestamp("ms")),
        pa.array([2932897, -719163, None], pa.int32()).cast(pa.date32()),
    ],
    ids=str,
)
def test_times_outside_the_calendar_are_quarantined(tmp_path: Path, times: pa.Array) -> None:
    table = pa.table({"id": [3, 1, 2], "vector": VECTORS, "time": times})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as sink:
        sink.write_table(table)
    episodes, quarantine = read_episodes(tmp_path)
    assert episodes.ids.to_pylist() == [2]
    assert quarantine.counts() == {Reason.BAD_TIME: 2}


@pytest.mark.parametrize(
    "importances",
    [pa.array([1, 0, None], pa.uint8()), pa.array([1, 0, 1]), pa.array(np.array([1, 0, 1], np.float16))],
    ids=str,
)
def test_importance_types(path: Path, importances: pa.Array) -> None:
    episodes, _ = read_episodes(write(path, {"importance": importances}))
    assert episodes.importances.dtype == np.float32
    assert episodes.importances.tolist() == [0.0, 1.0, 1.0]


def test_optional_columns_that_are_absent(path: Path) -> None:
    episodes, _ = read_episodes(write(path, {}))
    assert episodes.times.null_count == 3
    assert episodes.importances.tolist() == [1.0, 1.0, 1.0]
    assert episodes.texts is None


def test_texts_of_some_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"text": pa.array(["x", "y", "x"]).dictionary_encode()})
    write(tmp_path / "b.parquet", {"id": [5, 6, 4]})
    episodes, _ = read_episodes(tmp_path)
    assert episodes.texts.equals(pa.array(["y", "x", "x", None, None, None], pa.large_string()))


def test_names_are_mapped_and_other_columns_may_be_anything(path: Path) -> None:
    other = pa.array([{"deep": [1]}, None, None])
    table = pa.table({"a.b": [1, 2, 3], "embedding": VECTORS, "when": [MOMENT] * 3, "id": other, "a": other})
    pq.write_table(table, path)
    names = ColumnNames(id="a.b", vector="embedding", time="when")
    episodes, _ = read_episodes(path, columns=names)
    assert episodes.ids.to_pylist() == [1, 2, 3]
    assert episodes.times.to_pylist() == [MOMENT] * 3


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


# --- schema refusals ------------------------------------------------------------------------------------------------


def test_a_missing_column_names_the_nearest(path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "vectr": [[1.0]]}), path)
    with pytest.raises(SchemaError) as caught:
        read_episodes(path)
    assert str(caught.value) == (
        f"{path}: no column 'vector' for the vector, map it with ColumnNames(vector=...); "
        "present: ['id', 'vectr']; did you mean 'vectr'?"
    )


def test_an_optional_column_that_was_asked_for_must_be_there(path: Path) -> None:
    write(path, {"created": [MOMENT] * 3})
    with pytest.raises(SchemaError, match="did you mean 'created'"):
        read_episodes(path, columns=ColumnNames(time="createed"))


@pytest.mark.parametrize(
    ("role", "column"),
    [
        ("id", pa.array([1.0, 2.0, 3.0])),
        ("id", pa.array([b"a", b"b", b"c"])),
        ("id", pa.nulls(3)),
        ("vector", pa.array([[1], [2], [3]])),
        ("vector", pa.array([1.0, 2.0, 3.0])),
        ("vector", pa.array([["a"], ["b"], ["c"]])),
        ("vector", pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((3, 2, 2), np.float32))),
        ("time", pa.array([1, 2, 3])),
        ("time", pa.array(["2024-01-01"] * 3)),
        ("importance", pa.array([True, False, True])),
        ("importance", pa.array(["high"] * 3)),
        ("text", pa.array([1, 2, 3])),
    ],
    ids=str,
)
def test_a_type_that_cannot_hold_its_role_is_refused(path: Path, role: str, column: pa.Array) -> None:
    with pytest.raises(SchemaError, match=f"column '{role}' has type .* cannot hold the {role}; accepted") as caught:
        read_episodes(write(path, {role: column}))
    assert str(path) in str(caught.value)


def test_a_column_that_is_there_twice_is_refused(path: Path) -> None:
    pq.write_table(
        pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([[1.0]])], ["id", "id", "vector"]), path
    )
    with pytest.raises(SchemaError, match="2 columns are called 'id'"):
        read_episodes(path)


def test_files_must_agree_on_the_kind_of_id(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {})
    write(tmp_path / "b.parquet", {"id": ["x", "y", "z"]})
    with pytest.raises(SchemaError, match=r"a\.parquet has int64 ids, but .*b\.parquet has large_string ids"):
        read_episodes(tmp_path)


def test_files_must_agree_on_a_stated_dimension(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"vector": pa.array(VECTORS, pa.list_(pa.float32(), 2))})
    write(tmp_path / "b.parquet", {"vector": pa.array([[1.0]] * 3, pa.list_(pa.float32(), 1))})
    with pytest.raises(SchemaError, match=r"b\.parquet has vectors of 1 elements, but that of .*a\.parquet is 2"):
        read_episodes(tmp_path)
    with pytest.raises(SchemaError, match=r"a\.parquet has vectors of 2 elements, but the dimension asked for is 3"):
        read_episodes(tmp_path / "a.parquet", dimension=3)


@pytest.mark.parametrize("names", [{"id": ""}, {"id": "vector"}])
def test_column_names_must_differ(names: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="non-empty and differ"):
        ColumnNames(**names)


def test_a_dimension_below_one_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        read_episodes(write(path, {}), dimension=0)


# --- data is never code ---------------------------------------------------------------------------------------------


class Bomb:
    """Its pickle, loaded, raises; a file that is only read must not set it off."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise AssertionError('the file ran code')",)


def unregistered(name: str, storage: pa.DataType) -> pa.Field:
    """An extension type as a file carries it: the storage type, with the type's name and a pickle beside it."""
    metadata = {"ARROW:extension:name": name, "ARROW:extension:metadata": pickle.dumps(Bomb())}
    return pa.field("x", storage, metadata=metadata)


@pytest.mark.parametrize("name", ["arrow.py_extension_type", "ray.data.arrow_pickled_object", "no.such.type"])
@pytest.mark.parametrize("role", ["id", "vector", "time", "importance", "text"])
@pytest.mark.parametrize("container", ["parquet", "ipc"])
def test_extension_types_are_refused_where_they_are_needed(
    tmp_path: Path, name: str, role: str, container: str
) -> None:
    columns = {"id": pa.array([1]), "vector": pa.array([[1.0]]), "time": pa.array([MOMENT])}
    columns |= {"importance": pa.array([1.0]), "text": pa.array(["x"])}
    field = unregistered(name, columns[role].type)
    schema = pa.schema([field.with_name(role) if key == role else (key, a.type) for key, a in columns.items()])
    save(pa.table(list(columns.values()), schema=schema), tmp_path / "a.arrow", container)
    with pytest.raises(SchemaError, match=f"column '{role}' has extension type '{name}'"):
        read_episodes(tmp_path)


@pytest.mark.parametrize("container", ["parquet", "ipc"])
def test_extension_types_nested_in_a_vector_are_refused(tmp_path: Path, container: str) -> None:
    element = unregistered("no.such.type", pa.float64())
    schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(element))])
    save(pa.table([pa.array([1]), pa.array([[1.0]], schema.field(1).type)], schema), tmp_path / "a.arrow", container)
    with pytest.raises(SchemaError, match=r"no\.such\.type"):
        read_episodes(tmp_path)


def test_known_extension_types_other_than_tensors_are_refused(tmp_path: Path) -> None:
    ids = pa.array([b"0123456789abcdef"], pa.uuid())
    save(pa.table({"id": ids, "vector": [[1.0]]}), tmp_path / "a.arrow", "ipc")
    with pytest.raises(SchemaError, match=r"extension type 'arrow\.uuid'"):
        read_episodes(tmp_path)


@pytest.mark.parametrize("container", ["parquet", "ipc"])
def test_extension_types_of_other_columns_do_not_matter(tmp_path: Path, container: str) -> None:
    field = unregistered("arrow.py_extension_type", pa.binary())
    schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float64())), field])
    save(pa.table([pa.array([1]), pa.array([[1.0]]), pa.array([b"x"])], schema=schema), tmp_path / "a.arrow", container)
    assert len(read_episodes(tmp_path)[0]) == 1


def save(table: pa.Table, path: Path, container: str) -> None:
    if container == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as sink:
            sink.write_table(table)


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
