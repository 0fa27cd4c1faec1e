"""The rules of a cycle: how concepts gain and lose strength, when they are promoted, when they retire.

Knows integers: strengths are parts per million, so "at least 0.1 after five cycles of 0.02" is true at the fifth. Each
rule is a function of columns; what the numbers are is the configuration's business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.concepts.fading import DAY_US
from cluster_engine.concepts.population import NEVER, PPM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.concepts.population import Population, Roster


@dataclass(frozen=True, slots=True)
class ReplayRule:
    """What an episode that joins a concept counts for: recency times stage times importance.

    Attributes
    ----------
    half_life_days : float or None
        Recency halves with it; None: whenever an episode was counts alike. One without a time counts as just now.
    stage_factor : float
        Of the whole batch.
    gain_ppm : int
        What a cycle adds to the strength of a concept whose episodes count for 1 or more in sum; less, in proportion.
    """

    half_life_days: float | None
    stage_factor: float
    gain_ppm: int


def replay_weights_ppm(roster: Roster, rows: NDArray[np.int64], now_us: int, rule: ReplayRule) -> NDArray[np.int64]:
    """Return what each of some episodes counts for, in parts per million, rounded down."""
    weights = roster.importances[rows].astype(np.float64) * rule.stage_factor
    if rule.half_life_days is not None:
        times_us, known = roster.times_us()
        ages_days = np.where(known[rows], np.maximum(now_us - times_us[rows], 0), 0) / DAY_US
        weights *= [2.0 ** (-age / rule.half_life_days) for age in ages_days.tolist()]
    return np.floor(weights * PPM).astype(np.int64)


def strengthened(
    population: Population,
    gained_ppm: NDArray[np.int64],
    now_us: int,
    rule: ReplayRule,
    *,
    is_replayed: NDArray[np.bool_],
) -> Population:
    """Let concepts that gained episodes gain strength, and count the idle cycles of the others.

    Parameters
    ----------
    population : Population
    gained_ppm : ndarray of int64, shape (m,)
        What the episodes that joined each count for in sum.
    is_replayed : ndarray of bool, shape (m,)
        Which concepts gained episodes. A retired one among them is retired no longer.
    """
    gains = rule.gain_ppm * np.minimum(gained_ppm, PPM) // PPM
    return replace(
        population,
        strengths_ppm=np.minimum(population.strengths_ppm + np.where(is_replayed, gains, 0), PPM),
        n_replays=population.n_replays + is_replayed,
        idle_cycles=np.where(is_replayed, 0, population.idle_cycles + 1),
        replayed_us=np.where(is_replayed, now_us, population.replayed_us),
        is_retired=population.is_retired & ~is_replayed,
    )


def weakened(population: Population, elapsed_us: int, half_life_days: float | None) -> Population:
    """Let all strengths fade by the time since the cycle before; without a half-life they stay."""
    if half_life_days is None:
        return population
    left = 2.0 ** (-max(0, elapsed_us) / DAY_US / half_life_days)
    return replace(population, strengths_ppm=np.floor(population.strengths_ppm * left).astype(np.int64))


@dataclass(frozen=True, slots=True)
class PromotionRule:
    """When a proto-concept becomes active: at all of these, the best first, so many a cycle."""

    strength_ppm: int
    n_replays: int
    coherence: float | None
    most_per_cycle: int | None


def promoted(population: Population, sizes: NDArray[np.int64], cycle: int, rule: PromotionRule) -> Population:
    """Promote proto-concepts: by strength, then coherence, then size, then id."""
    is_ready = (
        (population.promoted_cycle == NEVER)
        & ~population.is_retired
        & (population.strengths_ppm >= rule.strength_ppm)
        & (population.n_replays >= rule.n_replays)
    )
    if rule.coherence is not None:
        is_ready &= population.coherences >= rule.coherence
    best_first = np.lexsort((population.ids, -sizes, -population.coherences, -population.strengths_ppm))
    chosen = best_first[is_ready[best_first]][: rule.most_per_cycle]
    promoted_cycle = population.promoted_cycle.copy()
    promoted_cycle[chosen] = cycle
    return replace(population, promoted_cycle=promoted_cycle)


@dataclass(frozen=True, slots=True)
class RetirementRule:
    """When a concept retires: idle for so many cycles; or weaker than this, and older than so many cycles."""

    idle_cycles: int | None
    strength_ppm: int | None
    age_cycles: int


def retired(population: Population, cycle: int, rule: RetirementRule) -> Population:
    """Retire concepts. They keep their episodes and ids, and come back when an episode joins them."""
    is_over = np.zeros(len(population), np.bool_)
    if rule.idle_cycles is not None:
        is_over |= population.idle_cycles >= rule.idle_cycles
    if rule.strength_ppm is not None:
        is_weak = population.strengths_ppm < rule.strength_ppm
        is_over |= is_weak & (cycle - population.born_cycle > rule.age_cycles) & (population.idle_cycles > 0)
    return replace(population, is_retired=population.is_retired | is_over)
