"""A small store with bindings, histories of mutations of them, and a dictionary that does what these say."""

from __future__ import annotations

import datetime as dt
import random
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from store_tables import AS_OF, TIME, vectors, version_tables

from cluster_engine.shards.mutation import Mutation
from cluster_engine.store.commit import commit_version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Pair = tuple[int, "int | str"]
Seen = tuple[dict[Pair, float], dict[int, tuple[int, int]], dict[int, tuple[float, ...]]]
"""Strengths, how often and when last activated, and centroids that were set."""


def binding_store(path: Path, bindings: Mapping[Pair, float], concept_ids: range = range(8)) -> Path:
    """Commit a version with these bindings, and concepts with centroids of dimension 4."""
    centroids = np.random.default_rng(0).standard_normal((len(concept_ids), 4)).astype(np.float32)
    pairs = sorted(bindings)
    episode_ids = [episode for _, episode in pairs]
    strings = any(isinstance(episode, str) for episode in episode_ids)
    strengths = pa.array([bindings[pair] for pair in pairs], pa.float32())
    tables = version_tables()
    tables["concepts"] = pa.table(
        {
            "concept_id": pa.array(list(concept_ids), pa.int64()),
            "state": ["active"] * len(concept_ids),
            "centroid": vectors(centroids),
        }
    )
    tables["bindings"] = pa.table(
        {
            "concept_id": pa.array([concept for concept, _ in pairs], pa.int64()),
            "episode_id": pa.array(episode_ids, pa.large_string() if strings else pa.int64()),
            "strength": strengths,
            "initial": strengths,
            "touched": pa.array([AS_OF - dt.timedelta(days=1) for _ in pairs], TIME),
        }
    )
    bound = sorted({concept for concept, _ in pairs})
    sums = np.zeros((len(bound), 4))
    tables["moments"] = pa.table(
        {"concept_id": pa.array(bound, pa.int64()), "weight": np.ones(len(bound)), "sum": vectors(sums)}
    )
    commit_version(path, tables)
    return path


FIRST = {(0, 10): 0.5, (0, 11): 0.25, (1, 10): 1.0, (5, 12): 0.125}


class Model:
    """What a history leaves: strengths by pair, activations and centroids by concept."""

    def __init__(self) -> None:
        self.strengths = {pair: np.float32(value) for pair, value in FIRST.items()}
        self.activations: dict[int, list[int]] = {}
        self.centroids: dict[int, tuple[float, ...]] = {}

    def apply(self, mutation: Mutation) -> None:
        if mutation.kind == "decay":
            factor = np.float32(2.0 ** -(mutation.arguments["dt_s"] / mutation.arguments["half_life_s"]))
            self.strengths = {pair: value * factor for pair, value in self.strengths.items()}
            return
        if mutation.kind == "set_centroids":
            concepts, vectors = (column.tolist() for column in mutation.columns)
            self.centroids |= dict(zip(concepts, map(tuple, vectors), strict=True))
            return
        if mutation.kind == "activate":
            for concept in mutation.columns[0].tolist():
                self.activations.setdefault(concept, []).append(mutation.arguments["at"])
            return
        pairs = list(zip(*(column.tolist() for column in mutation.columns[:2]), strict=True))
        if mutation.kind == "unbind":
            for pair in pairs:
                del self.strengths[pair]
            for concept in set(self.activations) - {concept for concept, _ in self.strengths}:
                del self.activations[concept]
        for pair, value in zip(pairs, mutation.columns[2] if len(mutation.columns) > 2 else (), strict=False):
            before = self.strengths.get(pair, np.float32(0)) if mutation.kind == "add_strengths" else np.float32(0)
            self.strengths[pair] = np.clip(before + value, np.float32(0), np.float32(1))

    def as_seen(self) -> Seen:
        activated = {concept: (len(times), max(times)) for concept, times in self.activations.items()}
        return {pair: float(value) for pair, value in self.strengths.items()}, activated, dict(self.centroids)


def random_mutation(rng: random.Random, model: Model) -> Mutation:
    known = sorted(model.strengths)
    some = rng.sample(known, min(len(known), rng.randrange(1, 4)))
    kind = rng.choice(
        ["bind", "bind", "set_strengths", "add_strengths", "unbind", "decay", "activate", "set_centroids"]
    )
    if kind == "set_centroids":
        concepts = rng.sample(range(40), rng.randrange(1, 4))
        return Mutation.of(kind, concepts, [[rng.randrange(1, 65) / 64 for _ in range(4)] for _ in concepts])
    if kind == "decay" or not known:
        return Mutation.of("decay", half_life_s=rng.choice([1.0, 2.0]), dt_s=rng.choice([1.0, 2.0]))
    if kind == "activate":
        return Mutation.of("activate", [pair[0] for pair in some], at=rng.randrange(10**6))
    if kind == "bind":
        some = list({(rng.randrange(40), rng.randrange(10, 20)): 0 for _ in range(rng.randrange(1, 6))})
    values = [[rng.randrange(65) / 64 for _ in some]] if kind != "unbind" else []
    return Mutation.of(kind, [pair[0] for pair in some], [pair[1] for pair in some], *values)


def make_history(seed: int, n_mutations: int) -> list[Mutation]:
    rng, model = random.Random(seed), Model()
    history = []
    for _ in range(n_mutations):
        history.append(random_mutation(rng, model))
        model.apply(history[-1])
    return history
