"""Where the arrays of a binding index lie, as the kernel says. `make test-numa` runs it on several nodes."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cluster_engine.shards.affinity import NumaPolicy, bind_to_node
from cluster_engine.shards.memory import pack_placed
from cluster_engine.shards.migration import ROWS_A_PAGE
from cluster_engine.shards.placement import Strategy, plan_memory
from cluster_engine.shards.shard import BindingShard
from cluster_engine.shards.topology import read_topology
from native_simd import BindingIndex
from native_simd.index_memory import CONCEPT_ARRAYS, EPISODE_ARRAYS
from native_simd.placement import (
    MemoryMode,
    MemoryPolicy,
    current_cpu_node,
    get_memory_policy,
    page_nodes,
    set_memory_policy,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPOLOGY = read_topology()
NODES = [node.index for node in TOPOLOGY.nodes if node.memory_bytes]
CPU_NODES = [node for node in TOPOLOGY.nodes if node.cpus and node.memory_bytes]
DEFAULT = MemoryPolicy(MemoryMode.DEFAULT)
# Of a logical shard: 12,500 bindings, so that its tables, slab and records are all mapped.
N_BINDINGS, N_SHARDS = 50_000, 4


def has_memory_policies() -> bool:
    try:
        get_memory_policy()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_memory_policies(), reason="this kernel or container refuses memory policies")
needs_two_nodes = pytest.mark.skipif(len(CPU_NODES) < 2, reason="needs two NUMA nodes: make test-numa")


@pytest.fixture(autouse=True)
def _placement_restored() -> Iterator[None]:
    policy, cpus = get_memory_policy(), os.sched_getaffinity(0)
    yield
    set_memory_policy(policy)
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cpus)


def bound_to(node: int) -> MemoryPolicy:
    return MemoryPolicy(MemoryMode.BIND, (node,))


def fill(index: BindingIndex, op_id: int = 0, first: int = 0) -> None:
    """Bind each of many episodes to two concepts of one shard or of two, of 20,000."""
    numbers = np.arange(first, first + N_BINDINGS)
    concepts = numbers % 2 * 10_000 + numbers // 2 % 10_000
    index.bind(concepts, numbers // 2, np.full(N_BINDINGS, 0.5, np.float32), op_id)


def filled(concepts: MemoryPolicy = DEFAULT, episodes: MemoryPolicy = DEFAULT) -> BindingIndex:
    index = BindingIndex(N_SHARDS)
    if concepts is not DEFAULT:
        index.memory.place(concepts, episodes, move=False)
    fill(index)
    return index


def nodes_of(index: BindingIndex, names: tuple[str, ...]) -> Counter[int]:
    pages = index.memory.pages()
    assert set(names) <= set(pages)
    return sum((Counter(pages[name]) for name in names), Counter())


def test_written_arrays_lie_somewhere_and_add_up() -> None:
    index = filled(bound_to(NODES[0]), bound_to(NODES[0]))
    pages = index.memory.pages()
    assert tuple(pages) == CONCEPT_ARRAYS + EPISODE_ARRAYS
    assert index.memory.refusal() is None
    n_bytes = sum(sum(by_node.values()) for by_node in pages.values()) * os.sysconf("SC_PAGESIZE")
    # All but the tail of a slab that no binding has reached, and what lies on the heap.
    assert 0.5 * index.statistics().n_bytes < n_bytes < 1.5 * index.statistics().n_bytes
    assert set(nodes_of(index, CONCEPT_ARRAYS + EPISODE_ARRAYS)) == {NODES[0]}


def test_a_small_index_is_on_the_heap_and_not_looked_at() -> None:
    index = BindingIndex(1)
    index.memory.place(bound_to(NODES[0]), bound_to(NODES[0]), move=True)
    index.bind(np.arange(9), np.arange(9), np.ones(9, np.float32), 1)
    assert all(by_node == {} for by_node in index.memory.pages().values())


def test_a_node_that_does_not_exist_is_refused_and_the_index_works_on() -> None:
    index = filled()
    with pytest.raises(OSError, match="mbind: Invalid argument"):
        index.memory.place(bound_to(999), DEFAULT, move=True)
    assert index.memory.refusal() is None  # the caller has been told
    fill(index, 1, N_BINDINGS)
    refusal = index.memory.refusal()
    assert refusal is not None
    assert "Invalid argument" in str(refusal)
    index.memory.place(DEFAULT, DEFAULT, move=False)
    assert index.memory.refusal() is None
    index.check()
    assert index.statistics().n_bindings == 2 * N_BINDINGS


@pytest.mark.parametrize("node", [1024, 5000])
def test_nodes_beyond_those_of_linux_are_refused(node: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        BindingIndex(1).memory.place(bound_to(node), DEFAULT, move=False)


def test_arguments_are_named() -> None:
    memory = BindingIndex(1).memory
    with pytest.raises(TypeError, match="concepts must be a MemoryPolicy"):
        memory.place(0, DEFAULT, move=False)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="move must be True or False"):
        memory.place(DEFAULT, DEFAULT, move=1)  # type: ignore[arg-type]


def test_rows_count_where_they_come_from() -> None:
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    home = current_cpu_node().node
    index = BindingIndex(N_SHARDS)
    assert index.memory.origins() == {}
    fill(index)
    index.fan_out(np.arange(10))
    index.states(np.arange(10))
    index.activate(np.arange(10), 5, 1)
    index.decay_concepts(np.arange(10), np.zeros(10, np.float32), 1.0, 2)
    index.episodes_of(np.arange(10))
    index.concepts_of(np.arange(10))
    index.decay(1.0, 3)
    index.bindings()
    assert index.memory.origins() == {home: N_BINDINGS + 60}


def test_pages_move_beside_threads_that_use_the_index() -> None:
    index, stopped = filled(), threading.Event()
    failures: list[str] = []

    def use(seed: int) -> None:
        n = 0
        while not stopped.is_set() or n < 20:
            if seed:
                fill(index, 1_000_000 * seed + n, 1_000 * n)
            elif index.fan_out(np.arange(20_000)).min() < 2:
                failures.append("bindings are missing")
            n += 1

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        node = NODES[turn % len(NODES)]
        index.memory.place(bound_to(node), bound_to(NODES[0]), move=True)
        assert sum(nodes_of(index, CONCEPT_ARRAYS).values()) > 0
    stopped.set()
    for thread in threads:
        thread.join()
    index.check()
    assert failures == []


# Several nodes


@needs_two_nodes
@pytest.mark.parametrize("node", CPU_NODES, ids=lambda node: f"node{node.index}")
@pytest.mark.parametrize("mode", [MemoryMode.BIND, MemoryMode.PREFERRED])
def test_arrays_lie_on_the_node_asked_for_whoever_writes_them(node: object, mode: MemoryMode) -> None:
    elsewhere = next(other for other in CPU_NODES if other is not node)
    os.sched_setaffinity(0, elsewhere.cpus)
    policy = MemoryPolicy(mode, (node.index,))  # type: ignore[attr-defined]
    index = filled(policy, policy)
    fill(index, 1, N_BINDINGS)  # arrays that grow are placed too
    assert set(nodes_of(index, CONCEPT_ARRAYS + EPISODE_ARRAYS)) == {node.index}  # type: ignore[attr-defined]
    assert index.memory.origins() == {elsewhere.index: 2 * N_BINDINGS}
    assert index.memory.refusal() is None


@needs_two_nodes
def test_two_sides_lie_apart() -> None:
    first, second = (node.index for node in CPU_NODES[:2])
    index = filled(bound_to(first), bound_to(second))
    assert set(nodes_of(index, CONCEPT_ARRAYS)) == {first}
    assert set(nodes_of(index, EPISODE_ARRAYS)) == {second}


@needs_two_nodes
def test_interleaved_pages_are_spread_evenly() -> None:
    nodes = tuple(node.index for node in CPU_NODES[:2])
    policy = MemoryPolicy(MemoryMode.INTERLEAVE, nodes)
    counts = nodes_of(filled(policy, policy), CONCEPT_ARRAYS + EPISODE_ARRAYS)
    assert set(counts) == set(nodes)
    assert abs(counts[nodes[0]] - counts[nodes[1]]) < 0.1 * sum(counts.values())


@needs_two_nodes
def test_a_live_index_moves_and_keeps_its_bindings() -> None:
    first, second = (node.index for node in CPU_NODES[:2])
    index = filled(bound_to(first), bound_to(first))
    before = index.bindings()
    index.memory.place(bound_to(second), bound_to(second), move=False)
    assert set(nodes_of(index, CONCEPT_ARRAYS + EPISODE_ARRAYS)) == {first}
    index.memory.place(bound_to(second), bound_to(first), move=True)
    assert set(nodes_of(index, CONCEPT_ARRAYS)) == {second}
    assert set(nodes_of(index, EPISODE_ARRAYS)) == {first}
    index.check()
    for column, kept in zip(index.bindings(), before, strict=True):
        np.testing.assert_array_equal(column, kept)


# Strategies of a shard


def filled_shard(strategy: Strategy, policy: NumaPolicy, home: int) -> BindingShard:
    shard = BindingShard(3, N_SHARDS, plan=plan_memory(strategy, TOPOLOGY, home, policy))
    numbers = np.arange(N_BINDINGS)
    shard.bind(numbers % 9973, numbers // 2, np.full(N_BINDINGS, 0.5, np.float32), op_id=1)
    return shard


def lies_on(shard: BindingShard) -> tuple[set[int], set[int]]:
    report = shard.memory_report()
    assert report.errors == ()
    assert report.pages is not None
    pages = report.pages
    return tuple({node for name in side for node in pages[name]} for side in (CONCEPT_ARRAYS, EPISODE_ARRAYS))  # type: ignore[return-value]


@needs_two_nodes
@pytest.mark.parametrize("policy", [NumaPolicy.PREFER, NumaPolicy.REQUIRE])
@pytest.mark.parametrize("home", range(2))
@pytest.mark.parametrize("strategy", Strategy)
def test_each_strategy_takes_effect_in_a_bound_process(strategy: Strategy, home: int, policy: NumaPolicy) -> None:
    here, other = CPU_NODES[home], CPU_NODES[1 - home]
    assert bind_to_node(here, policy).cpus == here.cpus
    expected = {
        Strategy.LOCAL: ({here.index}, {here.index}),
        Strategy.INTERLEAVED: (set(NODES), set(NODES)),
        Strategy.SEPARATED: ({here.index}, {other.index}),
        Strategy.ADAPTIVE: ({here.index}, {here.index}),
    }[strategy]
    assert lies_on(filled_shard(strategy, policy, here.index)) == expected
    vectors = np.random.default_rng(1).standard_normal((2000, 64), np.float32)
    packed = pack_placed(vectors, plan_memory(strategy, TOPOLOGY, here.index, policy), unit=True, threads=2)
    assert set(page_nodes(packed.panels).tolist()) == expected[0]


@needs_two_nodes
@pytest.mark.parametrize("policy", [NumaPolicy.PREFER, NumaPolicy.REQUIRE])
def test_adaptive_memory_follows_threads_to_another_node(policy: NumaPolicy, caplog: pytest.LogCaptureFixture) -> None:
    first, second = CPU_NODES[:2]
    os.sched_setaffinity(0, first.cpus)
    shard = filled_shard(Strategy.ADAPTIVE, policy, first.index)
    before = shard.bindings()
    pages = shard.memory_report().pages
    assert pages is not None
    n_pages = sum(sum(by_node.values()) for by_node in pages.values())
    names = np.arange(10_000)
    os.sched_setaffinity(0, second.cpus)
    n_before = (N_BINDINGS + 2 * ROWS_A_PAGE * n_pages) // 2 // len(names)
    for _ in range(n_before):  # half of what it takes
        shard.fan_out(names)
    assert lies_on(shard) == ({first.index}, {first.index})
    with caplog.at_level(logging.INFO):
        for _ in range(n_before + 20):
            shard.fan_out(names)
    assert lies_on(shard) == ({second.index}, {second.index})
    assert shard.memory_report().home == second.index
    (record,) = (record for record in caplog.records if "migration" in record.getMessage())
    assert f"from={first.index} to={second.index}" in record.getMessage()
    for column, kept in zip(shard.bindings(), before, strict=True):
        np.testing.assert_array_equal(column, kept)
