from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import platform
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.errors import PlacementError
from cluster_engine.shards.affinity import (
    NumaPolicy,
    PlacementReport,
    bind_to_node,
    describe_placement,
    threads_for,
)
from cluster_engine.shards.topology import NumaNode, Topology
from native_simd.placement import MemoryMode, MemoryPolicy, get_memory_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

NODE_0 = NumaNode(0, (0, 1, 2, 3), 1 << 34, (10, 21))
NODE_1 = NumaNode(1, (4, 5, 6, 7), 1 << 34, (21, 10))
ALL_CPUS = frozenset(range(8))
DEFAULT = MemoryPolicy(MemoryMode.DEFAULT)
CALLS = ("threads", "get_cpus", "set_cpus", "get_memory_policy", "set_memory_policy")


@dataclass
class FakeKernel:
    """A process on a two-node machine, as Linux would treat it; `refused` says which calls fail, and how."""

    cpus: dict[int, frozenset[int]] = field(default_factory=lambda: dict.fromkeys((100, 101, 102), ALL_CPUS))
    policy: MemoryPolicy = DEFAULT
    cpuset: frozenset[int] = ALL_CPUS
    mems: frozenset[int] = frozenset({0, 1})
    refused: dict[str, int] = field(default_factory=dict)
    n_changes: int = 0

    def refuse(self, call: str) -> None:
        if call in self.refused:
            raise OSError(self.refused[call], os.strerror(self.refused[call]))

    def threads(self) -> list[int]:
        self.refuse("threads")
        return list(self.cpus)

    def find(self, thread: int) -> int:
        thread = thread or min(self.cpus)
        if thread not in self.cpus:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        return thread

    def get_cpus(self, thread: int) -> frozenset[int]:
        self.refuse("get_cpus")
        return self.cpus[self.find(thread)]

    def set_cpus(self, thread: int, cpus: Iterable[int]) -> None:
        self.refuse("set_cpus")
        allowed = self.cpuset.intersection(cpus)
        if not allowed:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.cpus[self.find(thread)] = allowed
        self.n_changes += 1

    def get_memory_policy(self) -> MemoryPolicy:
        self.refuse("get_memory_policy")
        return self.policy

    def set_memory_policy(self, policy: MemoryPolicy) -> None:
        self.refuse("set_memory_policy")
        if not self.mems.intersection(policy.nodes):
            raise OSError(errno.EINVAL, "Invalid argument")
        self.policy = policy
        self.n_changes += 1

    def union(self) -> tuple[int, ...]:
        return tuple(sorted(frozenset().union(*self.cpus.values())))


@pytest.mark.parametrize(
    ("policy", "mode"), [(NumaPolicy.PREFER, MemoryMode.PREFERRED), (NumaPolicy.REQUIRE, MemoryMode.BIND)]
)
def test_binds_every_thread_and_memory(policy: NumaPolicy, mode: MemoryMode) -> None:
    kernel = FakeKernel()
    report = bind_to_node(NODE_1, policy, kernel)
    assert set(kernel.cpus.values()) == {frozenset(NODE_1.cpus)}
    assert kernel.policy == MemoryPolicy(mode, (1,))
    assert report == PlacementReport(
        policy=policy,
        node=1,
        cpus_asked=NODE_1.cpus,
        cpus=NODE_1.cpus,
        memory_asked=MemoryPolicy(mode, (1,)),
        memory=MemoryPolicy(mode, (1,)),
        cpu_errors=(),
        memory_errors=(),
    )


def test_binds_again_to_another_node() -> None:
    kernel = FakeKernel()
    bind_to_node(NODE_1, NumaPolicy.REQUIRE, kernel)
    report = bind_to_node(NODE_0, NumaPolicy.REQUIRE, kernel)
    assert kernel.union() == report.cpus == NODE_0.cpus
    assert kernel.policy.nodes == (0,)


@pytest.mark.parametrize("node", [NODE_1, None])
def test_off_touches_nothing_and_reports_what_is(node: NumaNode | None) -> None:
    policy = MemoryPolicy(MemoryMode.INTERLEAVE, (0, 1))
    kernel = FakeKernel(policy=policy, refused=dict.fromkeys(("set_cpus", "set_memory_policy"), errno.EPERM))
    report = bind_to_node(node, NumaPolicy.OFF, kernel)
    assert (report.node, report.cpus_asked, report.memory_asked) == (None, None, None)
    assert (report.cpus, report.memory) == (tuple(range(8)), policy)
    assert (report.cpu_errors, report.memory_errors) == ((), ())


def test_no_node_is_nothing_to_prefer_and_an_error_to_require() -> None:
    kernel = FakeKernel()
    report = bind_to_node(None, NumaPolicy.PREFER, kernel)
    assert (report.cpus_asked, report.cpus, report.memory) == (None, tuple(range(8)), DEFAULT)
    with pytest.raises(PlacementError, match="needs a node"):
        bind_to_node(None, NumaPolicy.REQUIRE, kernel)
    assert kernel.n_changes == 0


def test_a_thread_started_by_a_loose_thread_meanwhile_is_bound_too() -> None:
    class Spawning(FakeKernel):
        def set_cpus(self, thread: int, cpus: Iterable[int]) -> None:
            if thread == 100:  # 102 is still loose
                self.cpus[103] = self.cpus[102]
            super().set_cpus(thread, cpus)

    kernel = Spawning()
    report = bind_to_node(NODE_1, NumaPolicy.REQUIRE, kernel)
    assert kernel.cpus[103] == frozenset(NODE_1.cpus)
    assert report.cpus == NODE_1.cpus


def test_a_thread_that_ends_meanwhile_is_no_error() -> None:
    class Ending(FakeKernel):
        def set_cpus(self, thread: int, cpus: Iterable[int]) -> None:
            self.cpus.pop(101, None)
            super().set_cpus(thread, cpus)

    report = bind_to_node(NODE_1, NumaPolicy.REQUIRE, Ending())
    assert report.cpus == NODE_1.cpus


def test_a_process_that_always_starts_threads_is_bound() -> None:
    class Busy(FakeKernel):
        def threads(self) -> list[int]:
            self.cpus[max(self.cpus) + 1] = self.cpus[max(self.cpus)]
            return super().threads()

    report = bind_to_node(NODE_1, NumaPolicy.REQUIRE, Busy())
    assert report.cpus == NODE_1.cpus


def test_a_thread_that_escapes_is_told() -> None:
    class Escaping(FakeKernel):
        def set_cpus(self, thread: int, cpus: Iterable[int]) -> None:
            super().set_cpus(thread, cpus)
            self.cpus[102] = frozenset({0, 1})

    report = bind_to_node(NODE_1, NumaPolicy.PREFER, Escaping())
    assert report.cpus == (0, 1, 4, 5, 6, 7)
    assert report.cpu_errors == ("a thread may still run on CPUs 0-1",)


def test_cpuset_that_allows_a_part_of_the_node_is_met_in_part() -> None:
    kernel = FakeKernel(cpuset=frozenset({0, 1, 5}))
    report = bind_to_node(NODE_1, NumaPolicy.REQUIRE, kernel)
    assert (report.cpus_asked, report.cpus, report.cpu_errors) == (NODE_1.cpus, (5,), ())
    assert threads_for(report) == 1


def test_cpuset_that_allows_none_of_the_node() -> None:
    cpus = frozenset({0, 1})
    kernel = FakeKernel(cpus={100: cpus}, cpuset=cpus, mems=frozenset({0}))
    report = bind_to_node(NODE_1, NumaPolicy.PREFER, kernel)
    assert (report.cpus, report.memory) == ((0, 1), DEFAULT)
    assert report.cpu_errors[0].startswith("sched_setaffinity(4-7): EINVAL: the cpuset")
    assert report.memory_errors[0].startswith("set_mempolicy(preferred:1): EINVAL: the cpuset")
    with pytest.raises(PlacementError, match=r"node 1: cpu: sched_setaffinity.*; memory: set_mempolicy\(bind:1\)"):
        bind_to_node(NODE_1, NumaPolicy.REQUIRE, kernel)


def test_memory_only_node_binds_memory() -> None:
    kernel = FakeKernel(mems=frozenset({0, 1, 2}))
    node = NumaNode(2, (), 1 << 34, (17, 28, 10))
    report = bind_to_node(node, NumaPolicy.PREFER, kernel)
    assert (report.cpus, report.memory) == (tuple(range(8)), MemoryPolicy(MemoryMode.PREFERRED, (2,)))
    assert report.cpu_errors == ("the node has no CPU that this process may use",)
    with pytest.raises(PlacementError, match="node 2: cpu: the node has no CPU"):
        bind_to_node(node, NumaPolicy.REQUIRE, kernel)


def test_kernel_that_holds_another_policy_is_not_believed() -> None:
    class Deaf(FakeKernel):
        def set_memory_policy(self, policy: MemoryPolicy) -> None:
            pass

    report = bind_to_node(NODE_1, NumaPolicy.PREFER, Deaf())
    assert report.memory == DEFAULT
    assert report.memory_errors == ("the kernel took preferred:1 and holds default",)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENOMEM, errno.EIO])
@pytest.mark.parametrize("call", CALLS)
def test_each_refused_call_names_its_part(call: str, number: int) -> None:
    report = bind_to_node(NODE_1, NumaPolicy.PREFER, FakeKernel(refused={call: number}))
    part = "memory" if "memory" in call else "cpu"
    errors, others = report.cpu_errors, report.memory_errors
    if part == "memory":
        errors, others = others, errors
    assert len(errors) == 1
    assert errno.errorcode[number] in errors[0]
    assert others == ()
    with pytest.raises(PlacementError, match=f"node 1: {part}: .*{errno.errorcode[number]}"):
        bind_to_node(NODE_1, NumaPolicy.REQUIRE, FakeKernel(refused={call: number}))


def test_an_error_without_a_number_is_reported_by_its_text() -> None:
    class Odd(FakeKernel):
        def get_memory_policy(self) -> MemoryPolicy:
            raise OSError("the emulator has no such call")

    report = bind_to_node(NODE_1, NumaPolicy.PREFER, Odd())
    assert report.memory is None
    assert report.memory_errors == ("get_mempolicy: error: the emulator has no such call",)


nodes = st.builds(
    lambda index, cpus: NumaNode(index, tuple(sorted(cpus)), 0, ()), st.integers(0, 3), st.sets(st.integers(0, 9))
)
kernels = st.builds(
    FakeKernel,
    cpus=st.dictionaries(st.integers(1, 9), st.just(ALL_CPUS), min_size=1),
    cpuset=st.frozensets(st.integers(0, 7), min_size=1),
    mems=st.frozensets(st.integers(0, 3), min_size=1),
    refused=st.dictionaries(
        st.sampled_from(CALLS), st.sampled_from([errno.EPERM, errno.ENOSYS, errno.EINVAL]), max_size=3
    ),
)


@given(nodes, kernels, st.sampled_from([NumaPolicy.PREFER, NumaPolicy.OFF]))
def test_never_raises_and_the_report_is_true(node: NumaNode, kernel: FakeKernel, policy: NumaPolicy) -> None:
    report = bind_to_node(node, policy, kernel)
    if "threads" not in kernel.refused and "get_cpus" not in kernel.refused:
        assert report.cpus == kernel.union()
    assert report.memory == (None if "get_memory_policy" in kernel.refused else kernel.policy)
    if policy is NumaPolicy.PREFER and not report.cpu_errors:
        assert set(kernel.union()) <= set(node.cpus)
    if policy is NumaPolicy.PREFER and not report.memory_errors:
        assert kernel.policy == MemoryPolicy(MemoryMode.PREFERRED, (node.index,))
    assert threads_for(report) >= 1


@given(nodes, kernels)
def test_require_returns_only_when_all_is_bound(node: NumaNode, kernel: FakeKernel) -> None:
    refusal = ""
    try:
        report = bind_to_node(node, NumaPolicy.REQUIRE, kernel)
    except PlacementError as error:
        refusal = str(error)
    if refusal:
        assert f"node {node.index}: " in refusal
        assert "cpu: " in refusal or "memory: " in refusal
        return
    assert kernel.union() == report.cpus
    assert set(kernel.union()) <= set(node.cpus)
    assert kernel.policy == MemoryPolicy(MemoryMode.BIND, (node.index,))
    assert (report.cpu_errors, report.memory_errors) == ((), ())


def test_report_travels_as_pickle_and_json() -> None:
    report = bind_to_node(NODE_1, NumaPolicy.PREFER, FakeKernel(refused={"get_memory_policy": errno.EPERM}))
    assert pickle.loads(pickle.dumps(report)) == report  # noqa: S301 - our own bytes
    fields = json.loads(json.dumps(dataclasses.asdict(report)))
    assert (fields["policy"], fields["cpus"], fields["memory"]) == ("prefer", [4, 5, 6, 7], None)
    assert fields["memory_asked"] == {"mode": "preferred", "nodes": [1]}


def test_threads_for_counts_effective_cpus() -> None:
    assert threads_for(bind_to_node(NODE_1, NumaPolicy.PREFER, FakeKernel())) == 4
    assert threads_for(bind_to_node(NODE_1, NumaPolicy.OFF, FakeKernel())) == 8
    assert threads_for(bind_to_node(NODE_1, NumaPolicy.OFF, FakeKernel(refused={"get_cpus": errno.EPERM}))) == 1


def test_refusals_are_logged_with_their_part(caplog: pytest.LogCaptureFixture) -> None:
    bind_to_node(NODE_1, NumaPolicy.PREFER, FakeKernel(refused={"set_memory_policy": errno.EPERM}))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "node=1 part=memory error=set_mempolicy(preferred:1): EPERM" in record.getMessage()


def test_describe_a_healthy_placement() -> None:
    report = bind_to_node(NODE_1, NumaPolicy.PREFER, FakeKernel())
    findings = describe_placement(Topology((NODE_0, NODE_1)), report)
    assert [(finding.subject, finding.detail) for finding in findings] == [
        ("node 0", "CPUs 0-3, 17,179,869,184 bytes"),
        ("node 1", "CPUs 4-7, 17,179,869,184 bytes"),
        ("cpus", "4-7, asked for 4-7"),
        ("memory", "preferred:1, asked for preferred:1"),
    ]
    assert all(finding.ok for finding in findings)


def test_describe_points_at_what_went_wrong() -> None:
    report = bind_to_node(
        NODE_1, NumaPolicy.PREFER, FakeKernel(refused=dict.fromkeys(("get_memory_policy", "set_memory_policy"), 1))
    )
    findings = describe_placement(Topology((NODE_0, NODE_1), ("cpulist: nonsense",)), report)
    wrong = [(finding.subject, finding.detail) for finding in findings if not finding.ok]
    assert [subject for subject, _ in wrong] == ["topology", "memory", "memory", "memory"]
    assert wrong[0][1] == "cpulist: nonsense"
    assert wrong[1][1] == "not known, asked for preferred:1"
    assert "--cap-add SYS_NICE" in wrong[2][1]


# The real kernel, in child processes: a binding, like a seccomp filter, cannot be taken back.


def run_child(body: str) -> Any:  # noqa: ANN401 - whatever JSON the child prints
    """Run Python code in a child; it prints one JSON document."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def has_memory_policies() -> bool:
    try:
        get_memory_policy()
    except OSError:
        return False
    return Path("/proc/self/numa_maps").exists()


needs_memory_policies = pytest.mark.skipif(
    not has_memory_policies(), reason="this kernel or container refuses memory policies"
)


# The kernel's own account of a process, read without any of the calls under test.
WITNESS = """
import dataclasses, json, os, threading
from pathlib import Path
from cluster_engine.errors import PlacementError
from cluster_engine.shards.affinity import NumaPolicy, bind_to_node
from cluster_engine.shards.topology import NumaNode

cpu = max(os.sched_getaffinity(0))

def thread_cpus():
    texts = [path.read_text() for path in Path("/proc/self/task").glob("*/status")]
    return [line.split()[1] for text in texts for line in text.splitlines() if line.startswith("Cpus_allowed_list")]

def heap_policy():
    lines = Path("/proc/self/numa_maps").read_text().splitlines()
    return next(line.split()[1] for line in lines if " heap " in line)
"""


@needs_memory_policies
@pytest.mark.parametrize(("policy", "memory"), [("prefer", "prefer:0"), ("require", "bind:0")])
def test_real_kernel_agrees_with_the_report(policy: str, memory: str) -> None:
    result = run_child(
        WITNESS
        + f"""
release = threading.Event()
threads = [threading.Thread(target=release.wait) for _ in range(3)]
for thread in threads:
    thread.start()
report = bind_to_node(NumaNode(0, (cpu,), 0, ()), NumaPolicy({policy!r}))
late = threading.Thread(target=release.wait)
late.start()
seen = thread_cpus()
release.set()
print(json.dumps([cpu, dataclasses.asdict(report), seen, heap_policy()]))
"""
    )
    cpu, report, seen, heap = result
    assert report["cpus"] == report["cpus_asked"] == [cpu]
    assert report["memory"] == report["memory_asked"]
    assert (report["cpu_errors"], report["memory_errors"]) == ([], [])
    assert len(seen) >= 5
    assert set(seen) == {str(cpu)}
    assert heap == memory


@needs_memory_policies
def test_real_kernel_without_the_node() -> None:
    cpu, report, seen, heap, refusal = run_child(
        WITNESS
        + """
node = NumaNode(999, (cpu,), 0, ())
report = bind_to_node(node, NumaPolicy.PREFER)
seen, heap = thread_cpus(), heap_policy()
try:
    bind_to_node(node, NumaPolicy.REQUIRE)
except PlacementError as error:
    refusal = str(error)
print(json.dumps([cpu, dataclasses.asdict(report), seen, heap, refusal]))
"""
    )
    assert (report["cpus"], set(seen)) == ([cpu], {str(cpu)})
    assert (report["memory"]["mode"], heap) == ("default", "default")
    assert "EINVAL" in report["memory_errors"][0]
    assert refusal.startswith("cannot bind to NUMA node 999: memory: set_mempolicy(bind:999): EINVAL")


@needs_memory_policies
def test_real_kernel_without_the_cpus() -> None:
    before, report, after = run_child(
        WITNESS
        + """
before = thread_cpus()
report = bind_to_node(NumaNode(0, (4000,), 0, ()), NumaPolicy.PREFER)
print(json.dumps([before, dataclasses.asdict(report), thread_cpus()]))
"""
    )
    assert before == after
    assert report["cpus"] == sorted(os.sched_getaffinity(0))
    assert "EINVAL" in report["cpu_errors"][0]
    assert report["memory_errors"] == []


# A classic BPF program that gives EPERM for the listed system calls and lets all others pass.
SECCOMP = """
import ctypes, struct

def forbid(numbers):
    jumps = [(0x15, 0, 1, number) for number in numbers]
    program = [(0x20, 0, 0, 0)]
    for jump in jumps:
        program += [jump, (0x06, 0, 0, 0x00050001)]
    program.append((0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, header, 0, 0) == 0, ctypes.get_errno()

"""
# sched_setaffinity, set_mempolicy, get_mempolicy
NUMBERS = {"x86_64": (203, 238, 239), "aarch64": (122, 237, 236)}


@pytest.mark.skipif(platform.machine() not in NUMBERS, reason="system call numbers are listed for two machines")
def test_real_seccomp_filter_never_kills_under_prefer() -> None:
    cpus, report, refusal = run_child(
        SECCOMP
        + f"forbid({NUMBERS[platform.machine()]!r})\n"
        + WITNESS
        + """
node = NumaNode(0, (cpu,), 0, ())
report = bind_to_node(node, NumaPolicy.PREFER)
try:
    bind_to_node(node, NumaPolicy.REQUIRE)
except PlacementError as error:
    refusal = str(error)
print(json.dumps([sorted(os.sched_getaffinity(0)), dataclasses.asdict(report), refusal]))
"""
    )
    assert report["cpus"] == cpus
    assert report["memory"] is None
    assert [error.partition(" (")[0].split(": ")[1] for error in report["cpu_errors"]] == ["EPERM"]
    assert [error.split(": ")[1] for error in report["memory_errors"]] == ["EPERM", "EPERM"]
    assert "cpu: sched_setaffinity" in refusal
    assert "memory: set_mempolicy" in refusal


# mbind, move_pages
PAGE_NUMBERS = {"x86_64": (237, 279), "aarch64": (235, 239)}


@pytest.mark.skipif(platform.machine() not in PAGE_NUMBERS, reason="system call numbers are listed for two machines")
def test_real_seccomp_filter_leaves_memory_where_it_is_under_prefer() -> None:
    n_bindings, pages, errors, n_packed, refusal = run_child(
        SECCOMP
        + f"forbid({PAGE_NUMBERS[platform.machine()]!r})\n"
        + """
import json
import numpy as np
from cluster_engine.errors import PlacementError
from cluster_engine.shards.affinity import NumaPolicy
from cluster_engine.shards.memory import pack_placed
from cluster_engine.shards.placement import Strategy, plan_memory
from cluster_engine.shards.shard import BindingShard
from cluster_engine.shards.topology import NumaNode, Topology

topology = Topology((NumaNode(0, (0,), 1 << 30, (10, 21)), NumaNode(1, (1,), 1 << 30, (21, 10))))
plan = plan_memory(Strategy.ADAPTIVE, topology, 1, NumaPolicy.PREFER)
shard = BindingShard(3, 1, plan=plan)
numbers = np.arange(50_000)
shard.bind(numbers % 999, numbers, np.full(len(numbers), 0.5, np.float32), op_id=1)
shard.fan_out(numbers)
report = shard.memory_report()
packed = pack_placed(np.eye(40, dtype=np.float32), plan, unit=True, threads=1)
try:
    BindingShard(3, 1, plan=plan_memory(Strategy.LOCAL, topology, 1, NumaPolicy.REQUIRE))
except PlacementError as error:
    refusal = str(error)
print(json.dumps([len(shard), report.pages, report.errors, packed.n, refusal]))
"""
    )
    assert (n_bindings, pages, n_packed) == (50_000, None, 40)
    assert [error.split(" (")[0].split(":")[0] for error in errors][-1].startswith("move_pages")
    assert all("EPERM" in error for error in errors)
    assert "mbind(bind:1): EPERM" in refusal
