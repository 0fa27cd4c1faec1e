"""The engine of a cycle on a pool of actors: pairs and concepts are computed there, merges found here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.progress import Phase, Reporter, Spent
from cluster_engine.shards.linkage import PooledLinkage, pooled_path
from cluster_engine.shards.passes import form_concepts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cluster_engine.concepts.formation import Formation, Moments
    from cluster_engine.linkage.criterion import Criterion
    from cluster_engine.linkage.dendrogram import Merges
    from cluster_engine.linkage.duplicates import Points
    from cluster_engine.shards.pool import ShardPool


@dataclass(frozen=True, slots=True)
class PooledEngine:
    """A pool as :class:`cluster_engine.concepts.clustering.Engine`.

    Attributes
    ----------
    pool : ShardPool
    memory_limit_bytes : int or None
    reporter : callable or None
    spent : dict of str to Spent
        What the passes over pairs ("pairwise" or "neighbours") and the merges took.
    """

    pool: ShardPool
    memory_limit_bytes: int | None = None
    reporter: Reporter | None = None
    spent: dict[str, Spent] = field(default_factory=dict)

    def merge(self, points: Points, criterion: Criterion, cut: float | None) -> Merges:
        """Return the merges of points."""
        path = pooled_path(points, criterion, self.memory_limit_bytes)
        return PooledLinkage(self.pool, points, criterion, cut, self.reporter).merges(path, self.spent)

    def form(self, parts: Sequence[tuple[NDArray[np.float32], Moments | None]]) -> list[Formation]:
        """Return the concepts of parts, formed on the actors."""
        phase = Phase("concepts", len(parts), self.reporter)
        spans = np.array_split(np.arange(len(parts)), min(self.pool.n_shards, max(1, len(parts))))
        tasks = [[parts[i] for i in span.tolist()] for span in spans]
        formed = form_concepts(self.pool, tasks, phase)
        return [formation for task in formed for formation in task]
