from __future__ import annotations

import doctest
import errno

import pytest

from cluster_engine.shards import probe
from cluster_engine.shards.placement import Strategy
from cluster_engine.shards.probe import count_huge_bytes, parse_huge_bytes, probe_nodes, probe_strategies
from cluster_engine.shards.topology import NumaNode, Topology, format_cpu_list, read_topology
from native_simd.placement import get_memory_policy

GIB = 1 << 30


def has_memory_policies() -> bool:
    try:
        get_memory_policy()
    except OSError:
        return False
    return True


needs_memory_policies = pytest.mark.skipif(
    not has_memory_policies(), reason="this kernel or container refuses memory policies"
)


@needs_memory_policies
def test_this_machine_has_its_nodes_and_the_local_strategy() -> None:
    topology = read_topology()
    memory_nodes = [node.index for node in topology.nodes if node.memory_bytes]
    findings = probe_nodes(topology)
    assert [finding.subject for finding in findings] == [f"memory of node {index}" for index in memory_nodes]
    assert all(finding.ok for finding in findings)
    strategies = probe_strategies(topology, memory_nodes[0])
    assert [finding.subject for finding in strategies] == [f"{strategy.value} memory" for strategy in Strategy]
    if len(memory_nodes) == 1:
        assert (
            strategies[0].detail
            == f"concept arrays on node {memory_nodes[0]}, episode arrays on node {memory_nodes[0]}"
        )
        assert [finding.detail.startswith("not available") for finding in strategies] == [False, True, True, False]
    else:
        everywhere = f"node {format_cpu_list(memory_nodes)}"
        assert strategies[1].detail == f"concept arrays on {everywhere}, episode arrays on {everywhere}"
    assert all(finding.ok for finding in strategies)


@needs_memory_policies
def test_nodes_that_this_machine_lacks_are_found_out() -> None:
    topology = Topology(tuple(NumaNode(900 + i, (0,), GIB, ()) for i in range(2)))
    for finding in (*probe_nodes(topology), *probe_strategies(topology, 900)):
        assert not finding.ok
        assert errno.errorcode[errno.EINVAL] in finding.detail


def test_huge_bytes_are_those_of_one_mapping() -> None:
    smaps = """10000-30000 rw-p 00000000 00:00 0
Rss:                 128 kB
AnonHugePages:      2048 kB
VmFlags: rd wr
40000-50000 rw-p 00000000 00:00 0
Rss:                  64 kB
AnonHugePages:         0 kB
"""
    assert [parse_huge_bytes(smaps, at) for at in (0xFFFF, 0x10000, 0x2FFFF, 0x30000, 0x40000)] == [
        None,
        2 << 20,
        2 << 20,
        None,
        0,
    ]


def test_a_probe_has_at_most_the_huge_pages_that_it_holds() -> None:
    assert count_huge_bytes() in {None, 0, 2 << 20, 4 << 20}


def test_examples_in_docstrings() -> None:
    results = doctest.testmod(probe)
    assert results.attempted > 0
    assert results.failed == 0
