"""Spreading activation over one shard or several: cues to whole units, and the steps of several shards made one.

A concept is on one shard, with all its bindings; an episode may be on many. So a step goes to every shard, and the sums
of episodes are added up before the next one. Sums are integers: the answer has the same bytes for any number of shards.
It knows nothing of how shards are reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from native_simd import UNITS, Activations, Spread, SpreadLaw

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LIMIT_UNITS = 2**62
_NOTHING = Activations(np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Cues:
    """What a spread, or a step of one, starts from; ids ascending."""

    episodes: Activations
    concepts: Activations


@dataclass(frozen=True, slots=True)
class SpreadRule:
    """How activation is passed on, the same in every step (:meth:`native_simd.BindingIndex.spread`).

    Attributes
    ----------
    fan_law : {"sqrt", "linear", "log", "none"}
        By what of its fan-out a concept divides what it passes on.
    half_lives : float
        Of activation in a step, at least 0.
    cutoff : float
        What is below it is not passed on; at least 0, rounded to 2**-32.
    """

    fan_law: SpreadLaw = "sqrt"
    half_lives: float = 0.0
    cutoff: float = 0.0

    @property
    def cutoff_units(self) -> int:
        """The cutoff in units of 2**-32."""
        return _units(self.cutoff, "cutoff")


def cues_of(episodes: Mapping[int, float], concepts: Mapping[int, float]) -> Cues:
    """Return cues from activations by id; ``ValueError`` for one that is not in [0, 2**30)."""
    return Cues(_cue_units(episodes, "episode"), _cue_units(concepts, "concept"))


def spread_over(
    take_step: Callable[[Cues, SpreadRule], Sequence[Spread]],
    cues: Cues,
    rule: SpreadRule,
    *,
    steps: int,
    k: int | None = None,
) -> Spread:
    """Spread over several shards, which have different concepts.

    Parameters
    ----------
    take_step : callable
        Returns what :meth:`cluster_engine.shards.shard.BindingShard.spread_step` of every shard does.
    cues : Cues
    rule : SpreadRule
    steps : int
        At least 1.
    k : int, optional
        The best so many of each side; default, all.

    Returns
    -------
    Spread
        That of one shard with all the bindings, to the byte.

    Raises
    ------
    ValueError
        More is passed on in sum than one shard would.

    Notes
    -----
    A step sends 16 bytes an episode that passes on to every shard, and brings as many back for each node reached.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    passed, reached = _total(cues.concepts), Cues(_NOTHING, _NOTHING)
    for _ in range(steps):
        cues = Cues(_at_least(cues.episodes, rule.cutoff_units), cues.concepts)
        given, parts = _total(cues.episodes), take_step(cues, rule)
        by_cues = given + _total(cues.concepts)
        passed += given + sum(part.passed_units - by_cues for part in parts)
        if passed >= _LIMIT_UNITS:
            raise ValueError(f"the cues are too large: over {steps} steps they pass on 2**30 or more; scale them down")
        received = _summed([part.episodes for part in parts])
        reached = Cues(
            _summed([reached.episodes, received]), _summed([reached.concepts, *(part.concepts for part in parts)])
        )
        if not len(received.ids):
            break
        cues = Cues(received, _NOTHING)
    return Spread(_best(reached.concepts, k), _best(reached.episodes, k), passed)


def _units(activation: float, what: str) -> int:
    if not 0 <= activation < _LIMIT_UNITS / UNITS:
        raise ValueError(f"{what} must be at least 0 and below 2**30, got {activation!r}")
    return round(activation * UNITS)


def _cue_units(cues: Mapping[int, float], side: str) -> Activations:
    ids = sorted(cues)
    units = [_units(cues[name], f"the cue of {side} {name}") for name in ids]
    return Activations(np.array(ids, np.int64), np.array(units, np.int64))


def _total(nodes: Activations) -> int:
    """Return the sum of all, which may be beyond 64 bits."""
    return (int((nodes.units >> 32).sum()) << 32) + int((nodes.units & (UNITS - 1)).sum())


def _at_least(nodes: Activations, cutoff_units: int) -> Activations:
    kept = nodes.units >= max(cutoff_units, 1)
    return Activations(nodes.ids[kept], nodes.units[kept])


def _summed(parts: Sequence[Activations]) -> Activations:
    """Return the sums of equal ids, by id."""
    ids = np.concatenate([part.ids for part in parts])
    order = np.argsort(ids)
    ids = ids[order]
    firsts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1)) if len(ids) else np.empty(0, np.int64)
    units = np.concatenate([part.units for part in parts])[order]
    return Activations(ids[firsts], np.add.reduceat(units, firsts) if len(ids) else units)


def _best(nodes: Activations, k: int | None) -> Activations:
    order = np.lexsort((nodes.ids, -nodes.units))[:k]
    return Activations(nodes.ids[order], nodes.units[order])
