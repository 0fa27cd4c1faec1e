"""Cycles of a store: ``python -m benchmarks.cycles`` writes to ``results.md``.

One cycle of a store that has many episodes, and a cycle a day for five years.

For the one, the store is made once, by a batch of its own; then each run folds the same new episodes into a copy of it,
in a process of its own, so that its peak of memory is known. Seconds are those of the call, with the start of a local
Ray and of its actors; the steps are in the report of the batch.
"""

from __future__ import annotations

import shutil
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import cluster_engine as ce
from benchmarks.contest import in_process, peak_bytes
from benchmarks.figures import Figure, of_turns
from benchmarks.machine import environment, n_cpus, vector_isas
from benchmarks.suite import Part, Suite
from cluster_engine.config import Config, CutConfig, LeaseConfig, RebuildConfig, RetireConfig
from cluster_engine.shards.pool import connected

if TYPE_CHECKING:
    from numpy.typing import NDArray

_D = 768
_TURNS = 3
_SETTINGS = Config(
    cut=CutConfig(distance=0.25), rebuild=RebuildConfig(most_episodes=50_000), lease=LeaseConfig(wait_s=0)
)
_DAILY = Config(
    cut=CutConfig(distance=0.4), rebuild=RebuildConfig(most_episodes=2_000), retire=RetireConfig(idle_cycles=30)
)
_FIRST_DAY = datetime(2020, 1, 1, tzinfo=timezone.utc)


def groups(n: int, n_groups: int, seed: int) -> NDArray[np.float32]:
    """Return unit vectors in groups of 20 topics: similarities about 0.86 in a group, 0.57 in a topic, 0 elsewhere.

    One in ten is noise that belongs nowhere.
    """
    centres = np.random.default_rng(0)
    topics, parts = centres.standard_normal((20, _D)), centres.standard_normal((n_groups, _D))
    rng = np.random.default_rng(seed)
    of = rng.integers(n_groups, size=n)
    points = topics[of % 20] + 0.7 * parts[of] + 0.5 * rng.standard_normal((n, _D))
    alone = rng.random(n) < 0.1
    points[alone] = rng.standard_normal((int(alone.sum()), _D))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def write(path: Path, vectors: NDArray[np.float32], first_id: int) -> Path:
    n = len(vectors)
    columns = {
        "id": pa.array(np.arange(first_id, first_id + n)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), _D),
        "text": pa.array(
            [f"episode {i} of some words that say what it is about" for i in range(first_id, first_id + n)]
        ),
    }
    pq.write_table(pa.table(columns), path)
    return path


def contest(contender: str, store: str, episodes: str) -> dict[str, Any]:
    """Fold the episodes into the store once."""
    del contender
    start_s = time.perf_counter()
    report = ce.consolidate(episodes, store, _SETTINGS)
    spent_s = time.perf_counter() - start_s
    return {
        "turns_s": [spent_s],
        "peak_bytes": peak_bytes(),
        "steps": {name: round(spent.seconds, 3) for name, spent in report.spent.items()},
        "n_concepts": report.n_concepts,
        "changes": report.changes,
    }


def fold(divide: int) -> list[Figure]:
    """Fold 10,000 episodes into 100,000 with 2,000 concepts."""
    n, n_new = 100_000 // divide, 10_000 // divide
    figures = []
    with TemporaryDirectory() as folder:
        directory = Path(folder)
        first = write(directory / "first.parquet", groups(n, 2_000 // divide, seed=1), 0)
        new = write(directory / "new.parquet", groups(n_new, 2_000 // divide, seed=2), n)
        made = ce.consolidate(first, directory / "made", _SETTINGS)
        for isa in vector_isas():
            answers = []
            for turn in range(_TURNS):
                copy = shutil.copytree(directory / "made", directory / f"{isa}-{turn}")
                answers.append(
                    in_process(
                        "benchmarks.cycles:contest",
                        environment(isa, n_cpus()),
                        contender="engine",
                        store=str(copy),
                        episodes=str(new),
                    )
                )
            row: dict[str, str | int] = {"episodes": n, "concepts": made.n_concepts, "new": n_new}
            row |= {"ISA": isa, "threads": n_cpus()}
            row |= {"steps": ", ".join(f"{name} {spent:.2f} s" for name, spent in answers[-1]["steps"].items())}
            turns_s = [answer["turns_s"][0] for answer in answers]
            peak = max(answer["peak_bytes"] for answer in answers)
            figures.append(of_turns(row, "engine", turns_s, peak_bytes=peak))
    return figures


def years(divide: int) -> list[Figure]:
    """Fold a few episodes of 40 topics every day, for five years."""
    rng = np.random.default_rng(1)
    centres, n_episodes, figures, turns_s = rng.standard_normal((40, _D)), 0, [], []
    days = 365 // divide
    with TemporaryDirectory() as folder, connected():
        store, new = Path(folder, "store"), Path(folder, "new.parquet")
        for day in range(5 * days):
            n = int(rng.integers(1, 12))
            vectors = centres[rng.integers(0, 40, n)] + 0.5 * rng.standard_normal((n, _D))
            write(new, vectors.astype(np.float32), n_episodes)
            n_episodes += n
            slot = (_FIRST_DAY + timedelta(days=day)).isoformat()
            start_s = time.perf_counter()
            report = ce.consolidate(new, store, _DAILY, slot=slot)
            turns_s.append(time.perf_counter() - start_s)
            if (day + 1) % days == 0:
                files = [path for path in store.rglob("*") if path.is_file()]
                strengths = ce.ConceptStore.open(store).bindings()["strength"].to_numpy()
                row: dict[str, str | int] = {"year": (day + 1) // days, "episodes": report.n_episodes}
                row |= {"concepts": report.n_concepts, "least strength": f"{strengths.min():.3f}", "files": len(files)}
                row["store"] = f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
                row["vectors"] = f"{n_episodes * _D * 4 / 1e6:.1f} MB"
                figures.append(of_turns(row, "engine", turns_s))
                turns_s = []
    return figures


PARTS = {
    "fold": Part("10,000 new episodes of 768 dimensions (mark: 15 s)", fold),
    "years": Part(
        "A cycle a day for five years (marks: no collapse, nothing negative, a bounded store)",
        years,
        note="A store keeps 100 versions. The time is that of a day's cycle: the median of the year's.",
        needs="YEARS",
    ),
}

if __name__ == "__main__":
    note = "Cycles of a store, each with the start of its actors; the first table's with that of a local Ray, too."
    Suite("cycles", "Cycles", note, PARTS).main()
