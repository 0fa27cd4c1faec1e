"""The command `serve` and what it starts: answers over HTTP, tokens, metrics, and a clean end."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import psutil
import pytest
import ray
from episode_files import clustered_vectors, write_episodes

from cluster_engine.config import Config, PoolConfig
from cluster_engine.driver import consolidate
from cluster_engine.errors import ServiceError
from cluster_engine.serving.deployment import serving
from cluster_engine.shards.metrics import METRICS
from cluster_engine.shards.service import BindingService
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 180
DIMENSION = 4
DEATHS = {"ray_cluster_engine_pool_deaths_total"}  # where nobody dies there is none
GUIDE = Path(__file__).parents[2] / "docs" / "serving.md"


@dataclass(frozen=True)
class Server:
    """A process that serves a store, and what it said when it was ready."""

    process: subprocess.Popen[str]
    store: Path
    folder: Path
    token: str
    facts: dict[str, Any]

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.facts["url"], headers={"Authorization": f"Bearer {self.token}"}, timeout=TIMEOUT_S
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_store(folder: Path) -> Path:
    episodes = write_episodes(folder / "episodes.parquet", clustered_vectors(600, DIMENSION))
    consolidate(str(episodes), str(folder / "store"), Config())
    return folder / "store"


@pytest.fixture(scope="module")
def stored(ray_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("stored"))


def start_server(store: Path, folder: Path) -> Server:
    token = secrets.token_hex(32)
    (folder / "token").write_text(token)
    command = ["serve", "--store", str(store), "--port", str(free_port()), "--token-file", str(folder / "token")]
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster_engine.cli", *command],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / "stderr").read_text()
    return Server(process, store, folder, token, json.loads(line))


def end_server(server: Server, number: int) -> None:
    """End a server as a shell or a terminal does, and see that it leaves nothing behind and has nothing more to say."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    if number == signal.SIGINT:
        os.killpg(server.process.pid, number)  # all of a terminal's foreground hear it
    else:
        server.process.send_signal(number)
    assert server.process.wait(TIMEOUT_S) == 0
    assert server.process.stdout is not None
    assert server.process.stdout.read() == ""
    server.process.stdout.close()
    assert psutil.wait_procs(children, timeout=TIMEOUT_S)[1] == []
    stderr = (server.folder / "stderr").read_text()
    assert server.token not in stderr
    assert "Traceback" not in stderr


def test_control_c_commits_what_was_told(ray_home: Path, tmp_path: Path) -> None:
    server = start_server(make_store(tmp_path), tmp_path)
    binding = {"concept_id": [77], "episode_id": ["somebody"], "strength": [0.75]}
    with server.client() as client:
        assert client.post("/v1/bind?op_id=5", json=binding).json() == {"applied": True}
    end_server(server, signal.SIGINT)
    committed = ConceptStore.open(server.store)
    assert committed.version == 2
    rows = [row for row in committed.bindings().to_pylist() if row["concept_id"] == 77]
    assert [(row["episode_id"], row["strength"]) for row in rows] == [("somebody", 0.75)]


@pytest.fixture(scope="class")
def server(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(stored, tmp_path_factory.mktemp("server"))
    yield running
    end_server(running, signal.SIGTERM)


class TestServer:
    def test_it_says_what_it_serves(self, server: Server) -> None:
        assert server.facts["version"] == 1
        assert server.facts["namespace"] == "default"
        with server.client() as client:
            assert client.get("/ready").json() == {"status": "ready", "version": 1}

    def test_search_is_that_of_the_store(self, server: Server) -> None:
        vectors = clustered_vectors(5, DIMENSION, seed=3)
        want = ConceptStore.open(server.store, version=1).search(vectors, 3)
        with server.client() as client:
            got = client.post("/v1/search?k=3", json={"vector": vectors.tolist()}).json()
        assert got["concept_id"] == want.concept_ids.tolist()
        np.testing.assert_array_equal(np.array(got["similarity"], np.float32), want.similarities)

    def test_bindings_are_those_of_the_store(self, server: Server) -> None:
        rows = ConceptStore.open(server.store, version=1).bindings().to_pylist()
        concept = rows[0]["concept_id"]
        want = {row["episode_id"]: np.float32(row["strength"]) for row in rows if row["concept_id"] == concept}
        with server.client() as client:
            got = client.get("/v1/episodes_of", params={"concept_id": concept, "k": 1_000}).json()
        assert dict(zip(got["episode_id"], map(np.float32, got["strength"]), strict=True)) == want
        assert got["strength"] == sorted(got["strength"], reverse=True)

    def test_what_is_wrong_is_told_as_in_process(self, server: Server) -> None:
        with server.client() as client:
            answer = client.post("/v1/search", json={"vector": [[1.0] * DIMENSION, [0.0] * DIMENSION]})
            assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
            assert "row 1" in answer.json()["detail"]
            pairs = {"concept_id": [404], "episode_id": ["nobody"]}
            assert client.post("/v1/unbind?op_id=404", json=pairs).status_code == 422
            large = client.post("/v1/search", content=b" " * (17 << 20), headers={"Content-Type": "application/json"})
            assert large.status_code == 413

    def test_strangers_are_refused(self, server: Server) -> None:
        assert httpx.get(f"{server.facts['url']}/v1/episodes_of?concept_id=1").status_code == 401
        wrong = {"Authorization": f"Bearer {secrets.token_hex(32)}"}
        assert httpx.get(f"{server.facts['url']}/v1/episodes_of?concept_id=1", headers=wrong).status_code == 403

    def test_the_examples_of_the_guide_work(self, server: Server) -> None:
        blocks = re.findall(r"```(bash|python)\n(.*?)```", GUIDE.read_text(), re.DOTALL)
        assert [language for language, _ in blocks] == ["bash", "python"]
        commands = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "error", "-c"]}
        for language, text in blocks:
            example = text.replace("http://127.0.0.1:8000", server.facts["url"])
            done = subprocess.run(
                [*commands[language], example],
                cwd=server.folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def measured(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a batch and a service in the Ray of the test, and return the service's namespace."""
    store = make_store(tmp_path_factory.mktemp("measured"))
    service = BindingService.start(
        store, "measured", config=PoolConfig(start_timeout_s=TIMEOUT_S), memory_limit_bytes=1 << 20
    )
    yield service.namespace
    service.stop()


def test_prometheus_finds_every_metric(measured: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with serving(measured, "127.0.0.1", port, None), httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
        with pytest.raises(ServiceError, match="already"), serving(measured, "127.0.0.1", free_port(), None):
            pass
        assert client.post("/v1/search", json={"vector": [[1.0] * DIMENSION]}).status_code == 200
        binding = {"concept_id": [1], "episode_id": ["a"], "strength": [0.5]}
        assert client.post("/v1/bind?op_id=1", json=binding).status_code == 200
        assert client.get("/v1/episodes_of?concept_id=1").status_code == 200
        assert client.get("/v1/nothing").status_code == 404
        expected = {series for metric in METRICS for series in metric.series} - DEATHS
        found = scrape(expected)
    missing = ", ".join(sorted(expected - found.keys()))
    assert not missing, missing
    requests = found["ray_cluster_engine_requests_total"]
    assert [line.rsplit(" ", 1)[1] for line in requests if 'route="/v1/search"' in line] == ["1.0"]
    assert any('route="none"' in line and 'status="404"' in line for line in requests)
    calls = found["ray_cluster_engine_shard_calls_total"]
    assert any('operation="bind"' in line and 'outcome="done"' in line for line in calls)


def scrape(expected: set[str]) -> dict[str, list[str]]:
    """Return the lines of each series of Ray's endpoint as soon as all are there, or those of the last attempt."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    found: dict[str, list[str]] = {}
    ends_at_s = time.monotonic() + TIMEOUT_S
    while not expected <= found.keys() and time.monotonic() < ends_at_s:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line.startswith("ray_cluster_engine_")]
        found = {}
        for line in lines:
            found.setdefault(re.split(r"[{ ]", line, maxsplit=1)[0], []).append(line)
    return found
