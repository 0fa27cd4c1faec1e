"""One concept from the vectors of its episodes.

Every number here is the same on every machine: sums run in float64 in member order, inner products in the native
library's fixed order, and no BLAS is called.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import native_simd

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNIT_ROUNDOFF = 2.0**-24


@dataclass(frozen=True, slots=True)
class Formation:
    """What the vectors of a concept's episodes say.

    Attributes
    ----------
    centroid : ndarray of float32, shape (d,)
        Mean of the unit vectors of the members, of length 1; zero if they cancel up to the rounding of float32.
    coherence : float
        Mean cosine similarity of two distinct members, in [-1, 1]; 1 for a single member.
    strengths : ndarray of float32, shape (k,)
        Cosine similarity of each member with the centroid, in [0, 1]: negative ones count as 0.
    contributions : ndarray of float32, shape (k,)
        Share of each member in the length of the sum of unit vectors; they add up to 1.
    """

    centroid: NDArray[np.float32]
    coherence: float
    strengths: NDArray[np.float32]
    contributions: NDArray[np.float32]


def form_concept(vectors: NDArray[np.float32]) -> Formation:
    """Describe a group of k episodes. O(k d).

    Parameters
    ----------
    vectors : ndarray of float32, shape (k, d)
        Not zero; in the canonical order of the episodes.
    """
    k = len(vectors)
    units = vectors.astype(np.float64) / native_simd.norms(vectors, unit=True)[:, np.newaxis]
    total = units.sum(axis=0)
    length = math.sqrt(math.fsum((total * total).tolist()))
    if length <= k * _UNIT_ROUNDOFF:
        even = np.full(k, 1.0 / k, np.float32)
        return Formation(np.zeros(vectors.shape[1], np.float32), _coherence(length, k), np.zeros(k, np.float32), even)
    centroid = (total / length).astype(np.float32)
    cosines = native_simd.similarity(vectors, centroid[np.newaxis])[:, 0]
    shares = np.multiply(units, total, out=units).sum(axis=1) / (length * length)
    return Formation(centroid, _coherence(length, k), np.maximum(cosines, np.float32(0)), shares.astype(np.float32))


def _coherence(length: float, k: int) -> float:
    """Return the mean of <u_i, u_j>, i != j: the squared length of the sum is k plus all of them."""
    if k == 1:
        return 1.0
    return min(1.0, max(-1.0, (length * length - k) / (k * (k - 1))))
