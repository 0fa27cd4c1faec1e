"""The actor of a binding service: a process bound to one NUMA node that serves durable shards.

A thin face of :class:`~cluster_engine.shards.durable.DurableShards`, whose methods many threads call at a time. What
kept it from starting is raised by every call, so that its type survives.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import native_simd
from cluster_engine.errors import ClusterEngineError
from cluster_engine.shards.actor import ActorReport
from cluster_engine.shards.affinity import NumaPolicy, bind_to_node, threads_for
from cluster_engine.shards.durable import DurableShards
from cluster_engine.shards.memory import require_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from cluster_engine.search.conditions import Condition
    from cluster_engine.shards.mutation import Mutation
    from cluster_engine.shards.placement import MemoryPlan
    from cluster_engine.shards.shard import Columns
    from cluster_engine.shards.spread import Cues, SpreadRule
    from cluster_engine.shards.topology import NumaNode
    from cluster_engine.store.search import Neighbours
    from cluster_engine.store.segments import Committed

    Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]
    NamedRanked = tuple[NDArray[np.int64] | list[str], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What all actors of a service agree on.

    Attributes
    ----------
    store : str
        Path of the store.
    life : int
        Start of the service.
    n_actors, n_shards : int
    memory_limit_bytes : int or None
        Of the bindings and centroids of one actor.
    """

    store: str
    life: int
    n_actors: int
    n_shards: int
    memory_limit_bytes: int | None = None


class IndexActor:
    """Serves the shards of one NUMA node.

    Parameters
    ----------
    node : NumaNode or None
        Where to bind; None binds nothing.
    policy : NumaPolicy
    threads : int or None
        Threads of the native library; default, one for each CPU that the binding left.
    plan : MemoryPlan
        Where the memory of the bindings goes.
    facts : ServiceFacts
    actor : int
        Number of this one.
    """

    def __init__(
        self,
        node: NumaNode | None,
        policy: NumaPolicy,
        threads: int | None,
        *,
        plan: MemoryPlan,
        facts: ServiceFacts,
        actor: int,
    ) -> None:
        self._actor = actor
        self._facts = facts
        self._refusal: ClusterEngineError | None = None
        try:
            # First of all: memory allocated before the binding may lie on any node.
            self._placement = bind_to_node(node, policy)
            require_plan(plan)
            self._threads = threads or threads_for(self._placement)
            self._opened = DurableShards(
                facts.store,
                life=facts.life,
                actor=actor,
                n_actors=facts.n_actors,
                n_shards=facts.n_shards,
                threads=self._threads,
                plan=plan,
                memory_limit_bytes=facts.memory_limit_bytes,
            )
        except ClusterEngineError as refusal:
            self._refusal = refusal

    @property
    def _shards(self) -> DurableShards:
        if self._refusal is not None:
            raise self._refusal
        return self._opened

    def report(self) -> ActorReport:
        """Return the identity and the placement that took effect; the first call to make.

        Raises
        ------
        ClusterEngineError
            What kept the actor from starting: placement, store or log.
        """
        self._shards  # noqa: B018 - raises
        return ActorReport(os.getpid(), native_simd.active_isa(), self._threads, self._placement)

    def describe(self) -> tuple[ServiceFacts, bool, int]:
        """Return what all actors agree on, whether ids of episodes are strings, and the dimension of centroids."""
        return self._facts, self._shards.is_string_ids, self._shards.shard.dimension

    def change(self, mutation: Mutation, op_id: int, names: list[str] | None) -> bool:
        """Apply a batch once, durably; see `DurableShards.change`."""
        return self._shards.change(mutation, op_id, names)

    def verify(self, mutation: Mutation, op_id: int) -> None:
        """Raise what would refuse a batch now."""
        self._shards.verify(mutation, op_id)

    def weak_bindings(self, below: float, op_id: int) -> tuple[Columns, bool]:
        """Return the bindings below a strength, and whether this operation has changed anything here."""
        return self._shards.weak_bindings(below), self._shards.has_applied(op_id)

    def count_strong(self, episodes: NDArray[np.int64], below: float) -> NDArray[np.int64]:
        """Return how many bindings of each episode are not below a strength; episodes ascend."""
        return self._shards.count_strong(episodes, below)

    def unbind_weak(self, concept_ids: NDArray[np.int64], episodes: NDArray[np.int64], below: float, op_id: int) -> int:
        """Remove what is still below a strength; return how many."""
        return self._shards.unbind_weak(concept_ids, episodes, below, op_id)

    def states(self, concept_ids: NDArray[np.int64]) -> native_simd.ConceptStates:
        """Return what is known of concepts."""
        return self._shards.shard.states(concept_ids)

    def fan_out(self, concept_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of bindings of each concept."""
        return self._shards.shard.fan_out(concept_ids)

    def episodes_of(self, concept_id: int, k: int | None, min_strength: float) -> NamedRanked:
        """Return the strongest bindings of a concept, with the episodes' ids in the store."""
        episodes, strengths = _strongest(self._shards.shard.episodes_of(concept_id), k, min_strength)
        return (self._shards.names(episodes) if self._shards.is_string_ids else episodes), strengths

    def concepts_of(self, episode: int, k: int | None, min_strength: float) -> Ranked:
        """Return the strongest bindings of an episode to concepts here."""
        return _strongest(self._shards.shard.concepts_of(episode), k, min_strength)

    def bindings(self) -> tuple[Columns, list[str] | None]:
        """Return all bindings, and the ids of their episodes if those are strings."""
        found = self._shards.shard.bindings()
        return found, self._shards.names(found[1]) if self._shards.is_string_ids else None

    def spread(
        self,
        episode_cues: dict[int, float],
        concept_cues: Mapping[int, float] | None,
        steps: int,
        rule: SpreadRule,
        k: int | None,
    ) -> native_simd.Spread:
        """Spread over the bindings here, which are all."""
        return self._shards.shard.spread(episode_cues, concept_cues, steps=steps, rule=rule, k=k)

    def spread_step(self, cues: Cues, rule: SpreadRule) -> native_simd.Spread:
        """Take one step over the bindings here."""
        return self._shards.shard.spread_step(cues, rule)

    def known_names(self, episodes: NDArray[np.int64]) -> dict[int, str]:
        """Return the ids of those numbered episodes that are bound here."""
        return self._shards.known_names(episodes)

    def search(self, vectors: NDArray[np.generic], k: int, where: Sequence[Condition], exact: bool) -> Neighbours:  # noqa: FBT001 - Ray's own call
        """Return the nearest concepts here."""
        return self._shards.search(vectors, k, where=where, exact=exact)

    def capture(self, committed: Committed) -> pa.Table:
        """Begin a segment of the log with what is to become a version, and return it."""
        return self._shards.capture(committed)

    def release(self, committed: Committed) -> None:
        """Remove what the log has of before a published version."""
        self._shards.release(committed)

    def statistics(self) -> dict[str, Any]:
        """Return counts and sizes, and which process this is."""
        who = {"actor": self._actor, "process_id": os.getpid(), "isa": native_simd.active_isa()}
        return {**who, "threads": self._threads, **self._shards.statistics()}

    def close(self) -> None:
        """Make the log durable and let go of it; the last call."""
        if self._refusal is None:
            self._opened.close()


def _strongest(found: Ranked, k: int | None, min_strength: float) -> Ranked:
    n = int(np.count_nonzero(found[1] >= np.float32(min_strength)))
    n = n if k is None else min(n, k)
    return found[0][:n], found[1][:n]
