"""An index of bindings between concepts and episodes, in memory.

It owns the bindings, in both directions, and what is known of a concept. It refuses to know where they are stored, what
an id stands for and when anything should decay.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from native_simd.arguments import require_integer, require_real, require_threads
from native_simd.arrays import check_status, require_contiguous
from native_simd.binding_answers import BindingLists, ConceptStates, IndexStatistics, Spread
from native_simd.binding_arguments import is_applied, require_column, require_int64
from native_simd.binding_tiers import IndexTiers
from native_simd.index_memory import IndexMemory
from native_simd.isa import active_code, ffi, lib
from native_simd.packing import RowError
from native_simd.spreading import SpreadLaw, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]
    Float32Array = NDArray[np.float32]

ChangeKind: TypeAlias = Literal["bind", "set_strengths", "add_strengths", "unbind"]

MOST_SHARDS = 256
_CHANGES = {
    "bind": lib.NS_BIND,
    "set_strengths": lib.NS_SET_STRENGTHS,
    "add_strengths": lib.NS_ADD_STRENGTHS,
    "unbind": lib.NS_UNBIND,
}
_INT64 = np.iinfo(np.int64)
_LARGEST_DT = 2.0**127
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


class BindingIndex:
    """Bindings (concept, episode, strength), each pair at most once, with strengths in [0, 1].

    Parameters
    ----------
    n_shards : int
        Logical shards, a power of two up to 256. Answers do not depend on it.

    Raises
    ------
    TypeError, ValueError
        Not a power of two.
    MemoryError

    Attributes
    ----------
    n_shards : int
    memory : IndexMemory
        Where the arrays lie.
    tiers : IndexTiers
        Which concepts have their bindings elsewhere.

    Notes
    -----
    Any number of threads may call: calls release the GIL, and each locks the shards that it needs, all before it begins
    and until it ends. So a batch is applied as a whole, and is seen as a whole or not at all.

    A mutation has an operation id: the second time, it does nothing and says so. One that is refused changes nothing
    and leaves its id unused. Ids of concepts and of episodes are any int64. ``README.md`` states layout and costs.
    """

    def __init__(self, n_shards: int = 16) -> None:
        count = require_integer(n_shards, "n_shards", least=1)
        if count > MOST_SHARDS or count & (count - 1):
            raise ValueError(f"n_shards must be a power of two up to {MOST_SHARDS}, got {n_shards}")
        handle = lib.ns_index_create(count)
        if handle == ffi.NULL:
            raise MemoryError(f"no memory for {count} shards")
        self._handle = ffi.gc(handle, lib.ns_index_destroy)
        self.n_shards = count
        self.memory = IndexMemory(self._handle)
        self.tiers = IndexTiers(self._handle)

    def bind(
        self,
        concept_ids: Int64Array,
        episode_ids: Int64Array,
        strengths: Float32Array,
        op_id: int,
        *,
        threads: int = 1,
    ) -> bool:
        """Add bindings, and set the strengths of those that are there.

        Parameters
        ----------
        concept_ids, episode_ids : ndarray of int64, shape (n,)
        strengths : ndarray of float32, shape (n,), in [0, 1]
        op_id : int
            Name of the operation, an int64.
        threads : int
            They pay from some 100,000 bindings on.

        Returns
        -------
        bool
            False if the operation had been applied before.

        Raises
        ------
        TypeError
            An array has another type or shape.
        RowError
            A strength is out of range, or a pair occurs twice.
        MemoryError

        Notes
        -----
        O(n) expected; about 100 to 400 ns for a new binding, as :meth:`set_strengths` for others.
        """
        return self._change(lib.NS_BIND, (concept_ids, episode_ids), ("strengths", strengths), op_id, threads)

    def set_strengths(
        self,
        concept_ids: Int64Array,
        episode_ids: Int64Array,
        strengths: Float32Array,
        op_id: int,
        *,
        threads: int = 1,
    ) -> bool:
        """Set the strengths of bindings that are there; as :meth:`bind`, and `RowError` for a pair that is not."""
        return self._change(lib.NS_SET_STRENGTHS, (concept_ids, episode_ids), ("strengths", strengths), op_id, threads)

    def add_strengths(
        self,
        concept_ids: Int64Array,
        episode_ids: Int64Array,
        amounts: Float32Array,
        op_id: int,
        *,
        threads: int = 1,
    ) -> bool:
        """Add amounts in [-1, 1] to the strengths of bindings that are there, as :meth:`set_strengths`.

        Adding is defined with limits: the sum, rounded to float32, is 0 where it is below 0, and 1 where it is above 1.
        """
        return self._change(lib.NS_ADD_STRENGTHS, (concept_ids, episode_ids), ("amounts", amounts), op_id, threads)

    def unbind(self, concept_ids: Int64Array, episode_ids: Int64Array, op_id: int, *, threads: int = 1) -> bool:
        """Remove bindings that are there; `RowError` for a pair that is not, or occurs twice.

        A concept goes with its last binding, and so does what was known of it.
        """
        return self._change(lib.NS_UNBIND, (concept_ids, episode_ids), None, op_id, threads)

    def verify_change(
        self, kind: ChangeKind, concept_ids: Int64Array, episode_ids: Int64Array, values: Float32Array | None = None
    ) -> None:
        """Raise what a change would raise as an operation that has not been applied, and change nothing.

        Parameters
        ----------
        kind : {"bind", "set_strengths", "add_strengths", "unbind"}
        concept_ids, episode_ids : ndarray of int64, shape (n,)
        values : ndarray of float32, shape (n,)
            Strengths or amounts; not for "unbind".

        Raises
        ------
        RowError, TypeError, MemoryError
            As the method of that name.

        Notes
        -----
        Costs what the change costs: it is made and taken back, where no reader sees it.
        """
        name = "amounts" if kind == "add_strengths" else "strengths"
        self._change(_CHANGES[kind], (concept_ids, episode_ids), None if values is None else (name, values), None, 1)

    def activate(self, concept_ids: Int64Array, at: int, op_id: int) -> bool:
        """Count an activation of each concept at a time, in any tick; `RowError` for a concept that is not here.

        One that comes twice is activated twice. The latest time is kept, whatever the order of calls.
        """
        concepts = require_contiguous(concept_ids, np.int64, "concept_ids")
        bad_row = ffi.new("int64_t *")
        status = lib.ns_index_activate(
            self._handle,
            require_int64(op_id, "op_id"),
            ffi.from_buffer("int64_t[]", concepts),
            len(concepts),
            require_int64(at, "at"),
            bad_row,
        )
        return is_applied(status, bad_row, concepts)

    def decay(self, half_lives: float, op_id: int, *, threads: int = 1) -> bool:
        """Multiply every strength by ``2**-half_lives``, at least 0, with an error of at most 2.6e-7 of the result.

        The factor is of :func:`native_simd.decay_half_life`. O(n), at the speed of memory.
        """
        count = require_real(half_lives, "half_lives")
        if not count >= 0:
            raise ValueError(f"half_lives must be at least 0, got {half_lives!r}")
        status = lib.ns_index_decay(
            self._handle, active_code(), require_int64(op_id, "op_id"), count, require_threads(threads)
        )
        return is_applied(status)

    def decay_concepts(self, concept_ids: Int64Array, rates: Float32Array, dt: float, op_id: int) -> bool:
        """Multiply the strengths of each concept by ``exp(-rate * dt)``.

        Parameters
        ----------
        concept_ids : ndarray of int64, shape (n,)
            `RowError` for one that is not here. One that comes twice decays twice.
        rates : ndarray of float32, shape (n,)
            At least 0, per unit of ``dt`` (`RowError`).
        dt : float
            0 to 2**127.
        op_id : int
        """
        concepts = require_contiguous(concept_ids, np.int64, "concept_ids")
        speeds = require_column(rates, "rates", len(concepts))
        time = require_real(dt, "dt")
        if not 0 <= time <= _LARGEST_DT:
            raise ValueError(f"dt must be between 0 and 2**127, got {dt!r}")
        bad_row = ffi.new("int64_t *")
        status = lib.ns_index_decay_concepts(
            self._handle,
            active_code(),
            require_int64(op_id, "op_id"),
            ffi.from_buffer("int64_t[]", concepts),
            ffi.from_buffer("float[]", speeds),
            len(concepts),
            time,
            bad_row,
        )
        if status == lib.NS_E_ROW:
            row = int(bad_row[0])
            raise RowError(row, f"rate {speeds[row]} is not at least 0")
        return is_applied(status, bad_row, concepts)

    def forget(self, below: float, op_id: int, *, keep: int = 1, threads: int = 1) -> int | None:
        """Remove the bindings weaker than ``below``, but never an episode: its strongest ``keep`` bindings stay.

        Parameters
        ----------
        below : float
            At least 0; rounded to float32.
        op_id : int
        keep : int
            At least 1. Of bindings of equal strength, those of smaller concept ids are kept.
        threads : int

        Returns
        -------
        int or None
            How many were removed; None if the operation had been applied before.

        Notes
        -----
        Nothing else looks for weak bindings: call it when there are many. O(n + weak * n_shards), all shards locked.
        """
        limit = require_real(below, "below")
        if not 0 <= limit <= _LARGEST_FLOAT32:
            raise ValueError(f"below must be at least 0 and finite in float32, got {below!r}")
        n_kept = min(require_integer(keep, "keep", least=1), _INT64.max)
        n_forgotten = ffi.new("int64_t *")
        status = lib.ns_index_forget(
            self._handle, require_int64(op_id, "op_id"), limit, n_kept, n_forgotten, require_threads(threads)
        )
        return int(n_forgotten[0]) if is_applied(status) else None

    def fan_out(self, concept_ids: Int64Array, *, threads: int = 1) -> Int64Array:
        """Return the number of bindings of each concept, shape (n,); 0 for one that is not here."""
        return self._look_up(concept_ids, 1, threads)[0]

    def states(self, concept_ids: Int64Array, *, threads: int = 1) -> ConceptStates:
        """Return all that is known of each concept."""
        return ConceptStates(*self._look_up(concept_ids, 4, threads))

    def episodes_of(self, concept_ids: Int64Array) -> BindingLists:
        """Return the episodes of each concept, of one moment; none for one that is not here."""
        return self._lists(0, require_contiguous(concept_ids, np.int64, "concept_ids"))

    def concepts_of(self, episode_ids: Int64Array) -> BindingLists:
        """Return the concepts of each episode, of one moment; none for one that is not here."""
        return self._lists(1, require_contiguous(episode_ids, np.int64, "episode_ids"))

    def spread(
        self,
        episode_ids: Int64Array,
        episode_units: Int64Array,
        concept_ids: Int64Array,
        concept_units: Int64Array,
        *,
        steps: int,
        law: SpreadLaw = "sqrt",
        half_lives: float = 0.0,
        cutoff_units: int = 0,
        k: int | None = None,
        threads: int = 1,
    ) -> Spread:
        """Spread activation from cues over the bindings: episode -> concept -> episode, step after step.

        Parameters
        ----------
        episode_ids, concept_ids : ndarray of int64, shapes (n,) and (m,)
            Cues, none twice. One that is not here reaches nothing, and is no error.
        episode_units, concept_units : ndarray of int64, shapes (n,) and (m,)
            What each cue starts with, at least 0, in units of 2**-32.
        steps : int
            1 to 256.
        law : {"sqrt", "linear", "log", "none"}
            What a concept passes on is divided by ``sqrt(f)``, ``f`` or ``1 + ln f`` of its fan-out f (as
            :func:`native_simd.fan_effect`), or by 1.
        half_lives : float
            Of activation in a step, at least 0: what a concept passes on is multiplied by ``2**-half_lives``, with the
            factor of :meth:`decay`.
        cutoff_units : int
            What a node has received in a step, or a cue, is passed on if it is at least this, 0 to 2**62; if it is
            less, it still counts for its own node.
        k : int, optional
            The best so many of each side; default, all.
        threads : int
            They pay from some 500,000 bindings a step on; more than 8 are as 8.

        Returns
        -------
        Spread
            Whatever was reached, with the sum of what it received in all steps. Cues do not count for themselves, only
            what comes back to them does.

        Raises
        ------
        TypeError, RowError
            An array has another type or shape; a cue is negative, or occurs twice.
        ValueError
            A parameter is out of range, or all that is passed on would be 2**62 units (2**30) or more in sum.
        MemoryError

        Notes
        -----
        The same bytes for any number of shards and threads, on every instruction set: ``README.md``, "Spreading
        activation", defines each rounding and bounds the error. O(bindings that are passed over), at most all in each
        step; the first spread that meets a binding numbers its episode, some 15 ns. One spread at a time, of one
        moment.
        """
        cues = (episode_ids, episode_units), (concept_ids, concept_units)
        return spread(self._handle, *cues, steps, law, half_lives, cutoff_units, k, threads)

    def bindings(self, *, threads: int = 1) -> tuple[Int64Array, Int64Array, Float32Array]:
        """Return (concept ids, episode ids, strengths) of all bindings, by (concept, episode), of one moment."""
        count, capacity = ffi.new("int64_t *"), self.statistics().n_bindings
        while True:
            concepts, episodes = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
            strengths = np.empty(capacity, np.float32)
            status = lib.ns_index_bindings(
                self._handle,
                capacity,
                count,
                ffi.from_buffer("int64_t[]", concepts),
                ffi.from_buffer("int64_t[]", episodes),
                ffi.from_buffer("float[]", strengths),
                require_threads(threads),
            )
            check_status(status)
            n = int(count[0])
            if n <= capacity:
                return concepts[:n], episodes[:n], strengths[:n]
            capacity = n  # there are more by now

    def operations(self) -> Int64Array:
        """Return the ids of the operations that have been applied, ascending."""
        capacity = 0
        while True:
            ids = np.empty(capacity, np.int64)
            n = int(lib.ns_index_operations(self._handle, capacity, ffi.from_buffer("int64_t[]", ids)))
            if n <= capacity:
                return np.sort(ids[:n])
            capacity = n

    def restore_operations(self, op_ids: Int64Array) -> None:
        """Make these the operations that count as applied: those of an index whose bindings this one has been given.

        To be called before the index is shared: no mutation may be under way.
        """
        ids = require_contiguous(op_ids, np.int64, "op_ids")
        check_status(lib.ns_index_restore_operations(self._handle, ffi.from_buffer("int64_t[]", ids), len(ids)))

    def restore_states(self, concept_ids: Int64Array, states: ConceptStates) -> None:
        """Give concepts the activations and versions that another index had for them; those not here are passed over.

        To be called before the index is shared: no mutation may be under way. ``states.fan_out`` is not looked at.
        """
        concepts = require_contiguous(concept_ids, np.int64, "concept_ids")
        columns = [states.last_activation, states.n_activations, states.version]
        given = [require_contiguous(column, np.int64, "states") for column in columns]
        if any(len(column) != len(concepts) for column in given):
            raise TypeError(f"states must have the shape of concept_ids, ({len(concepts)},)")
        addresses = [ffi.from_buffer("int64_t[]", column) for column in given]
        lib.ns_index_restore_states(self._handle, ffi.from_buffer("int64_t[]", concepts), len(concepts), *addresses)

    def statistics(self) -> IndexStatistics:
        """Return the sizes of the index."""
        values = ffi.new("int64_t[]", lib.NS_N_INDEX_STATISTICS)
        by_shard = ffi.new("int64_t[]", self.n_shards)
        lib.ns_index_statistics(self._handle, values, by_shard)
        names = (field.name for field in fields(IndexStatistics) if field.name != "bindings_by_shard")
        found = dict(zip(names, (int(value) for value in values), strict=True))
        return IndexStatistics(**found, bindings_by_shard=tuple(int(count) for count in by_shard))

    def check(self) -> None:
        """Verify that both directions agree, fan-outs are counts, and strengths are in [0, 1]; O(n).

        Raises
        ------
        AssertionError
            One of these does not hold: a defect of this library.
        """
        broken = lib.ns_index_check(self._handle)
        if broken:
            raise AssertionError(f"invariant {broken} of the binding index does not hold (bindings_index_upkeep.c)")

    def _change(
        self,
        kind: int,
        pairs: tuple[Int64Array, Int64Array],
        named_values: tuple[str, Float32Array] | None,
        op_id: int | None,
        threads: int,
    ) -> bool:
        """Apply a batch, or verify it if it has no operation id."""
        concepts = require_contiguous(pairs[0], np.int64, "concept_ids")
        episodes = require_contiguous(pairs[1], np.int64, "episode_ids")
        if episodes.shape != concepts.shape:
            raise TypeError(f"episode_ids must have the shape of concept_ids, {concepts.shape}, got {episodes.shape}")
        values = None if named_values is None else require_column(named_values[1], named_values[0], len(concepts))
        bad_row = ffi.new("int64_t *")
        batch = (
            ffi.from_buffer("int64_t[]", concepts),
            ffi.from_buffer("int64_t[]", episodes),
            ffi.NULL if values is None else ffi.from_buffer("float[]", values),
            len(concepts),
            bad_row,
            require_threads(threads),
        )
        if op_id is None:
            status = lib.ns_index_verify_change(self._handle, kind, *batch)
        else:
            status = lib.ns_index_change(self._handle, kind, require_int64(op_id, "op_id"), *batch)
        if status == lib.NS_E_ROW and values is not None:
            row = int(bad_row[0])
            what, allowed = ("amount", "[-1, 1]") if kind == lib.NS_ADD_STRENGTHS else ("strength", "[0, 1]")
            raise RowError(row, f"{what} {values[row]} is outside {allowed}")
        return is_applied(status, bad_row, concepts, episodes)

    def _look_up(self, concept_ids: Int64Array, n_columns: int, threads: int) -> list[Int64Array]:
        concepts = require_contiguous(concept_ids, np.int64, "concept_ids")
        columns = [np.empty(len(concepts), np.int64) for _ in range(n_columns)]
        addresses = [ffi.from_buffer("int64_t[]", column) for column in columns]
        status = lib.ns_index_look_up(
            self._handle,
            ffi.from_buffer("int64_t[]", concepts),
            len(concepts),
            *addresses,
            *[ffi.NULL] * (4 - n_columns),
            require_threads(threads),
        )
        check_status(status)
        return columns

    def _lists(self, of_episodes: int, names: Int64Array) -> BindingLists:
        offsets, capacity = np.empty(len(names) + 1, np.int64), 0
        while True:
            ids, strengths = np.empty(capacity, np.int64), np.empty(capacity, np.float32)
            status = lib.ns_index_lists(
                self._handle,
                of_episodes,
                ffi.from_buffer("int64_t[]", names),
                len(names),
                capacity,
                ffi.from_buffer("int64_t[]", offsets),
                ffi.from_buffer("int64_t[]", ids),
                ffi.from_buffer("float[]", strengths),
            )
            check_status(status)
            n = int(offsets[-1])
            if n <= capacity:
                return BindingLists(offsets, ids[:n], strengths[:n])
            capacity = n
