"""An index in the process of the test, for what asks one: the binding shard, and centroids searched one by one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cluster_engine.shards.centroids import Centroids
from cluster_engine.shards.mutation import Mutation
from cluster_engine.shards.shard import BindingShard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cluster_engine.search.conditions import Condition
    from cluster_engine.store.search import Neighbours

    Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]


def active(nodes: Mapping[int, float]) -> SimpleNamespace:
    return SimpleNamespace(ids=np.array(list(nodes), np.int64), activations=np.array(list(nodes.values())))


def strongest(ids: NDArray[np.int64], strengths: NDArray[np.float32], k: int | None, min_strength: float) -> Ranked:
    strong = strengths >= min_strength
    return ids[strong][:k], strengths[strong][:k]


class InProcessIndex:
    """Answers as `cluster_engine.serving.index.Index` says, without actors or a store."""

    version = 7
    is_string_ids = False

    def __init__(self, concept_ids: NDArray[np.int64], centroids: NDArray[np.float32]) -> None:
        self.shard = BindingShard(centroids.shape[1])
        facts = pa.table({"concept_id": concept_ids, "n_episodes": concept_ids % 5})
        self._centroids = Centroids(concept_ids, centroids, facts)

    def search(self, vectors: NDArray[np.float32], k: int, *, where: Sequence[Condition]) -> Neighbours:
        return self._centroids.search(vectors, k, where=where)

    def set_centroids(self, *columns: NDArray[Any], op_id: int) -> bool:
        mutation = Mutation.of("set_centroids", *columns)
        mutation.verify(self.shard)
        self._centroids.set(*mutation.columns)
        return op_id > 0

    def spread(
        self, episode_cues: Mapping[int, float], concept_cues: Mapping[int, float], **asked: float | str
    ) -> SimpleNamespace:
        """Return the cues again, and keep what was asked."""
        self.asked = asked
        cues = {"concepts": concept_cues, "episodes": episode_cues}
        return SimpleNamespace(**{kind: active(nodes) for kind, nodes in cues.items()})

    def episodes_of(self, concept_id: int, k: int | None, *, min_strength: float) -> Ranked:
        return strongest(*self.shard.episodes_of(concept_id), k, min_strength)

    def concepts_of(self, episode_id: int, k: int | None, *, min_strength: float) -> Ranked:
        return strongest(*self.shard.concepts_of(episode_id), k, min_strength)

    def bind(self, *columns: NDArray[Any], op_id: int) -> bool:
        return self.shard.bind(*columns, op_id=op_id)

    def unbind(self, *columns: NDArray[Any], op_id: int) -> bool:
        return self.shard.unbind(*columns, op_id=op_id)

    def decay(self, *, half_life_s: float, dt_s: float, op_id: int) -> bool:
        return self.shard.decay(half_life_s=half_life_s, dt_s=dt_s, op_id=op_id)

    def statistics(self) -> dict[str, Any]:
        return {"n_bindings": len(self.shard)}
