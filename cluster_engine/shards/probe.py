"""What placing memory comes to on this machine: small trials, read back from the kernel.

Owns the trials. It refuses to know what a placement is good for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster_engine.shards.affinity import Finding, NumaPolicy, explain_refusal
from cluster_engine.shards.placement import Strategy, plan_memory
from cluster_engine.shards.shard import BindingShard
from cluster_engine.shards.topology import format_cpu_list
from native_simd.index_memory import CONCEPT_ARRAYS, EPISODE_ARRAYS
from native_simd.placement import MemoryMode, MemoryPolicy, empty_placed, page_nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster_engine.shards.memory import MemoryReport
    from cluster_engine.shards.topology import Topology

_SMAPS = Path("/proc/self/smaps")
_PROBE_BYTES = 64 << 10
_HUGE_PROBE_BYTES = 4 << 20  # two huge pages
_BINDINGS = 20_000  # of a probing shard: its arrays are large enough to be placed
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ", re.MULTILINE)
_HUGE = re.compile(r"^AnonHugePages: +([0-9]+) kB$", re.MULTILINE)


def probe_nodes(topology: Topology) -> tuple[Finding, ...]:
    """Write some pages for each node with memory, and say where they lie."""
    return tuple(_probe_node(node.index) for node in topology.nodes if node.memory_bytes)


def probe_strategies(topology: Topology, home: int) -> tuple[Finding, ...]:
    """Fill a shard under each strategy, with policy "prefer", and say where its arrays lie.

    Parameters
    ----------
    topology : Topology
        Read before this process was bound.
    home : int
        Node that it lives on.
    """
    return tuple(_probe_strategy(strategy, topology, home) for strategy in Strategy)


def count_huge_bytes() -> int | None:
    """Return how much of an array of 4 MiB, written, lies on huge pages; None if Linux does not say."""
    try:
        # A policy that nothing else has, so that Linux does not count the mapping together with a neighbour.
        array = empty_placed((_HUGE_PROBE_BYTES,), np.uint8, MemoryPolicy(MemoryMode.LOCAL))
        array[:] = 1
        return parse_huge_bytes(_SMAPS.read_text(encoding="utf-8", errors="replace"), array.ctypes.data)
    except OSError:
        return None


def parse_huge_bytes(smaps: str, address: int) -> int | None:
    r"""Parse ``smaps`` for the huge pages of the mapping that holds an address, in bytes; None if it is not there.

    Examples
    --------
    >>> parse_huge_bytes("1000-3000 rw-p 0 00:00 0\nRss: 8 kB\nAnonHugePages:      4096 kB\n", 0x2000)
    4194304
    """
    for begin in _MAPPING.finditer(smaps):
        if int(begin[1], 16) <= address < int(begin[2], 16):
            found = _HUGE.search(smaps, begin.end())
            return int(found[1]) * 1024 if found else None
    return None


def _probe_node(node: int) -> Finding:
    subject = f"memory of node {node}"
    try:
        array = empty_placed((_PROBE_BYTES,), np.uint8, MemoryPolicy(MemoryMode.PREFERRED, (node,)))
        array[:] = 1
        nodes = page_nodes(array)
    except OSError as error:
        return Finding(subject, ok=False, detail=explain_refusal("mbind or move_pages", error))
    n_there = int((nodes == node).sum())
    return Finding(
        subject, ok=n_there == len(nodes), detail=f"{n_there} of {len(nodes)} pages written for it lie there"
    )


def _probe_strategy(strategy: Strategy, topology: Topology, home: int) -> Finding:
    subject = f"{strategy.value} memory"
    plan = plan_memory(strategy, topology, home, NumaPolicy.PREFER)
    if plan.shortfalls:
        return Finding(subject, ok=True, detail=f"not available: {'; '.join(plan.shortfalls)}")
    shard = BindingShard(1, 1, plan=plan)
    numbers = np.arange(_BINDINGS)
    shard.bind(numbers % (_BINDINGS // 10), numbers, np.ones(_BINDINGS, np.float32), op_id=1)
    report = shard.memory_report()
    return Finding(subject, ok=not report.errors, detail="; ".join([_pages_text(report), *report.errors]))


def _pages_text(report: MemoryReport) -> str:
    sides = (("concept", CONCEPT_ARRAYS), ("episode", EPISODE_ARRAYS))
    return ", ".join(f"{side} arrays on {_nodes_text(report, names)}" for side, names in sides)


def _nodes_text(report: MemoryReport, names: Sequence[str]) -> str:
    nodes = {node for name in names for node in (report.pages or {}).get(name, {})}
    return f"node {format_cpu_list(nodes)}" if nodes else "nodes that are not known"
