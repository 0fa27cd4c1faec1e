"""Reading and merging against slow, obvious Python that goes row by row."""

from __future__ import annotations

import itertools
import math
import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.data.episodes import Episodes
from cluster_engine.data.merging import leave_out_stored
from cluster_engine.data.reading import read_episodes
from cluster_engine.errors import SchemaError

FIRST_US = -62135596800_000000  # 0001-01-01T00:00:00
LAST_US = 253402300799_999999  # 9999-12-31T23:59:59.999999
TINY, LARGEST = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127  # of normal float32


@dataclass(frozen=True)
class Row:
    id: Any
    vector: list[float | None] | None
    time: int | None
    importance: float | None
    text: str | None
    evergreen: bool | None = None


@dataclass(frozen=True)
class File:
    rows: list[Row]
    container: str
    layout: str
    floats: str

    def vectors(self) -> list[list[float | None] | None]:
        """The vectors as the file holds them, which is after rounding to its float type."""
        with np.errstate(over="ignore"):
            return [
                row.vector and [None if x is None else float(np.dtype(self.floats).type(x)) for x in row.vector]
                if row.vector is not None
                else None
                for row in self.rows
            ]


# --- the oracle -----------------------------------------------------------------------------------------------------


def fault_of(row: Row) -> str | None:
    checks = [
        ("null_id", row.id is None),
        ("id_out_of_range", isinstance(row.id, int) and row.id > 2**63 - 1),
        ("null_vector", row.vector is None),
    ]
    elements = row.vector or []
    numbers = [x for x in elements if x is not None]
    with np.errstate(over="ignore"):
        singles = [float(np.float32(x)) for x in numbers]
    squared = math.fsum(x * x for x in singles if math.isfinite(x))
    checks += [
        ("null_element", None in elements),
        ("not_a_number", any(math.isnan(x) for x in numbers)),
        ("infinite", any(math.isinf(x) for x in numbers)),
        ("beyond_float32", any(math.isinf(x) for x in singles)),
        ("zero_vector", bool(elements) and all(x == 0 for x in elements)),
        ("norm_underflow", bool(elements) and squared < TINY),
        ("norm_overflow", squared > LARGEST),
        ("bad_importance", row.importance is not None and not 0 <= row.importance <= 1),
        ("bad_time", row.time is not None and not FIRST_US <= row.time <= LAST_US),
        ("wrong_dimension", row.vector == []),
    ]
    return next((reason for reason, bad in checks if bad), None)


def preference(row: Row, file: str, number: int) -> tuple[Any, ...]:
    text = (row.text or "").encode()
    vector = np.array(row.vector, np.float32).tobytes()
    known = (row.time is None, row.time or 0, importance_of(row), bool(row.evergreen))
    return (*known, vector, row.text is None, text, file, number)


def importance_of(row: Row) -> float:
    return 1.0 if row.importance is None else float(np.float32(row.importance))


def read_slowly(files: dict[str, File], dimension: int | None) -> tuple[list[Row], list[tuple[str, int, Any, str]]]:
    good: list[tuple[Row, str, int]] = []
    bad = []
    for name, file in files.items():
        for number, (row, vector) in enumerate(zip(file.rows, file.vectors(), strict=True)):
            held = replace(row, vector=vector)
            fault = fault_of(held)
            if fault:
                bad.append((name, number, row.id, fault))
            else:
                good.append((held, name, number))
    if any(file.layout in ("fixed", "tensor") for file in files.values()):
        dimension = 2
    lengths = [len(row.vector or []) for row, _, _ in good]
    if dimension is None:
        dimension = max(lengths, key=lambda length: (lengths.count(length), length), default=0)
    bad += [(name, number, row.id, "wrong_dimension") for row, name, number in good if len(row.vector) != dimension]
    best: dict[Any, tuple[Row, str, int]] = {}
    for entry in sorted((entry for entry in good if len(entry[0].vector) == dimension), key=lambda e: preference(*e)):
        row, name, number = entry
        if row.id in best:
            bad.append((name, number, row.id, "duplicate_id"))
        else:
            best[row.id] = entry
    key = (lambda i: i.encode()) if any(isinstance(i, str) for i in best) else (lambda i: i)
    ordered = sorted(best, key=key)
    return [best[i][0] for i in ordered], sorted(bad, key=lambda entry: entry[:2])


# --- inputs ---------------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -2.5, 3.0]),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e300, 1e-300, 1e-25, 1e-20, 3e19, 1e-44, None]),
    st.floats(-10, 10, width=32),
)
plain = st.lists(st.floats(-4, 4, width=16).filter(bool), min_size=2, max_size=2)
vectors = st.one_of(plain, plain, st.none(), st.lists(numbers, max_size=4))
times = st.one_of(st.none(), st.integers(0, 3), st.sampled_from([FIRST_US - 1, FIRST_US, LAST_US, LAST_US + 1]))
importances = st.one_of(st.none(), st.floats(0, 1, width=32), st.sampled_from([-0.0, -0.1, 1.5, math.nan, 1 + 1e-12]))
texts = st.one_of(st.none(), st.sampled_from(["", "a", "b", "é"]))
evergreen = st.one_of(st.none(), st.booleans())
int_ids = st.one_of(st.none(), st.integers(-3, 3))
str_ids = st.one_of(st.none(), st.sampled_from(["", "a", "B", "z", "é", "\U0001f600", "\uffee"]))


def files_of(ids: st.SearchStrategy[Any]) -> st.SearchStrategy[list[File]]:
    row = st.builds(Row, ids, vectors, times, importances, texts, evergreen)
    # before release 26, pyarrow cannot read back null rows of a fixed-size list from Parquet: the file is refused
    fixed_vectors = plain | st.none() if int(pa.__version__.split(".")[0]) >= 26 else plain
    narrow = st.builds(Row, ids, fixed_vectors, times, importances, texts, evergreen)
    containers = st.sampled_from(["parquet", "file", "stream"])
    floats = st.sampled_from(["f2", "f4", "f8", "f8"])
    loose = st.builds(File, st.lists(row, max_size=12), containers, st.sampled_from(["list", "large"]), floats)
    fixed = st.builds(File, st.lists(narrow, max_size=12), containers, st.sampled_from(["fixed", "tensor"]), floats)
    return st.lists(st.one_of(loose, loose, fixed), min_size=1, max_size=3)


def write(file: File, path: Path) -> None:
    floats = pa.from_numpy_dtype(np.dtype(file.floats))
    kinds = {"list": pa.list_(floats), "large": pa.large_list(floats), "fixed": pa.list_(floats, 2)}
    held = [v and [None if x is None else np.dtype(file.floats).type(x) for x in v] for v in file.vectors()]
    column = pa.array(held, kinds.get(file.layout, kinds["fixed"]))
    if file.layout == "tensor":
        column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(floats, [2]), column)
    strings = any(isinstance(row.id, str) for row in file.rows)
    columns = {
        "id": pa.array([row.id for row in file.rows], pa.string() if strings else pa.int16()),
        "vector": column,
        "time": pa.array([row.time for row in file.rows], pa.int64()).cast(pa.timestamp("us")),
        "importance": pa.array([row.importance for row in file.rows], pa.float64()),
        "evergreen": pa.array([row.evergreen for row in file.rows], pa.bool_()),
        "text": pa.array([row.text for row in file.rows], pa.string()),
    }
    table = pa.table(columns)
    if file.container == "parquet":
        pq.write_table(table, path, row_group_size=5)
    else:
        writer = pa.ipc.new_file if file.container == "file" else pa.ipc.new_stream
        with writer(str(path), table.schema) as sink:
            sink.write_table(table, max_chunksize=5)


def contents(episodes: Episodes) -> list[tuple[Any, ...]]:
    texts = [None] * len(episodes) if episodes.texts is None else episodes.texts.to_pylist()
    times = episodes.times.cast(pa.int64()).to_pylist()
    scalars = [episodes.importances.tolist(), episodes.evergreen.tolist()]
    columns = [episodes.ids.to_pylist(), map(bytes, episodes.vectors), times, *scalars, texts]
    return list(zip(*columns, strict=True))


def expected(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [
        (r.id, np.array(r.vector, np.float32).tobytes(), r.time, importance_of(r), bool(r.evergreen), r.text)
        for r in rows
    ]


# --- the tests ------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(files=st.one_of(files_of(int_ids), files_of(str_ids)), ask=st.booleans())
def test_reading_agrees_with_the_oracle(files: list[File], ask: bool) -> None:
    if any(isinstance(row.id, str) for file in files for row in file.rows):
        anchor = Row("a", [1.0, 1.0], None, None, None)  # so that every file has string ids
        files = [replace(file, rows=[*file.rows, anchor]) for file in files]
    dimension = 2 if ask else None
    with tempfile.TemporaryDirectory() as folder:
        named = {str(Path(folder, f"{i}.parquet")): file for i, file in enumerate(files)}
        for name, file in named.items():
            write(file, Path(name))
        episodes, quarantine = read_episodes(folder, dimension=dimension)
    rows, bad = read_slowly(named, dimension)
    assert contents(episodes) == expected(rows)
    records = quarantine.table.select(["file", "row_number", "episode_id", "reason"]).to_pylist()
    assert [tuple(record.values()) for record in records] == [
        (name, number, None if i is None else str(i), reason) for name, number, i, reason in bad
    ]
    assert episodes.vectors.flags.c_contiguous
    assert episodes.vectors.flags.owndata


@settings(max_examples=60, deadline=None)
@given(files=files_of(int_ids), seed=st.integers(0, 2**32))
def test_row_order_and_the_split_into_files_make_no_difference(files: list[File], seed: int) -> None:
    rng = random.Random(seed)
    rows = list(itertools.chain.from_iterable(file.rows for file in files))
    results = []
    for _ in range(2):
        rng.shuffle(rows)
        cut = rng.randint(0, len(rows))
        with tempfile.TemporaryDirectory() as folder:
            write(File(rows[:cut], "parquet", "list", "f8"), Path(folder, "a.parquet"))
            write(File(rows[cut:], "stream", "large", "f8"), Path(folder, "b.arrow"))
            episodes, quarantine = read_episodes(folder)
        reasons = quarantine.table.select(["episode_id", "reason"]).to_pylist()
        results.append((contents(episodes), sorted(map(str, reasons)), quarantine.counts()))
    assert results[0] == results[1]


good_rows = st.lists(
    st.builds(Row, st.integers(0, 12), plain, st.none() | st.integers(0, 1), st.sampled_from([0.5, 1.0]), texts),
    max_size=10,
    unique_by=lambda row: row.id,
)


def episodes_of(rows: list[Row], *, strings: bool, with_texts: bool) -> Episodes:
    rows = sorted(rows, key=lambda row: str(row.id) if strings else row.id)
    ids = [str(row.id) if strings else row.id for row in rows]
    return Episodes(
        ids=pa.array(ids, pa.large_string() if strings else pa.int64()),
        vectors=np.array([row.vector for row in rows], np.float32).reshape(-1, 2),
        times=pa.array([row.time for row in rows], pa.int64()).cast(pa.timestamp("us", "UTC")),
        importances=np.array([row.importance for row in rows], np.float32),
        evergreen=np.array([bool(row.evergreen) for row in rows], np.bool_),
        texts=pa.array([row.text for row in rows], pa.large_string()) if with_texts else None,
    )


@settings(max_examples=200, deadline=None)
@given(
    old=good_rows,
    new=good_rows,
    repeated=st.data(),
    strings=st.booleans(),
    texts=st.tuples(st.booleans(), st.booleans()),
)
def test_leaving_out_agrees_with_the_oracle(
    old: list[Row], new: list[Row], repeated: st.DataObject, strings: bool, texts: tuple[bool, bool]
) -> None:
    again = repeated.draw(st.lists(st.sampled_from(old), unique_by=lambda row: row.id)) if old else []
    new = [*again, *(row for row in new if row.id not in {row.id for row in again})]
    stored = episodes_of(old, strings=strings, with_texts=texts[0])
    fresh = episodes_of(new, strings=strings, with_texts=texts[1])
    left, quarantine = leave_out_stored(stored, fresh)
    known = {entry[0]: entry for entry in contents(stored)}
    conflicts = [str(entry[0]) for entry in contents(fresh) if known.get(entry[0], entry) != entry]
    assert contents(left) == [entry for entry in contents(fresh) if entry[0] not in known]
    assert (left.texts is None) == (not texts[1])
    assert quarantine.table["episode_id"].to_pylist() == sorted(conflicts)
    assert set(quarantine.table["reason"].to_pylist()) <= {"conflicting_id"}
    assert left.ids.type == stored.ids.type
    assert left.vectors.dtype == np.float32


def test_episodes_of_another_kind_are_refused() -> None:
    rows = [Row(1, [1.0, 2.0], None, 1.0, None)]
    numbered, named = (episodes_of(rows, strings=strings, with_texts=False) for strings in (False, True))
    with pytest.raises(SchemaError, match="stored episodes have int64 ids, new ones large_string ids"):
        leave_out_stored(numbered, named)
    wide = replace(numbered, vectors=np.ones((1, 3), np.float32))
    with pytest.raises(SchemaError, match="stored vectors have 2 elements, new ones 3"):
        leave_out_stored(numbered, wide)


def test_an_unknown_dimension_agrees_with_any() -> None:
    some = episodes_of([Row(1, [1.0, 2.0], None, 1.0, "x")], strings=False, with_texts=True)
    none = replace(episodes_of([], strings=False, with_texts=False), vectors=np.empty((0, 0), np.float32))
    for (fresh, quarantine), expected_rows in (
        (leave_out_stored(none, some), contents(some)),
        (leave_out_stored(some, none), []),
    ):
        assert contents(fresh) == expected_rows
        assert len(quarantine) == 0


def test_a_conflict_names_what_differs() -> None:
    stored = episodes_of([Row(1, [1.0, 2.0], None, 1.0, "x")], strings=False, with_texts=True)
    new = episodes_of([Row(1, [1.0, 3.0], 5, 1.0, "x")], strings=False, with_texts=True)
    _, quarantine = leave_out_stored(stored, new)
    assert quarantine.table.to_pylist() == [
        {
            "file": None,
            "row_number": None,
            "episode_id": "1",
            "reason": "conflicting_id",
            "detail": "differs from the stored episode in vector, time",
        }
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"time": None},
        {"time": 8},
        {"importance": 0.6},
        {"evergreen": True},
        {"vector": [1.0, -0.0]},
        {"text": None},
        {"text": "y"},
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_of_two_rows_with_one_id_the_smaller_is_kept(tmp_path: Path, change: dict[str, Any], first: bool) -> None:
    kept = Row(1, [1.0, 0.0], 7, 0.5, "x")
    rows = [replace(kept, **change), kept]
    write(File(rows[::-1] if first else rows, "parquet", "list", "f8"), tmp_path / "a.parquet")
    episodes, quarantine = read_episodes(tmp_path)
    assert contents(episodes) == expected([kept])
    assert quarantine.table["row_number"].to_pylist() == [int(first)]


def test_the_sign_of_zero_is_content_of_a_vector_alone(tmp_path: Path) -> None:
    stored = episodes_of([Row(1, [1.0, 0.0], None, 0.0, None)], strings=False, with_texts=False)
    write(File([Row(1, [1.0, -0.0], None, -0.0, None)], "parquet", "list", "f8"), tmp_path / "a.parquet")
    new, _ = read_episodes(tmp_path)
    assert not np.signbit(new.importances).any()
    _, quarantine = leave_out_stored(stored, new)
    assert quarantine.table["detail"].to_pylist() == ["differs from the stored episode in vector"]
