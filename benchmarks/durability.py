"""Durable bindings beside SQLite: ``python -m benchmarks.durability`` writes to ``results.md``."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Figure, of_turns
from benchmarks.stores import commit_concepts
from benchmarks.suite import Part, Suite
from cluster_engine.shards.durable import DurableShards
from cluster_engine.shards.mutation import Mutation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Batch = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

_TURNS, _TURN_S = 5, 0.4
_RESIDENT = 100_000  # bindings that are there
_LOGGED = 2_000  # batches that a start replays


def _store(path: Path) -> Path:
    """Commit a version with resident bindings."""
    number = np.arange(_RESIDENT)
    halves = np.full(_RESIDENT, 0.5, np.float32)
    commit_concepts(path, np.ones((1, 4), np.float32), number // 50, number, halves)
    return path


def _batch(rng: np.random.Generator, size: int) -> Batch:
    number = rng.choice(_RESIDENT, size, replace=False)
    return number // 50, number, rng.random(size, np.float32)


def _batches(seed: int, size: int) -> Iterator[Batch]:
    """Yield batches of the same bindings and other strengths: SQLite writes no page that stays as it is."""
    rng = np.random.default_rng(seed)
    concepts, episodes, _ = _batch(rng, size)
    while True:
        yield concepts, episodes, rng.random(size, np.float32)


def _sqlite(path: Path) -> sqlite3.Connection:
    """Return a database of the same bindings that syncs at every commit."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE bindings (concept, episode, strength, PRIMARY KEY (concept, episode)) WITHOUT ROWID")
    number = np.arange(_RESIDENT)
    rows = zip((number // 50).tolist(), number.tolist(), [0.5] * _RESIDENT, strict=True)
    database.execute("BEGIN")
    database.executemany("INSERT INTO bindings VALUES (?, ?, ?)", rows)
    database.execute("COMMIT")
    return database


def _commit(database: sqlite3.Connection, batch: Batch) -> None:
    rows = zip(batch[2].tolist(), batch[0].tolist(), batch[1].tolist(), strict=True)
    database.execute("BEGIN IMMEDIATE")
    database.executemany("UPDATE bindings SET strength = ? WHERE concept = ? AND episode = ?", rows)
    database.execute("COMMIT")


def _seconds_a_batch(apply: Callable[[int], object], threads: int) -> float:
    """Return seconds a batch when so many threads send one after the other for a turn."""
    counts, end = [0] * threads, time.perf_counter() + _TURN_S
    start = time.perf_counter()

    def send(thread: int) -> None:
        while time.perf_counter() < end:
            apply(thread)
            counts[thread] += 1

    senders = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return (time.perf_counter() - start) / sum(counts)


def acknowledged(divide: int) -> list[Figure]:
    """Strengths of known bindings, each batch on disk before the next of its thread."""
    del divide  # a turn takes its time whatever the size
    figures = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        shards = DurableShards(_store(Path(scratch) / "store"), life=1)
        database, one_writer = _sqlite(Path(scratch) / "peer.sqlite"), threading.Lock()
        operations = iter(range(1, 10**9))
        for size, threads in ((1, 1), (1, 8), (100, 1), (100, 8), (10_000, 1)):
            batches = [_batches(thread, size) for thread in range(threads)]

            def engine(thread: int, batches: list[Iterator[Batch]] = batches) -> None:
                shards.change(Mutation.of("set_strengths", *next(batches[thread])), next(operations))

            def peer(thread: int, batches: list[Iterator[Batch]] = batches) -> None:
                with one_writer:
                    _commit(database, next(batches[thread]))

            turns: dict[str, list[float]] = {"cluster-engine": [], "SQLite, WAL, synchronous=FULL": []}
            for _ in range(_TURNS):
                for (_, times), call in zip(turns.items(), (engine, peer), strict=True):
                    times.append(_seconds_a_batch(call, threads))
            row: dict[str, str | int] = {"bindings a batch": size, "threads": threads}
            figures += [of_turns(row, name, times) for name, times in turns.items()]
        shards.close()
        database.close()
    return figures


def replay(divide: int) -> list[Figure]:
    """A start: a version of 100,000 bindings, and a log of batches after it."""
    figures = []
    rng = np.random.default_rng(0)
    for size in (1, 100):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
            store = _store(Path(scratch) / "store")
            shards = DurableShards(store, life=1)
            turns = {"version alone": _starts(shards, store)}
            shards = DurableShards(store, life=1)
            for op_id in range(_LOGGED // divide):
                shards.change(Mutation.of("set_strengths", *_batch(rng, size)), op_id)
            turns[f"with {_LOGGED // divide} batches in the log"] = _starts(shards, store)
            figures += [of_turns({"bindings a batch": size}, name, times) for name, times in turns.items()]
    return figures


def _starts(shards: DurableShards, store: Path) -> list[float]:
    """Close shards, and return seconds of several starts."""
    turns = []
    for _ in range(_TURNS):
        shards.close()
        start = time.perf_counter()
        shards = DurableShards(store, life=1)
        turns.append(time.perf_counter() - start)
    shards.close()
    return turns


SUITE = Suite(
    "durability",
    "Durable bindings",
    "Strengths of 100,000 bindings are set in batches; a batch is on disk when it is acknowledged. In process, no Ray.",
    {
        "acknowledged": Part("A batch of set strengths, until it is on disk", acknowledged),
        "replay": Part("A start after a crash", replay),
    },
)

if __name__ == "__main__":
    SUITE.main()
