"""What a cosine becomes before it is written: it fades with the time between its two vectors, then a sigmoid.

Owns the two parts and what they refuse. Refuses to know what the times are times of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from native_simd.arguments import require_real
from native_simd.arrays import require_contiguous
from native_simd.isa import ffi

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Temporal:
    """A similarity that halves with every half-life between two vectors: ``s * 2**-(abs(t_a - t_b) / half_life)``.

    Times are integers, so differences are exact at any distance from the epoch; Arrow's timestamps are such integers
    already. Any tick will do, the same for all. Equal times leave a similarity as it is, to the bit; from 100
    half-lives on nothing is left.

    Attributes
    ----------
    half_life : float
        In ticks, above 0; infinity never fades. A decay of ``exp(-t / tau)`` has a half-life of ``tau * ln(2)``.
    times_a : ndarray of int64, shape (a.n,)
        Contiguous.
    times_b : ndarray of int64, shape (b.n,), optional
        The same, of the other vectors; None where vectors are compared with each other.

    Raises
    ------
    TypeError
        An array has another type or shape.
    ValueError
        The half-life is not above 0, or an array is strided.
    """

    half_life: float
    times_a: NDArray[np.int64]
    times_b: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if not require_real(self.half_life, "half_life") > 0:
            raise ValueError(f"half_life must be above 0, got {self.half_life!r}")
        require_contiguous(self.times_a, np.int64, "times_a")
        if self.times_b is not None:
            require_contiguous(self.times_b, np.int64, "times_b")


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """A similarity between 0 and 1 that is 1/2 at the midpoint: ``1 / (1 + exp(-slope * (s - midpoint)))``.

    Attributes
    ----------
    slope : float
        Four times the steepness at the midpoint, above 0 and finite: larger stays closer.
    midpoint : float
        Finite.

    Raises
    ------
    ValueError
        A number is out of range.
    """

    slope: float
    midpoint: float

    def __post_init__(self) -> None:
        if not 0 < require_real(self.slope, "slope") < math.inf:
            raise ValueError(f"slope must be above 0 and finite, got {self.slope!r}")
        if not math.isfinite(require_real(self.midpoint, "midpoint")):
            raise ValueError(f"midpoint must be finite, got {self.midpoint!r}")


def require_epilogue(metric: str, temporal: Temporal | None, sigmoid: Sigmoid | None) -> None:
    """Check that an epilogue, if any, follows cosines."""
    if not isinstance(temporal, Temporal | None):
        raise TypeError(f"temporal must be a Temporal, got {temporal!r}")
    if not isinstance(sigmoid, Sigmoid | None):
        raise TypeError(f"sigmoid must be a Sigmoid, got {sigmoid!r}")
    if metric != "cosine" and (temporal is not None or sigmoid is not None):
        raise ValueError(f'temporal and sigmoid follow metric "cosine", got {metric!r}')


def temporal_pointer(temporal: Temporal | None, shape: tuple[int, int]) -> object:
    """Return the library's form of times between vectors of a and of b; ``temporal`` must outlive its use."""
    if temporal is None:
        return ffi.NULL
    times_b = temporal.times_b
    if times_b is None:
        raise TypeError("temporal needs times_b: the times of the vectors of b")
    if (len(temporal.times_a), len(times_b)) != shape:
        lengths = f"{len(temporal.times_a)} and {len(times_b)}"
        raise ValueError(f"temporal needs {shape[0]} times_a and {shape[1]} times_b, one a vector; it has {lengths}")
    return _temporal(temporal, times_b)


def symmetric_temporal_pointer(temporal: Temporal | None, n: int) -> object:
    """Return the library's form of times between vectors of a alone; ``temporal`` must outlive its use."""
    if temporal is None:
        return ffi.NULL
    if temporal.times_b is not None:
        raise ValueError("temporal must have no times_b: vectors are compared with each other")
    if len(temporal.times_a) != n:
        raise ValueError(f"temporal needs {n} times_a, one a vector; it has {len(temporal.times_a)}")
    return _temporal(temporal, temporal.times_a)


def sigmoid_pointer(sigmoid: Sigmoid | None) -> object:
    """Return the library's form of a sigmoid."""
    return ffi.NULL if sigmoid is None else ffi.new("ns_sigmoid *", (float(sigmoid.slope), float(sigmoid.midpoint)))


def _temporal(temporal: Temporal, times_b: NDArray[np.int64]) -> object:
    times = (ffi.from_buffer("int64_t[]", temporal.times_a), ffi.from_buffer("int64_t[]", times_b))
    return ffi.new("ns_temporal *", (*times, float(temporal.half_life)))
