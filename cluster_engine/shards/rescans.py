"""Rescans on the actors: each holds a share of the living clusters' means and compares the queries with it.

The first rescan sends every column to one actor, the later ones what has changed since, and the queries to all.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import native_simd
from cluster_engine.shards.columns import ChangedShare, Share, WholeShare

if TYPE_CHECKING:
    from cluster_engine.shards.pool import ShardPool

_LEAST_WORK = 2**33
"""Multiplications of a rescan that is worth sending: calls and sending cost 15 to 30 ms, in which two cores do half."""


@dataclass(frozen=True, slots=True)
class ShareRescan:
    """What an actor is told of its part in one rescan, beside the queries.

    Attributes
    ----------
    token : str
        Names the agglomeration and its deal; shares of another are dropped.
    share : Share
    update : WholeShare or ChangedShare
        The share, or what changed in it since version ``version - 1``.
    version : int
        Of the share, after the update.
    n_columns : int
        Columns there are in all.
    width : int
        Places of a list.
    method, metric : str
    """

    token: str
    share: Share
    update: WholeShare | ChangedShare
    version: int
    n_columns: int
    width: int
    method: native_simd.Method
    metric: native_simd.Metric


class Rescans:
    """Answers the queries of one agglomeration, on the actors of a pool while there is enough to do.

    Parameters
    ----------
    pool : ShardPool
    n_columns : int
        Points of the agglomeration.
    threads : int
        Threads to use here.
    """

    def __init__(self, pool: ShardPool, n_columns: int, threads: int) -> None:
        self._pool, self._threads = pool, threads
        self._least_work = 0 if pool.sends_all else _LEAST_WORK
        self._version = 0
        self._changed = np.zeros(n_columns, bool)  # since that version
        self._deal()

    def _deal(self) -> None:
        """Deal shares to as many actors as there are: they are sent whole with the next rescan."""
        self._token = uuid.uuid4().hex
        self._shares = [Share(part, len(self._pool)) for part in range(len(self._pool))]
        self._holders: dict[Share, Any] = {}  # the actor that has the share as of the last version

    def __call__(self, agglomeration: native_simd.Agglomeration) -> None:
        """Answer its queries."""
        columns, changed = agglomeration.changed_columns()
        self._changed[changed] = True
        queries, lists = agglomeration.queries(), agglomeration.empty_answer()
        if queries.n * columns.n * columns.d < self._least_work:
            agglomeration.rank(queries, columns, lists, self._threads)
        else:
            self._rank(agglomeration, queries, columns, lists)
        agglomeration.answer(lists)

    def _rank(
        self,
        agglomeration: native_simd.Agglomeration,
        queries: native_simd.ClusterPanels,
        columns: native_simd.ClusterPanels,
        lists: np.ndarray[Any, np.dtype[np.uint64]],
    ) -> None:
        if len(self._shares) != len(self._pool):  # or the share of one that is gone would go from hand to hand
            self._deal()
        changed = np.flatnonzero(self._changed[: columns.n])
        sent_queries, sent_to = self._pool.put(queries), dict[Share, Any]()

        def submit(actor: Any, share: Share) -> Any:  # noqa: ANN401  # Ray's handles are not typed
            sent_to[share] = actor
            holds = self._holders.get(share) is actor
            update = ChangedShare.of(share, columns, changed) if holds else WholeShare.of(share, columns)
            rescan = ShareRescan(
                self._token,
                share,
                update,
                self._version + 1,
                columns.n,
                lists.shape[1],
                agglomeration.method,
                agglomeration.metric,
            )
            return actor.rank_columns.remote(rescan, sent_queries)

        missing = self._shares
        while missing:
            answers = dict(self._pool.run(missing, submit, lambda share: share.part, in_flight=1))
            for share, ranked in answers.items():
                self._holders[share] = None if ranked is None else sent_to[share]
                if ranked is not None:
                    native_simd.merge_lists(lists, ranked)
            missing = [share for share, ranked in answers.items() if ranked is None]  # lost with a restarted actor
        self._version += 1
        self._changed[:] = False
