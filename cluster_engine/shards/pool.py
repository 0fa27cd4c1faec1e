"""The pool of shard actors: one per (host, NUMA node), and the loop that keeps them busy.

Owns everything about Ray that is not the story of the driver: connecting, placing actors, bounding the calls in
flight, taking results by completion, and sending the work of a dead actor to the living.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster_engine.errors import ClusterConnectionError, PassError
from cluster_engine.shards.actor import ActorReport, ShardActor
from cluster_engine.shards.affinity import NumaPolicy
from cluster_engine.shards.metrics import Recorder
from cluster_engine.shards.placement import Strategy, plan_memory
from cluster_engine.shards.topology import NumaNode, Topology, read_topology

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from cluster_engine.config import PoolConfig
    from cluster_engine.shards.placement import MemoryPlan

_LOG = logging.getLogger(__name__)

T = TypeVar("T", bound="Hashable")

_REACH_TIMEOUT_S = 4.0  # promised: an error within 5 s
_CONNECT_TIME = "RAY_gcs_server_port_wait_time_s"  # Ray tries that often to connect, once a second; its default is 20
_REFUSED_TOKEN = "InvalidAuthToken"  # noqa: S105  # what Ray says of a token, not one


@contextmanager
def connected() -> Iterator[None]:
    """Use the Ray this process is connected to, or the one RAY_ADDRESS names, or a local one that ends with the block.

    Raises
    ------
    ClusterConnectionError
        RAY_ADDRESS names a cluster that cannot be reached, or that refuses this client's token; or no local Ray starts.
    """
    if ray.is_initialized():
        yield
        return
    _connect(os.environ.get("RAY_ADDRESS") or "local")
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    """Connect this process to a cluster, or start one of its own ("local")."""
    try:
        with _refused_early(address):
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, OverflowError, RuntimeError, ValueError, RayError) as error:
        what = "no local Ray can be started" if address == "local" else f"RAY_ADDRESS={address!r} cannot be used"
        reason = " ".join(str(error).split())
        if _REFUSED_TOKEN in f"{error} {error.__cause__}":
            reason = (
                "the cluster refuses this client's token; give the cluster's own with RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            )
        raise ClusterConnectionError(f"{what}: {reason}") from error


@contextmanager
def _refused_early(address: str) -> Iterator[None]:
    """Make Ray fail within seconds where it would try for minutes: nobody listens, or the token is refused.

    Raises
    ------
    OSError
        Nobody listens at ``host:port``.
    ValueError
        The address is one of Ray Client, which has no node of its own to hold the matrix on.
    """
    if address == "local":  # Ray's waiting time is also that for the start of its own server
        yield
        return
    if address.startswith("ray://"):
        raise ValueError("Ray Client is not supported; give host:port of the head, or submit a job")
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_TIMEOUT_S).close()
    chosen = os.environ.get(_CONNECT_TIME)
    os.environ[_CONNECT_TIME] = chosen or "1"
    try:
        yield
    finally:
        if chosen is None:
            del os.environ[_CONNECT_TIME]


@dataclass(frozen=True, slots=True)
class ActorPlace:
    """Where an actor is to run.

    Attributes
    ----------
    ray_node : str
        Ray's id of the host's node.
    node : NumaNode
    cpus : float
        The share of the NUMA node's CPUs, as Ray counts them.
    threads : int or None
        Of the native library; None for as many as the binding leaves CPUs.
    plan : MemoryPlan
        Where its memory goes.
    """

    ray_node: str
    node: NumaNode
    cpus: float
    threads: int | None
    plan: MemoryPlan


def place_actors(config: PoolConfig, topologies: Mapping[str, Topology] | None = None) -> list[ActorPlace]:
    """Return a place for each actor: `actors_per_numa_node` on each NUMA node with CPUs of each host.

    Parameters
    ----------
    config : PoolConfig
    topologies : mapping of str to Topology, optional
        NUMA topology of each Ray node, by Ray's node id; default, read on the nodes themselves.
    """
    places: list[ActorPlace] = []
    for ray_node, topology in (topologies or _read_topologies(config.start_timeout_s)).items():
        nodes = [node for node in topology.nodes if node.cpus]
        for node in nodes:
            cpus = min(float(len(node.cpus)), _ray_cpus(ray_node) / len(nodes))
            share = _share(cpus, config.actors_per_numa_node)
            threads = config.threads_per_actor or _threads(node, config)
            plan = plan_memory(Strategy(config.placement), topology, node.index, NumaPolicy(config.numa))
            places += [ActorPlace(ray_node, node, share, threads, plan)] * config.actors_per_numa_node
    return places


@dataclass(slots=True, eq=False)
class _Member:
    """An actor of the pool, and the state of the loop about it."""

    handle: Any  # Ray's actor handles are not typed
    report: ActorReport
    ray_node: str
    queue: deque[Any] = field(default_factory=deque)
    n_in_flight: int = 0
    is_reviving: bool = False
    revive_by_s: float = 0.0  # on the monotonic clock


class ShardPool:
    """Shard actors, at least one on each NUMA node of each host of the cluster. Use as a context manager.

    Parameters
    ----------
    config : PoolConfig
    topologies : mapping of str to Topology, optional
        NUMA topology of each Ray node, by Ray's node id; default, read on the nodes themselves.

    Raises
    ------
    PassError
        The actors did not start in ``config.start_timeout_s``: the cluster lacks free CPUs.
    PlacementError
        Policy "require" could not be met.
    """

    def __init__(self, config: PoolConfig, topologies: Mapping[str, Topology] | None = None) -> None:
        self._config = config
        self._recorder = Recorder()
        self._members: list[_Member] = []
        actor_class: Any = ray.remote(ShardActor)  # Ray's actor classes are not typed
        policy = NumaPolicy(config.numa)
        handles: list[Any] = []
        ray_nodes: list[str] = []
        for place in place_actors(config, topologies):
            handles.append(
                actor_class.options(
                    num_cpus=place.cpus,
                    max_restarts=config.max_restarts,
                    runtime_env=runtime_environment(),
                    scheduling_strategy=NodeAffinitySchedulingStrategy(place.ray_node, soft=False),
                ).remote(place.node, policy, place.threads, place.plan)
            )
            ray_nodes.append(place.ray_node)
        try:
            reports = ray.get([handle.report.remote() for handle in handles], timeout=config.start_timeout_s)
        except GetTimeoutError:
            self._kill(handles)
            raise PassError(
                f"{len(handles)} shard actors did not start within {config.start_timeout_s:g} s: the cluster has no "
                f"free CPUs for them (available: {ray.available_resources().get('CPU', 0):g}); stop other jobs, or "
                "raise pool.start_timeout_s"
            ) from None
        except BaseException:
            self._kill(handles)
            raise
        self._members = [_Member(*member) for member in zip(handles, reports, ray_nodes, strict=True)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kill([member.handle for member in self._members])
        self._members = []

    def __len__(self) -> int:
        return len(self._members)

    @property
    def n_shards(self) -> int:
        """Number of logical shards, spread over the actors."""
        return self._config.n_shards

    @property
    def reports(self) -> list[ActorReport]:
        """What each actor said of itself when it started."""
        return [member.report for member in self._members]

    @property
    def config(self) -> PoolConfig:
        """What the pool was made with."""
        return self._config

    @property
    def sends_all(self) -> bool:
        """Whether everything travels through the object store, as between hosts, also where memory is shared."""
        return self._config.transport == "objects"

    @property
    def reaches_elsewhere(self) -> bool:
        """Whether work sent to the actors finds other CPUs than this host's, or is to be sent in any case."""
        here = ray.get_runtime_context().get_node_id()
        elsewhere = any(member.ray_node != here for member in self._members)
        return self.sends_all or (elsewhere and self._config.transport == "auto")

    def put(self, value: object) -> Any:  # noqa: ANN401  # Ray's references are not typed
        """Return a reference to a copy in the object store, from which it travels to each host once."""
        return ray.put(value)

    def end_pass(self) -> None:
        """Let the actors give back the memory of a pass."""
        replies = [member.handle.end_pass.remote() for member in self._members]
        # Not get: who died meanwhile holds no memory of the pass, and the next run finds out.
        ray.wait(replies, num_returns=len(replies), timeout=self._config.start_timeout_s)

    def run(
        self,
        tasks: Sequence[T],
        submit: Callable[[Any, T], Any],
        home: Callable[[T], int],
        *,
        in_flight: int | None = None,
    ) -> Iterator[tuple[T, Any]]:
        """Run tasks on the actors; yield (task, result) by completion.

        Parameters
        ----------
        tasks : sequence
        submit : callable
            Calls a method of an actor for a task; returns Ray's reference to the result.
        home : callable
            Number of the actor that has what the task needs; another takes it when it has nothing else to do.
        in_flight : int, optional
            Calls that an actor has at a time; default, `tiles_in_flight` of the configuration.

        Notes
        -----
        A call that dies with its actor, or whose result is lost with its host, goes back to the front of the actor's
        queue; the actor rests until Ray has restarted it, and others take its work meanwhile. One that will not come
        back, or not within `start_timeout_s` (its CPUs may be taken), leaves the pool.
        """
        for member in self._members:  # an earlier run that was interrupted may have left its state
            member.queue.clear()
            member.n_in_flight = 0
            member.is_reviving = False
        for task in tasks:
            self._members[home(task) % len(self)].queue.append(task)
        most = in_flight or self._config.tiles_in_flight
        running: dict[Any, tuple[_Member, T | None]] = {}
        sent_s: dict[T, float] = {}
        while running or any(member.queue for member in self._members):
            for member in self._members:
                while member.n_in_flight < most and not member.is_reviving:
                    task = self._take(member)
                    if task is None:
                        break
                    running[submit(member.handle, task)] = (member, task)
                    sent_s[task] = time.perf_counter()
                    member.n_in_flight += 1
            done, _ = ray.wait(list(running), num_returns=1)
            member, finished = running.pop(done[0])
            try:
                result = ray.get(done[0])
            except (RayActorError, ActorUnschedulableError, OutOfMemoryError, ObjectLostError) as error:
                self._after_death(member, finished, error, running)
                continue
            if finished is None:
                member.is_reviving = False
                member.report = result
                continue
            member.n_in_flight -= 1
            self._recorder.add("pool_calls")
            self._recorder.observe("pool_call_seconds", time.perf_counter() - sent_s.pop(finished))
            yield finished, result

    def _take(self, member: _Member) -> Any:  # noqa: ANN401  # a task, or None
        if member.queue:
            return member.queue.popleft()
        longest = max(self._members, key=lambda other: len(other.queue))
        return longest.queue.pop() if longest.queue else None

    def _after_death(
        self, member: _Member, task: Hashable | None, error: RayError, running: dict[Any, tuple[_Member, Any]]
    ) -> None:
        """Put the task back, and ask the actor for a sign of life; drop it if Ray will not restart it."""
        if task is not None:
            self._recorder.add("pool_deaths")
            member.n_in_flight -= 1
            (member if member in self._members else self._members[0]).queue.appendleft(task)
            if member.is_reviving:
                return
            _LOG.warning("actor pid=%d died; its work is sent again: %s", member.report.process_id, error)
            member.is_reviving = True
            member.revive_by_s = time.monotonic() + self._config.start_timeout_s
        elif isinstance(error, (ActorDiedError, ActorUnschedulableError)):
            self._drop(member)
            return
        elif time.monotonic() > member.revive_by_s:  # Ray says "unavailable" every few seconds while its CPUs are taken
            self._kill([member.handle])  # the next report then fails for good
        running[member.handle.report.remote()] = (member, None)

    def _drop(self, member: _Member) -> None:
        """Take an actor out of the pool, and give its queue to another."""
        _LOG.warning("actor pid=%d is gone for good", member.report.process_id)
        self._members.remove(member)
        if not self._members:
            raise PassError(
                f"no shard actor is left: each died more than {self._config.max_restarts} times, or with its host, or "
                f"could not be restarted within {self._config.start_timeout_s:g} s"
            )
        self._members[0].queue.extend(member.queue)

    def _kill(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            ray.kill(handle)


def _read_topologies(timeout_s: float) -> dict[str, Topology]:
    """Return the NUMA topology of each living Ray node with CPUs, read there."""
    here = ray.get_runtime_context().get_node_id()
    names = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0)
    probe = ray.remote(num_cpus=0)(read_topology)
    pending = {
        name: probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)).remote()
        for name in names
        if name != here
    }
    topologies = {here: read_topology()} if here in names else {}
    topologies.update(zip(pending, ray.get(list(pending.values()), timeout=timeout_s), strict=True))
    return dict(sorted(topologies.items()))


def _ray_cpus(ray_node: str) -> float:
    """Return the CPUs that Ray gives out on a node; fewer than the machine's if it was started so."""
    return float(next(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["NodeID"] == ray_node))


def _share(cpus: float, n_actors: int) -> float:
    """Return the CPUs that one of n actors asks Ray for: whole numbers, or a fraction below one."""
    share = cpus / n_actors
    return float(int(share)) if share >= 1 else share


def runtime_environment(**variables: str) -> dict[str, dict[str, str]] | None:
    """Return these environment variables, and what makes actors on other hosts use the instruction set forced here."""
    forced = os.environ.get("CLUSTER_ENGINE_ISA")
    chosen = variables | ({"CLUSTER_ENGINE_ISA": forced} if forced else {})
    return {"env_vars": chosen} if chosen else None


def _threads(node: NumaNode, config: PoolConfig) -> int | None:
    """Return the threads of an actor that shares its node, or None: all CPUs that the binding leaves."""
    if config.actors_per_numa_node == 1:
        return None
    return max(1, len(node.cpus) // config.actors_per_numa_node)
