"""Which nodes the memory of a shard should lie on: the strategies, applied to a machine.

Owns the choice alone. It refuses to know what the memory holds, how it gets there and whether it did.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from cluster_engine.shards.affinity import NumaPolicy
from native_simd.placement import MemoryMode, MemoryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster_engine.shards.topology import NumaNode, Topology


class Strategy(str, Enum):
    """Which nodes a shard's pages go to.

    The examples are of a shard whose actor lives on node 1 of a host with nodes 0 and 1.
    """

    LOCAL = "local"
    """The actor's node: all arrays on node 1."""

    INTERLEAVED = "interleaved"
    """All nodes in turn, page by page: half of every array on node 0, half on node 1."""

    SEPARATED = "separated"
    """Two nodes: what is found by concept (lines, bindings, packed vectors) on node 1, what is found by episode on node
    0, the nearest other one."""

    ADAPTIVE = "adaptive"
    """LOCAL at first; when rows from node 0 have outweighed those from node 1 by twice what a move costs, all arrays
    move there (:mod:`cluster_engine.shards.migration`)."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """A strategy, applied to a machine.

    Attributes
    ----------
    strategy : Strategy
    policy : NumaPolicy
        What to do when the kernel refuses.
    home : int
        Node of the pages, at first.
    concepts, episodes : MemoryPolicy or None
        Asked for the arrays found by concept, and by episode. None asks for nothing: policy "off", or one node has all
        memory.
    shortfalls : tuple of str
        Why the plan is not what the strategy says; empty if it is.
    nearest_memory : mapping of int to int
        Of each node with CPUs, the node whose memory is nearest.
    """

    strategy: Strategy
    policy: NumaPolicy
    home: int
    concepts: MemoryPolicy | None = None
    episodes: MemoryPolicy | None = None
    shortfalls: tuple[str, ...] = ()
    nearest_memory: Mapping[int, int] = field(default_factory=dict)


UNPLACED = MemoryPlan(Strategy.LOCAL, NumaPolicy.OFF, 0)


def plan_memory(strategy: Strategy, topology: Topology, home: int, policy: NumaPolicy) -> MemoryPlan:
    """Choose the nodes of a shard's memory.

    Parameters
    ----------
    strategy : Strategy
    topology : Topology
        Nodes that the process may use.
    home : int
        Index of the node that the shard's threads live on.
    policy : NumaPolicy
        REQUIRE asks for these nodes and no others (``MPOL_BIND``), PREFER lets a full node borrow, OFF asks for none.

    Returns
    -------
    MemoryPlan
        Never an error: what the machine does not have is in ``shortfalls``.
    """
    memory_nodes = [node.index for node in topology.nodes if node.memory_bytes]
    nearest = {node.index: _nearest(topology, node, memory_nodes) for node in topology.nodes if memory_nodes}
    start = nearest.get(home, min(memory_nodes, default=home))
    plan = MemoryPlan(strategy, policy, start, nearest_memory=nearest)
    if policy is NumaPolicy.OFF:
        return plan
    shortfalls = [] if start == home else [f"node {home} has no memory that this process may use; node {start} has"]
    if len(memory_nodes) < 2:
        if strategy in (Strategy.INTERLEAVED, Strategy.SEPARATED):
            shortfalls.append(f"{strategy.value} memory takes two nodes with memory, and this process may use one")
        return replace(plan, shortfalls=tuple(shortfalls))
    plan = replace(plan, shortfalls=tuple(shortfalls))
    mode = MemoryMode.BIND if policy is NumaPolicy.REQUIRE else MemoryMode.PREFERRED
    near = MemoryPolicy(mode, (start,))
    if strategy is Strategy.INTERLEAVED:
        spread = MemoryPolicy(MemoryMode.INTERLEAVE, tuple(sorted(memory_nodes)))
        return replace(plan, concepts=spread, episodes=spread)
    if strategy is Strategy.SEPARATED:
        at = next(node for node in topology.nodes if node.index == start)
        other = _nearest(topology, at, [index for index in memory_nodes if index != start])
        return replace(plan, concepts=near, episodes=MemoryPolicy(mode, (other,)))
    return replace(plan, concepts=near, episodes=near)


def _nearest(topology: Topology, node: NumaNode, candidates: list[int]) -> int:
    """Return the candidate that is nearest to a node: itself, the shortest distance, then the smallest index."""
    distances = dict(zip((other.index for other in topology.nodes), node.distances, strict=False))
    return min(candidates, key=lambda index: (index != node.index, distances.get(index, 0), index))
