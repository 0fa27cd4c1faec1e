"""Stores as they might be after some cycles, made up: concepts are born, grow, merge, split, retire and come back.

The journal is written as each thing happens, so that tests can compare it with what the tables say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa

import cluster_engine as ce

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
TIME = pa.timestamp("us", "UTC")
SYLLABLES = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]


def day(cycle: int) -> datetime:
    return START + timedelta(days=cycle)


@dataclass
class Life:
    """One concept."""

    members: set[int]
    topic: int
    born: int
    state: str = "proto"
    strength_ppm: int = 20_000
    n_replays: int = 1
    replayed: int = 0


@dataclass
class World:
    """A store that changes cycle by cycle. `tables` is what a version of it would hold now."""

    seed: int = 0
    dimension: int = 8
    n_topics: int = 40
    texts: bool = True
    string_ids: bool = True
    cycle: int = 0
    lives: dict[int, Life] = field(default_factory=dict)
    times: list[int] = field(default_factory=list)  # cycle of each episode
    topics: list[int] = field(default_factory=list)  # of each episode
    journal: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        fields = self.rng.normal(size=(max(2, self.n_topics // 12), self.dimension))
        self.centres = fields[np.arange(self.n_topics) % len(fields)] + 0.6 * self.rng.normal(
            size=(self.n_topics, self.dimension)
        )
        words = self.rng.choice(SYLLABLES, size=(self.n_topics, 4, 3))
        self.words = [["".join(word) for word in topic] for topic in words]

    def write(self, name: int, kind: str, n: int, reason: str, others: tuple[int, ...] = ()) -> None:
        self.journal.append(
            {
                "cycle": self.cycle,
                "as_of": day(self.cycle),
                "slot": f"day {self.cycle}",
                "concept_id": name,
                "kind": kind,
                "other_ids": list(others),
                "n_episodes": n,
                "reason": reason,
            }
        )

    def fresh(self) -> int:
        return int(self.rng.integers(1, 2**63 - 1))

    def episodes(self, n: int, topic: int) -> set[int]:
        first = len(self.times)
        self.times += [self.cycle] * n
        self.topics += [topic] * n
        return set(range(first, first + n))

    def bear(self, n: int) -> int:
        topic = int(self.rng.integers(self.n_topics))
        name = self.fresh()
        self.lives[name] = Life(self.episodes(n, topic), topic, self.cycle, replayed=self.cycle)
        self.write(name, "born", n, f"{n} episodes are alike.")
        return name

    def advance(
        self, births: int = 3, growths: int = 4, merges: int = 1, splits: int = 1, retirements: int = 1
    ) -> None:
        """Run one cycle."""
        self.cycle += 1
        old = list(self.lives)
        for _ in range(births):
            self.bear(int(self.rng.integers(3, 9)))
        for name in self.pick(old, growths):
            life = self.lives[name]
            if life.state == "retired":
                life.state = "active"
                self.write(name, "revived", 0, "Episodes like it came again.")
            n = int(self.rng.integers(1, 4))
            life.members |= self.episodes(n, life.topic)
            life.n_replays += 1
            life.replayed = self.cycle
            life.strength_ppm = min(1_000_000, life.strength_ppm + 20_000)
            self.write(name, "grew", n, f"{n} episodes are close to it.")
            if life.state == "proto" and life.n_replays >= 3:
                life.state = "active"
                self.write(name, "promoted", 0, "Three replays.")
        for _ in range(merges):
            if len(pair := self.pick(list(self.lives), 2)) == 2:
                self.absorb(*pair)
        for name in self.pick([name for name, life in self.lives.items() if len(life.members) >= 6], splits):
            self.split(name)
        for name in self.pick([name for name, life in self.lives.items() if life.state != "retired"], retirements):
            self.lives[name].state = "retired"
            self.write(name, "retired", 0, "Idle for too long.")

    def pick(self, names: list[int], n: int) -> list[int]:
        return [names[i] for i in self.rng.permutation(len(names))[:n].tolist()]

    def absorb(self, kept: int, gone: int) -> None:
        members = self.lives.pop(gone).members
        self.lives[kept].members |= members
        self.write(kept, "merged", len(members), "They mean the same.", (gone,))
        self.write(gone, "absorbed", -len(members), "They mean the same.", (kept,))

    def split(self, name: int) -> None:
        life = self.lives[name]
        half = set(sorted(life.members)[: len(life.members) // 2])
        life.members -= half
        part = self.fresh()
        self.lives[part] = Life(half, life.topic, self.cycle, replayed=self.cycle)
        self.write(part, "split", len(half), "Two themes in one.", (name,))
        self.write(name, "shrank", -len(half), "Two themes in one.")

    def episode_id(self, number: int) -> Any:  # noqa: ANN401  # a string or a number
        return f"e{number:07d}" if self.string_ids else number

    def text(self, number: int) -> str:
        words = self.words[self.topics[number]]
        return f"the {words[number % 4]} and {words[(number + 1) % 4]} of day {self.times[number]}"

    def tables(self) -> dict[str, pa.Table]:
        """Return what a version would hold, in the schemas of docs/store.md."""
        n, now = len(self.times), np.datetime64(day(self.cycle).replace(tzinfo=None), "us")
        noise = np.random.default_rng(self.seed + 1).normal(size=(n, self.dimension))
        vectors = (self.centres[self.topics] + 0.3 * noise).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        episode_ids = [self.episode_id(number) for number in range(n)]
        times = [day(cycle) for cycle in self.times]
        episodes = {
            "episode_id": pa.array(episode_ids),
            "time": pa.array(times, TIME),
            "importance": pa.array([0.5] * n, pa.float32()),
            "evergreen": pa.array([False] * n),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self.dimension),
        }
        if self.texts:
            episodes["text"] = pa.array([self.text(number) for number in range(n)], pa.large_string())
        ordered = sorted(self.lives, key=lambda name: (-len(self.lives[name].members), name))
        lives = [self.lives[name] for name in ordered]
        members = [sorted(life.members) for life in lives]
        sums = np.array([vectors[rows].sum(axis=0, dtype=np.float64) for rows in members]).reshape(-1, self.dimension)
        lengths = np.linalg.norm(sums, axis=1)
        sizes = np.array([len(rows) for rows in members], np.int64)
        coherences = [(x * x - k) / max(1, k * (k - 1)) for x, k in zip(lengths, sizes.tolist(), strict=True)]
        centroids = (sums / lengths[:, None]).astype(np.float32)
        nodes = _hierarchy(ordered, sizes, centroids)
        parents = {side: node["node_id"] for node in nodes for side in (node["left_id"], node["right_id"])}
        exemplars = [rows[:3] for rows in members]
        concepts = {
            "concept_id": pa.array(ordered, pa.int64()),
            "state": pa.array([life.state for life in lives], pa.string()),
            "parent_id": pa.array([parents.get(name) for name in ordered], pa.int64()),
            "n_episodes": pa.array(sizes),
            "coherence": pa.array(coherences, pa.float32()),
            "distance": pa.array([0.2] * len(lives), pa.float64()),
            "strength_ppm": pa.array([life.strength_ppm for life in lives], pa.int64()),
            "n_replays": pa.array([life.n_replays for life in lives], pa.int64()),
            "idle_cycles": pa.array([self.cycle - life.replayed for life in lives], pa.int64()),
            "born_cycle": pa.array([life.born for life in lives], pa.int64()),
            "born_time": pa.array([day(life.born) for life in lives], TIME),
            "replay_time": pa.array([day(life.replayed) for life in lives], TIME),
            "first_time": pa.array([times[rows[0]] for rows in members], TIME),
            "last_time": pa.array([times[rows[-1]] for rows in members], TIME),
            "exemplar_ids": pa.array([[episode_ids[row] for row in rows] for rows in exemplars]),
            "centroid": pa.FixedSizeListArray.from_arrays(pa.array(centroids.reshape(-1)), self.dimension),
        }
        if self.texts:
            texts = [[self.text(row) for row in rows] for rows in exemplars]
            concepts["exemplar_texts"] = pa.array(texts, pa.list_(pa.large_string()))
        bound = sorted((name, row) for name, life in self.lives.items() for row in life.members)
        touched = np.array([np.datetime64(times[row].replace(tzinfo=None), "us") for _, row in bound], "datetime64[us]")
        ages = (now - touched).astype("timedelta64[us]").astype(np.float64) / 86.4e9
        initial = np.random.default_rng(self.seed + 2).uniform(0.6, 1.0, len(bound))
        bindings = {
            "concept_id": pa.array([name for name, _ in bound], pa.int64()),
            "episode_id": pa.array([episode_ids[row] for _, row in bound], pa.array(episode_ids).type),
            "strength": pa.array(initial * np.maximum(0.2, 0.5 ** (ages / 10)), pa.float32()),
            "initial": pa.array(initial, pa.float32()),
            "touched": pa.array(touched, TIME),
        }
        return {
            "episodes": pa.table(episodes),
            "concepts": pa.table(concepts),
            "bindings": pa.table(bindings),
            "hierarchy": pa.Table.from_pylist(nodes, HIERARCHY),
            "journal": pa.Table.from_pylist(self.journal, JOURNAL),
            "cycle": pa.table(
                {
                    "cycle": [self.cycle],
                    "as_of": pa.array([day(self.cycle)], TIME),
                    "cut_distance": [0.4],
                    "cut_episodes": [n],
                    "mean_similarity": [0.1],
                    "rules": ["0" * 64],
                }
            ),
            "quarantine": pa.table(
                {
                    "file": pa.array(["a.parquet", "a.parquet", None], pa.large_string()),
                    "row_number": pa.array([3, 17, None], pa.int64()),
                    "episode_id": pa.array(["bad", None, "e0000001"], pa.large_string()),
                    "reason": pa.array(["not_a_number", "null_id", "conflicting_id"], pa.large_string()),
                    "detail": pa.array(["element 2 is NaN", "the id is null", "other content"], pa.large_string()),
                }
            ),
            "report": pa.table(
                {"engine_version": ["0"], "read_s": [1.5], "concepts_s": [0.25], "peak_memory_bytes": [1 << 30]}
            ),
        }


HIERARCHY = pa.schema(
    [
        ("node_id", pa.int64()),
        ("left_id", pa.int64()),
        ("right_id", pa.int64()),
        ("distance", pa.float64()),
        ("n_episodes", pa.int64()),
    ]
)
JOURNAL = pa.schema(
    [
        ("cycle", pa.int64()),
        ("as_of", TIME),
        ("slot", pa.string()),
        ("concept_id", pa.int64()),
        ("kind", pa.string()),
        ("other_ids", pa.list_(pa.int64())),
        ("n_episodes", pa.int64()),
        ("reason", pa.string()),
    ]
)


def _hierarchy(names: list[int], sizes: np.ndarray[Any, Any], centroids: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Join the concepts, one node a merge."""
    if len(names) < 2:
        return []
    ids, counts, nodes = list(names), sizes.tolist(), []
    for number, (a, b, distance, _) in enumerate(ce.linkage(centroids, method="average", metric="cosine")):
        ids.append(number + 1)
        counts.append(counts[int(a)] + counts[int(b)])
        nodes.append(
            {
                "node_id": number + 1,
                "left_id": ids[int(a)],
                "right_id": ids[int(b)],
                "distance": float(distance),
                "n_episodes": counts[-1],
            }
        )
    return nodes


def make_world(n_cycles: int = 12, **settings: Any) -> World:  # noqa: ANN401  # fields of a World
    """Return a world after some cycles."""
    world = World(**settings)
    for _ in range(n_cycles):
        world.advance()
    return world
