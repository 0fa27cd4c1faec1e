"""The clustering of a cycle: which points there are, how far they merge, which groups that leaves.

Average linkage under cosine, always: there, and with sums alone, a concept can be a point of the next clustering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

import native_simd
from cluster_engine.errors import VectorError
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.cut import Cut, cut_at, cut_into
from cluster_engine.linkage.dendrogram import Merges, linkage_matrix
from cluster_engine.linkage.duplicates import Points, distinct_points
from cluster_engine.linkage.gain import choose_cut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cluster_engine.concepts.formation import Formation, Moments
    from cluster_engine.concepts.population import Population
    from cluster_engine.steps import Steps

EPISODES = Criterion("average", "cosine")
MEANS = Criterion("average", "dot")
"""Of concepts, whose means are shorter than 1, and of unit vectors."""
_ROWS = 4096  # normalised at a time


class Engine(Protocol):
    """Where the work of a cycle is done."""

    def merge(self, points: Points, criterion: Criterion, cut: float | None) -> Merges:
        """Return the merges of points in any valid order, up to a height if there is one."""

    def form(self, parts: Sequence[tuple[NDArray[np.float32], Moments | None]]) -> list[Formation]:
        """Return `form_concept` of each."""


@dataclass(frozen=True, slots=True)
class Level:
    """How far a cycle merges.

    Attributes
    ----------
    distance : float or None
        None: chosen in a rebuild.
    n_groups : int or None
        Of a rebuild; None: by the data.
    """

    distance: float | None
    n_groups: int | None = None


def cluster_points(
    points: Points, criterion: Criterion, level: Level, engine: Engine, steps: Steps
) -> tuple[NDArray[np.float64], float]:
    """Return the merges of all rows of some points up to a level, in SciPy's layout, and the distance of the level."""

    def merge() -> dict[str, pa.Table]:
        n = len(points.kind)
        merges = _NOTHING if len(points) < 2 else engine.merge(points, criterion, level.distance)
        z = linkage_matrix(points.expand(merges, level.distance), n)
        cut = _cut(z, level)
        kept = z[: cut.n_merges]
        distance = level.distance if level.distance is not None else float(kept[-1, 2]) if len(kept) else 0.0
        columns = {name: pa.array(kept[:, i].copy()) for i, name in enumerate(("left", "right", "height", "n_points"))}
        return {"merges": pa.table(columns), "level": pa.table({"distance": [distance]})}

    made = steps.run("linkage", merge)
    columns = [made["merges"][name].to_numpy() for name in ("left", "right", "height", "n_points")]
    return np.column_stack(columns).reshape(-1, 4), made["level"]["distance"][0].as_py()


_NOTHING = Merges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def _cut(z: NDArray[np.float64], level: Level) -> Cut:
    if level.distance is not None:
        return cut_at(z, level.distance)
    if level.n_groups is not None:
        return cut_into(z, level.n_groups)
    return choose_cut(z, 1.0 - z[:, 2])


def episode_points(vectors: NDArray[np.float32], name_row: Callable[[int], str], threads: int) -> Points:
    """Return episodes as points: their distinct vectors."""
    return distinct_points(vectors, _norms(vectors, name_row, threads), EPISODES, name_row=name_row)


def concept_points(population: Population) -> Points:
    """Return concepts as points, in their order, each with the number of its members as weight."""
    means = (population.sums / population.weights[:, np.newaxis]).astype(np.float32)
    rows = np.arange(len(population))
    return Points(means, native_simd.norms(means), population.weights, rows, rows)


def mixed_points(
    population: Population, vectors: NDArray[np.float32], name_row: Callable[[int], str], threads: int
) -> Points:
    """Return concepts as points, then episodes by their unit vectors."""
    concepts, m = concept_points(population), len(population)
    if not len(vectors):
        return concepts
    episodes = episode_points(vectors, name_row, threads)
    points = np.empty((m + len(episodes), vectors.shape[1]), np.float32)
    points[:m] = concepts.vectors
    for first in range(0, len(episodes), _ROWS):  # no second copy of all of them in float64
        rows = slice(first, first + _ROWS)
        units = episodes.vectors[rows].astype(np.float64)
        units /= episodes.norms[rows, np.newaxis]
        points[m:][rows] = units
    return Points(
        vectors=points,
        norms=native_simd.norms(points, threads=threads),
        weights=np.concatenate((concepts.weights, episodes.weights)),
        first=np.concatenate((concepts.first, m + episodes.first)),
        kind=np.concatenate((concepts.kind, m + episodes.kind)),
    )


def _norms(vectors: NDArray[np.float32], name_row: Callable[[int], str], threads: int) -> NDArray[np.float64]:
    try:
        return native_simd.norms(vectors, unit=True, threads=threads)
    except native_simd.RowError as fault:
        raise VectorError(f"{name_row(fault.row)}: {fault.reason}") from None
