"""Damaged files end in a typed error or in sound episodes, never in a crash, a hang or another exception.

Run as a script, this file is the child process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from mutation import child_outcomes, mutate, report_outcomes

from cluster_engine.data.reading import read_episodes
from cluster_engine.errors import InputError

if TYPE_CHECKING:
    import random


def test_damaged_files_never_crash_the_reader() -> None:
    outcomes = child_outcomes(__file__)
    assert {"EpisodeFileError", "episodes"} <= set(outcomes) <= {"EpisodeFileError", "SchemaError", "episodes"}


def seed_files(folder: Path) -> list[bytes]:
    rng = np.random.default_rng(0)
    n, d = 60, 4
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    lists = pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * d, vectors.ravel())
    fixed = pa.FixedSizeListArray.from_arrays(vectors.ravel().astype(np.float64), d)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(vectors.astype(np.float16))
    names = pa.array([f"episode {i}" for i in range(n)])
    rest = {
        "time": pa.array(np.arange(n), pa.timestamp("ms", "Europe/Paris")),
        "importance": rng.random(n).astype(np.float32),
        "text": pa.array([None if i % 7 == 0 else f"text {i}" for i in range(n)]),
        "unused": rng.random(n),
    }
    tables = [
        pa.table({"id": np.arange(n), "vector": lists, **rest}),
        pa.table({"id": names, "vector": fixed, **rest}),
        pa.table({"id": names.dictionary_encode(), "vector": tensors, **rest}),
    ]
    path = folder / "seed"
    seeds = []
    for table in tables:
        for compression in ("none", "snappy"):
            pq.write_table(table, path, compression=compression, row_group_size=25, write_page_checksum=False)
            seeds.append(path.read_bytes())
        for writer, codec in [(pa.ipc.new_file, None), (pa.ipc.new_stream, None), (pa.ipc.new_file, "lz4")]:
            with writer(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as sink:
                sink.write_table(table, max_chunksize=25)
            seeds.append(path.read_bytes())
    return seeds


def read(path: Path) -> str:
    try:
        episodes, quarantine = read_episodes(path)
    except InputError as error:
        return type(error).__name__ if str(path) in str(error) else f"error that names no file: {error}"
    assert np.isfinite(episodes.vectors).all()
    assert episodes.vectors.shape[0] == len(episodes.ids) == len(episodes.times) == len(episodes.importances)
    assert pc.count_distinct(episodes.ids).as_py() == len(episodes)
    assert all(column.null_count == 0 for column in (quarantine.table["reason"], quarantine.table["row_number"]))
    return "episodes"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mutant.parquet")
        seeds = seed_files(Path(folder))
        for seed in seeds:
            path.write_bytes(seed)
            assert read(path) == "episodes"

        def outcome(number: int, rng: random.Random) -> str:
            path.write_bytes(mutate(seeds[number % len(seeds)], rng))
            return read(path)

        report_outcomes(outcome)


if __name__ == "__main__":
    main()
