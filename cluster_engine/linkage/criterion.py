"""What a method and a metric mean together: which kernel fills the matrix, and how similarities become heights.

A linkage over inner products is *bilinear* for methods "average" and "weighted": the similarity of two clusters is the
inner product of their means, so it can be recomputed exactly from the vectors. So can Ward's, and the average of
squared Euclidean distances, from the means and the spreads around them. Decisions are then taken in float64, and no
matrix is needed. For the other combinations the matrix is all there is, so it is filled with differences (relative
error about 1e-6) rather than with inner products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    import native_simd

Metric = Literal["cosine", "dot", "euclidean", "sqeuclidean"]
Method = Literal["average", "complete", "single", "weighted", "ward"]

METRICS: tuple[str, ...] = get_args(Metric)
METHODS: tuple[str, ...] = get_args(Method)

_UNIT_ROUNDOFF = 2.0**-24

SQUARABLE = (2.0**-40, 2.0**52)
"""Between these, float32 holds squares of distances, times n / 2 for Ward, and their differences down to the rounding
of the largest vector."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A linkage method under a metric.

    Raises
    ------
    ValueError
        For an unknown name, or for Ward under anything but the Euclidean metric, where it has no meaning.
    """

    method: Method
    metric: Metric

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)} or precomputed, got {self.metric!r}")
        if self.method == "ward" and self.metric != "euclidean":
            raise ValueError(f"method 'ward' is defined for metric 'euclidean' only, got {self.metric!r}")

    @property
    def unit(self) -> bool:
        """Whether vectors are divided by their norms."""
        return self.metric == "cosine"

    @property
    def bilinear(self) -> bool:
        """Whether the similarity of two clusters is the inner product of their means."""
        return self.method in ("average", "weighted") and self.metric in ("cosine", "dot")

    @property
    def exact(self) -> bool:
        """Whether merges are decided in float64, on similarities recomputed from the vectors."""
        return (
            self.bilinear
            or self.method in ("ward", "single")
            or (self.method, self.metric) == ("average", "sqeuclidean")
        )

    @property
    def weighable(self) -> bool:
        """Whether weights of the points change the similarity of clusters."""
        return self.method in ("average", "ward")

    @property
    def collapses_duplicates(self) -> bool:
        """Whether identical vectors are closer to each other than to anything else (not so for raw inner products)."""
        return self.metric != "dot"

    @property
    def kernel(self) -> native_simd.Metric:
        """The native metric that fills the matrix, or ranks neighbours."""
        if self.bilinear:
            return self.metric
        if self.metric == "dot":
            return "dot"
        if self.metric == "euclidean" and self.method not in ("ward", "single"):
            return "euclidean"
        return "sqeuclidean"

    def matrix_error(self, d: int, max_norm: float) -> tuple[float, float]:
        """Return (largest error, largest magnitude) of a certified matrix entry.

        A chain of d fused multiply-adds errs by at most ``g(d) |a| |b|``, ``g(d) = d u / (1 - d u)``, ``u = 2**-24``
        (Higham 2002, section 3.1, with Cauchy-Schwarz), plus one underflow per step; a unit vector rounded to float32
        is off by at most ``u`` in norm.
        """
        gamma = d * _UNIT_ROUNDOFF / (1 - d * _UNIT_ROUNDOFF)
        underflow = d * 2.0**-149
        if self.unit:
            return gamma * (1 + 3 * _UNIT_ROUNDOFF) + 3 * _UNIT_ROUNDOFF + underflow, 1.0
        return gamma * max_norm**2 + underflow, (1 + gamma) * max_norm**2 + underflow

    def heights(self, similarities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distances at which clusters of these similarities join."""
        if self.method == "ward" or (self.method, self.metric) == ("single", "euclidean"):
            return np.sqrt(-similarities)
        if self.metric == "dot":
            return 1.0 - similarities
        if self.metric == "cosine":
            # 1 - cos = |a - b|^2 / 2 for unit vectors; rounding may leave 1 - s a few 1e-16 below zero
            return np.maximum(1.0 - similarities, 0.0) if self.bilinear else -similarities / 2.0
        return -similarities

    def least_similarity(self, height: float) -> float:
        """Return the similarity that joins at a height, or a few roundings less: merges there are checked again."""
        if self.method == "ward" or (self.method, self.metric) == ("single", "euclidean"):
            similarity = -height * abs(height)
        elif self.bilinear or self.metric == "dot":
            similarity = 1.0 - height
        elif self.metric == "cosine":
            similarity = -2.0 * height
        else:
            similarity = -height
        return similarity - 2.0**-48 * (1.0 + abs(similarity))
