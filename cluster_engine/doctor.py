"""What this machine offers, and what would keep the engine from using it.

Owns the questions. Repairs nothing.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

import native_simd
from cluster_engine.errors import ClusterConnectionError
from cluster_engine.linkage.criterion import Criterion
from cluster_engine.linkage.plan import path_bytes
from cluster_engine.shards.affinity import NumaPolicy, bind_to_node, describe_placement
from cluster_engine.shards.linkage import POOL_COPIES
from cluster_engine.shards.pool import connected
from cluster_engine.shards.probe import count_huge_bytes, probe_nodes, probe_strategies
from cluster_engine.shards.topology import read_topology
from cluster_engine.similarity.capacity import available_bytes, largest_fitting

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = ("cluster-engine", "ray", "numpy", "pyarrow", "pydantic", "scikit-learn", "cffi")
_CPU_INFO = Path("/proc/cpuinfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # looked at, not written
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")
_DIMENSION = 768
_MIB, _GIB = 1 << 20, 1 << 30

Status = Literal["ok", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis. A warning costs speed; what is broken keeps the engine from running."""

    subject: str
    status: Status
    detail: str


def examine() -> Iterator[Check]:
    """Yield what there is to say about this machine.

    Binds this process to the last NUMA node, as an actor would: for a process that ends afterwards. Ray is contacted
    only where RAY_ADDRESS names a cluster.
    """
    yield from _versions()
    yield from _processor()
    yield from _memory()
    if os.environ.get("RAY_ADDRESS"):
        yield _cluster()
    yield from _placement()


def _versions() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield from map(_package, _PACKAGES)


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, "broken", f"not installed; run `pip install {name}`")


def _processor() -> Iterator[Check]:
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count()
    yield Check("processor", "ok", f"{_cpu_model()}, {usable} of {present} CPUs usable")
    available = ", ".join(native_simd.available_isas())
    try:
        yield Check("instruction set", "ok", f"{native_simd.active_isa()} (available: {available})")
    except native_simd.IsaUnavailableError as error:
        yield Check("instruction set", "broken", str(error))


def _cpu_model() -> str:
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.machine()


def _memory() -> Iterator[Check]:
    host = psutil.virtual_memory()
    limit = _read(_CGROUP_LIMIT) or "none"
    limit_text = f"{int(limit) / _GIB:.1f} GiB" if limit.isdecimal() else "none"
    free = available_bytes()
    need = partial(path_bytes, "lists", d=_DIMENSION, criterion=Criterion("average", "cosine"), n_copies=POOL_COPIES)
    yield Check(
        "memory",
        "ok",
        f"{host.total / _GIB:.1f} GiB, cgroup limit {limit_text}, {free / _GIB:.1f} GiB free: "
        f"room to cluster {largest_fitting(need, free):,} episodes of {_DIMENSION} dimensions by average linkage",
    )
    yield _shared_memory()
    yield _huge_pages()


def _huge_pages() -> Check:
    """Judge by what a large array got: a kernel may allow huge pages, and have none free."""
    allowed = _read(_HUGE_PAGES / "enabled") or "not supported"
    n_bytes = count_huge_bytes()
    got = "not known" if n_bytes is None else f"{n_bytes // _MIB} MiB of 4"
    text = f"anonymous memory: {allowed}, shared: {_read(_HUGE_PAGES / 'shmem_enabled')}; a large array has {got}"
    is_granted = re.search(r"\[(always|madvise)\]", allowed) if n_bytes is None else n_bytes > 0
    return Check("huge pages", "ok" if is_granted else "warning", text)


def _shared_memory() -> Check:
    """Judge the home of Ray's object store, which holds one copy of the vectors (the matrix does not lie there)."""
    try:
        usage = shutil.disk_usage(_SHARED_MEMORY)
    except OSError as error:
        return Check(
            "shared memory",
            "warning",
            f"{_SHARED_MEMORY}: {error.strerror}; Ray's object store goes to disk and is slow",
        )
    small = usage.total < _GIB
    advice = "; below 1 GiB Ray's object store goes to disk: in Docker, raise --shm-size" if small else ""
    text = f"{_SHARED_MEMORY}: {usage.total / _GIB:.1f} GiB, {usage.free / _GIB:.1f} GiB free{advice}"
    return Check("shared memory", "warning" if small else "ok", text)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _cluster() -> Check:
    try:
        with connected():
            return Check("ray cluster", "ok", f"reached at RAY_ADDRESS={os.environ['RAY_ADDRESS']!r}")
    except ClusterConnectionError as error:
        return Check("ray cluster", "broken", str(error))


def _placement() -> Iterator[Check]:
    """Bind to each node in turn, under "prefer", and place some memory there; say what took effect."""
    topology = read_topology()
    nodes = [node for node in topology.nodes if node.cpus]
    reports = [bind_to_node(node, NumaPolicy.PREFER) for node in nodes]
    findings = [finding for report in reports for finding in describe_placement(topology, report)]
    findings += [*probe_nodes(topology), *probe_strategies(topology, nodes[-1].index)]
    for finding in dict.fromkeys(findings):  # the nodes are described with each binding
        yield Check(f"numa {finding.subject}", "ok" if finding.ok else "warning", finding.detail)
