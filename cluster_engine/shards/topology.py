"""The machine's NUMA nodes, as this process may use them.

Owns the reading of ``/sys/devices/system/node`` and its intersection with the process's cpuset. It refuses to
know how a shard is placed or bound (:mod:`cluster_engine.shards.affinity`), and never fails: a machine that
says nothing, or nonsense, has one node, and :attr:`Topology.problems` says why.

Nodes are known by the kernel's index. Indices may have holes (nodes 0 and 8), a node may have memory and no
CPU (persistent or CXL memory), or CPUs and no memory of its own.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

SYSFS_NODES = Path("/sys/devices/system/node")
PROCESS_STATUS = Path("/proc/self/status")

# Above any CPU or node number of Linux (8192 and 1024), so that a nonsense "0-4000000000" is refused, not expanded.
_MAX_INDEX = 65_535
_CPU_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_MEM_TOTAL = re.compile(r"^Node [0-9]+ MemTotal: +([0-9]{1,15}) kB$", re.MULTILINE)
_MEMS_ALLOWED = re.compile(r"^Mems_allowed_list:(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NumaNode:
    """CPUs and memory that are near each other.

    Attributes
    ----------
    index : int
        The kernel's number of the node.
    cpus : tuple of int
        CPUs of the node that this process may use, ascending; empty on a memory-only node.
    memory_bytes : int
        Memory of the node; 0 when it has none or the process's cpuset forbids it.
    distances : tuple of int
        Relative cost of reaching each node of :attr:`Topology.nodes`, in that order; 10 is the node's own
        memory. Empty when the kernel does not say.
    """

    index: int
    cpus: tuple[int, ...]
    memory_bytes: int
    distances: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """The nodes that this process may use.

    Attributes
    ----------
    nodes : tuple of NumaNode
        At least one, by ascending index. Each has a CPU or memory that the process may use.
    problems : tuple of str
        What could not be read or understood, and what was taken in its place; empty on a healthy machine.
    """

    nodes: tuple[NumaNode, ...]
    problems: tuple[str, ...] = ()


def read_topology(
    root: Path = SYSFS_NODES,
    cpus_allowed: frozenset[int] | None = None,
    mems_allowed: frozenset[int] | None = None,
) -> Topology:
    """Read the machine's NUMA nodes, as far as this process may use them.

    Call it before binding: a bound process is allowed the CPUs of its own node only, and sees no others.

    Parameters
    ----------
    root : Path
        Directory with one ``node<index>`` directory per node.
    cpus_allowed : frozenset of int, optional
        CPUs this process may use; by default what the kernel says (``sched_getaffinity``).
    mems_allowed : frozenset of int, optional
        Nodes whose memory it may use; by default ``Mems_allowed_list`` of ``/proc/self/status``, or every
        node where that cannot be read.

    Returns
    -------
    Topology
        Never empty and never an error. Without `root`, or without a usable node in it, there is one node
        with all of `cpus_allowed`; a file that makes no sense counts as empty. Both are in ``problems``.

    Examples
    --------
    A two-socket host::

        NumaNode(index=0, cpus=(0, 1, 2, 3), memory_bytes=67_430_000_000, distances=(10, 21))
        NumaNode(index=1, cpus=(4, 5, 6, 7), memory_bytes=67_550_000_000, distances=(21, 10))
    """
    cpus_allowed = frozenset(os.sched_getaffinity(0)) if cpus_allowed is None else cpus_allowed
    mems_allowed = read_mems_allowed() if mems_allowed is None else mems_allowed
    problems: list[str] = []
    indices = _node_indices(root, problems)
    found = [_read_node(root, index, len(indices), problems) for index in indices]
    allowed = [_intersect(node, cpus_allowed, mems_allowed) for node in found]
    usable = [at for at, node in enumerate(allowed) if node.cpus or node.memory_bytes]
    nodes = tuple(_keep_distances(allowed[at], usable) for at in usable)
    strays = cpus_allowed.difference(*(node.cpus for node in nodes))
    if strays == cpus_allowed:
        problems.append(f"{root}: no node has a CPU that this process may use; taking all CPUs as one node")
        return Topology((_only_node(cpus_allowed, mems_allowed),), tuple(problems))
    if strays:
        problems.append(f"{root}: CPUs {format_cpu_list(strays)} are on no node")
    return Topology(nodes, tuple(problems))


def parse_cpu_list(text: str) -> frozenset[int]:
    r"""Parse the kernel's list format for CPUs and nodes.

    Parameters
    ----------
    text : str
        Numbers and inclusive ranges, separated by commas; surrounding white space is ignored.

    Raises
    ------
    ValueError
        When the text is anything else, a range runs backwards, or a number is above 65,535.

    Examples
    --------
    >>> sorted(parse_cpu_list("0-3,8,10-11\n"))
    [0, 1, 2, 3, 8, 10, 11]
    >>> parse_cpu_list("\n")
    frozenset()
    """
    text = text.strip()
    members: set[int] = set()
    for part in text.split(",") if text else ():
        matched = _CPU_RANGE.fullmatch(part)
        if matched is None:
            raise ValueError(f"{part!r} in {text[:80]!r} is neither a number nor a range such as 0-3")
        first, last = int(matched[1]), int(matched[2] or matched[1])
        if not first <= last <= _MAX_INDEX:
            raise ValueError(f"{part!r} in {text[:80]!r} runs backwards or past {_MAX_INDEX}")
        members.update(range(first, last + 1))
    return frozenset(members)


def format_cpu_list(members: Iterable[int]) -> str:
    """Write numbers in the kernel's list format, the shortest way.

    Examples
    --------
    >>> format_cpu_list([11, 0, 1, 2, 3, 8, 10])
    '0-3,8,10-11'
    """
    ranges: list[list[int]] = []
    for member in sorted(set(members)):
        if ranges and member == ranges[-1][1] + 1:
            ranges[-1][1] = member
        else:
            ranges.append([member, member])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def parse_mem_total(text: str) -> int:
    r"""Parse a node's ``meminfo`` for its memory, in bytes.

    Raises
    ------
    ValueError
        When no line gives the total.

    Examples
    --------
    >>> parse_mem_total("Node 1 MemTotal:       16309112 kB\nNode 1 MemFree: 1 kB\n")
    16700530688
    """
    matched = _MEM_TOTAL.search(text)
    if matched is None:
        raise ValueError("no line such as 'Node 0 MemTotal: 16309112 kB'")
    return int(matched[1]) * 1024


def parse_distances(text: str) -> tuple[int, ...]:
    r"""Parse a node's ``distance`` row: one number for each node of the machine, by ascending index.

    Raises
    ------
    ValueError
        When a word is not a number.

    Examples
    --------
    >>> parse_distances("10 21\n")
    (10, 21)
    """
    words = text.split()
    if not all(word.isdigit() for word in words):
        raise ValueError(f"{text[:80]!r} is not a row of numbers")
    return tuple(map(int, words))


def read_mems_allowed(status: Path = PROCESS_STATUS) -> frozenset[int] | None:
    """Read the nodes whose memory this process's cpuset allows; None where the kernel does not say.

    Examples
    --------
    The line ``Mems_allowed_list:	0-1`` gives ``frozenset({0, 1})``.
    """
    try:
        matched = _MEMS_ALLOWED.search(status.read_text(encoding="ascii"))
        return None if matched is None else parse_cpu_list(matched[1])
    except (OSError, ValueError):
        return None


def _node_indices(root: Path, problems: list[str]) -> list[int]:
    try:
        names = [path.name for path in root.iterdir()]
    except OSError as error:
        problems.append(f"{root}: {error.strerror}; the machine does not describe its NUMA nodes")
        return []
    matches = (re.fullmatch(r"node([0-9]{1,9})", name) for name in names)
    return sorted(int(matched[1]) for matched in matches if matched and int(matched[1]) <= _MAX_INDEX)


def _read_node(root: Path, index: int, n_nodes: int, problems: list[str]) -> NumaNode:
    directory = root / f"node{index}"
    cpus = _read(directory / "cpulist", parse_cpu_list, problems) or frozenset()
    memory_bytes = _read(directory / "meminfo", parse_mem_total, problems) or 0
    distances = _read(directory / "distance", parse_distances, problems) or ()
    if distances and len(distances) != n_nodes:
        problems.append(f"{directory / 'distance'}: {len(distances)} numbers for {n_nodes} nodes; taken as empty")
        distances = ()
    return NumaNode(index, tuple(sorted(cpus)), memory_bytes, distances)


def _read(path: Path, parse: Callable[[str], T], problems: list[str]) -> T | None:
    try:
        return parse(path.read_text(encoding="ascii"))
    except OSError as error:
        problems.append(f"{path}: {error.strerror}; taken as empty")
    except ValueError as error:
        problems.append(f"{path}: {error}; taken as empty")
    return None


def _intersect(node: NumaNode, cpus_allowed: frozenset[int], mems_allowed: frozenset[int] | None) -> NumaNode:
    cpus = tuple(cpu for cpu in node.cpus if cpu in cpus_allowed)
    memory_allowed = mems_allowed is None or node.index in mems_allowed
    return replace(node, cpus=cpus, memory_bytes=node.memory_bytes if memory_allowed else 0)


def _keep_distances(node: NumaNode, kept: list[int]) -> NumaNode:
    return replace(node, distances=tuple(node.distances[at] for at in kept) if node.distances else ())


def _only_node(cpus_allowed: frozenset[int], mems_allowed: frozenset[int] | None) -> NumaNode:
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return NumaNode(min(mems_allowed or {0}), tuple(sorted(cpus_allowed)), memory_bytes, ())
