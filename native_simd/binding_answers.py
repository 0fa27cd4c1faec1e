"""What an index of bindings answers: plain arrays and counts, with nothing behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]
    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]

UNITS = 2**32  # of an activation of 1


@dataclass(frozen=True, slots=True)
class ConceptStates:
    """What is known of concepts, in the order asked for; all of shape (n,).

    Attributes
    ----------
    fan_out : ndarray of int64
        Number of bindings; 0 if the concept is not here.
    last_activation : ndarray of int64
        Latest time of activation; the least int64 if there was none.
    n_activations : ndarray of int64
    version : ndarray of int64
        Goes up with every binding that the concept gains or loses.
    """

    fan_out: Int64Array
    last_activation: Int64Array
    n_activations: Int64Array
    version: Int64Array


@dataclass(frozen=True, slots=True)
class BindingLists:
    """Bindings of several concepts, or of several episodes, laid end to end.

    Attributes
    ----------
    offsets : ndarray of int64, shape (n + 1,)
        Those of name i are ``offsets[i]:offsets[i + 1]``.
    ids : ndarray of int64
        Of the other side; strongest first, then smaller ids.
    strengths : ndarray of float32
    """

    offsets: Int64Array
    ids: Int64Array
    strengths: Float32Array


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """Sizes of an index.

    Attributes
    ----------
    n_bindings : int
        Those that are here.
    n_concepts : int
        Also those whose bindings are outside.
    n_bytes : int
        Memory allocated, the scratch memory of the last batch included.
    largest_fan_out : int
    n_operations : int
        Operations remembered.
    n_unkept : int
        Bindings here that are kept nowhere else, as they are now.
    n_concepts_outside, n_bindings_outside : int
    n_line_bytes : int
        Of the lines of concepts, and of what finds them.
    bindings_by_shard : tuple of int
        Those that are here.
    """

    n_bindings: int
    n_concepts: int
    n_bytes: int
    largest_fan_out: int
    n_operations: int
    n_unkept: int
    n_concepts_outside: int
    n_bindings_outside: int
    n_line_bytes: int
    bindings_by_shard: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Activations:
    """What reached concepts, or episodes: strongest first, then smaller ids.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
    units : ndarray of int64, shape (n,)
        Exact sums, in units of 2**-32; above 0.
    """

    ids: Int64Array
    units: Int64Array

    @property
    def activations(self) -> Float64Array:
        """The sums as float64, shape (n,): exact below 2**21, else rounded to nearest."""
        return self.units / UNITS


@dataclass(frozen=True, slots=True)
class Spread:
    """What a spread of activation reached.

    Attributes
    ----------
    concepts, episodes : Activations
    passed_units : int
        Sum of the cues of concepts and of all that any node passed on: what has the limit of 2**62.
    """

    concepts: Activations
    episodes: Activations
    passed_units: int
