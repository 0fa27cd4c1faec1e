"""A store with some concepts and their centroids, and nothing else of interest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from store_tables import vectors, version_tables

from cluster_engine.store.commit import commit_version

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

IDS = np.array([11, 3, 7, 5, 2**40])
_DIMENSION = 6


def centroids() -> NDArray[np.float32]:
    """Return those of `IDS`, of unit length."""
    x = np.random.default_rng(1).standard_normal((len(IDS), _DIMENSION))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def store_of(path: Path, n_concepts: int) -> Path:
    """Return the path of a store with the first concepts."""
    concepts = pa.table(
        {
            "concept_id": IDS[:n_concepts],
            "state": pa.array(["active"] * n_concepts, pa.string()),
            "centroid": vectors(np.ascontiguousarray(centroids()[:n_concepts])),
            "n_episodes": np.arange(n_concepts),
            "exemplar_ids": pa.array([[i] for i in range(n_concepts)], pa.list_(pa.int64())),
        }
    )
    commit_version(path, version_tables() | {"concepts": concepts})
    return path
