"""Which columns and types become episodes, and which are refused."""

from __future__ import annotations

import pickle
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster_engine.data.quarantine import Reason
from cluster_engine.data.reading import read_episodes
from cluster_engine.data.schema import ColumnNames
from cluster_engine.errors import ConfigError, SchemaError

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


# --- schema refusals ------------------------------------------------------------------------------------------------


def test_a_missing_column_names_the_nearest(path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "vectr": [[1.0]]}), path)
    with pytest.raises(SchemaError) as caught:
        read_episodes(path)
    assert str(caught.value) == (
        f"{path}: no column 'vector' for the vector, name it with --vector-column, or input.vector in a configuration; "
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
        ("evergreen", pa.array([0, 1, 0])),
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
@pytest.mark.parametrize("role", ["id", "vector", "time", "importance", "evergreen", "text"])
@pytest.mark.parametrize("container", ["parquet", "ipc"])
def test_extension_types_are_refused_where_they_are_needed(
    tmp_path: Path, name: str, role: str, container: str
) -> None:
    columns = {"id": pa.array([1]), "vector": pa.array([[1.0]]), "time": pa.array([MOMENT])}
    columns |= {"importance": pa.array([1.0]), "evergreen": pa.array([True]), "text": pa.array(["x"])}
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
