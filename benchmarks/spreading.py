"""Spreading activation over bindings, beside the same in scipy.sparse: a part of ``benchmarks.bindings``."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

import native_simd
from benchmarks.figures import Figure, of_turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Graph = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
    Best = tuple[NDArray[np.int64], NDArray[np.float64]]

_STEPS, _BEST, _TURNS = 3, 100, 7
_CALLS_BEFORE = 20  # until the engine has a copy by episode, if it pays
_FAN_OUT, _TOPIC, _STRAY = (
    50,
    10,
    0.02,
)  # chosen, not measured: bindings a concept, concepts a topic, episodes between topics


def _graph(n: int, *, has_topics: bool) -> Graph:
    """Return n bindings, two an episode, in random order: its concepts lie anywhere, or mostly in one topic."""
    rng = np.random.default_rng(1)
    half, n_episodes = n // _FAN_OUT // 2, n // 2
    first, second = rng.integers(0, half, n_episodes), rng.integers(0, half, n_episodes)
    if has_topics:
        near = first // _TOPIC * _TOPIC + rng.integers(0, _TOPIC, n_episodes)
        second = np.where(rng.random(n_episodes) < _STRAY, second, np.minimum(near, half - 1))
    order = rng.permutation(2 * n_episodes)
    concepts, episodes = np.concatenate([first, half + second])[order], np.tile(np.arange(n_episodes), 2)[order]
    return concepts * 1_000_003, episodes * 7919, rng.random(len(order), np.float32)


class _Matrices:
    """The bindings in compressed rows, both ways, with the law of the fan-out in one of them, made beforehand."""

    def __init__(self, graph: Graph) -> None:
        _, rows, fan_out = np.unique(graph[0], return_inverse=True, return_counts=True)
        self.episode_ids, columns = np.unique(graph[1], return_inverse=True)
        shape = len(fan_out), len(self.episode_ids)
        strengths = graph[2].astype(np.float64)
        self.gather = sparse.csr_matrix((strengths, (rows, columns)), shape)
        self.scatter = sparse.csr_matrix((strengths / np.sqrt(fan_out)[rows], (columns, rows)), shape[::-1])
        self.gather_rows, self.scatter_rows = self.gather.T.tocsr(), self.scatter.T.tocsr()

    def vectors(self, cues: NDArray[np.int64]) -> Best:
        """Spread by dense vectors."""
        passed = np.zeros(len(self.episode_ids))
        passed[np.searchsorted(self.episode_ids, cues)] = 1.0
        total = np.zeros(len(passed))
        for _ in range(_STEPS):
            passed = self.scatter @ (self.gather @ passed)
            total += passed
        reached = np.flatnonzero(total)  # equal zeros make argpartition slow
        return self._best(reached, total[reached])

    def sparse_vectors(self, cues: NDArray[np.int64]) -> Best:
        """Spread by sparse rows."""
        columns = np.searchsorted(self.episode_ids, cues)
        passed = sparse.csr_matrix((np.ones(len(cues)), columns, [0, len(cues)]), (1, len(self.episode_ids)))
        total = sparse.csr_matrix(passed.shape)
        for _ in range(_STEPS):
            passed = passed @ self.gather_rows @ self.scatter_rows
            total = total + passed
        return self._best(total.indices, total.data)

    def _best(self, columns: NDArray[np.int64], values: NDArray[np.float64]) -> Best:
        best = np.argpartition(values, -_BEST)[-_BEST:] if len(values) > _BEST else np.arange(len(values))
        best = best[np.argsort(-values[best], kind="stable")]
        return self.episode_ids[columns[best]], values[best]


def _require_equal(found: native_simd.Activations, others: Best) -> None:
    """The same best activations but for roundings; what is equally strong but for them may come in another order."""
    np.testing.assert_allclose(found.activations, others[1], rtol=0, atol=1e-6)
    clear = others[1] > others[1][-1] + 1e-6
    if set(found.ids[clear].tolist()) != set(others[0][clear].tolist()):
        raise AssertionError("the engine and scipy.sparse have reached different episodes")


def spreads(divide: int) -> list[Figure]:
    """The best episodes after some steps."""
    figures = []
    for name, n_cues in (("topics", 8), ("topics", 1000), ("anywhere", 8), ("anywhere", 10**9)):
        graph = _graph(1_000_000 // divide, has_topics=name == "topics")
        index, matrices = native_simd.BindingIndex(), _Matrices(graph)
        index.bind(*graph, 0)
        cues = matrices.episode_ids[:: max(len(matrices.episode_ids) // n_cues, 1)].copy()
        units, none = np.full(len(cues), native_simd.UNITS), np.empty(0, np.int64)
        engine = partial(index.spread, cues, units, none, none, steps=_STEPS, k=_BEST)
        operation = iter(range(1, 10**9))

        def changed() -> None:
            index.set_strengths(graph[0][:1], graph[1][:1], graph[2][:1], next(operation))  # noqa: B023 - called here
            engine()  # noqa: B023 - called here

        read = np.zeros(_STEPS * (8 * len(graph[0]) + 16 * len(matrices.episode_ids)), np.uint8)
        calls: dict[str, Callable[[], object]] = {
            "engine": engine,
            "engine, 2 threads": partial(engine, threads=2),
            "engine, changed": changed,
            "scipy, vectors": partial(matrices.vectors, cues),
            "scipy, sparse rows": partial(matrices.sparse_vectors, cues),
            "a copy of all read": partial(np.copyto, np.empty_like(read), read),
        }
        for _ in range(_CALLS_BEFORE):
            engine()
        _require_equal(engine().episodes, matrices.vectors(cues))
        _require_equal(engine().episodes, matrices.sparse_vectors(cues))
        reached = len(engine(k=None).episodes.ids)
        row: dict[str, str | int] = {"concepts of an episode": name, "cues": len(cues), "reached": reached}
        figures += [of_turns(row, contender, _turns(call)) for contender, call in calls.items()]
    return figures


def _turns(call: Callable[[], object]) -> list[float]:
    turns = []
    for _ in range(_TURNS + 1):
        start = time.perf_counter()
        call()
        turns.append(time.perf_counter() - start)
    return turns[1:]
