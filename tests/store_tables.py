"""The tables of a version, as small as the store takes them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TIME = pa.timestamp("us", "UTC")
AS_OF = dt.datetime(2026, 11, 22, 2, tzinfo=dt.timezone.utc)


def vectors(values: NDArray[np.floating]) -> pa.Array:
    """Return (n, d) numbers as a column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def episode_rows(ids: Sequence[int], seed: int = 0, dimension: int = 2) -> pa.Table:
    """Return episodes with random vectors."""
    values = np.random.default_rng(seed).standard_normal((len(ids), dimension), np.float32)
    return pa.table({"episode_id": pa.array(ids, pa.int64()), "vector": vectors(values)})


def journal_rows(cycle: int, concept_ids: Sequence[int]) -> pa.Table:
    """Return rows that say that concepts were born."""
    n = len(concept_ids)
    return pa.table(
        {
            "cycle": pa.array([cycle] * n, pa.int64()),
            "as_of": pa.array([AS_OF] * n, TIME),
            "concept_id": pa.array(concept_ids, pa.int64()),
            "kind": pa.array(["born"] * n, pa.string()),
        }
    )


def version_tables(number: int = 1, report: float = 0.0) -> dict[str, pa.Table]:
    """Return all tables of a version with one concept of one episode, which differ by a number."""
    one = np.ones((1, 2), np.float32)
    return {
        "bindings": pa.table(
            {
                "concept_id": [number],
                "episode_id": [number],
                "strength": pa.array([1.0], pa.float32()),
                "initial": pa.array([1.0], pa.float32()),
                "touched": pa.array([AS_OF], TIME),
            }
        ),
        "concepts": pa.table({"concept_id": [number], "state": ["active"], "centroid": vectors(one)}),
        "cycle": pa.table({"cycle": [number], "as_of": pa.array([AS_OF], TIME)}),
        "episodes": episode_rows([number]),
        "hierarchy": pa.table(
            {
                **{name: pa.array([], pa.int64()) for name in ("node_id", "left_id", "right_id", "n_episodes")},
                "distance": pa.array([], pa.float64()),
            }
        ),
        "journal": journal_rows(number, [number]),
        "moments": pa.table({"concept_id": [number], "weight": [1.0], "sum": vectors(one.astype(np.float64))}),
        "quarantine": pa.table({"file": [f"{number}.parquet"]}),
        "report": pa.table({"seconds": [report]}),
    }
