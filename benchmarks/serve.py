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
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmarks import chroma
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

    Measured = tuple[list[float], float, list[list[int]]]

_DIMENSION, _K, _CLIENTS = 768, 10, 16
_REQUESTS = {1: 2_000, 64: 480}  # by vectors of each; of all clients together, after one of each that does not count
_CENTRES = 100
_JUDGED = 2_000  # queries whose recall is looked at
_PATH = f"/v1/search?k={_K}"


def _vectors(n: int, seed: int) -> NDArray[np.float32]:
    """Return unit vectors around common centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((_CENTRES, _DIMENSION), np.float32)
    vectors = centres[rng.integers(0, _CENTRES, n)] + rng.standard_normal((n, _DIMENSION), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _queries(n_requests: int, n_each: int) -> list[NDArray[np.float32]]:
    return np.split(_vectors((n_requests + _CLIENTS) * n_each, 2), n_requests + _CLIENTS)


def _commit(path: Path, n: int) -> None:
    """Commit concepts without episodes but one, which is bound to the first."""
    first = np.zeros(1, np.int64)
    commit_concepts(path, _vectors(n, 1), first, first, np.ones(1, np.float32))


@dataclass(frozen=True)
class _Server:
    """How to ask a server on a port, and read its answer."""

    port: int
    path: str
    format: str = JSON
    is_chroma: bool = False

    def body(self, vectors: NDArray[np.float32]) -> bytes:
        if self.is_chroma:
            asked: dict[str, Any] = {"query_embeddings": vectors.tolist(), "n_results": _K, "include": ["distances"]}
        elif self.format == ARROW:
            return write_columns({"vector": vectors})
        else:
            asked = {"vector": vectors.tolist()}
        return json.dumps(asked).encode()

    def ids(self, content: bytes) -> list[list[int]]:
        if self.format == ARROW:
            found: list[Any] = pa.ipc.open_stream(content).read_all().to_pydict()["concept_id"]
        else:
            found = json.loads(content)["ids" if self.is_chroma else "concept_id"]
        return [[int(name) for name in row] for row in found]


def _client(
    server: _Server, bodies: list[bytes], start: threading.Barrier, times: list[float], answers: list[bytes]
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    headers = {"Content-Type": server.format, "Accept": server.format}
    for number, body in enumerate(bodies):
        if number == 1:
            start.wait()
        begin = time.perf_counter()
        connection.request("POST", server.path, body, headers)
        answer = connection.getresponse()
        answers.append(answer.read())
        if answer.status != http.client.OK:
            raise RuntimeError(answers[-1])
        if number:
            times.append(time.perf_counter() - begin)
    connection.close()


def _load(server: _Server, n_requests: int, n_each: int) -> Measured:
    """Return the seconds of each request, and of all of them together, and the answer to each vector."""
    bodies = [server.body(vectors) for vectors in _queries(n_requests, n_each)]
    times: list[float] = []
    answers: list[list[bytes]] = [[] for _ in range(_CLIENTS)]
    start = threading.Barrier(_CLIENTS + 1)
    clients = [
        threading.Thread(target=_client, args=(server, bodies[at::_CLIENTS], start, times, answers[at]))
        for at in range(_CLIENTS)
    ]
    for client in clients:
        client.start()
    start.wait()
    begin = time.perf_counter()
    for client in clients:
        client.join()
    wall_s = time.perf_counter() - begin
    in_order = [server.ids(answers[at % _CLIENTS][at // _CLIENTS]) for at in range(len(bodies))]
    return times, wall_s, [row for found in in_order for row in found]


def _alone(store: Path, n_requests: int, n_each: int) -> Measured:
    """Return the same for one caller in this process: what a search takes without HTTP, actors and neighbours."""
    opened, queries, times = ConceptStore.open(store), _queries(n_requests, n_each), []
    opened.search(queries[0], _K)
    answers = []
    for vectors in queries:
        begin = time.perf_counter()
        found = opened.search(vectors, _K)
        times.append(time.perf_counter() - begin)
        answers += found.concept_ids.tolist()
    return times, sum(times), answers


def _recall(n: int, answers: list[list[int]]) -> float:
    """Return the share of the nearest that was found, for the first of the queries."""
    asked = answers[:_JUDGED]
    nearest = np.argpartition(-(_vectors(len(answers), 2)[: len(asked)] @ _vectors(n, 1).T), _K, axis=1)[:, :_K]
    return float(np.mean([len(set(a) & set(b)) / _K for a, b in zip(asked, nearest.tolist(), strict=True)]))


def _figures(n: int, n_each: int, server: str, measured: Measured) -> list[Figure]:
    times, wall_s, answers = measured
    cuts = quantiles(times, n=100)
    row: dict[str, str | int] = {"concepts": n, "vectors a request": n_each, "server": server}
    row["recall@10"] = f"{_recall(n, answers):.3f}"
    row["vectors a second"] = f"{len(times) * n_each / wall_s:,.0f}"
    return [Figure(row, what, value, value, value) for what, value in (("P50", cuts[49]), ("P99", cuts[98]))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def search(divide: int) -> list[Figure]:
    """One vector a request, or 64; the ten nearest."""
    figures = []
    with ProcessPoolExecutor(1, get_context("spawn")) as clients:

        def ask(name: str, server: _Server) -> None:
            for n_each, n_requests in _REQUESTS.items():
                measured = clients.submit(_load, server, n_requests // divide, n_each).result()
                figures.extend(_figures(n, n_each, name, measured))

        for n in (1_000 // divide, 100_000 // divide):
            port = _free_port()
            with tempfile.TemporaryDirectory() as folder:
                store = Path(folder, "store")
                _commit(store, n)
                with connected():
                    service = BindingService.start(store, "benchmark")
                    with serving("benchmark", "127.0.0.1", port, None):
                        for format_, name in ((ARROW, "Ray Serve, Arrow"), (JSON, "Ray Serve, JSON")):
                            ask(name, _Server(port, _PATH, format_))
                    service.stop(checkpoint=False)
                for n_each, n_requests in _REQUESTS.items():
                    measured = _alone(store, n_requests // divide, n_each)
                    figures += _figures(n, n_each, "none: one caller in process", measured)
            if chroma.CHROMA.exists():
                with chroma.running(port, _vectors(n, 1)) as path:
                    ask(f"Chroma {chroma.version()}, JSON", _Server(port, path, is_chroma=True))
    return figures


SUITE = Suite(
    "serve",
    "Serving",
    "16 clients on loopback, threads of one process on the same two cores as the server: Ray Serve's proxy, its one "
    "replica and the actor, or Chroma's one process in Rust. Vectors of 768 dimensions, ten concepts for each; "
    "2,000 requests of one vector, 480 of 64. Chroma (in `.venv-chroma`) as it comes, by cosine: HNSW.",
    {"search": Part("Search over HTTP (P99: and how many P50 it is)", search)},
)

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    SUITE.main()
