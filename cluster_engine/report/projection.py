"""Concepts as points of a plane: similar ones close together.

t-SNE (L. van der Maaten, G. Hinton, JMLR 9, 2008), because what a reader takes from a map is who is next to whom: on
the sentence embeddings of ``demo/`` 0.93 of a point's ten neighbours are true ones (trustworthiness), against 0.68
with two principal components. It starts from those, with a fixed seed, on one thread: the same machine draws the same
map. Time grows faster than the number of points (3,000: six seconds on one core), so that of more concepts the largest
have places of their own, and every other is put beside the one of them that it is most similar to (0.92).

Owns the choice of the method. Refuses to know what is drawn.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PLACED = 3_000
"""Points that t-SNE places."""
_N_ITERATIONS = 500  # twice as many: 0.912 instead of 0.909 of the neighbours
_N_COMPONENTS = 30  # kept before t-SNE, as its authors do
_PERPLEXITY = 30.0  # scikit-learn's default
_FEWEST = 8  # points that t-SNE needs; fewer lie on their principal components
_ROUNDING = 1e-7  # of a float32 of length 1: less of a component is no variance
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_CHUNK_ROWS = 1_024


def place_points(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a place in [0, 1] x [0, 1] for each vector.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        Of length 1; those that must have a place of their own come first.

    Returns
    -------
    ndarray of float64, shape (n, 2)
    """
    placed = vectors[:MAX_PLACED]
    with threadpool_limits(1):  # sums over threads differ in their last bits, and t-SNE makes much of those
        places = _components(placed, 2) if len(placed) < _FEWEST else _embed(placed)
        if len(vectors) > len(placed):
            places = np.concatenate([places, _beside(places, placed, vectors[len(placed) :])])
    low, high = places.min(axis=0, initial=np.inf), places.max(axis=0, initial=-np.inf)
    span = float((high - low).max(initial=0.0))
    return (places - (low + high) / 2) / span + 0.5 if span > 0 else np.full((len(vectors), 2), 0.5)


def _embed(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    n = len(vectors)
    reduced = _components(vectors, _N_COMPONENTS)
    if not reduced.any():  # all are equal
        return reduced[:, :2]
    start = reduced[:, :2] / reduced[:, 0].std() * 1e-4  # as scikit-learn scales it
    perplexity = min(_PERPLEXITY, (n - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init=start, random_state=0, max_iter=_N_ITERATIONS)
    return np.asarray(model.fit_transform(reduced), np.float64)


def _components(vectors: NDArray[np.float32], n_components: int) -> NDArray[np.float64]:
    """Return the coordinates along the first principal components; zeros where there are fewer."""
    found = np.zeros((len(vectors), n_components))
    if len(vectors) < 2:
        return found
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    kept = axes[:n_components][lengths[:n_components] > _ROUNDING * len(vectors)]
    strongest = np.argmax(np.abs(kept), axis=1)
    signs = np.sign(kept[np.arange(len(kept)), strongest])  # which way an axis points is not otherwise determined
    found[:, : len(kept)] = centred @ (kept * signs[:, np.newaxis]).T
    return found


def _beside(
    places: NDArray[np.float64], placed: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Put each of the others beside the placed one that it is most similar to: nearer to it than to any other."""
    chunks = [others[first : first + _CHUNK_ROWS] for first in range(0, len(others), _CHUNK_ROWS)]
    nearest = np.concatenate([np.argmax(chunk @ placed.T, axis=1) for chunk in chunks])
    order = np.argsort(nearest, kind="stable")
    starts, ends = (np.searchsorted(nearest[order], nearest, side) for side in ("left", "right"))
    rank = np.empty(len(others))
    rank[order] = np.arange(len(others))
    rank -= starts - 0.5
    apart, _ = NearestNeighbors(n_neighbors=2).fit(places).kneighbors(places)
    radius = 0.45 * apart[nearest, 1] * np.sqrt(rank / (ends - starts))
    around = np.column_stack([np.cos(rank * _GOLDEN_ANGLE), np.sin(rank * _GOLDEN_ANGLE)])  # a sunflower's seeds
    return np.asarray(places[nearest] + radius[:, np.newaxis] * around, np.float64)
