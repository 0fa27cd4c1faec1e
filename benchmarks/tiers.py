"""A shard within a memory limit beside one without: ``python -m benchmarks.tiers`` writes to ``results.md``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Figure, of_turns
from benchmarks.suite import Part, Suite
from cluster_engine.shards.shard import BindingShard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_CONCEPTS, _FAN_OUT = 20_000, 50  # a million bindings, two an episode
_SKEW = 0.99  # of Zipf's law: that of YCSB's requests (Cooper et al., SoCC 2010, section 5.1)
_CALLS, _TURNS = 20_000, 5  # of a turn; a first one does not count
_ROWS = 10  # of an update
_DECAY_EVERY = 1_000  # calls


def _columns(n_concepts: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return bindings by concept: episode 2 i and 2 i + 1 share a concept, and each has another one."""
    n = n_concepts * _FAN_OUT
    concepts = np.repeat(np.arange(n_concepts), _FAN_OUT)
    episodes = np.arange(n) // 2
    shifted = np.arange(n) % 2 == 1
    concepts[shifted] = (concepts[shifted] * 7_919 + 13) % n_concepts  # coprime: as many for each
    order = np.lexsort((episodes, concepts))
    return concepts[order], episodes[order], np.full(n, 0.5, np.float32)


class _Workload:
    """Calls of the mixed workload, the same for every shard: concepts by Zipf's law."""

    def __init__(self, n_concepts: int) -> None:
        self.concepts, self.episodes, _ = _columns(n_concepts)
        self.starts = np.searchsorted(self.concepts, np.arange(n_concepts + 1))
        weights = np.arange(1, n_concepts + 1) ** -_SKEW
        self.share = np.cumsum(weights / weights.sum())
        self.names = np.random.default_rng(1).permutation(n_concepts)

    def chosen(self, n: int, seed: int) -> Iterator[tuple[int, float, slice]]:
        """Yield concepts, a number that says which call, and some of their bindings."""
        rng = np.random.default_rng(seed)
        ranks = np.minimum(np.searchsorted(self.share, rng.random(n)), len(self.names) - 1)
        for concept, kind, at in zip(self.names[ranks].tolist(), rng.random(n), rng.random(n), strict=True):
            first, stop = self.starts[concept], self.starts[concept + 1]
            begin = int(first + at * (stop - first - _ROWS))
            yield concept, kind, slice(begin, begin + _ROWS)

    def run(self, shard: BindingShard, n: int, turn: int) -> float:
        """Make the calls of a turn, and return seconds a call."""
        calls, op_id = list(self.chosen(n, turn)), turn * 10 * n
        strengths = np.full(_ROWS, (1 + turn % 8) / 8, np.float32)
        shard.restore_operations([])  # a service remembers them elsewhere
        start = time.perf_counter()
        for number, (concept, kind, rows) in enumerate(calls):
            op_id += 2
            if kind < 0.4:
                shard.episodes_of(concept)
            elif kind < 0.5:
                shard.concepts_of(int(self.episodes[rows.start]))
            elif kind < 0.6:
                shard.fan_out(self.concepts[rows])
            elif kind < 0.9:
                shard.set_strengths(self.concepts[rows], self.episodes[rows], strengths, op_id=op_id)
            else:  # what forming concepts does: an episode that is new
                shard.bind([concept], [10**9 + op_id], strengths[:1], op_id=op_id)
            if number % _DECAY_EVERY == 0:
                shard.decay(half_life_s=1e6, dt_s=1.0, op_id=op_id + 1)
        return (time.perf_counter() - start) / n


def _answered(shard: BindingShard) -> NDArray[np.int64]:
    """Return how many rows lines alone answered, memory answered, and memory did not."""
    found = shard.tier_statistics()
    assert found is not None
    asked = [name for name in found["hits"] if "memory" in found["hits"][name]]
    hits, misses = (sum(found[side][name].get("memory", 0) for name in asked) for side in ("hits", "misses"))
    return np.array([found["hits"]["fan_out"]["line"], hits, misses])


def mixed(divide: int) -> list[Figure]:
    """Lookups, updates and new bindings, by how much memory there is of what all would take."""
    n_concepts, figures = _CONCEPTS // divide, []
    workload, whole = _Workload(n_concepts), BindingShard(4)
    whole.fill([_columns(n_concepts)])
    whole._index.tiers.shrink()  # noqa: SLF001 - what is to spare would count as needed
    statistics = whole.statistics()
    lines, whole_bytes = statistics.n_line_bytes, statistics.n_bytes
    turns = [workload.run(whole, _CALLS // divide, turn) for turn in range(_TURNS + 1)][1:]
    row: dict[str, str | int] = {"limit": "none", "answered in memory": "100 %", "bindings in memory": "100 %"}
    row["lines"] = f"{lines / (whole_bytes - lines):.1%}"
    figures.append(of_turns(row, "a call", turns))
    for share in (0.75, 0.5, 0.25, 0.1):
        shard = BindingShard(4, memory_limit_bytes=int(whole_bytes * share))
        shard.fill([_columns(n_concepts)])
        workload.run(shard, _CALLS // divide, 0)
        before = _answered(shard)
        turns = [workload.run(shard, _CALLS // divide, turn) for turn in range(1, _TURNS + 1)]
        alone, hits, misses = (_answered(shard) - before).tolist()
        row = {"limit": f"{share:.0%}", "answered in memory": f"{(alone + hits) / (alone + hits + misses):.1%}"}
        row |= {
            "bindings in memory": f"{hits / (hits + misses):.1%}",
            "lines": f"{lines / (share * whole_bytes - lines):.1%}",
        }
        figures.append(of_turns(row, "a call", turns))
    return figures


SUITE = Suite(
    "tiers",
    "Memory limit",
    "`BindingShard` with a million bindings of 20,000 concepts, of which calls choose by Zipf's law (0.99): 40 % "
    "`episodes_of`, 10 % `concepts_of`, 10 % `fan_out` and 30 % `set_strengths` of 10 rows, 10 % `bind` of a new "
    "episode, and a decay of all every 1,000 calls.",
    {
        "mixed": Part(
            "Mixed workload (marks: above 95 % answered in memory; lines below 20 % of the rest)",
            mixed,
            note="Limit: the share of what all bindings would take. Answered in memory: rows of calls that needed no "
            "disk, after a turn; bindings in memory: of those that need more than the line of a concept. Lines: "
            "their bytes to those of everything else that the limit holds.",
        )
    },
)

if __name__ == "__main__":
    SUITE.main()
