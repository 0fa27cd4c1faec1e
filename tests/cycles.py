"""Cycles one after the other, without Ray and without a store: the tables of a version, kept in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from in_process_engine import InProcessEngine

from cluster_engine.concepts.known import Known, StoredTables
from cluster_engine.concepts.population import NEVER, Population
from cluster_engine.config import Config
from cluster_engine.cycle import CycleResult, Moment, is_due, run_cycle
from cluster_engine.data.episodes import Episodes
from cluster_engine.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DAY_US = 86_400_000_000
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def us(day: float) -> int:
    """Return microseconds since 1970 of so many days after `START`."""
    return (START - _EPOCH) // timedelta(microseconds=1) + round(day * DAY_US)


def episodes(
    vectors: NDArray[np.float32],
    ids: Sequence[int | str],
    *,
    days: Sequence[float | None] | float = 0.0,
    importance: float = 1.0,
    evergreen: Sequence[bool] | bool = False,
) -> Episodes:
    """Return episodes, put in the order of their ids."""
    n = len(vectors)
    given = [days] * n if isinstance(days, (int, float)) else list(days)
    times = pa.array([None if day is None else us(day) for day in given], pa.int64()).cast(pa.timestamp("us", "UTC"))
    column = pa.array(ids)
    column = column.cast(pa.int64() if pa.types.is_integer(column.type) else pa.large_string())
    made = Episodes(
        ids=column,
        vectors=np.ascontiguousarray(vectors, np.float32),
        times=times,
        importances=np.full(n, importance, np.float32),
        evergreen=np.broadcast_to(np.array(evergreen), n).copy(),
        texts=None,
    )
    return made.take(np.argsort(np.array(ids), kind="stable"))


@dataclass
class History:
    """A store in memory, and the cycles that made it."""

    config: Config = field(default_factory=Config)
    tables: dict[str, pa.Table] = field(default_factory=dict)
    journal: list[dict[str, Any]] = field(default_factory=list)
    results: list[CycleResult] = field(default_factory=list)

    def run(
        self, fresh: Episodes, *, day: float = 0.0, rebuild: bool = False, config: Config | None = None
    ) -> CycleResult:
        settings = config or self.config
        known = self.known(fresh)
        result = run_cycle(
            known,
            settings,
            Moment(known.last.number + 1, max(known.last.as_of_us, us(day)), None),
            engine=InProcessEngine(),
            steps=Steps(),
            read_texts=lambda ids: pa.nulls(len(ids), pa.large_string()),
            is_rebuild=rebuild or is_due(known, settings),
            threads=1,
        )
        self.tables |= result.tables
        added = result.added["episodes"]
        before = [self.tables["episodes"]] if "episodes" in self.tables else []
        self.tables["episodes"] = pa.concat_tables([*before, added]).sort_by("episode_id").combine_chunks()
        self.journal += result.added["journal"].to_pylist()
        self.results.append(result)
        return result

    def known(self, fresh: Episodes) -> Known:
        if not self.tables:
            return Known.first(fresh)
        stored = self.tables["episodes"]
        names = ("concepts", "bindings", "moments", "cycle")
        facts = stored.select(["episode_id", "time", "importance", "evergreen"])
        return Known.after(
            StoredTables(**{name: self.tables[name] for name in names}, episodes=facts),
            fresh,
            lambda ids: [stored.filter(pc.is_in(stored["episode_id"], value_set=ids)).select(["episode_id", "vector"])],
        )

    def concepts(self) -> dict[int, dict[str, Any]]:
        """Return the rows of the concepts by id."""
        return {row["concept_id"]: row for row in self.tables["concepts"].to_pylist()}

    def members(self) -> dict[int, set[Any]]:
        """Return the episodes of each concept."""
        found: dict[int, set[Any]] = {}
        for row in self.tables["bindings"].select(["concept_id", "episode_id"]).to_pylist():
            found.setdefault(row["concept_id"], set()).add(row["episode_id"])
        return found

    def strengths(self) -> dict[Any, float]:
        """Return the strength of each bound episode."""
        rows = self.tables["bindings"].select(["episode_id", "strength"]).to_pylist()
        return {row["episode_id"]: row["strength"] for row in rows}

    def kinds(self, cycle: int | None = None) -> list[str]:
        """Return the kinds of the entries of a cycle, or of all."""
        return [entry["kind"] for entry in self.journal if cycle in (None, entry["cycle"])]


def none(dimension: int) -> Episodes:
    """Return no episodes."""
    return episodes(np.empty((0, dimension), np.float32), np.empty(0, np.int64).tolist() or pa.array([], pa.int64()))


def topic(direction: int, n: int, dimension: int, *, spread: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    """Return n vectors around an axis."""
    rng = np.random.default_rng(1000 * seed + direction)
    vectors = spread * rng.standard_normal((n, dimension))
    vectors[:, direction] += 1.0
    return vectors.astype(np.float32)


def population(m: int) -> Population:
    """Return m proto-concepts that nothing has happened to yet."""
    zeros = np.zeros(m, np.int64)
    return replace(
        Population.empty(2),
        ids=np.arange(m),
        strengths_ppm=zeros,
        n_replays=zeros,
        idle_cycles=zeros,
        born_cycle=np.ones(m, np.int64),
        promoted_cycle=np.full(m, NEVER),
        is_retired=np.zeros(m, np.bool_),
        born_us=zeros,
        replayed_us=zeros,
        coherences=np.full(m, 0.9),
    )
