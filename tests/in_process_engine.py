"""An engine of cycles without Ray: merges through a matrix, concepts formed one after the other, here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.concepts.formation import Formation, Moments, form_concept
from cluster_engine.linkage.chain import cluster_matrix
from cluster_engine.similarity.matrix import row_stride
from native_simd.arrays import empty_aligned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Criterion
    from cluster_engine.linkage.dendrogram import Merges
    from cluster_engine.linkage.duplicates import Points


class InProcessEngine:
    def merge(self, points: Points, criterion: Criterion, cut: float | None) -> Merges:
        packed = native_simd.pack(points.vectors, unit=criterion.unit)
        matrix = empty_aligned((packed.n, row_stride(packed.n)), np.float32)[:, : packed.n]
        native_simd.pairwise_symmetric(packed, metric=criterion.kernel, out=matrix)
        return cluster_matrix(matrix, criterion, points).below(cut)

    def form(self, parts: Sequence[tuple[NDArray[np.float32], Moments | None]]) -> list[Formation]:
        return [form_concept(vectors, before) for vectors, before in parts]
