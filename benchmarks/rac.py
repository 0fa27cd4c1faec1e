"""RAC++ in a Python of its own: its wheel was built against numpy before 2, and crashes with later ones."""

from __future__ import annotations

import numpy as np
import racplusplus

from benchmarks.contest import peak_bytes, take_turns, timed

_EVERYTHING = 3.0  # larger than any cosine distance: it merges down to one cluster, and returns no dendrogram


def contest(embeddings: str, turns: int, threads: int) -> dict[str, object]:
    """Cluster embeddings by average linkage under cosine."""
    X = np.load(embeddings)
    labels: list[int] = []

    def cluster() -> None:
        labels[:] = racplusplus.rac(X.astype(np.float64), _EVERYTHING, None, 0, threads, "cosine")

    racplusplus.rac(X[:300].astype(np.float64), _EVERYTHING, None, 0, threads, "cosine")
    before = peak_bytes()
    turns_s = take_turns({"RAC++": timed(cluster)}, turns, warm=True)["RAC++"]
    assert set(labels) == {labels[0]}
    return {"turns_s": turns_s, "peak_bytes": peak_bytes() - before}
