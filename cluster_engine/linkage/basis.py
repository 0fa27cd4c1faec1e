"""A basis in which a few coordinates tell most of a cosine, and an order with near points side by side.

Knows samples and estimates of work. Whatever it chooses, the neighbours are the same, to the bit; only the time
differs. Products that grow with n are the library's own; what is left to BLAS are matrices of a sample's size.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from native_simd import Coordinates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]

_LOG = logging.getLogger(__name__)

_SKETCHING_ISAS = ("avx2", "avx512")  # the others have no kernel for products of digits
_LEAST_POINTS = 8_192  # up to here the matrix is the faster way
_LEAST_DIMENSIONS = 128  # a look at a pair costs about 32; at d = 50 the pass was a third slower
_GLANCE_ROWS, _SAMPLE_ROWS, _QUERY_ROWS = 512, 2_048, 256
_STEP, _MOST_COORDINATES = 32, 256
_DIGIT_ERROR = 0.025  # what 8-bit digits add to a bound, for most pairs: 0.016 and 0.009 on each side
_MOST_CENTRES = 2_048
# Work, of that of the plain pass. A digit, of a product of float32: 0.23 under AVX-512 and 0.27 under AVX2, the slope
# from 36 to 232 digits on 12,000 x 768 of a mixture. A pair that digits do not rule out: 57 and 65 on 16,000 x 384
# embeddings of texts, where the sample says 1 %; more of them cost less each, in whole tiles.
_DIGIT_WORK, _PAIR_WORK = 0.3, 50.0
_WORTH = 0.75  # estimated 0.71 and 0.72 were measured 0.79 to 0.87 and 0.67 to 0.82


def choose_sketch(packed: native_simd.PackedVectors, k: int, threads: int) -> native_simd.Sketch | None:
    """Return sketches of vectors if a sample says that the pass is faster with them.

    Parameters
    ----------
    packed : PackedVectors
        Packed with ``unit=True``.
    k : int
        Neighbours that the pass will keep.
    threads : int
        At least 1. Has no part in the choice.
    """
    if not may_sketch(packed.n, packed.d):
        return None
    if _effective_dimensions(_sample(packed, _GLANCE_ROWS)) > packed.d / 2:
        return None
    sample = _sample(packed, _SAMPLE_ROWS)
    axes = leading_axes(sample, min(_MOST_COORDINATES, packed.d * 2 // 3), threads)
    shares = surviving_shares(native_simd.similarity(sample, axes, "dot", threads=threads), sample, k / packed.n)
    work = {h: _DIGIT_WORK * h / packed.d + _PAIR_WORK * share for h, share in shares.items()}
    h = min(work, key=lambda h: work[h])
    _LOG.info("sketches: coordinates=%d work=%.2f used=%s", h, work[h], work[h] <= _WORTH)
    if work[h] > _WORTH:
        return None
    coordinates = native_simd.project(packed, spread_evenly(axes[:h]), threads)
    return native_simd.sketch(coordinates, order_by_nearness(coordinates, threads), threads)


def may_sketch(n: int, d: int) -> bool:
    """Tell whether sketches of n unit vectors of d dimensions may pay here, if a sample of the vectors agrees."""
    return n >= _LEAST_POINTS and d >= _LEAST_DIMENSIONS and native_simd.active_isa() in _SKETCHING_ISAS


def _sample(packed: native_simd.PackedVectors, n_rows: int) -> Float32Array:
    rows = np.linspace(0, packed.n - 1, n_rows).astype(np.int64)
    panels = packed.panels.reshape(-1, packed.d, native_simd.LANES)
    return np.ascontiguousarray(panels[rows // native_simd.LANES, :, rows % native_simd.LANES])


def _effective_dimensions(sample: Float32Array) -> float:
    """Return in how many dimensions vectors at random would have cosines of this size."""
    squares = np.square(native_simd.similarity(sample, sample))
    n = len(sample)
    return float((n * n - n) / (squares.sum() - np.trace(squares)))


def leading_axes(sample: Float32Array, n_axes: int, threads: int = 1) -> Float32Array:
    """Return about the first principal axes ``(n_axes, d)``, without centring, by subspace iteration."""
    columns = np.ascontiguousarray(sample.T)
    axes = np.random.default_rng(0).standard_normal((n_axes, len(columns)), np.float32)
    for _ in range(2):
        values = native_simd.similarity(axes, sample, "dot", threads=threads)
        axes = np.ascontiguousarray(np.linalg.qr(native_simd.similarity(columns, values, "dot", threads=threads))[0].T)
    values = native_simd.similarity(axes, sample, "dot", threads=threads)
    rotation = np.linalg.eigh(native_simd.similarity(values, values, "dot", threads=threads))[1][:, ::-1]
    return np.ascontiguousarray(rotation.T @ axes, np.float32)  # by falling variance


def surviving_shares(values: Float32Array, sample: Float32Array, share_kept: float) -> dict[int, float]:
    """Estimate for numbers of coordinates what share of the pairs they do not rule out.

    Parameters
    ----------
    values : ndarray of float32, shape (m, h)
        Coordinates of the sample.
    sample : ndarray of float32, shape (m, d)
        Unit vectors.
    share_kept : float
        Of all points that a list keeps.
    """
    m = len(sample)
    step = m // _QUERY_ROWS
    cosines = sample[::step] @ sample.T
    cosines[np.arange(len(cosines)), np.arange(0, m, step)] = -1
    n_kept = int(np.ceil(share_kept * m))
    entries = np.partition(cosines, m - n_kept, axis=1)[:, m - n_kept, None] - _DIGIT_ERROR
    shares = {}
    inner = np.zeros_like(cosines)
    squares = np.zeros(m, np.float32)
    for stop in range(_STEP, values.shape[1] + 1, _STEP):
        some = values[:, stop - _STEP : stop]
        inner += some[::step] @ some.T
        squares += np.square(some).sum(axis=1)
        rest = np.sqrt(np.maximum(1 - squares, 0))
        shares[stop] = float((inner + rest[::step, None] * rest >= entries).mean())
    return shares


def spread_evenly(axes: Float32Array) -> Float32Array:
    """Return another basis of the same space, in which no coordinate is larger than others: digits reach further."""
    h = len(axes)
    mixing = np.linalg.qr(np.random.default_rng(1).standard_normal((h, h)))[0]
    return np.asarray(mixing @ axes, np.float32)


def order_by_nearness(coordinates: Coordinates, threads: int = 1) -> NDArray[np.int64]:
    """Return the points by the nearest of some centres, each of which is followed by the one nearest to it."""
    values = coordinates.values
    n = len(values)
    n_centres = min(_MOST_CENTRES, 2 * int(np.sqrt(n)))
    centres = values[np.linspace(0, n - 1, n_centres).astype(np.int64)]
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    place = np.empty(n_centres, np.int64)
    place[_chain(native_simd.similarity(centres, centres, "dot", threads=threads))] = np.arange(n_centres)
    nearest = np.empty(n, np.int64)
    packed = native_simd.pack(centres)
    for start in range(0, n, _SAMPLE_ROWS):
        rows = native_simd.pack(values[start : start + _SAMPLE_ROWS], threads=threads)
        nearest[start : start + rows.n] = _products(rows, packed, threads).argmax(axis=1)
    return np.argsort(place[nearest], kind="stable")


def _products(a: native_simd.PackedVectors, b: native_simd.PackedVectors, threads: int) -> Float32Array:
    out = np.empty((a.n, b.n), np.float32)
    native_simd.pairwise(a, b, metric="dot", out=out, threads=threads)
    return out


def _chain(cosines: Float32Array) -> list[int]:
    """Return a path through all centres, from each to the nearest that it has not been to."""
    chain = [0]
    while len(chain) < len(cosines):
        cosines[:, chain[-1]] = -np.inf
        chain.append(int(cosines[chain[-1]].argmax()))
    return chain
