"""The map: places that repeat, that keep neighbours, and that exist for any number of points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from cluster_engine.report import projection
from cluster_engine.report.projection import place_points

if TYPE_CHECKING:
    from numpy.typing import NDArray


def blobs(
    n: int, n_blobs: int = 6, dimension: int = 24, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors around some centres, and whose each is."""
    rng = np.random.default_rng(seed)
    owners = rng.integers(n_blobs, size=n)
    vectors = rng.normal(size=(n_blobs, dimension))[owners] + 0.25 * rng.normal(size=(n, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), owners


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 9, 40, 200])
def test_every_point_has_a_place_and_it_repeats(n: int) -> None:
    vectors, _ = blobs(n)
    places = place_points(vectors)
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()
    assert ((places >= -1e-9) & (places <= 1 + 1e-9)).all()
    if n > 1:
        assert np.ptp(places, axis=0).max() == pytest.approx(1)
    np.testing.assert_array_equal(place_points(vectors), places)


@pytest.mark.parametrize("vectors", [np.tile([1, 0, 0], (30, 1)), np.repeat(np.eye(2), 20, axis=0), np.ones((12, 1))])
def test_equal_points_and_few_dimensions_have_places(vectors: NDArray[np.float64]) -> None:
    places = place_points(vectors.astype(np.float32))
    assert places.shape == (len(vectors), 2)
    assert np.isfinite(places).all()


def test_neighbours_stay_neighbours() -> None:
    vectors, owners = blobs(240)
    places = place_points(vectors)
    assert trustworthiness(vectors, places, n_neighbors=10, metric="cosine") > 0.9
    distances = np.linalg.norm(places[:, np.newaxis] - places, axis=2) + np.diag(np.full(240, np.inf))
    assert (owners[np.argmin(distances, axis=1)] == owners).mean() > 0.98


def test_of_many_points_the_later_ones_lie_beside_the_nearest_placed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "MAX_PLACED", 60)
    vectors, _ = blobs(300)
    places = place_points(vectors)
    cosines = vectors[60:].astype(np.float64) @ vectors[:60].T.astype(np.float64)
    beside = np.argmax(cosines, axis=1)
    apart = np.linalg.norm(places[60:] - places[beside], axis=1)
    assert len(np.unique(np.round(places, 9), axis=0)) == 300
    assert np.median(apart) < 0.1
    distances = np.linalg.norm(places[60:, np.newaxis] - places[np.newaxis, :60], axis=2)
    np.testing.assert_array_equal(np.argmin(distances, axis=1), beside)
