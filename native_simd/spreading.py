"""One spread of activation over an index: its arguments checked, its answer read.

:meth:`native_simd.BindingIndex.spread` says what it means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from native_simd.arguments import require_code, require_integer, require_real, require_threads
from native_simd.arrays import check_status, require_contiguous
from native_simd.binding_answers import Activations, Spread
from native_simd.isa import active_code, ffi, lib
from native_simd.packing import RowError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]
    Cues = tuple[Int64Array, Int64Array]

SpreadLaw = Literal["sqrt", "linear", "log", "none"]

MOST_STEPS = 256  # chosen, not measured: far beyond where anything is left or everything is reached
_LAWS: dict[str, int] = {name: code for code, name in enumerate(get_args(SpreadLaw))}
_MOST_NODES = 2**62


def spread(  # noqa: PLR0917 - those of the one method that calls it
    handle: Any,  # noqa: ANN401 - a cffi pointer
    episode_cues: Cues,
    concept_cues: Cues,
    steps: int,
    law: SpreadLaw,
    half_lives: float,
    cutoff_units: int,
    k: int | None,
    threads: int,
) -> Spread:
    """Spread over an index; :meth:`native_simd.BindingIndex.spread`."""
    n_steps, cutoff = require_integer(steps, "steps", least=1), require_integer(cutoff_units, "cutoff_units", least=0)
    n_half_lives = require_real(half_lives, "half_lives")
    if n_steps > MOST_STEPS:
        raise ValueError(f"steps must be at most {MOST_STEPS}, got {steps}")
    if cutoff > lib.NS_MOST_UNITS:
        raise ValueError(f"cutoff_units must be at most 2**62, got {cutoff_units}")
    if not n_half_lives >= 0:
        raise ValueError(f"half_lives must be at least 0, got {half_lives!r}")
    episode_ids, episode_units = _require_cues(episode_cues, "episode")
    concept_ids, concept_units = _require_cues(concept_cues, "concept")
    request, answer = ffi.new("ns_spread_request *"), ffi.new("ns_spread_answer *")
    request.law, request.steps = require_code(law, _LAWS, "law"), n_steps
    request.half_lives, request.cutoff = n_half_lives, cutoff
    request.k = -1 if k is None else min(require_integer(k, "k", least=0), _MOST_NODES)
    request.n_concepts, request.n_episodes = len(concept_ids), len(episode_ids)
    columns = [ffi.from_buffer("int64_t[]", each) for each in (concept_ids, concept_units, episode_ids, episode_units)]
    request.concepts, request.concept_units, request.episodes, request.episode_units = columns
    try:
        status = lib.ns_index_spread(handle, active_code(), request, answer, require_threads(threads))
        if status == lib.NS_E_OVERFLOW:
            raise ValueError(
                f"episode_units and concept_units are too large: over steps={n_steps} they pass on 2**62 units (2**30) "
                f"or more; scale them down, or use another law ({law}), half_lives or cutoff_units"
            )
        check_status(status)
        return _read(answer, is_ranked=k is not None)
    finally:
        lib.ns_spread_answer_free(answer)


def _require_cues(cues: Cues, side: str) -> Cues:
    """Check ids and units of one side: as many, none negative, no id twice."""
    ids = require_contiguous(cues[0], np.int64, f"{side}_ids")
    units = require_contiguous(cues[1], np.int64, f"{side}_units")
    if units.shape != ids.shape:
        raise TypeError(f"{side}_units must have the shape of {side}_ids, {ids.shape}, got {units.shape}")
    if (units < 0).any():
        row = int(np.argmax(units < 0))
        raise RowError(row, f"{side}_units {units[row]} is not at least 0")
    if not (ids[1:] > ids[:-1]).all():
        order = np.argsort(ids, kind="stable")
        again = order[1:][ids[order[1:]] == ids[order[:-1]]]
        if len(again):
            row = int(again.min())
            raise RowError(row, f"{side} {ids[row]} occurs twice in {side}_ids")
    return ids, units


def _read(answer: Any, *, is_ranked: bool) -> Spread:  # noqa: ANN401 - a cffi pointer
    n, middle = answer.n_concepts + answer.n_episodes, answer.n_concepts
    ids = np.frombuffer(ffi.buffer(answer.ids, n * 8), np.int64)
    units = np.frombuffer(ffi.buffer(answer.units, n * 8), np.int64)
    sides = [(ids[:middle], units[:middle]), (ids[middle:], units[middle:])]
    if is_ranked:
        concepts, episodes = (Activations(*(column.copy() for column in side)) for side in sides)
    else:
        concepts, episodes = (_ranked(*side) for side in sides)
    return Spread(concepts, episodes, int(answer.passed))


def _ranked(ids: Int64Array, units: Int64Array) -> Activations:
    order = np.lexsort((ids, -units))
    return Activations(ids[order], units[order])
