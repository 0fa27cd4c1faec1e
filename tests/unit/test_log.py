"""A log comes back as it was written, up to a torn end; damage of what was promised is named."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from crashes import StrikingOs, fail_at
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cluster_engine.errors import StoreCorruptError, StoreError, StoreFormatError
from cluster_engine.store import files
from cluster_engine.store.log import LogFile, LogWriter, Record, create_log, resume_log

if TYPE_CHECKING:
    from pathlib import Path

columns = hnp.arrays(
    st.sampled_from([np.dtype(kind) for kind in ("<i8", "<u8", "<f4", "|u1")]), st.integers(0, 9), elements={}
)
values = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
records = st.builds(
    Record,
    st.text(max_size=8),
    st.dictionaries(st.text(max_size=5), values, max_size=3),
    st.dictionaries(st.text(max_size=5), columns, max_size=3),
)


def as_bytes(record: Record) -> tuple[object, ...]:
    arrays = {name: (column.dtype.str, column.tobytes()) for name, column in record.columns.items()}
    return record.kind, dict(record.fields), arrays


def read(path: Path) -> list[tuple[object, ...]]:
    with LogFile(path) as log:
        return [as_bytes(record) for _, record in log.records()]


def offsets(path: Path) -> list[int]:
    with LogFile(path) as log:
        return [offset for offset, _ in log.records()]


def write(path: Path, given: list[Record], *, sync: bool = True) -> None:
    log = create_log(path, given[:1])
    for record in given[1:]:
        n_bytes = log.append(record)
        if sync:
            log.sync(n_bytes)
    log.close()


def batch(i: int) -> Record:
    return Record("bind", {"op_id": i}, {"concepts": np.arange(i % 5), "strengths": np.full(i % 3, i, np.float32)})


@given(st.lists(records, min_size=1, max_size=5))
def test_records_come_back(tmp_path_factory: pytest.TempPathFactory, given: list[Record]) -> None:
    path = tmp_path_factory.mktemp("log") / "a.log"
    write(path, given)
    assert read(path) == [as_bytes(record) for record in given]


@pytest.mark.parametrize("n_junk", [0, 8, 100])
def test_cut_off_anywhere_the_whole_records_are_read_and_the_log_goes_on(tmp_path: Path, n_junk: int) -> None:
    path, torn = tmp_path / "a.log", tmp_path / "torn.log"
    given = [batch(i) for i in range(6)]
    write(path, given)
    data, starts = path.read_bytes(), offsets(path)
    for n_bytes in range(starts[1], len(data)):
        torn.write_bytes(data[:n_bytes] + b"\1" * n_junk)
        n_whole = sum(end <= n_bytes for end in [*starts[1:], len(data)])
        assert read(torn) == [as_bytes(record) for record in given[:n_whole]]
        with LogFile(torn) as log:
            list(log.records())
        resumed = resume_log(torn, log.n_valid_bytes)
        resumed.sync(resumed.append(batch(9)))
        resumed.close()
        assert read(torn) == [as_bytes(record) for record in [*given[:n_whole], batch(9)]]


def test_damage_before_a_synced_record_is_named_with_its_offset(tmp_path: Path) -> None:
    path, bad = tmp_path / "a.log", tmp_path / "bad.log"
    given = [batch(i) for i in range(5)]
    write(path, given)
    data, starts = path.read_bytes(), offsets(path)
    for at in range(starts[0], len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        bad.write_bytes(damaged)
        offset = max(start for start in starts if start <= at)
        if offset == starts[-1]:  # nothing later vouches for the last record
            assert read(bad) == [as_bytes(record) for record in given[:-1]]
        else:
            with pytest.raises(StoreCorruptError, match=rf"bad\.log, offset {offset}: .*was on disk"):
                read(bad)


def test_damage_among_records_that_were_never_synced_is_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write(path, [batch(i) for i in range(6)], sync=False)
    starts = offsets(path)
    damaged = bytearray(path.read_bytes())
    damaged[starts[3] + 40] ^= 1
    path.write_bytes(damaged)
    assert read(path) == [as_bytes(batch(i)) for i in range(3)]


def test_a_newer_format_is_refused_and_what_is_no_log_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write(path, [batch(1)])
    data = bytearray(path.read_bytes())
    data[6] = 2
    path.write_bytes(data)
    with pytest.raises(StoreFormatError, match=r"a\.log has log format 2, and this code knows formats up to 1"):
        read(path)
    for content in (b"", b"PAR1", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(StoreCorruptError, match=r"a\.log, offset 0: this is not a log"):
            read(path)


def test_ten_thousand_mutants_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write(path, [batch(i) for i in range(12)])
    data, expected = path.read_bytes(), read(path)
    rng = random.Random(0)
    for _ in range(10_000):
        mutant = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(mutant))
            kind = rng.randrange(4)
            if kind == 0:
                mutant[at] = rng.randrange(256)
            elif kind == 1:
                del mutant[at : at + rng.randrange(1, 64)]
            elif kind == 2:
                mutant[at:at] = rng.randbytes(rng.randrange(1, 64))
            else:
                mutant[at:at] = mutant[rng.randrange(len(mutant)) :][: rng.randrange(1, 200)]
            mutant = mutant or bytearray(1)
        path.write_bytes(mutant)
        try:
            found = read(path)
        except (StoreCorruptError, StoreFormatError):
            continue
        assert found == expected[: len(found)]


@pytest.mark.parametrize("name", ["write", "sync"])
def test_a_failed_write_changes_nothing_and_a_failed_sync_ends_the_log(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.log"
    log = create_log(path, [batch(0)])
    with monkeypatch.context() as patch:
        k = 0 if name == "write" else 1
        patch.setattr(files, "os", StrikingOs(fail_at(k, 28, for_good=False, after_the_call=False)))
        with pytest.raises(StoreError, match=r"a\.log.*No space left"):
            log.sync(log.append(batch(1)))
    if name == "write":
        log.sync(log.append(batch(2)))
        assert read(path) == [as_bytes(batch(0)), as_bytes(batch(2))]
    else:
        for call in (lambda: log.append(batch(2)), lambda: log.sync(log.n_bytes)):
            with pytest.raises(StoreError, match="takes nothing more"):
                call()
    log.close()


def test_one_sync_serves_all_that_was_written_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: LogWriter = create_log(tmp_path / "a.log", [batch(0)])
    ends = [log.append(batch(i)) for i in range(5)]
    counting = StrikingOs(lambda _, __, call, args: call(*args))
    monkeypatch.setattr(files, "os", counting)
    for n_bytes in reversed(ends):
        log.sync(n_bytes)
    assert counting.called == ["fdatasync"]
    log.close()
    assert os.path.getsize(tmp_path / "a.log") == ends[-1]  # noqa: PTH202 - the path is made here
