"""What is measured of the binding index: one table of all metrics, and the recorder that hands them to Ray.

Ray exports them for Prometheus under `PREFIX`, with "_total" after the name of a counter. Recorded where Ray is: in the
actors, in the pool and in the replicas that answer HTTP. Library code below them knows nothing of this.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ray.util.metrics import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "cluster_engine_"

# Buckets: chosen, not measured.
_SECONDS = tuple(float(f"{digits}e{exponent}") for exponent in range(-6, 2) for digits in ("1", "2.5", "5"))
_ROWS = tuple(float(10**exponent) for exponent in range(8))
_BYTES = tuple(float(4**exponent) for exponent in range(3, 14))


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name : str
        Without prefix and suffix.
    kind : {"counter", "gauge", "histogram"}
    labels : tuple of str
    unit : str
    help : str
    boundaries : tuple of float
        Upper bounds of a histogram's buckets.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    unit: str
    help: str
    boundaries: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the series that Prometheus has of it, as Ray exports them."""
        full = f"ray_{PREFIX}{self.name}"
        if self.kind == "counter":
            return (f"{full}_total",)
        return (full,) if self.kind == "gauge" else tuple(f"{full}_{part}" for part in ("bucket", "count", "sum"))


METRICS = (
    Metric("shard_calls", "counter", ("actor", "operation", "outcome"), "calls", "Calls of an actor."),
    Metric("shard_call_seconds", "histogram", ("operation",), "s", "Time of a call within the actor.", _SECONDS),
    Metric("shard_batch_rows", "histogram", ("operation",), "rows", "Rows of a call.", _ROWS),
    Metric("shard_bindings", "gauge", ("actor",), "bindings", "Bindings, in memory and on disk."),
    Metric("shard_concepts", "gauge", ("actor",), "concepts", "Concepts with bindings."),
    Metric("shard_bytes", "gauge", ("actor",), "bytes", "Memory of the bindings."),
    Metric("shard_bindings_outside", "gauge", ("actor",), "bindings", "Bindings on disk, beyond the memory limit."),
    Metric("shard_limit_bytes", "gauge", ("actor",), "bytes", "Memory that bindings may take, where there is a limit."),
    Metric("tier_hits", "counter", ("actor", "operation", "tier"), "rows", "Rows that a tier had: line, memory, disk."),
    Metric("tier_misses", "counter", ("actor", "operation", "tier"), "rows", "Rows that a tier was asked for in vain."),
    Metric("log_bytes", "gauge", ("actor",), "bytes", "Size of the log since the last checkpoint."),
    Metric("log_fsyncs", "counter", ("actor",), "calls", "Times that the log was made durable."),
    Metric("log_fsync_seconds", "counter", ("actor",), "s", "Time that this took."),
    Metric("log_replayed", "gauge", ("actor",), "operations", "Operations replayed when an actor started."),
    Metric("placement_bound", "gauge", ("actor", "resource"), "", "1 where the node asked for is what took effect."),
    Metric("pool_calls", "counter", (), "calls", "Finished calls of a batch's actors."),
    Metric("pool_call_seconds", "histogram", (), "s", "Time from sending a call of a batch to its result.", _SECONDS),
    Metric("pool_deaths", "counter", (), "deaths", "Calls that were lost with their actor and sent again."),
    Metric("requests", "counter", ("route", "status"), "requests", "Answered HTTP requests."),
    Metric("request_seconds", "histogram", ("route",), "s", "Time of a request within the replica.", _SECONDS),
    Metric("request_bytes", "histogram", ("route",), "bytes", "Size of a request's body.", _BYTES),
)
"""All metrics; the dashboard's queries are checked against this."""


class Recorder:
    """Records metrics of this process, by name; any number of threads may call."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in METRICS:
            name, text = PREFIX + metric.name, f"{metric.help} [{metric.unit}]" if metric.unit else metric.help
            if metric.kind == "counter":
                self._counters[metric.name] = Counter(name, text, metric.labels)
            elif metric.kind == "gauge":
                self._gauges[metric.name] = Gauge(name, text, metric.labels)
            else:
                self._histograms[metric.name] = Histogram(name, text, list(metric.boundaries), metric.labels)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter; 0 adds nothing."""
        if amount:
            self._counters[name].inc(amount, labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._gauges[name].set(value, labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Count a value into a histogram."""
        self._histograms[name].observe(value, labels)

    @contextmanager
    def timed(self, name: str, **labels: str) -> Iterator[None]:
        """Observe the seconds of a block, however it ends."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.observe(name, time.perf_counter() - start_s, **labels)
