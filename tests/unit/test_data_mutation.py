"""Damaged files end in a typed error or in sound episodes, never in a crash, a hang or another exception.

Run as a script, this file is the child process: a crash of the reader must not take the test runner with it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster_engine.data.reading import read_episodes
from cluster_engine.errors import InputError

N_MUTANTS = int(os.environ.get("CLUSTER_ENGINE_MUTANTS", "300"))
SEED = int(os.environ.get("CLUSTER_ENGINE_MUTANT_SEED", "0"))
TIMEOUT_S = 30 + N_MUTANTS // 10


def test_damaged_files_never_crash_the_reader() -> None:
    child = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", __file__],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert child.returncode == 0, f"last mutant {child.stdout.splitlines()[-1:]}\n{child.stderr[-4000:]}"
    outcomes = json.loads(child.stdout.splitlines()[-1])
    assert sum(outcomes.values()) == N_MUTANTS
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


def mutate(data: bytes, rng: random.Random) -> bytes:
    mutant = bytearray(data)
    kind = rng.choice(("flip", "flip", "flip metadata", "truncate", "fill", "repeat"))
    if kind == "truncate":
        return bytes(mutant[: rng.randrange(len(mutant))])
    start = rng.randrange(len(mutant))
    size = rng.choice((1, 4, 8, 64))
    if kind == "fill":
        mutant[start : start + size] = rng.choice((b"\x00", b"\xff", b"\x7f")) * size
    elif kind == "repeat":
        mutant[start:start] = mutant[start : start + size]
    else:
        lowest = 2 * len(mutant) // 3 if kind == "flip metadata" else 0
        for _ in range(rng.choice((1, 1, 2, 8))):
            mutant[rng.randrange(lowest, len(mutant))] ^= 1 << rng.randrange(8)
    return bytes(mutant)


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
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # a lying size fails here instead of filling the machine
    rng = random.Random(SEED)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mutant.parquet")
        seeds = seed_files(Path(folder))
        for seed in seeds:
            path.write_bytes(seed)
            assert read(path) == "episodes"
        for number in range(N_MUTANTS):
            print("mutant", number, flush=True)  # noqa: T201 says which one when the process dies
            path.write_bytes(mutate(seeds[number % len(seeds)], rng))
            outcomes[read(path)] += 1
    print(json.dumps(outcomes))  # noqa: T201 the result


if __name__ == "__main__":
    main()
