"""Search over HTTP, 16 clients on loopback: ``python -m benchmarks.serve`` writes to ``results.md``."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Figure
from benchmarks.stores import commit_concepts
from benchmarks.suite import Part, Suite
from cluster_engine.serving.arrow_stream import write_columns
from cluster_engine.serving.bodies import ARROW, JSON
from cluster_engine.serving.deployment import serving
from cluster_engine.shards.pool import connected
from cluster_engine.shards.service import BindingService
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DIMENSION, _K, _CLIENTS = 768, 10, 16
_REQUESTS = 2_000  # of all clients together, after as many that do not count as there are clients
_CENTRES = 100


def _vectors(n: int, seed: int) -> NDArray[np.float32]:
    """Return unit vectors around common centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((_CENTRES, _DIMENSION), np.float32)
    vectors = centres[rng.integers(0, _CENTRES, n)] + rng.standard_normal((n, _DIMENSION), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _commit(path: Path, n: int) -> None:
    """Commit concepts without episodes but one, which is bound to the first."""
    first = np.zeros(1, np.int64)
    commit_concepts(path, _vectors(n, 1), first, first, np.ones(1, np.float32))


def _client(
    port: int, headers: dict[str, str], bodies: list[bytes], start: threading.Barrier, times: list[float]
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number, body in enumerate(bodies):
        if number == 1:
            start.wait()
        begin = time.perf_counter()
        connection.request("POST", f"/v1/search?k={_K}", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(content)
        if number:
            times.append(time.perf_counter() - begin)
    connection.close()


def _load(port: int, format_: str, n_requests: int) -> tuple[list[float], float]:
    """Return the seconds of each request, and of all of them together."""
    queries = _vectors(n_requests + _CLIENTS, 2)
    arrow = format_ == ARROW
    bodies = [
        write_columns({"vector": row[None]}) if arrow else json.dumps({"vector": [row.tolist()]}).encode()
        for row in queries
    ]
    times: list[float] = []
    headers = {"Content-Type": format_, "Accept": format_}
    start = threading.Barrier(_CLIENTS + 1)
    clients = [
        threading.Thread(target=_client, args=(port, headers, bodies[at::_CLIENTS], start, times))
        for at in range(_CLIENTS)
    ]
    for client in clients:
        client.start()
    start.wait()
    begin = time.perf_counter()
    for client in clients:
        client.join()
    return times, time.perf_counter() - begin


def _alone(store: Path, n_requests: int) -> tuple[list[float], float]:
    """Return the same of one caller in process."""
    opened, queries, times = ConceptStore.open(store), _vectors(n_requests, 2), []
    opened.search(queries[:1], _K)
    for row in queries:
        begin = time.perf_counter()
        opened.search(row[None], _K)
        times.append(time.perf_counter() - begin)
    return times, sum(times)


def _figures(n: int, contender: str, measured: tuple[list[float], float]) -> list[Figure]:
    times, wall_s = measured
    cuts = quantiles(times, n=100)
    shown = {"P50": cuts[49], "P99": cuts[98], "all requests / their number": wall_s / len(times)}
    return [Figure({"concepts": n, "figure": what}, contender, value, value, value) for what, value in shown.items()]


def search(divide: int) -> list[Figure]:
    """One vector a request, the ten nearest concepts."""
    figures = []
    for n in (1_000, 100_000):
        with tempfile.TemporaryDirectory() as folder, connected():
            store = Path(folder, "store")
            _commit(store, n // divide)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            service = BindingService.start(store, "benchmark")
            with (
                serving("benchmark", "127.0.0.1", port, None),
                ProcessPoolExecutor(1, get_context("spawn")) as clients,
            ):
                for format_, name in ((ARROW, "Serve, Arrow"), (JSON, "Serve, JSON")):
                    measured = clients.submit(_load, port, format_, _REQUESTS // divide).result()
                    figures += _figures(n // divide, name, measured)
            service.stop(checkpoint=False)
            figures += _figures(n // divide, "one caller in process", _alone(store, _REQUESTS // divide))
    return figures


SUITE = Suite(
    "serve",
    "Serving",
    "16 clients on loopback, threads of one process on the same two cores as Ray Serve's proxy, its one replica and "
    "the actor; one vector of 768 dimensions a request, ten concepts an answer, 2,000 requests.",
    {"search": Part("Search over HTTP", search)},
)

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    SUITE.main()
