"""How strength fades with time: the laws of forgetting, a floor, and what never fades.

Knows ages and numbers. Every factor is computed once for each distinct age, in float64, so that all bindings of one
age fade alike on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FadingLaw = Literal["exponential", "power", "two-component", "none"]
FADING_LAWS: tuple[str, ...] = get_args(FadingLaw)
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Fading:
    """A law of forgetting: what is left of a strength of 1 after some days, 1 at first and never rising.

    Attributes
    ----------
    law : {"exponential", "power", "two-component", "none"}
        ``2**(-t / h)``; ``(1 + t / h)**-exponent`` (Wickelgren 1974; Wixted and Ebbesen 1991); ``share * 2**(-t / fast)
        + (1 - share) * 2**(-t / h)``, a trace that goes soon and one that stays (Rubin, Hinton and Wenzel 1999); or 1.
    half_life_days : float
        h above, in days.
    exponent : float
        Of the power law.
    fast_half_life_days, fast_share : float
        Of the two-component law.
    floor : float
        The least that is left, in [0, 1].
    """

    law: FadingLaw
    half_life_days: float
    exponent: float
    fast_half_life_days: float
    fast_share: float
    floor: float

    def left_after(self, age_us: int) -> float:
        """Return what is left of 1 after an age in microseconds; below 0, where a clock went back, counts as 0."""
        days = max(0, age_us) / DAY_US
        if self.law == "none":
            return 1.0
        if self.law == "power":
            left = (1.0 + days / self.half_life_days) ** -self.exponent
        else:
            left = 2.0 ** (-days / self.half_life_days)
        if self.law == "two-component":
            left = self.fast_share * 2.0 ** (-days / self.fast_half_life_days) + (1.0 - self.fast_share) * left
        return float(max(self.floor, left))


def faded(
    initial: NDArray[np.float32],
    touched_us: NDArray[np.int64],
    evergreen: NDArray[np.bool_],
    now_us: int,
    fading: Fading,
) -> NDArray[np.float32]:
    """Return the strengths at a time of bindings that were this strong when they were last touched.

    Parameters
    ----------
    initial : ndarray of float32, shape (k,), in [0, 1]
    touched_us : ndarray of int64, shape (k,)
        Microseconds since 1970.
    evergreen : ndarray of bool, shape (k,)
        Which never fade.
    now_us : int
    fading : Fading

    Returns
    -------
    ndarray of float32, shape (k,)
        From the initial strength itself, not from the last one: the law need not be exponential, and nothing drifts
        however often a cycle runs.
    """
    moments_us, position = np.unique(touched_us, return_inverse=True)
    left = np.array([fading.left_after(now_us - moment) for moment in moments_us.tolist()], np.float32)
    factors = left[position.reshape(-1)] if len(left) else np.empty(0, np.float32)
    factors[evergreen] = 1.0
    return initial * factors
