"""Decay of strengths and the fan effect, in place over arrays of bindings.

It knows arrays and numbers; whose they are, and when to decay them, is for its callers to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from native_simd.arguments import require_code, require_real, require_threads
from native_simd.arrays import check_status, require_apart, require_contiguous
from native_simd.isa import active_code, ffi, lib

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

_LARGEST_DT = 2.0**127
_INT64 = np.iinfo(np.int64)
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

FanLaw = Literal["sqrt", "linear", "log"]

_LAWS: dict[str, int] = {name: code for code, name in enumerate(get_args(FanLaw))}


def decay(strengths: NDArray[np.float32], rates: NDArray[np.float32], dt: float, *, threads: int = 1) -> None:
    """Multiply each strength by ``exp(-rate * dt)``, in place.

    Parameters
    ----------
    strengths : ndarray of float32, shape (n,)
        Contiguous and writeable. Of any sign; NaN stays NaN.
    rates : ndarray of float32, shape (n,)
        Per unit of ``dt``; 0 is evergreen, infinity leaves nothing, whatever ``dt`` is. A strength becomes NaN
        where its rate is negative or NaN: checking first would cost as much again as decaying.
    dt : float
        Time that has passed, 0 to 2**127.
    threads : int
        Threads to use, at least 1. They pay from about a million bindings on.

    Raises
    ------
    TypeError
        An array has another type or shape.
    ValueError
        ``dt`` is out of range, or an array is read-only, strided or shares memory with the other.

    Notes
    -----
    O(n). For ``dt`` of 0 or at least 2**-100 the error is at most ``2e-7 * exact + 2**-149 * (1 + abs(strength))``:
    results below 2**-126 round to subnormal numbers, and what is left after 152 half-lives is 0.
    """
    _require_pair(strengths, "strengths", rates, "rates", np.float32)
    time = require_real(dt, "dt")
    if not 0 <= time <= _LARGEST_DT:
        raise ValueError(f"dt must be between 0 and 2**127, got {dt!r}")
    check_status(
        lib.ns_decay(
            active_code(),
            ffi.from_buffer("float[]", strengths),
            ffi.from_buffer("float[]", rates),
            len(strengths),
            time,
            require_threads(threads),
        )
    )


def decay_half_life(
    strengths: NDArray[np.float32],
    last_touched: NDArray[np.int64],
    now: int,
    half_life: float,
    floor: float = 0.0,
    *,
    threads: int = 1,
) -> None:
    """Halve each strength once for every half-life since it was last touched, in place.

    Times are integers: differences are exact at any distance from the epoch, where float64 seconds are not, and Arrow's
    timestamps are such integers already. Any tick will do, the same for all three; with ``timestamp[us]`` a day is
    ``86_400e6``.

    Parameters
    ----------
    strengths : ndarray of float32, shape (n,)
        Contiguous and writeable. Of any sign; NaN stays NaN.
    last_touched : ndarray of int64, shape (n,)
        What was touched after ``now`` keeps its strength: a clock that goes backwards makes nothing grow.
    now : int
    half_life : float
        In ticks, above 0; infinity is evergreen.
    floor : float
        Decay takes nothing below it: a strength of at least ``floor`` stays at least ``floor``, a smaller one stays as
        it is.
    threads : int
        Threads to use, at least 1.

    Raises
    ------
    TypeError
        An array has another type or shape, or ``now`` is not an integer.
    ValueError
        A number is out of range, or an array is read-only, strided or shares memory with the other.

    Notes
    -----
    O(n). The error is at most ``2e-7 * exact + 2**-149 * (1 + abs(strength))``. ``floor`` is rounded to float32.
    """
    _require_pair(strengths, "strengths", last_touched, "last_touched", np.int64)
    if not isinstance(now, (int, np.integer)):
        raise TypeError(f"now must be an integer, got {now!r}")
    if not _INT64.min <= now <= _INT64.max:
        raise ValueError(f"now must fit into 64 bits, got {now!r}")
    ticks, least = require_real(half_life, "half_life"), require_real(floor, "floor")
    if not ticks > 0:
        raise ValueError(f"half_life must be above 0, got {half_life!r}")
    if not 0 <= least <= _LARGEST_FLOAT32:
        raise ValueError(f"floor must be at least 0 and finite in float32, got {floor!r}")
    check_status(
        lib.ns_decay_half_life(
            active_code(),
            ffi.from_buffer("float[]", strengths),
            ffi.from_buffer("int64_t[]", last_touched),
            len(strengths),
            int(now),
            ticks,
            least,
            require_threads(threads),
        )
    )


def fan_effect(
    activations: NDArray[np.float32],
    fan_out: NDArray[np.uint32],
    law: FanLaw = "sqrt",
    *,
    threads: int = 1,
) -> None:
    """Divide each activation by what the law makes of its fan, in place.

    Parameters
    ----------
    activations : ndarray of float32, shape (n,)
        Contiguous and writeable.
    fan_out : ndarray of uint32, shape (n,)
        Among how many an activation is divided. A fan of 0 counts as 1: nothing divides it.
    law : {"sqrt", "linear", "log"}
        The divisor is ``sqrt(f)``, ``f`` or ``1 + ln f``; each is 1 at ``f = 1``.
    threads : int
        Threads to use, at least 1.

    Raises
    ------
    TypeError
        An array has another type or shape.
    ValueError
        The law is unknown, or an array is read-only, strided or shares memory with the other.

    Notes
    -----
    O(n). The relative error is at most 2e-7 where the result is not subnormal.
    """
    _require_pair(activations, "activations", fan_out, "fan_out", np.uint32)
    code = require_code(law, _LAWS, "law")
    check_status(
        lib.ns_fan_effect(
            active_code(),
            code,
            ffi.from_buffer("float[]", activations),
            ffi.from_buffer("uint32_t[]", fan_out),
            len(activations),
            require_threads(threads),
        )
    )


def _require_pair(values: NDArray[Any], name: str, others: NDArray[Any], others_name: str, dtype: DTypeLike) -> None:
    """Check the array that is written, and the one beside it that is read."""
    require_contiguous(values, np.float32, name)
    require_contiguous(others, dtype, others_name)
    if not values.flags.writeable:
        raise ValueError(f"{name} must be writeable: the result is written to it")
    if values.shape != others.shape:
        raise TypeError(f"{others_name} must have the shape of {name}, {values.shape}, got {others.shape}")
    require_apart(values, name, {others_name: others})
