"""Stores that have concepts and bindings, and of everything else nothing or one row."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from cluster_engine.store.commit import commit_version

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_TIME = pa.timestamp("us", "UTC")


def commit_concepts(
    path: Path,
    centroids: NDArray[np.float32],
    concept_ids: NDArray[np.int64],
    episode_ids: NDArray[np.int64],
    strengths: NDArray[np.float32],
) -> None:
    """Commit concepts 0, 1, ... with these centroids, and bindings of some."""
    n, as_of = len(centroids), datetime(2026, 1, 1, tzinfo=timezone.utc)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(centroids.reshape(-1)), centroids.shape[1])
    none = {"int": pa.array([], pa.int64()), "time": pa.array([], _TIME), "vector": vectors[:0]}
    nodes = ("node_id", "left_id", "right_id", "n_episodes")
    tables = {
        "bindings": {
            "concept_id": concept_ids,
            "episode_id": episode_ids,
            "strength": strengths,
            "initial": strengths,
            "touched": pa.array([as_of] * len(strengths), _TIME),
        },
        "concepts": {"concept_id": np.arange(n), "state": ["active"] * n, "centroid": vectors},
        "cycle": {"cycle": [1], "as_of": pa.array([as_of], _TIME)},
        "episodes": {"episode_id": none["int"], "vector": none["vector"]},
        "hierarchy": {**dict.fromkeys(nodes, none["int"]), "distance": pa.array([], pa.float64())},
        "journal": {
            "cycle": none["int"],
            "as_of": none["time"],
            "concept_id": none["int"],
            "kind": pa.array([], pa.string()),
        },
        "moments": {
            "concept_id": none["int"],
            "weight": pa.array([], pa.float64()),
            "sum": none["vector"].cast(pa.list_(pa.float64(), centroids.shape[1])),
        },
        "quarantine": {"reason": pa.array([], pa.string())},
        "report": {"seconds": [0.0]},
    }
    commit_version(path, {name: pa.table(columns) for name, columns in tables.items()})
