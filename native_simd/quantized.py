"""Unit vectors with a copy in 16-bit fixed point: search reads it first, and answers with the bits of float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_real, require_threads
from native_simd.arrays import check_status, empty_aligned, require_contiguous
from native_simd.isa import ffi, lib
from native_simd.packing import LANES, PackedVectors, require_packed, require_unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class QuantizedVectors:
    """Packed unit vectors and their 16-bit copy, ready for :func:`top_k`; made by :func:`quantize`.

    A search is right only where the other three are what :func:`quantize` made of ``packed``.

    Attributes
    ----------
    packed : PackedVectors
        With ``unit=True``.
    words : ndarray of int16
        ``ceil(n / 16) * 32 * ceil(d / 2)`` elements, 64-byte aligned; element ``k`` of vector ``v`` is about
        ``scales[v]`` times that at ``(v // 16) * 32 * ceil(d / 2) + (k // 2) * 32 + (v % 16) * 2 + k % 2``.
    scales : ndarray of float32
        ``ceil(n / 16) * 16`` elements.
    error : float
        Largest norm of the difference between a vector and its copy.
    """

    packed: PackedVectors
    words: NDArray[np.int16]
    scales: NDArray[np.float32]
    error: float

    def __post_init__(self) -> None:
        packed = require_unit_vectors(require_packed(self.packed, "packed"))
        if not require_real(self.error, "error") >= 0:
            raise ValueError(f"error must be at least 0, got {self.error}")
        n_lanes = _n_lanes(packed)
        for name, array, dtype, size in (
            ("words", self.words, np.int16, _n_words(packed)),
            ("scales", self.scales, np.float32, n_lanes),
        ):
            require_contiguous(array, dtype, name)
            if len(array) != size:
                raise ValueError(f"{name} of {packed.n} packed vectors must have {size} elements, got {len(array)}")

    @property
    def n(self) -> int:
        """Number of vectors."""
        return self.packed.n

    @property
    def d(self) -> int:
        """Dimension."""
        return self.packed.d


def quantize(packed: PackedVectors, *, threads: int = 1) -> QuantizedVectors:
    """Add a 16-bit copy to unit vectors: half as much memory again, for searches by few queries at half the bytes.

    It pays where the vectors do not fit a core's own cache: from a few hundred of 768 dimensions on.

    Parameters
    ----------
    packed : PackedVectors
        With ``unit=True``.
    threads : int
        Threads to use, at least 1.

    Raises
    ------
    ValueError
        The vectors were packed without ``unit=True``.
    """
    require_unit_vectors(require_packed(packed, "packed"))
    words = empty_aligned((_n_words(packed),), np.int16)
    scales, error = np.empty(_n_lanes(packed), np.float32), ffi.new("double *")
    status = lib.ns_quantize(
        ffi.from_buffer("float[]", packed.panels),
        packed.n,
        packed.d,
        ffi.from_buffer("int16_t[]", words),
        ffi.from_buffer("float[]", scales),
        error,
        require_threads(threads),
    )
    check_status(status)
    return QuantizedVectors(packed, words, scales, float(error[0]))


def _n_lanes(packed: PackedVectors) -> int:
    return -(-packed.n // LANES) * LANES


def _n_words(packed: PackedVectors) -> int:
    return _n_lanes(packed) * -(-packed.d // 2) * 2
