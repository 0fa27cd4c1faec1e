"""Binding this process to a NUMA node, and a true report of what took effect.

Owns the two halves of a binding, CPUs and memory, and the policy that says what to do when the machine refuses
one. It refuses to know which node a shard belongs to and what the shard is: the actor chooses a node, binds
first thing, and then allocates.

Bind before the first allocation and before any thread pool (BLAS, Arrow, OpenMP) starts. Threads that run
already are bound to the node's CPUs too, but keep their own memory policy: unless they were told otherwise,
they write on the node they run on. Pages written before stay where they are.
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cluster_engine.errors import PlacementError
from cluster_engine.shards.topology import format_cpu_list
from native_simd.placement import MemoryMode, MemoryPolicy, get_memory_policy, set_memory_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster_engine.shards.topology import NumaNode, Topology

logger = logging.getLogger(__name__)

# A thread that a loose thread starts while the binding goes on is found by the next pass; two passes are usual.
# Chosen, not measured: it ends the walk where threads are started all the time, and the read-back is the judge.
_MAX_PASSES = 10
_CALLING_THREAD = 0

_MEANINGS = {
    errno.EPERM: "a container or a seccomp filter forbids it; in Docker, --cap-add SYS_NICE allows it",
    errno.ENOSYS: "this kernel has no NUMA support",
    errno.EINVAL: "the cpuset of this process does not allow it, or the node has none",
}


class NumaPolicy(str, Enum):
    """What to do when the machine refuses a binding.

    The examples are of a process on node 0 of a two-node host, asked to live on node 1 with CPUs 4-7, in a
    container that forbids ``set_mempolicy``.
    """

    REQUIRE = "require"
    """Bind, or refuse to run: memory comes from the node and no other (``MPOL_BIND``).

    :class:`~cluster_engine.errors.PlacementError`: node 1, memory: set_mempolicy(bind:1): EPERM ...
    """

    PREFER = "prefer"
    """Bind what can be bound and never fail: a full node borrows from the next (``MPOL_PREFERRED``).

    The report has ``cpus=(4, 5, 6, 7)``, ``memory=None`` (it cannot be read either) and the EPERM in
    ``memory_errors``.
    """

    OFF = "off"
    """Touch nothing and report what is.

    The report has ``cpus_asked=None`` and ``cpus=(0, 1, 2, 3, 4, 5, 6, 7)``.
    """


@dataclass(frozen=True, slots=True)
class PlacementReport:
    """What was asked and, apart from it, what took effect.

    Attributes
    ----------
    policy : NumaPolicy
        The policy asked for.
    node : int or None
        Index of the node asked for; None when none was.
    cpus_asked : tuple of int or None
        CPUs asked for, ascending; None when CPUs were not to be bound.
    cpus : tuple of int or None
        CPUs that some thread of this process may run on, as read back; None when that cannot be read.
    memory_asked : MemoryPolicy or None
        Memory policy asked for; None when memory was not to be bound.
    memory : MemoryPolicy or None
        Memory policy of the calling thread, as read back; None when that cannot be read.
    cpu_errors, memory_errors : tuple of str
        Why what took effect is not what was asked, or is not known. Empty when all went well.

    Notes
    -----
    ``json.dumps(dataclasses.asdict(report))`` works.
    """

    policy: NumaPolicy
    node: int | None
    cpus_asked: tuple[int, ...] | None
    cpus: tuple[int, ...] | None
    memory_asked: MemoryPolicy | None
    memory: MemoryPolicy | None
    cpu_errors: tuple[str, ...]
    memory_errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis: ``ok`` is False when somebody should look at ``detail``."""

    subject: str
    ok: bool
    detail: str


class SystemCalls(Protocol):
    """The kernel, as far as a binding needs it. Each call raises :class:`OSError` when the kernel refuses."""

    def threads(self) -> Iterable[int]:
        """List the threads of this process."""

    def get_cpus(self, thread: int) -> frozenset[int]:
        """Read the CPUs a thread may run on; thread 0 is the calling one."""

    def set_cpus(self, thread: int, cpus: Iterable[int]) -> None:
        """Bind a thread to CPUs; the kernel takes those of them that the cpuset allows."""

    def get_memory_policy(self) -> MemoryPolicy:
        """Read the calling thread's memory policy."""

    def set_memory_policy(self, policy: MemoryPolicy) -> None:
        """Set the calling thread's memory policy."""


class LinuxCalls:
    """The real kernel."""

    def threads(self) -> list[int]:
        """List ``/proc/self/task``."""
        return [int(path.name) for path in Path("/proc/self/task").iterdir()]

    def get_cpus(self, thread: int) -> frozenset[int]:
        """Call ``sched_getaffinity``."""
        return frozenset(os.sched_getaffinity(thread))

    def set_cpus(self, thread: int, cpus: Iterable[int]) -> None:
        """Call ``sched_setaffinity``."""
        os.sched_setaffinity(thread, cpus)

    def get_memory_policy(self) -> MemoryPolicy:
        """Call ``get_mempolicy``."""
        return get_memory_policy()

    def set_memory_policy(self, policy: MemoryPolicy) -> None:
        """Call ``set_mempolicy``."""
        set_memory_policy(policy)


def bind_to_node(node: NumaNode | None, policy: NumaPolicy, calls: SystemCalls | None = None) -> PlacementReport:
    """Bind every thread of this process to a node's CPUs, and new memory to its memory.

    The memory policy is that of the calling thread and of threads it starts from now on.

    Parameters
    ----------
    node : NumaNode or None
        Where to live. None asks for nothing, as policy OFF does.
    policy : NumaPolicy
        What to do when the machine refuses.
    calls : SystemCalls, optional
        The kernel; by default the real one.

    Returns
    -------
    PlacementReport
        What took effect, read back from the kernel after both halves were tried.

    Raises
    ------
    PlacementError
        Only under REQUIRE: a half did not take effect, or cannot be shown to have. The text names the half
        and the reason. What did take effect stays.
    """
    calls = LinuxCalls() if calls is None else calls
    if node is None and policy is NumaPolicy.REQUIRE:
        raise PlacementError("policy 'require' needs a node to bind to and none was given; use 'prefer' or 'off'")
    asked = None if policy is NumaPolicy.OFF else node
    mode = MemoryMode.BIND if policy is NumaPolicy.REQUIRE else MemoryMode.PREFERRED
    cpus_asked = None if asked is None else asked.cpus
    memory_asked = None if asked is None else MemoryPolicy(mode, (asked.index,))
    cpus, cpu_errors = _bind_cpus(cpus_asked, calls)
    memory, memory_errors = _bind_memory(memory_asked, calls)
    report = PlacementReport(
        policy=policy,
        node=None if asked is None else asked.index,
        cpus_asked=cpus_asked,
        cpus=cpus,
        memory_asked=memory_asked,
        memory=memory,
        cpu_errors=cpu_errors,
        memory_errors=memory_errors,
    )
    _act_on_errors(report)
    return report


def threads_for(report: PlacementReport) -> int:
    """Count the threads a native kernel should use: one for each CPU the process may run on.

    Parameters
    ----------
    report : PlacementReport
        What took effect.

    Returns
    -------
    int
        At least 1, which is also the answer when the CPUs are not known. A CPU bandwidth quota (cgroup
        ``cpu.max``) is not looked at.
    """
    return len(report.cpus) if report.cpus else 1


def describe_placement(topology: Topology, report: PlacementReport) -> tuple[Finding, ...]:
    """Say in words what the machine is and where this process landed.

    Parameters
    ----------
    topology : Topology
        Read before the binding.
    report : PlacementReport
        Result of the binding.

    Returns
    -------
    tuple of Finding
        One for each node, then one for each problem of the topology, then one for CPUs and one for memory,
        each followed by its errors.
    """
    nodes = [
        Finding(f"node {node.index}", ok=True, detail=f"CPUs {_cpus_text(node.cpus)}, {node.memory_bytes:,} bytes")
        for node in topology.nodes
    ]
    problems = [Finding("topology", ok=False, detail=problem) for problem in topology.problems]
    cpus_asked = "not bound" if report.cpus_asked is None else f"asked for {_cpus_text(report.cpus_asked)}"
    memory_asked = "not bound" if report.memory_asked is None else f"asked for {format_policy(report.memory_asked)}"
    return (
        *nodes,
        *problems,
        Finding("cpus", ok=not report.cpu_errors, detail=f"{_cpus_text(report.cpus)}, {cpus_asked}"),
        *(Finding("cpus", ok=False, detail=error) for error in report.cpu_errors),
        Finding("memory", ok=not report.memory_errors, detail=f"{format_policy(report.memory)}, {memory_asked}"),
        *(Finding("memory", ok=False, detail=error) for error in report.memory_errors),
    )


def _act_on_errors(report: PlacementReport) -> None:
    for part, errors in (("cpu", report.cpu_errors), ("memory", report.memory_errors)):
        for error in errors:
            logger.warning(
                "placement policy=%s node=%s part=%s error=%s", report.policy.value, report.node, part, error
            )
    if report.policy is NumaPolicy.REQUIRE and (report.cpu_errors or report.memory_errors):
        parts = [f"cpu: {error}" for error in report.cpu_errors]
        parts += [f"memory: {error}" for error in report.memory_errors]
        raise PlacementError(f"cannot bind to NUMA node {report.node}: {'; '.join(parts)}")


def _bind_cpus(asked: tuple[int, ...] | None, calls: SystemCalls) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    errors: dict[str, None] = {}  # an ordered set: every thread of a process is refused for the same reason
    if asked:
        _set_cpus(frozenset(asked), calls, errors)
    elif asked is not None:
        errors["the node has no CPU that this process may use"] = None
    cpus = _read_cpus(calls, errors)
    outside = frozenset(cpus or ()).difference(asked or ()) if asked is not None else frozenset()
    if outside and not errors:
        errors[f"a thread may still run on CPUs {format_cpu_list(outside)}"] = None
    return cpus, tuple(errors)


def _set_cpus(asked: frozenset[int], calls: SystemCalls, errors: dict[str, None]) -> None:
    tried: set[int] = set()
    for _ in range(_MAX_PASSES):
        new = [thread for thread in _list_threads(calls, errors) if thread not in tried]
        if not new:
            return
        tried.update(new)
        for thread in new:
            try:
                calls.set_cpus(thread, asked)
            except ProcessLookupError:  # noqa: PERF203 - each thread is refused, or has ended, on its own
                continue
            except OSError as error:
                errors[explain_refusal(f"sched_setaffinity({format_cpu_list(asked)})", error)] = None


def _read_cpus(calls: SystemCalls, errors: dict[str, None]) -> tuple[int, ...] | None:
    cpus: set[int] = set()
    for thread in _list_threads(calls, errors):
        try:
            cpus |= calls.get_cpus(thread)
        except ProcessLookupError:  # noqa: PERF203 - each thread is refused, or has ended, on its own
            continue
        except OSError as error:
            errors[explain_refusal("sched_getaffinity", error)] = None
            return None
    return tuple(sorted(cpus))


def _list_threads(calls: SystemCalls, errors: dict[str, None]) -> list[int]:
    try:
        return list(calls.threads())
    except OSError as error:
        errors[explain_refusal("listing threads, so only the calling one is bound and reported", error)] = None
        return [_CALLING_THREAD]


def _bind_memory(asked: MemoryPolicy | None, calls: SystemCalls) -> tuple[MemoryPolicy | None, tuple[str, ...]]:
    errors: list[str] = []
    if asked is not None:
        try:
            calls.set_memory_policy(asked)
        except OSError as error:
            errors.append(explain_refusal(f"set_mempolicy({format_policy(asked)})", error))
    try:
        policy = calls.get_memory_policy()
    except OSError as error:
        return None, (*errors, explain_refusal("get_mempolicy", error))
    if asked is not None and policy != asked and not errors:
        errors.append(f"the kernel took {format_policy(asked)} and holds {format_policy(policy)}")
    return policy, tuple(errors)


def explain_refusal(call: str, error: OSError) -> str:
    """Say which call the kernel refused, with the name of the error and what it means here."""
    number = error.errno or 0
    meaning = _MEANINGS.get(number) or error.strerror or str(error)
    return f"{call}: {errno.errorcode.get(number, 'error')}: {meaning}"


def _cpus_text(cpus: tuple[int, ...] | None) -> str:
    return "not known" if cpus is None else format_cpu_list(cpus) or "none"


def format_policy(policy: MemoryPolicy | None) -> str:
    """Write a memory policy as the kernel does, such as ``bind:0``."""
    if policy is None:
        return "not known"
    return f"{policy.mode.value}:{format_cpu_list(policy.nodes)}" if policy.nodes else policy.mode.value
