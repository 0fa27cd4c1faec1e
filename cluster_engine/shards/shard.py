"""One shard of the binding index: the bindings of the concepts hashed to it, in both directions, columnar.

Plain Python over NumPy; it knows nothing of Ray, of other shards or of where its memory lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_FIBONACCI = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: spreads consecutive ids (Knuth, TAOCP 3, section 6.4)


def shard_of(concept_ids: ArrayLike, n_shards: int) -> NDArray[np.int64]:
    """Return the logical shard of each concept.

    Parameters
    ----------
    concept_ids : array_like of int64, shape (m,)
    n_shards : int

    Returns
    -------
    ndarray of int64, shape (m,), in [0, n_shards)
    """
    mixed = np.asarray(concept_ids, np.int64).view(np.uint64) * np.uint64(_FIBONACCI)
    return ((mixed >> np.uint64(32)) % np.uint64(n_shards)).astype(np.int64)


class BindingShard:
    """Bindings (concept, episode, strength), each pair at most once.

    Parameters
    ----------
    dimension : int
        Dimension of the vectors that the concepts were formed from.

    Notes
    -----
    Forward columns are sorted by (concept, episode); the reverse direction is a permutation of them sorted by
    (episode, concept). A batch of m bindings costs O((n + m) log(n + m)), a lookup O(log n + answer).
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1, got {dimension}")
        self.dimension = dimension
        self._concepts = np.empty(0, np.int64)
        self._episodes = np.empty(0, np.int64)
        self._strengths = np.empty(0, np.float32)
        self._reverse = np.empty(0, np.int64)
        self._applied: set[int] = set()

    def __len__(self) -> int:
        return len(self._concepts)

    def bind(self, concept_ids: ArrayLike, episode_ids: ArrayLike, strengths: ArrayLike, *, op_id: int) -> bool:
        """Add bindings, or set the strength of those that exist. Applied once per `op_id`.

        Parameters
        ----------
        concept_ids, episode_ids : array_like of int64, shape (m,)
        strengths : array_like of float32, shape (m,), in [0, 1]
        op_id : int
            Name of this operation; a repetition changes nothing.

        Returns
        -------
        bool
            Whether this call was the one that applied.

        Raises
        ------
        ValueError
            Lengths differ, a strength is outside [0, 1], or a pair occurs twice in the batch; nothing is changed.
        """
        concepts, episodes = np.asarray(concept_ids, np.int64), np.asarray(episode_ids, np.int64)
        values = np.asarray(strengths, np.float32)
        if not concepts.shape == episodes.shape == values.shape or concepts.ndim != 1:
            raise ValueError(f"shapes differ: {concepts.shape}, {episodes.shape}, {values.shape}")
        outside = ~((values >= 0) & (values <= 1))
        if outside.any():
            at = int(np.flatnonzero(outside)[0])
            raise ValueError(f"strength {at} is {values[at]}, outside [0, 1]")
        if op_id in self._applied:
            return False
        self._merge(concepts, episodes, values)
        self._applied.add(op_id)
        return True

    def _merge(self, concepts: NDArray[np.int64], episodes: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        order = np.lexsort((episodes, concepts))
        twice = (np.diff(concepts[order]) == 0) & (np.diff(episodes[order]) == 0)
        if twice.any():
            at = order[int(np.flatnonzero(twice)[0])]
            raise ValueError(f"binding ({concepts[at]}, {episodes[at]}) occurs twice in one batch")
        all_concepts = np.concatenate((self._concepts, concepts))
        all_episodes = np.concatenate((self._episodes, episodes))
        order = np.lexsort((all_episodes, all_concepts))  # stable: of a pair, the new one comes last
        all_concepts, all_episodes = all_concepts[order], all_episodes[order]
        last = np.ones(len(order), bool)
        last[:-1] = (np.diff(all_concepts) != 0) | (np.diff(all_episodes) != 0)
        self._concepts, self._episodes = all_concepts[last], all_episodes[last]
        self._strengths = np.concatenate((self._strengths, values))[order][last]
        self._reverse = np.lexsort((self._concepts, self._episodes))

    def fan_out(self, concept_ids: ArrayLike) -> NDArray[np.int64]:
        """Return the number of bindings of each concept; 0 for one that is not here."""
        wanted = np.asarray(concept_ids, np.int64)
        left = np.searchsorted(self._concepts, wanted, side="left")
        return np.asarray(np.searchsorted(self._concepts, wanted, side="right") - left, np.int64)

    def episodes_of(self, concept_id: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return (episode ids, strengths) of a concept, strongest first, then by id."""
        low, high = (np.searchsorted(self._concepts, concept_id, side) for side in ("left", "right"))
        order = np.lexsort((self._episodes[low:high], -self._strengths[low:high]))
        return self._episodes[low:high][order], self._strengths[low:high][order]

    def concepts_of(self, episode_id: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return (concept ids, strengths) of an episode, strongest first, then by id."""
        by_episode = self._episodes[self._reverse]
        low, high = (np.searchsorted(by_episode, episode_id, side) for side in ("left", "right"))
        rows = self._reverse[low:high]
        rows = rows[np.lexsort((self._concepts[rows], -self._strengths[rows]))]
        return self._concepts[rows], self._strengths[rows]

    def bindings(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return (concept ids, episode ids, strengths) of all bindings, by (concept, episode)."""
        return self._concepts.copy(), self._episodes.copy(), self._strengths.copy()
