"""Average linkage under cosine, float32 embeddings to dendrogram: this engine and its peers, each at its best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fastcluster
import numpy as np
from scipy.cluster import hierarchy
from sklearn.cluster import AgglomerativeClustering

import cluster_engine as ce

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Contender = Callable[[NDArray[np.float32]], NDArray[np.float64]]

_BLOCK_ROWS = 512


def mixture(n: int, d: int, seed: int) -> NDArray[np.float32]:
    """Return a hierarchical mixture: 20 topics, in each 10 subtopics, in each its share of points.

    A point is topic + 0.7 subtopic + 0.5 noise, all standard normal, as unit vectors. So similarities are about 0.86
    within a subtopic, 0.57 within a topic and 0 between topics.
    """
    rng = np.random.default_rng(seed)
    topics, subtopics = rng.standard_normal((20, d)), rng.standard_normal((200, d))
    of = rng.integers(200, size=n)
    points = topics[of // 10] + 0.7 * subtopics[of] + 0.5 * rng.standard_normal((n, d))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def iid(n: int, d: int, seed: int) -> NDArray[np.float32]:
    """Return independent standard normal vectors: no structure at all."""
    return np.random.default_rng(seed).standard_normal((n, d), np.float32)


def engine(X: NDArray[np.float32]) -> NDArray[np.float64]:
    return ce.linkage(X, "average", "cosine")


def scipy_alone(X: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(hierarchy.linkage(X, "average", "cosine"))


def cone(n: int, d: int, seed: int) -> NDArray[np.float32]:
    """Return a blob and ever farther outliers, each joining all that came before it: hard for reciprocal pairs."""
    rng = np.random.default_rng(seed)
    angles = np.concatenate((np.full(n // 2, 0.02), np.geomspace(0.05, 1.5, n - n // 2)))[:, np.newaxis]
    away = rng.standard_normal((n, d))
    away[:, 0] = 0
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return np.asarray(np.cos(angles) * np.eye(1, d) + np.sin(angles) * away, np.float32)


def condensed_distances(X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return condensed float64 cosine distances, filled from blocks of a float32 matrix product."""
    n = len(X)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    condensed = np.empty(n * (n - 1) // 2)
    end = 0
    for start in range(0, n, _BLOCK_ROWS):
        similarities = unit[start : start + _BLOCK_ROWS] @ unit[start:].T
        for i, row in enumerate(similarities):
            begin, end = end, end + n - 1 - start - i
            np.subtract(1.0, row[i + 1 :], out=condensed[begin:end])
    return np.maximum(condensed, 0.0, out=condensed)


def sgemm_fastcluster(X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cluster in place the distances from a matrix product."""
    return np.asarray(fastcluster.linkage(condensed_distances(X), "average", preserve_input=False))


def scikit_learn(X: NDArray[np.float32]) -> NDArray[np.float64]:
    model = AgglomerativeClustering(
        n_clusters=None, distance_threshold=0, metric="cosine", linkage="average", compute_full_tree=True
    ).fit(X)
    z = np.zeros((len(X) - 1, 4))
    z[:, :2], z[:, 2] = model.children_, model.distances_
    return z


DATA = {"mixture": mixture, "iid": iid, "cone": cone}
CONTENDERS: dict[str, Contender] = {
    "engine": engine,
    "sgemm+fastcluster": sgemm_fastcluster,
    "scipy": scipy_alone,
    "scikit-learn": scikit_learn,
}
