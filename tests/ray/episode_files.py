"""Episodes for the tests: clustered vectors, and files of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def clustered_vectors(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """Return n vectors around n / 20 centres, which themselves lie around five."""
    rng = np.random.default_rng(seed)
    tops = rng.standard_normal((5, d))
    centres = tops[rng.integers(0, 5, max(1, n // 20))] + 0.8 * rng.standard_normal((max(1, n // 20), d))
    return (centres[rng.integers(0, len(centres), n)] + 0.5 * rng.standard_normal((n, d))).astype(np.float32)


def blurred_vectors(n: int) -> NDArray[np.float32]:
    """Return n vectors with duplicates, and so little structure that many lists of neighbours are not certain."""
    rng = np.random.default_rng(7)
    vectors = 0.1 * clustered_vectors(n, 24) + rng.standard_normal((n, 24), dtype=np.float32)
    vectors[1::50] = vectors[::50]
    return vectors


def write_episodes(path: Path, vectors: NDArray[np.float32], order: NDArray[np.int64] | None = None) -> Path:
    """Write episodes in the given row order; ids, times, importances and texts belong to the rows."""
    rows = np.arange(len(vectors)) if order is None else order
    table = pa.table(
        {
            "id": pa.array([f"episode-{row:05d}" for row in rows], pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors[rows].reshape(-1)), vectors.shape[1]),
            "time": pa.array(rows * 1_000_000, pa.timestamp("us", "UTC")),
            "importance": pa.array((rows % 11 / 10).astype(np.float32)),
            "text": pa.array([f"text of {row}" for row in rows], pa.string()),
        }
    )
    pq.write_table(table, path, row_group_size=100)
    return path
