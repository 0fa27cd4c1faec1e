"""A Chroma server with some vectors, in a virtual environment of its own: the peer of :mod:`benchmarks.serve`."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.machine import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

CHROMA = ROOT / ".venv-chroma/bin/chroma"
_COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
_AT_A_TIME = 2_000  # vectors of a request
_START_S = 60.0


def version() -> str:
    """Return what is installed."""
    ask = "from importlib.metadata import version; print(version('chromadb'))"
    python = CHROMA.with_name("python")
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def running(port: int, vectors: NDArray[np.float32]) -> Iterator[str]:
    """Run a server on loopback with vectors by number, by cosine, else as it comes; yield the path of its search."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(CHROMA), "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {"ANONYMIZED_TELEMETRY": "False"}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                connection = _connect(port)
                made = _call(
                    connection, _COLLECTIONS, {"name": "concepts", "configuration": {"hnsw": {"space": "cosine"}}}
                )
                collection = f"{_COLLECTIONS}/{made['id']}"
                for start in range(0, len(vectors), _AT_A_TIME):
                    part = vectors[start : start + _AT_A_TIME].tolist()
                    names = [str(start + row) for row in range(len(part))]
                    _call(connection, f"{collection}/add", {"ids": names, "embeddings": part})
                yield f"{collection}/query"
            finally:
                server.terminate()


def _connect(port: int) -> http.client.HTTPConnection:
    ends_s = time.monotonic() + _START_S
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("GET", "/api/v2/heartbeat")
        except ConnectionRefusedError:
            if time.monotonic() > ends_s:
                raise
            time.sleep(0.1)
        else:
            connection.getresponse().read()
            return connection


def _call(connection: http.client.HTTPConnection, path: str, body: Any) -> Any:  # noqa: ANN401 - JSON
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= http.client.BAD_REQUEST:
        raise RuntimeError(content)
    return json.loads(content)
