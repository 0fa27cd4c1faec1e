"""Tables as Parquet: equal tables are equal bytes, and other readers see the same values."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import itertools
import shutil
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.store.commit import commit_version
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.store.tables import TABLE_NAMES, read_table, write_table

if TYPE_CHECKING:
    from pathlib import Path

TIME = pa.timestamp("us", "UTC")
TEXT = pa.large_string()
COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "episodes": {
        "episode_id": pa.int64(),
        "time": TIME,
        "importance": pa.float32(),
        "evergreen": pa.bool_(),
        "text": TEXT,
        "vector": pa.list_(pa.float32(), 3),
    },
    "concepts": {
        "concept_id": pa.int64(),
        "state": TEXT,
        "parent_id": pa.int64(),
        "n_episodes": pa.int64(),
        "coherence": pa.float32(),
        "distance": pa.float64(),
        "strength_ppm": pa.int64(),
        "n_replays": pa.int64(),
        "idle_cycles": pa.int64(),
        "born_cycle": pa.int64(),
        "born_time": TIME,
        "replay_time": TIME,
        "first_time": TIME,
        "last_time": TIME,
        "exemplar_ids": pa.list_(pa.int64()),
        "exemplar_texts": pa.list_(TEXT),
        "centroid": pa.list_(pa.float32(), 3),
    },
    "bindings": {
        "concept_id": pa.int64(),
        "episode_id": TEXT,
        "strength": pa.float32(),
        "initial": pa.float32(),
        "touched": TIME,
    },
    "hierarchy": {
        "node_id": pa.int64(),
        "left_id": pa.int64(),
        "right_id": pa.int64(),
        "distance": pa.float64(),
        "n_episodes": pa.int64(),
    },
    "moments": {"concept_id": pa.int64(), "weight": pa.float64(), "sum": pa.list_(pa.float64(), 3)},
    "cycle": {
        "cycle": pa.int64(),
        "as_of": TIME,
        "cut_distance": pa.float64(),
        "cut_episodes": pa.int64(),
        "mean_similarity": pa.float64(),
        "rules": TEXT,
    },
    "journal": {
        "cycle": pa.int64(),
        "as_of": TIME,
        "slot": TEXT,
        "concept_id": pa.int64(),
        "kind": TEXT,
        "other_ids": pa.list_(pa.int64()),
        "n_episodes": pa.int64(),
        "reason": TEXT,
    },
    "quarantine": {"file": TEXT, "row_number": pa.int64(), "episode_id": TEXT, "reason": TEXT, "detail": TEXT},
    "report": {"seconds": pa.float64(), "ok": pa.bool_()},
}
NOT_NULL = {"vector", "centroid", "sum", "other_ids", "exemplar_ids", "exemplar_texts", "concept_id", "importance"}


FLOATS = st.floats(allow_nan=False, width=32)
MOMENTS = st.datetimes(timezones=st.just(dt.timezone.utc))
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): FLOATS,
    pa.float64(): FLOATS,
    pa.bool_(): st.booleans(),
    TIME: MOMENTS,
    TEXT: st.text(max_size=8),
    pa.list_(pa.int64()): st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    pa.list_(TEXT): st.lists(st.none() | st.text(max_size=8), max_size=3),
    pa.list_(pa.float32(), 3): st.lists(FLOATS, min_size=3, max_size=3),
    pa.list_(pa.float64(), 3): st.lists(FLOATS, min_size=3, max_size=3),
}


@st.composite
def tables(draw: st.DrawFn, name: str | None = None) -> pa.Table:
    columns = COLUMNS[name or draw(st.sampled_from(sorted(COLUMNS)))]
    n_rows = draw(st.integers(0, 12))
    arrays = {}
    for column, kind in columns.items():
        cell = VALUES[kind] if column in NOT_NULL else st.none() | VALUES[kind]
        arrays[column] = pa.array(draw(st.lists(cell, min_size=n_rows, max_size=n_rows)), kind)
    return pa.table(arrays)


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    n_bytes, sha256 = write_table(table, buffer.write)
    data = buffer.getvalue()
    assert (n_bytes, sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return data


@settings(deadline=None)
@given(table=tables())
def test_tables_come_back_as_they_were(table: pa.Table) -> None:
    back = read_table(pa.py_buffer(parquet(table)))
    assert back.equals(table)
    assert back.schema.equals(table.schema)
    back.validate(full=True)


@settings(deadline=None)
@given(table=tables(), data=st.data())
def test_equal_tables_are_equal_bytes_however_they_lie_in_memory(table: pa.Table, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, table.num_rows), max_size=3)))
    bounds = [0, *cuts, table.num_rows]
    chunked = pa.concat_tables([table[first:last] for first, last in itertools.pairwise(bounds)])
    padded = pa.concat_tables([table[:1], table, table[:2]]).combine_chunks()[min(1, table.num_rows) :][
        : table.num_rows
    ]
    labelled = table.replace_schema_metadata({"pandas": "{}"})
    assert chunked.equals(table)
    assert padded.equals(table)
    bytes_ = parquet(table)
    assert parquet(chunked) == bytes_
    assert parquet(padded) == bytes_
    assert parquet(labelled) == bytes_
    assert parquet(read_table(pa.py_buffer(bytes_))) == bytes_


def test_null_flags_and_names_of_list_items_do_not_change_the_bytes() -> None:
    rows = [[1.0, 2.0], [3.0, 4.0]]
    plain = pa.table({"vector": pa.array(rows, pa.list_(pa.float32(), 2))})
    item = pa.field("weight", pa.float32(), nullable=False, metadata={"a": "b"})
    other = pa.table(
        {"vector": pa.array(rows, pa.list_(item, 2))},
        pa.schema([pa.field("vector", pa.list_(item, 2), nullable=False)]),
    )
    assert parquet(other) == parquet(plain)


def test_many_rows_are_cut_into_row_groups_of_fixed_size() -> None:
    rng = np.random.default_rng(0)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.random(70_000 * 20, np.float32)), 20)  # pages of 1 MiB
    table = pa.table({"id": np.arange(70_000), "vector": vectors})
    data = parquet(table)
    metadata = pq.read_metadata(pa.BufferReader(data))
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [32_768, 32_768, 4_464]
    assert read_table(pa.py_buffer(data)).equals(table)
    chunked = pa.concat_tables([table[:12_345], table[12_345:50_001], table[50_001:]])
    assert parquet(chunked) == data


def test_scalar_columns_have_statistics_and_vectors_have_none() -> None:
    table = pa.table({"id": [3, 1, 2], "vector": pa.array([[1.0], [2.0], [3.0]], pa.list_(pa.float32(), 1))})
    group = pq.read_metadata(pa.BufferReader(parquet(table))).row_group(0)
    statistics = group.column(0).statistics
    assert statistics is not None
    assert (statistics.min, statistics.max) == (1, 3)
    assert group.column(0).has_column_index
    assert not group.column(1).is_stats_set


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the columns of a real one and awkward values: nulls, empty lists, an empty table."""
    uri = tmp_path_factory.mktemp("store")
    moment = dt.datetime(2026, 11, 22, 2, 0, 0, 123456, tzinfo=dt.timezone.utc)
    cells: dict[pa.DataType, list[Any]] = {
        pa.int64(): [2**62, -1],
        pa.float32(): [0.1, 1.0],
        pa.float64(): [0.1, 1e-300],
        pa.bool_(): [True, False],
        TIME: [moment, None],
        TEXT: ["çà 概念", None],
        pa.list_(pa.int64()): [[1, 2], []],
        pa.list_(TEXT): [["a", None], []],
        pa.list_(pa.float32(), 3): [[0.1, 0.2, 0.3], [-1.0, 0.0, 1e30]],
        pa.list_(pa.float64(), 3): [[0.1, 0.2, 0.3], [-1.0, 0.0, 1e300]],
    }
    made = {
        name: pa.table({column: pa.array(cells[kind], kind) for column, kind in columns.items()})
        for name, columns in COLUMNS.items()
    }
    awkward = {"quarantine": made["quarantine"][:0], "cycle": made["cycle"][:1], "episodes": made["episodes"][::-1]}
    commit_version(uri, made | awkward)
    return uri


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_duckdb_reads_the_files_as_they_are(name: str, store: Path) -> None:
    table = getattr(ConceptStore.open(store), name)()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        path = store / f"versions/00000001/{name}.parquet"
        read = connection.sql(f"SELECT * FROM '{path}'").to_arrow_table()  # noqa: S608 - a path of ours
    assert read.to_pylist() == table.to_pylist()
    assert read.column_names == list(COLUMNS[name])


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_polars_reads_the_files_as_they_are(name: str, store: Path) -> None:
    table = getattr(ConceptStore.open(store), name)()
    frame = pl.read_parquet(store / f"versions/00000001/{name}.parquet")
    assert frame.to_arrow().to_pylist() == table.to_pylist()
    assert frame.columns == list(COLUMNS[name])


def test_duckdb_and_polars_compute_with_vectors(store: Path) -> None:
    path = store / "versions/00000001/episodes.parquet"
    rows = np.array(ConceptStore.open(store).episodes()["vector"].to_pylist(), np.float64)
    norms = (rows**2).sum(axis=1).tolist()
    with duckdb.connect() as connection:
        query = f"SELECT list_dot_product(vector::DOUBLE[], vector::DOUBLE[]) FROM '{path}'"  # noqa: S608
        squares = [row[0] for row in connection.execute(query).fetchall()]
    assert squares == pytest.approx(norms, rel=1e-12)
    vectors = pl.read_parquet(path)["vector"].to_numpy()
    assert (vectors.astype(np.float64) ** 2).sum(axis=1) == pytest.approx(norms, rel=1e-12)


def test_duckdb_reads_a_table_in_parts_that_older_versions_wrote(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    first = ConceptStore.open(store).journal()
    for _ in range(3):
        commit_version(tmp_path / "store", {}, added={"journal": first.slice(0, 1)})
    opened = ConceptStore.open(tmp_path / "store")
    paths = opened.paths("journal")
    assert len(paths) == 2
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        read = connection.sql(f"SELECT * FROM read_parquet({paths})").to_arrow_table()  # noqa: S608 - paths of ours
    assert read.to_pylist() == opened.journal().to_pylist() == [*first.to_pylist(), *first.to_pylist()[:1] * 3]
    assert opened.paths("cycle") == [f"{tmp_path}/store/versions/00000001/cycle.parquet"]
