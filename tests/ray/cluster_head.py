"""A Ray head in processes of its own, with a dashboard, that asks for a token and has the package installed."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from native_simd import _simd

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster_engine", "jobs", "native_simd")
TIMEOUT_S = 180


@dataclass(frozen=True)
class Head:
    """A Ray cluster that asks for a token."""

    address: str
    dashboard: str
    token: str

    def client(self, token: str | None = None) -> dict[str, str]:
        """Return the environment of a client with the given token, by default the right one."""
        chosen = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token or self.token}
        return {**os.environ, **chosen, "RAY_ADDRESS": self.address}

    def submit(self, working_dir: Path, *entrypoint: str) -> subprocess.CompletedProcess[str]:
        """Run a job to its end."""
        command = ["job", "submit", "--address", self.dashboard, "--working-dir", str(working_dir), "--", *entrypoint]
        environment = {name: value for name, value in self.client().items() if name != "RAY_ADDRESS"}
        return run(sys.executable, "-m", "ray.scripts.scripts", *command, env=environment)


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def copy_packages(target: Path, *, compiled: bool) -> Path:
    """Copy the packages as a checkout has them (without the extension), or as an installation has them."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    if compiled:
        shutil.copy(str(_simd.__file__), target / "native_simd")
    return target


def run(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


@contextmanager
def start_head(installed: Path) -> Iterator[Head]:
    """Run a head for the block; ``installed`` becomes a directory with the packages."""
    copy_packages(installed, compiled=True)
    temporary = tempfile.mkdtemp(prefix="ce-", dir="/tmp")  # a socket's path has 107 bytes at most
    port, dashboard_port, agent_port, client_port = free_ports(4)
    token = secrets.token_hex(32)
    arguments = [
        f"--port={port}",
        f"--dashboard-port={dashboard_port}",
        f"--dashboard-agent-listen-port={agent_port}",
        f"--ray-client-server-port={client_port}",
        f"--temp-dir={temporary}",
        "--num-cpus=2",
        "--object-store-memory=200000000",
        "--disable-usage-stats",
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *arguments],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "PYTHONPATH": str(installed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert server.stdout is not None
    try:
        started = any("Ray runtime started" in line for line in server.stdout)
        assert started
        yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard_port}", token)
    finally:
        processes = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(TIMEOUT_S)
        server.stdout.close()
        for process in psutil.wait_procs(processes, timeout=30)[1]:
            process.kill()
        shutil.rmtree(temporary)
