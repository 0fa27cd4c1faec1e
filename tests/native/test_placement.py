from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cluster_engine.errors import PlacementError
from cluster_engine.shards.affinity import NumaPolicy, bind_to_node
from cluster_engine.shards.topology import NumaNode, Topology, read_topology
from native_simd.placement import (
    MemoryMode,
    MemoryPolicy,
    bind_memory,
    current_cpu_node,
    get_memory_policy,
    page_nodes,
    set_memory_policy,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PAGE_BYTES = mmap.PAGESIZE
CGROUP = Path("/sys/fs/cgroup")
# Before anything is bound: afterwards a process sees only its own node's CPUs.
TOPOLOGY = read_topology()
CPU_NODES = [node for node in TOPOLOGY.nodes if node.cpus and node.memory_bytes]
HOME = next(node.index for node in TOPOLOGY.nodes if node.memory_bytes)
MEMORY_NODES = [node for node in TOPOLOGY.nodes if not node.cpus]


def has_memory_policies() -> bool:
    try:
        get_memory_policy()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_memory_policies(), reason="this kernel or container refuses memory policies")
# `make test-numa` runs this file in an emulated machine that has them.
needs_two_nodes = pytest.mark.skipif(len(CPU_NODES) < 2, reason="needs two NUMA nodes: make test-numa")
needs_memory_node = pytest.mark.skipif(not MEMORY_NODES, reason="needs a memory-only NUMA node: make test-numa")


@pytest.fixture(autouse=True)
def _placement_restored() -> Iterator[None]:
    policy = get_memory_policy()
    cpus = os.sched_getaffinity(0)
    yield
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cpus)
    set_memory_policy(policy)


def allocate(n_pages: int) -> NDArray[np.uint8]:
    """Pages fresh from the kernel, on a page boundary, not yet written."""
    return np.frombuffer(mmap.mmap(-1, n_pages * PAGE_BYTES), dtype=np.uint8)


@pytest.mark.parametrize(
    "policy",
    [
        MemoryPolicy(MemoryMode.DEFAULT),
        MemoryPolicy(MemoryMode.LOCAL),
        *(MemoryPolicy(mode, (HOME,)) for mode in (MemoryMode.PREFERRED, MemoryMode.BIND, MemoryMode.INTERLEAVE)),
    ],
)
def test_policy_is_read_back_as_set(policy: MemoryPolicy) -> None:
    set_memory_policy(policy)
    assert get_memory_policy() == policy


def test_policy_belongs_to_a_thread_and_is_inherited() -> None:
    seen: dict[str, MemoryPolicy] = {}
    started, asked = threading.Event(), threading.Event()

    def earlier() -> None:
        started.set()
        asked.wait()
        seen["earlier"] = get_memory_policy()

    thread = threading.Thread(target=earlier)
    thread.start()
    started.wait()
    before = get_memory_policy()
    policy = MemoryPolicy(MemoryMode.BIND, (HOME,))
    set_memory_policy(policy)
    asked.set()
    thread.join()
    later = threading.Thread(target=lambda: seen.update(later=get_memory_policy()))
    later.start()
    later.join()
    assert seen == {"earlier": before, "later": policy}


@pytest.mark.parametrize("node", [63, 1023, 1024, 5000])
def test_a_node_that_does_not_exist_is_refused(node: int) -> None:
    policy = MemoryPolicy(MemoryMode.BIND, (node,))
    with pytest.raises(OSError, match="set_mempolicy: Invalid argument") as caught:
        set_memory_policy(policy)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="mbind: Invalid argument"):
        bind_memory(allocate(1), policy, move=False)


@pytest.mark.parametrize("nodes", [(-1,), (1, 0), (0, 0)])
def test_policy_refuses_malformed_nodes(nodes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending, distinct and not negative"):
        MemoryPolicy(MemoryMode.BIND, nodes)


@pytest.mark.parametrize(
    ("begin", "end", "n_pages"),
    [
        (0, PAGE_BYTES, 1),
        (PAGE_BYTES - 1, PAGE_BYTES + 1, 2),
        (1, 2, 1),
        (1, 3 * PAGE_BYTES, 3),
        (1, 3 * PAGE_BYTES + 1, 4),
        (7, 7, 0),
        (0, 1300 * PAGE_BYTES, 1300),
    ],
)
def test_every_page_with_a_byte_of_the_array_is_counted(begin: int, end: int, n_pages: int) -> None:
    memory = allocate(1300)
    memory[:] = 1
    nodes = page_nodes(memory[begin:end])
    assert nodes.dtype == np.int32
    assert nodes.shape == (n_pages,)
    assert set(nodes.tolist()) <= {node.index for node in TOPOLOGY.nodes}


def test_pages_never_written_lie_nowhere() -> None:
    memory = allocate(600)
    written = np.array([0, 3, 511, 512, 599])
    memory[written * PAGE_BYTES] = 1
    nodes = page_nodes(memory)
    # A large-page machine may back the neighbours of a written page too; what was written is always there.
    assert (nodes[written] >= 0).all()
    assert set(nodes[nodes < 0].tolist()) <= {-errno.ENOENT, -errno.EFAULT}
    assert set(page_nodes(allocate(3)).tolist()) <= {-errno.ENOENT, -errno.EFAULT}


def test_strided_arrays_are_refused() -> None:
    matrix = np.ones((64, 64))
    with pytest.raises(ValueError, match="pass a contiguous one"):
        page_nodes(matrix[:, ::2])
    with pytest.raises(ValueError, match="pass a contiguous one"):
        bind_memory(matrix[::2], MemoryPolicy(MemoryMode.DEFAULT), move=False)
    assert page_nodes(matrix.T).size == page_nodes(matrix).size


def test_current_cpu_is_one_that_is_allowed() -> None:
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    (node,) = (node.index for node in TOPOLOGY.nodes if cpu in node.cpus)
    assert current_cpu_node() == (cpu, node)


# Several nodes


@needs_two_nodes
@pytest.mark.parametrize("policy", [NumaPolicy.PREFER, NumaPolicy.REQUIRE])
@pytest.mark.parametrize("node", CPU_NODES, ids=lambda node: f"node{node.index}")
def test_memory_written_after_binding_lies_on_the_node(node: NumaNode, policy: NumaPolicy) -> None:
    report = bind_to_node(node, policy)
    assert (report.cpus, report.cpu_errors, report.memory_errors) == (node.cpus, (), ())
    assert report.memory == report.memory_asked
    memory = allocate(4096)
    memory[:] = 1
    # 48 MiB, above the largest size that malloc serves from memory freed, and so written, before the binding
    numpy_memory = np.ones((16_384, 768), dtype=np.float32)
    assert set(page_nodes(memory).tolist()) == {node.index}
    assert set(page_nodes(numpy_memory).tolist()) == {node.index}


@needs_two_nodes
@pytest.mark.parametrize("node", CPU_NODES, ids=lambda node: f"node{node.index}")
def test_threads_run_and_write_on_the_node(node: NumaNode) -> None:
    bound = threading.Event()
    started = threading.Barrier(5)
    found: dict[str, tuple[int, set[int]]] = {}

    def write(name: str) -> None:
        if name.startswith("earlier"):
            started.wait()
            bound.wait()
        memory = allocate(256)
        memory[:] = 1
        found[name] = (current_cpu_node().node, set(page_nodes(memory).tolist()))

    earlier = [threading.Thread(target=write, args=(f"earlier {i}",)) for i in range(4)]
    for thread in earlier:
        thread.start()
    started.wait()
    bind_to_node(node, NumaPolicy.REQUIRE)
    bound.set()
    later = [threading.Thread(target=write, args=(f"later {i}",)) for i in range(4)]
    for thread in later:
        thread.start()
    for thread in earlier + later:
        thread.join()
    assert len(found) == 8
    assert set(map(repr, found.values())) == {repr((node.index, {node.index}))}


@needs_two_nodes
def test_memory_written_before_binding_stays_and_can_be_moved() -> None:
    first, second = CPU_NODES[:2]
    bind_to_node(first, NumaPolicy.REQUIRE)
    memory = allocate(1024)
    memory[:] = np.arange(memory.size, dtype=np.uint64).view(np.uint8)[: memory.size]
    expected = memory.copy()
    bind_to_node(second, NumaPolicy.REQUIRE)
    assert set(page_nodes(memory).tolist()) == {first.index}
    middle = memory[100 * PAGE_BYTES : 200 * PAGE_BYTES]
    bind_memory(middle, MemoryPolicy(MemoryMode.BIND, (second.index,)), move=True)
    nodes = page_nodes(memory)
    assert set(nodes[100:200].tolist()) == {second.index}
    assert set(np.delete(nodes, np.s_[100:200]).tolist()) == {first.index}
    np.testing.assert_array_equal(memory, expected)


@needs_two_nodes
def test_bound_memory_lies_where_bound_whoever_writes_it() -> None:
    first, second = CPU_NODES[:2]
    bind_to_node(first, NumaPolicy.REQUIRE)
    memory = allocate(512)
    bind_memory(memory, MemoryPolicy(MemoryMode.BIND, (second.index,)), move=False)
    memory[:] = 1
    assert set(page_nodes(memory).tolist()) == {second.index}


@needs_two_nodes
def test_interleaved_memory_alternates() -> None:
    nodes = tuple(node.index for node in CPU_NODES[:2])
    memory = allocate(512)
    bind_memory(memory, MemoryPolicy(MemoryMode.INTERLEAVE, nodes), move=False)
    memory[:] = 1
    counts = np.bincount(page_nodes(memory), minlength=max(nodes) + 1)
    assert counts[list(nodes)].sum() == 512
    assert abs(int(counts[nodes[0]]) - int(counts[nodes[1]])) <= 1


@needs_memory_node
def test_memory_only_node_takes_memory_and_says_it_has_no_cpu() -> None:
    node = MEMORY_NODES[0]
    report = bind_to_node(node, NumaPolicy.PREFER)
    memory = allocate(512)
    memory[:] = 1
    assert set(page_nodes(memory).tolist()) == {node.index}
    assert report.memory_errors == ()
    assert report.cpu_errors == ("the node has no CPU that this process may use",)
    assert report.cpus == tuple(sorted(cpu for other in TOPOLOGY.nodes for cpu in other.cpus))


@needs_two_nodes
def test_distances_are_ten_at_home_and_more_abroad() -> None:
    for at, node in enumerate(TOPOLOGY.nodes):
        assert len(node.distances) == len(TOPOLOGY.nodes)
        assert node.distances[at] == 10
        assert min(np.delete(node.distances, at)) > 10


@pytest.fixture
def confined_topology() -> Iterator[Topology]:
    """The topology seen from inside a cgroup that allows the first node only; the process is in it meanwhile."""
    controllers = CGROUP / "cgroup.controllers"
    if not controllers.exists() or "cpuset" not in controllers.read_text() or not os.access(CGROUP, os.W_OK):
        pytest.skip("needs a writable cgroup hierarchy with cpusets: make test-numa")
    node = CPU_NODES[0]
    (CGROUP / "cgroup.subtree_control").write_text("+cpuset")
    inner = CGROUP / f"placement-{os.getpid()}"
    inner.mkdir()
    (inner / "cpuset.cpus").write_text(",".join(map(str, node.cpus)))
    (inner / "cpuset.mems").write_text(str(node.index))
    (inner / "cgroup.procs").write_text(str(os.getpid()))
    yield read_topology()
    (CGROUP / "cgroup.procs").write_text(str(os.getpid()))
    inner.rmdir()


@needs_two_nodes
def test_cpuset_confines_topology_and_binding(confined_topology: Topology) -> None:
    first, second = CPU_NODES[:2]
    assert [(node.index, node.cpus) for node in confined_topology.nodes] == [(first.index, first.cpus)]
    before = get_memory_policy()
    report = bind_to_node(second, NumaPolicy.PREFER)
    assert (report.cpus, report.memory) == (first.cpus, before)
    assert report.cpu_errors[0].startswith("sched_setaffinity")
    assert report.memory_errors[0].startswith("set_mempolicy")
    with pytest.raises(PlacementError, match=r"cpu: sched_setaffinity.*EINVAL.*memory: set_mempolicy.*EINVAL"):
        bind_to_node(second, NumaPolicy.REQUIRE)
    assert bind_to_node(confined_topology.nodes[0], NumaPolicy.REQUIRE).cpus == first.cpus
