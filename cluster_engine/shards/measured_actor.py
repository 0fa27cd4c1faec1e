"""The actor of a binding service as Ray runs it: each call of a client is counted and timed.

Knows what is worth measuring. What a call does is the business of
:class:`~cluster_engine.shards.index_actor.IndexActor`.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cluster_engine.shards.index_actor import IndexActor
from cluster_engine.shards.metrics import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    import native_simd
    from cluster_engine.search.conditions import Condition
    from cluster_engine.shards.affinity import NumaPolicy, PlacementReport
    from cluster_engine.shards.index_actor import NamedRanked, Ranked, ServiceFacts
    from cluster_engine.shards.mutation import Mutation
    from cluster_engine.shards.placement import MemoryPlan
    from cluster_engine.shards.spread import Cues, SpreadRule
    from cluster_engine.shards.topology import NumaNode
    from cluster_engine.store.search import Neighbours

_SAMPLE_EVERY_S = 2.0  # below the 10 s at which Ray collects; chosen, not measured


class MeasuredIndexActor(IndexActor):
    """An `IndexActor` that records what it does."""

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
        super().__init__(
            node, policy, threads, plan=plan, facts=facts, actor=actor
        )  # binds this process, so it comes first
        self._recorder = Recorder()
        self._label = str(actor)
        self._known = dict.fromkeys(_COUNTERS.values(), 0.0)
        if self._refusal is None:
            threading.Thread(target=self._sample, name="sizes", daemon=True).start()

    def change(self, mutation: Mutation, op_id: int, names: list[str] | None) -> bool:
        """As `IndexActor.change`."""
        with self._measured(mutation.kind, mutation.n_rows):
            return super().change(mutation, op_id, names)

    def unbind_weak(self, concept_ids: NDArray[np.int64], episodes: NDArray[np.int64], below: float, op_id: int) -> int:
        """As `IndexActor.unbind_weak`."""
        with self._measured("forget", len(concept_ids)):
            return super().unbind_weak(concept_ids, episodes, below, op_id)

    def states(self, concept_ids: NDArray[np.int64]) -> native_simd.ConceptStates:
        """As `IndexActor.states`."""
        with self._measured("states", len(concept_ids)):
            return super().states(concept_ids)

    def fan_out(self, concept_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """As `IndexActor.fan_out`."""
        with self._measured("fan_out", len(concept_ids)):
            return super().fan_out(concept_ids)

    def episodes_of(self, concept_id: int, k: int | None, min_strength: float) -> NamedRanked:
        """As `IndexActor.episodes_of`."""
        with self._measured("episodes_of", 1):
            return super().episodes_of(concept_id, k, min_strength)

    def concepts_of(self, episode: int, k: int | None, min_strength: float) -> Ranked:
        """As `IndexActor.concepts_of`."""
        with self._measured("concepts_of", 1):
            return super().concepts_of(episode, k, min_strength)

    def search(self, vectors: NDArray[np.generic], k: int, where: Sequence[Condition], exact: bool) -> Neighbours:  # noqa: FBT001 - Ray's own call
        """As `IndexActor.search`."""
        with self._measured("search", len(vectors)):
            return super().search(vectors, k, where, exact)

    def spread(
        self,
        episode_cues: dict[int, float],
        concept_cues: Mapping[int, float] | None,
        steps: int,
        rule: SpreadRule,
        k: int | None,
    ) -> native_simd.Spread:
        """As `IndexActor.spread`."""
        with self._measured("spread", len(episode_cues) + len(concept_cues or ())):
            return super().spread(episode_cues, concept_cues, steps, rule, k)

    def spread_step(self, cues: Cues, rule: SpreadRule) -> native_simd.Spread:
        """As `IndexActor.spread_step`."""
        with self._measured("spread_step", len(cues.episodes.ids) + len(cues.concepts.ids)):
            return super().spread_step(cues, rule)

    @contextmanager
    def _measured(self, operation: str, n_rows: int) -> Iterator[None]:
        outcome, start_s = "refused", time.perf_counter()
        try:
            yield
            outcome = "done"
        finally:
            seconds = time.perf_counter() - start_s
            self._recorder.add("shard_calls", actor=self._label, operation=operation, outcome=outcome)
            self._recorder.observe("shard_call_seconds", seconds, operation=operation)
            self._recorder.observe("shard_batch_rows", n_rows, operation=operation)

    def _sample(self) -> None:
        """Record sizes as long as the process lives: Ray shows a gauge once each time that it is set."""
        placement = self.report().placement
        while True:
            self._record_sizes(self.statistics())
            self._record_placement(placement)
            time.sleep(_SAMPLE_EVERY_S)

    def _record_sizes(self, found: dict[str, Any]) -> None:
        for metric, name in _GAUGES.items():
            self._recorder.set(metric, found[name], actor=self._label)
        for metric, name in _COUNTERS.items():
            self._recorder.add(metric, found[name] - self._known[name], actor=self._label)
            self._known[name] = found[name]
        if found["tiers"] is not None:
            self._record_tiers(found["tiers"])

    def _record_tiers(self, found: dict[str, Any]) -> None:
        for metric, name in _TIER_GAUGES.items():
            self._recorder.set(metric, found[name], actor=self._label)
        for metric, name in _TIER_COUNTERS.items():
            for operation, by_tier in found[name].items():
                for tier, n in by_tier.items():
                    key = f"{name} {operation} {tier}"
                    labels = {"actor": self._label, "operation": operation, "tier": tier}
                    self._recorder.add(metric, n - self._known.get(key, 0.0), **labels)
                    self._known[key] = n

    def _record_placement(self, placement: PlacementReport) -> None:
        asked = {
            "cpus": (placement.cpus_asked, placement.cpus),
            "memory": (placement.memory_asked, placement.memory),
        }
        for resource, (wanted, got) in asked.items():
            if wanted is not None:
                self._recorder.set("placement_bound", float(wanted == got), actor=self._label, resource=resource)


_GAUGES = {
    "shard_bindings": "n_bindings",
    "shard_concepts": "n_concepts",
    "shard_bytes": "n_bytes",
    "log_bytes": "log_bytes",
    "log_replayed": "n_replayed",
}
_TIER_GAUGES = {"shard_bindings_outside": "n_bindings_outside", "shard_limit_bytes": "limit_bytes"}
_TIER_COUNTERS = {"tier_hits": "hits", "tier_misses": "misses"}
_COUNTERS = {"log_fsyncs": "n_syncs", "log_fsync_seconds": "sync_s"}
