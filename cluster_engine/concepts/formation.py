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
class Moments:
    """What the similarity of a concept to anything needs of its members: their number and their sum.

    Attributes
    ----------
    weight : float
        Number of members.
    sum : ndarray of float64, shape (d,)
        Sum of their unit vectors.
    """

    weight: float
    sum: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Formation:
    """What the vectors of a concept's episodes say.

    Attributes
    ----------
    moments : Moments
    centroid : ndarray of float32, shape (d,)
        Mean of the unit vectors of the members, of length 1; zero if they cancel up to the rounding of float32.
    coherence : float
        Mean cosine similarity of two distinct members, in [-1, 1]; 1 for a single member.
    strengths : ndarray of float32, shape (k,)
        Cosine similarity of each member that was given with the centroid, in [0, 1]: negative ones count as 0.
    """

    moments: Moments
    centroid: NDArray[np.float32]
    coherence: float
    strengths: NDArray[np.float32]


def form_concept(vectors: NDArray[np.float32], before: Moments | None = None) -> Formation:
    """Describe a group of k episodes, added to what a concept had before. O(k d).

    Parameters
    ----------
    vectors : ndarray of float32, shape (k, d)
        Not zero; in the canonical order of the episodes.
    before : Moments, optional
        Of members whose vectors are not given.
    """
    total, weight = np.zeros(vectors.shape[1]), float(len(vectors))
    if len(vectors):
        total = (vectors.astype(np.float64) / native_simd.norms(vectors, unit=True)[:, np.newaxis]).sum(axis=0)
    if before is not None:
        total, weight = before.sum + total, before.weight + weight
    length = math.sqrt(math.fsum((total * total).tolist()))
    centroid, strengths = np.zeros(vectors.shape[1], np.float32), np.zeros(len(vectors), np.float32)
    if length > weight * _UNIT_ROUNDOFF:
        centroid = (total / length).astype(np.float32)
    if centroid.any() and len(vectors):
        strengths = np.maximum(native_simd.similarity(vectors, centroid[np.newaxis])[:, 0], np.float32(0))
    return Formation(Moments(weight, total), centroid, _coherence(length, weight), strengths)


def _coherence(length: float, k: float) -> float:
    """Return the mean of <u_i, u_j>, i != j: the squared length of the sum is k plus all of them."""
    if k == 1:
        return 1.0
    return min(1.0, max(-1.0, (length * length - k) / (k * (k - 1))))
