"""`BindingService`: the binding index as a service of detached Ray actors that any job of the cluster can find.

Owns everything about Ray that is the service's: starting and naming actors, sending each its share of a call, merging
the answers. Refuses to know how a mutation is logged and applied.

The actors are named ``index-0``, ``index-1``, ... in a namespace of Ray. The first is made last and removed first:
where it is, the service is whole.
"""

from __future__ import annotations

import operator
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster_engine.config import PoolConfig
from cluster_engine.errors import ServiceError
from cluster_engine.shards.affinity import NumaPolicy
from cluster_engine.shards.checkpoint import commit_checkpoint, plan_checkpoint
from cluster_engine.shards.durable import next_life
from cluster_engine.shards.forgetting import choose_forgotten
from cluster_engine.shards.index_actor import ServiceFacts
from cluster_engine.shards.measured_actor import MeasuredIndexActor
from cluster_engine.shards.merging import join_columns, merge_bindings, merge_counts, merge_neighbours, merge_ranked
from cluster_engine.shards.mutation import Mutation
from cluster_engine.shards.names import NamedActivations, NamedSpread, number_episodes
from cluster_engine.shards.pool import place_actors, runtime_environment
from cluster_engine.shards.shard import require_ids
from cluster_engine.shards.slots import owners, slots_of
from cluster_engine.shards.spread import SpreadRule, cues_of, spread_over
from native_simd import ConceptStates, RowError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.search.conditions import Condition
    from cluster_engine.shards.actor import ActorReport
    from cluster_engine.shards.spread import Cues
    from cluster_engine.shards.topology import Topology
    from cluster_engine.store.search import Neighbours
    from native_simd import Spread, SpreadLaw

_CALLS_AT_A_TIME = 16  # threads of an actor: readers, and writers that wait for one sync together
_NAMES_FREE_S, _LOOK_EVERY_S = 30.0, 0.01  # a busy cluster takes a second
_SENT_BYTES = 1 << 16  # an argument that Ray sends with the call; a larger one is put where all actors find it
_ARENAS = "2"  # of the C library's allocator: with one a thread, each keeps what its largest call took, 5 MB a minute


class BindingService:
    """A client of the service. Made by :meth:`start` and :meth:`attach`; this process must be connected to Ray.

    Attributes
    ----------
    namespace : str
    store : str
        Path of the store.
    n_actors : int
    dimension : int
        Of centroids.
    is_string_ids : bool
        Whether ids of episodes are strings; else they are integers.

    Notes
    -----
    Every mutation has an operation id, an int64 of the caller's choice: twice is once, whether the second is the
    caller's or Ray's after an actor died, and whatever was restarted or committed in between (the last 262,144
    operations of an actor are remembered). When a mutation returns, it is on disk. True says that something was left
    to do, False that it was a repetition, or empty.

    A refused batch (`RowError`, a ``ValueError`` that names the row) changes nothing. With several actors, all verify a
    batch before the first applies it; only if another client removes one of its bindings in between may some actors
    have applied their rows when the error comes.

    Any number of threads may call.
    """

    def __init__(self, namespace: str, handles: Sequence[Any], facts: tuple[ServiceFacts, bool, int]) -> None:
        self.namespace = namespace
        self._handles = list(handles)
        shared, self.is_string_ids, self.dimension = facts
        self.store = shared.store
        self.n_actors = shared.n_actors
        self._owners = owners(shared.n_shards, shared.n_actors)

    @classmethod
    def start(
        cls,
        store: str | Path,
        namespace: str = "default",
        *,
        config: PoolConfig | None = None,
        memory_limit_bytes: int | None = None,
        topologies: Mapping[str, Topology] | None = None,
    ) -> BindingService:
        """Start a service on the newest version of a store and the log that follows it.

        Parameters
        ----------
        store : path
            On a filesystem that all hosts of the cluster share, or on the one host.
        namespace : str
            Where the actors are found.
        config : PoolConfig, optional
            Actors a NUMA node, threads, NUMA policy, logical shards, and the time to start.
        memory_limit_bytes : int, optional
            What the bindings and centroids of an actor may take in memory; the rest lies on disk, beside the log
            (:class:`~cluster_engine.shards.tiered_index.TieredIndex`). No answer depends on it. Default, no limit.
        topologies : mapping of str to Topology, optional
            NUMA topology of each Ray node; default, read on the nodes.

        Raises
        ------
        ServiceError
            A service runs in the namespace, or the actors do not start.
        CommitConflictError
            Another service has the store, or the log follows another version than the newest.
        CapacityError
            The memory limit is below what must be in memory.
        StoreError, PlacementError
            See :mod:`cluster_engine.errors`. No actor is left.
        """
        settings = config or PoolConfig()
        if _find(namespace, 0) is not None:
            raise ServiceError(
                f"a binding service runs in the namespace {namespace!r} already; attach to it, or stop it"
            )
        places = place_actors(settings, topologies)
        facts = ServiceFacts(
            str(Path(store).absolute()), next_life(store), len(places), settings.n_shards, memory_limit_bytes
        )
        owners(facts.n_shards, facts.n_actors)  # refuses numbers that do not fit before anything starts
        handles: dict[int, Any] = {}
        try:
            for actor in reversed(range(len(places))):
                leftover = _find(namespace, actor)
                if leftover is not None:  # of a start that died before it made the first
                    _kill(namespace, {actor: leftover})
                handles[actor] = (
                    ray.remote(MeasuredIndexActor)
                    .options(
                        name=_name(actor),
                        namespace=namespace,
                        lifetime="detached",
                        num_cpus=0,  # it mostly waits, and batches need the CPUs
                        max_concurrency=_CALLS_AT_A_TIME,
                        max_restarts=-1,  # what it has is on disk
                        max_task_retries=-1,  # operations are applied once
                        runtime_env=runtime_environment(MALLOC_ARENA_MAX=_ARENAS),
                        scheduling_strategy=NodeAffinitySchedulingStrategy(places[actor].ray_node, soft=False),
                    )
                    .remote(
                        places[actor].node,
                        NumaPolicy(settings.numa),
                        places[actor].threads,
                        plan=places[actor].plan,
                        facts=facts,
                        actor=actor,
                    )
                )
            ordered = [handles[actor] for actor in range(len(places))]
            _get([handle.report.remote() for handle in ordered], timeout_s=settings.start_timeout_s)
            return cls(namespace, ordered, _get(ordered[0].describe.remote()))
        except GetTimeoutError:
            _kill(namespace, handles)
            raise ServiceError(
                f"{len(places)} actors did not start within {settings.start_timeout_s:g} s; raise pool.start_timeout_s "
                "if the store is large"
            ) from None
        except ValueError as error:
            _kill(namespace, handles)
            if "already taken" in str(error):  # Ray has no class for it
                raise ServiceError(f"another service starts in the namespace {namespace!r}") from error
            raise
        except BaseException:
            _kill(namespace, handles)
            raise

    @classmethod
    def attach(cls, namespace: str = "default") -> BindingService:
        """Return a client of the service of a namespace, from any job of the cluster.

        Raises
        ------
        ServiceError
            There is none.
        """
        first = _find(namespace, 0)
        if first is None:
            raise ServiceError(f"no binding service runs in the namespace {namespace!r}; start one")
        facts = _get(first.describe.remote())
        handles = [first, *(_find(namespace, actor) for actor in range(1, facts[0].n_actors))]
        if None in handles:
            raise ServiceError(
                f"the binding service of the namespace {namespace!r} is being stopped or has lost actors"
            )
        return cls(namespace, handles, facts)

    @property
    def version(self) -> int:
        """Version of the store that the log follows."""
        return int(_get(self._handles[0].statistics.remote())["version"])

    def reports(self) -> list[ActorReport]:
        """Return who each actor is, and where it runs."""
        return list(_get([handle.report.remote() for handle in self._handles]))

    def bind(self, concept_ids: ArrayLike, episode_ids: ArrayLike, strengths: ArrayLike, *, op_id: int) -> bool:
        """Add bindings, and set the strengths, in [0, 1], of those that are there.

        Concepts and episodes need not be in the store: new ones are bound as well.
        """
        names = [str(name) for name in np.asarray(episode_ids, object).tolist()] if self.is_string_ids else None
        return self._change(Mutation.of("bind", concept_ids, self._number(episode_ids), strengths), op_id, names)

    def set_strengths(
        self, concept_ids: ArrayLike, episode_ids: ArrayLike, strengths: ArrayLike, *, op_id: int
    ) -> bool:
        """Set the strengths of bindings that are there."""
        return self._change(Mutation.of("set_strengths", concept_ids, self._number(episode_ids), strengths), op_id)

    def add_strengths(self, concept_ids: ArrayLike, episode_ids: ArrayLike, amounts: ArrayLike, *, op_id: int) -> bool:
        """Add amounts in [-1, 1] to the strengths of bindings that are there; sums end at 0 and 1."""
        return self._change(Mutation.of("add_strengths", concept_ids, self._number(episode_ids), amounts), op_id)

    def unbind(self, concept_ids: ArrayLike, episode_ids: ArrayLike, *, op_id: int) -> bool:
        """Remove bindings that are there."""
        return self._change(Mutation.of("unbind", concept_ids, self._number(episode_ids)), op_id)

    def decay(self, *, half_life_s: float, dt_s: float, op_id: int) -> bool:
        """Multiply every strength by ``2**-(dt_s / half_life_s)``."""
        return self._change(Mutation.of("decay", half_life_s=half_life_s, dt_s=dt_s), op_id)

    def decay_concepts(self, concept_ids: ArrayLike, rates_per_s: ArrayLike, *, dt_s: float, op_id: int) -> bool:
        """Multiply the strengths of each concept by ``exp(-rate * dt_s)``."""
        return self._change(Mutation.of("decay_concepts", concept_ids, rates_per_s, dt_s=dt_s), op_id)

    def activate(self, concept_ids: ArrayLike, at: int, *, op_id: int) -> bool:
        """Count an activation of each concept, which has bindings, at a time in microseconds."""
        return self._change(Mutation.of("activate", concept_ids, at=operator.index(at)), op_id)

    def set_centroids(self, concept_ids: ArrayLike, vectors: ArrayLike, *, op_id: int) -> bool:
        """Set the centroids of concepts, whether the store has them or not: what :meth:`search` compares.

        They hold until a batch commits a version: it computes centroids from the episodes. A checkpoint leaves those of
        the store as they are, and the log goes on with these.
        """
        return self._change(Mutation.of("set_centroids", concept_ids, vectors), op_id)

    def forget(self, below: float, *, op_id: int, keep: int = 1) -> int | None:
        """Remove bindings weaker than ``below``, but never an episode: its ``keep`` >= 1 strongest bindings stay.

        Returns
        -------
        int or None
            How many were removed; None for a repetition.

        Notes
        -----
        Bindings are looked at before they are removed, and once more when they are: one that was strengthened in
        between stays. O(n) on each actor.
        """
        op_id = _require_op_id(op_id)
        if not 0 <= below <= np.finfo(np.float32).max or keep < 1:
            raise ValueError(f"below must be at least 0 and keep at least 1, got {below} and {keep}")
        found = _get([handle.weak_bindings.remote(below, op_id) for handle in self._handles])
        weak = join_columns([columns for columns, _ in found])
        episodes = np.unique(weak[1])
        n_strong = np.sum(_get([handle.count_strong.remote(episodes, below) for handle in self._handles]), axis=0)
        concepts, forgotten = choose_forgotten(*weak, n_strong, keep)
        home = self._home(concepts)
        n_removed = sum(
            _get(
                [
                    self._handles[actor].unbind_weak.remote(
                        concepts[home == actor], forgotten[home == actor], below, op_id
                    )
                    for actor in np.unique(home).tolist()
                ]
            )
        )
        return None if not n_removed and any(is_known for _, is_known in found) else n_removed

    def fan_out(self, concept_ids: ArrayLike) -> NDArray[np.int64]:
        """Return the number of bindings of each concept; 0 for one that is not here."""
        return self._look_up("fan_out", concept_ids, lambda answer: [answer])[0]

    def states(self, concept_ids: ArrayLike) -> ConceptStates:
        """Return fan-out, activations and version of each concept.

        A version goes up with every binding that the concept gains or loses, also across restarts.
        """
        names = ("fan_out", "last_activation", "n_activations", "version")
        return ConceptStates(*self._look_up("states", concept_ids, lambda answer: [getattr(answer, n) for n in names]))

    def episodes_of(
        self, concept_id: int, k: int | None = None, *, min_strength: float = 0.0
    ) -> tuple[NDArray[np.int64] | list[str], NDArray[np.float32]]:
        """Return the ``k`` strongest (episode ids, strengths) of a concept; of equals, by number of the episode."""
        (home,) = self._home(require_ids([concept_id], "concept_id")).tolist()
        found: tuple[NDArray[np.int64] | list[str], NDArray[np.float32]] = _get(
            self._handles[home].episodes_of.remote(concept_id, _require_k(k), min_strength)
        )
        return found

    def concepts_of(
        self, episode_id: int | str, k: int | None = None, *, min_strength: float = 0.0
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ``k`` strongest (concept ids, strengths) of an episode, strongest first, then by id."""
        (episode,) = self._number([episode_id]).tolist()
        parts = [handle.concepts_of.remote(episode, _require_k(k), min_strength) for handle in self._handles]
        ids, strengths = merge_ranked(_get(parts))
        return ids[:k], strengths[:k]

    def bindings(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | list[str], NDArray[np.float32]]:
        """Return (concept ids, episode ids, strengths) of all bindings, by concept, then number of the episode.

        Of one moment on each actor.
        """
        found = _get([handle.bindings.remote() for handle in self._handles])
        concepts, episodes, strengths = merge_bindings([columns for columns, _ in found])
        if not self.is_string_ids:
            return concepts, episodes, strengths
        names = {number: name for columns, ids in found for number, name in zip(columns[1].tolist(), ids, strict=True)}
        return concepts, [names[number] for number in episodes.tolist()], strengths

    def spread(
        self,
        episode_cues: Mapping[Any, float],
        concept_cues: Mapping[int, float] | None = None,
        *,
        steps: int = 3,
        fan_law: SpreadLaw = "sqrt",
        half_lives: float = 0.0,
        cutoff: float = 0.0,
        k: int | None = None,
    ) -> Spread | NamedSpread:
        """Return what activating episodes and concepts activates next; see `BindingShard.spread`.

        Parameters
        ----------
        episode_cues, concept_cues : mapping of id to float
            Activations, in [0, 2**30).
        steps : int
            1 to 256; with several actors, each is a call of all.
        fan_law, half_lives, cutoff
            See :class:`~cluster_engine.shards.spread.SpreadRule`.
        k : int, optional
            The best so many concepts and episodes; default, all.

        Returns
        -------
        Spread or NamedSpread
            ``concepts`` and ``episodes``, each with ``ids`` and ``activations``; the same for any number of actors. In
            a store whose ids are strings, those of episodes are.
        """
        rule = SpreadRule(fan_law, half_lives, cutoff)
        numbers = self._number(list(episode_cues)).tolist()
        cued = dict(zip(numbers, episode_cues.values(), strict=True))
        if self.n_actors == 1:
            found: Spread = _get(self._handles[0].spread.remote(cued, concept_cues, steps, rule, k))
        else:
            found = spread_over(self._take_step, cues_of(cued, concept_cues or {}), rule, steps=steps, k=k)
        if not self.is_string_ids:
            return found
        names: dict[int, str] = {}
        for known in _get([handle.known_names.remote(found.episodes.ids) for handle in self._handles]):
            names |= known
        ids = [names[number] for number in found.episodes.ids.tolist()]
        return NamedSpread(found.concepts, NamedActivations(ids, found.episodes.activations))

    def _take_step(self, cues: Cues, rule: SpreadRule) -> list[Spread]:
        return list(_get([handle.spread_step.remote(cues, rule) for handle in self._handles]))

    def search(
        self, vectors: ArrayLike, k: int = 10, *, where: Sequence[Condition] = (), exact: bool = False
    ) -> Neighbours:
        """Return the concepts whose centroids are nearest to each vector by cosine; see `ConceptStore.search`.

        An actor with many concepts looks at those of the nearest centres, unless ``exact``: then the answer is the
        same for any number of actors. Centroids are those of the version that the actors started from, or what
        :meth:`set_centroids` has made of them; conditions are on the columns of that version's concepts.
        """
        given = np.asarray(vectors)
        queries = ray.put(given) if given.nbytes > _SENT_BYTES else given
        calls = [handle.search.remote(queries, k, tuple(where), exact) for handle in self._handles]
        return merge_neighbours(_get(calls), k)

    def statistics(self) -> dict[str, Any]:
        """Return counts and sizes in all, and of each actor under ``actors``.

        With a memory limit, ``tiers`` says what is on disk and how often each tier was asked
        (`TieredIndex.tier_statistics`); else it is None.
        """
        actors = _get([handle.statistics.remote() for handle in self._handles])
        totals = {name: sum(found[name] for found in actors) for name in _SUMMED}
        largest = max(found["largest_fan_out"] for found in actors)
        return {
            "version": actors[0]["version"],
            "n_actors": self.n_actors,
            **totals,
            "largest_fan_out": largest,
            "tiers": merge_counts([found["tiers"] for found in actors if found["tiers"] is not None]),
            "actors": actors,
        }

    def checkpoint(self) -> int:
        """Commit what is in memory as the next version of the store, and cut the log; return the version.

        Mutations go on meanwhile, and are not part of it. Only bindings differ from the version before.

        Raises
        ------
        CommitConflictError
            Another writer has committed a version since the one that the log follows. Nothing was changed.
        StoreError
            The store cannot be written. Nothing was lost.
        """
        planned = plan_checkpoint(self.version)
        captures = _get([handle.capture.remote(planned) for handle in self._handles])
        commit_checkpoint(self.store, planned, captures)
        _get([handle.release.remote(planned) for handle in self._handles])
        return planned.version

    def stop(self, *, checkpoint: bool = True) -> None:
        """Stop the actors and give back their names.

        Parameters
        ----------
        checkpoint : bool
            Commit a version first; else the log has what is newer than the last one, and the next start replays it.
        """
        if checkpoint:
            self.checkpoint()
        try:
            _get([handle.close.remote() for handle in self._handles])
        finally:  # a log that has failed cannot be closed well, and the next start reads it as it is
            _kill(self.namespace, dict(enumerate(self._handles)))

    def _number(self, episode_ids: ArrayLike) -> NDArray[np.int64]:
        return number_episodes(episode_ids, is_string_ids=self.is_string_ids)

    def _home(self, concept_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._owners[slots_of(concept_ids)]

    def _change(self, mutation: Mutation, op_id: int, names: list[str] | None = None) -> bool:
        """Let each actor verify, then apply its rows."""
        op_id = _require_op_id(op_id)
        if not mutation.columns:
            return any(_get([handle.change.remote(mutation, op_id, None) for handle in self._handles]))
        home = self._home(mutation.columns[0])
        rows = {actor: np.flatnonzero(home == actor) for actor in np.unique(home).tolist()}
        parts = {actor: mutation.take(rows[actor]) for actor in rows}
        if len(rows) > 1:
            self._on_rows(rows, {actor: self._handles[actor].verify.remote(parts[actor], op_id) for actor in rows})
        calls = {
            actor: self._handles[actor].change.remote(
                parts[actor], op_id, names and [names[row] for row in rows[actor].tolist()]
            )
            for actor in rows
        }
        return any(self._on_rows(rows, calls))

    def _on_rows(self, rows: Mapping[int, NDArray[np.int64]], calls: Mapping[int, Any]) -> list[Any]:
        """Wait for calls about rows; the first row that any refuses is named as the caller knows it."""
        ray.wait(list(calls.values()), num_returns=len(calls))
        answers = {actor: _outcome(call) for actor, call in calls.items()}
        refused = [
            RowError(int(rows[actor][answer.row]), answer.reason)
            for actor, answer in answers.items()
            if isinstance(answer, RowError)
        ]
        if refused:
            raise min(refused, key=lambda refusal: refusal.row)
        return list(answers.values())

    def _look_up(self, method: str, concept_ids: ArrayLike, columns: Any) -> list[NDArray[np.int64]]:  # noqa: ANN401
        concepts = require_ids(concept_ids, "concept_ids")
        home = self._home(concepts)
        actors = np.unique(home).tolist() or [0]
        rows = [np.flatnonzero(home == actor) for actor in actors]
        calls = [getattr(self._handles[a], method).remote(concepts[r]) for a, r in zip(actors, rows, strict=True)]
        answers = [columns(answer) for answer in _get(calls)]
        found = [np.empty(len(concepts), np.int64) for _ in answers[0]]
        for chosen, answer in zip(rows, answers, strict=True):
            for column, part in zip(found, answer, strict=True):
                column[chosen] = part
        return found


_SUMMED = ("n_bindings", "n_concepts", "n_centroids", "n_bytes", "n_operations", "n_logged", "n_replayed", "log_bytes")


def _name(actor: int) -> str:
    return f"index-{actor}"


def _find(namespace: str, actor: int) -> Any:  # noqa: ANN401 - Ray's handles are not typed
    try:
        return ray.get_actor(_name(actor), namespace=namespace)
    except ValueError:  # Ray's way to say that there is none
        return None


def _kill(namespace: str, handles: Mapping[int, Any]) -> None:
    """End actors, and wait until their names are free: Ray gives them back some time after it was told."""
    for handle in handles.values():
        ray.kill(handle)
    give_up_s = time.monotonic() + _NAMES_FREE_S
    for actor, handle in handles.items():
        while _find(namespace, actor) == handle:
            if time.monotonic() > give_up_s:
                raise ServiceError(
                    f"the actor {_name(actor)!r} of the namespace {namespace!r} is still there {_NAMES_FREE_S:g} s "
                    "after Ray was told to end it"
                )
            time.sleep(_LOOK_EVERY_S)


def _get(calls: Any, timeout_s: float | None = None) -> Any:  # noqa: ANN401 - whatever was called
    """Return results of calls, or raise what an actor raised as itself."""
    try:
        return ray.get(calls, timeout=timeout_s)
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError as error:
        raise ServiceError(f"an actor of the binding service is gone: {error}") from error


def _outcome(call: Any) -> Any:  # noqa: ANN401 - as above
    """Return the result of a call, or the refusal of a row."""
    try:
        return _get(call)
    except RowError as refusal:
        return refusal


def _require_op_id(op_id: int) -> int:
    number = operator.index(op_id)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"op_id must be an int64, got {op_id!r}")
    return number


def _require_k(k: int | None) -> int | None:
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return k
