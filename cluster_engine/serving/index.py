"""What the HTTP layer asks of the binding index.

:class:`cluster_engine.shards.service.BindingService` is one such index; so is anything in process that answers alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cluster_engine.search.conditions import Condition
    from cluster_engine.store.search import Neighbours
    from native_simd import SpreadLaw

    EpisodeIds = NDArray[np.int64] | Sequence[str]


class Active(Protocol):
    """Nodes of one kind, most active first."""

    @property
    def ids(self) -> EpisodeIds:
        """Of concepts, or of episodes as the store has them."""

    @property
    def activations(self) -> NDArray[np.float64]:
        """What reached each."""


class Reached(Protocol):
    """What activation reached."""

    @property
    def concepts(self) -> Active:
        """Concepts that activation reached."""

    @property
    def episodes(self) -> Active:
        """Episodes that it reached."""


class Index(Protocol):
    """The calls of a binding index that requests become; each may be made by many threads at a time."""

    @property
    def version(self) -> int:
        """Version of the store that was loaded."""

    @property
    def is_string_ids(self) -> bool:
        """Whether episodes are named by strings; otherwise by integers."""

    def search(self, vectors: NDArray[np.float32], k: int, *, where: Sequence[Condition]) -> Neighbours:
        """Return the concepts nearest to each vector, shape (q, d), by cosine, that meet all conditions."""

    def spread(
        self,
        episode_cues: Mapping[Any, float],
        concept_cues: Mapping[int, float],
        *,
        steps: int,
        fan_law: SpreadLaw,
        half_lives: float,
        cutoff: float,
        k: int,
    ) -> Reached:
        """Return what activation reaches from the cues, the most active of either kind."""

    def episodes_of(
        self, concept_id: int, k: int | None, *, min_strength: float
    ) -> tuple[EpisodeIds, NDArray[np.float32]]:
        """Return (episode ids, strengths) of a concept, strongest first."""

    def concepts_of(
        self, episode_id: int | str, k: int | None, *, min_strength: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return (concept ids, strengths) of an episode, strongest first."""

    def bind(
        self,
        concept_ids: NDArray[np.int64],
        episode_ids: EpisodeIds,
        strengths: NDArray[np.float32],
        *,
        op_id: int,
    ) -> bool:
        """Add bindings or set their strengths; return whether this call was the one that applied."""

    def unbind(self, concept_ids: NDArray[np.int64], episode_ids: EpisodeIds, *, op_id: int) -> bool:
        """Remove bindings; return whether this call was the one that applied."""

    def set_centroids(self, concept_ids: NDArray[np.int64], vectors: NDArray[np.float32], *, op_id: int) -> bool:
        """Set centroids of concepts; return whether this call was the one that applied."""

    def decay(self, *, half_life_s: float, dt_s: float, op_id: int) -> bool:
        """Let all strengths decay; return whether this call was the one that applied."""

    def statistics(self) -> Mapping[str, Any]:
        """Return counts and memory, per actor and in all; answers only if every actor does."""
