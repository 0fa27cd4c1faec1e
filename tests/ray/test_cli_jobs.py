"""The command line and the job on Ray: equal contents from every road, tokens, and what a user is told."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cluster_head import ROOT, TIMEOUT_S, Head, copy_packages, free_ports, run, start_head
from episode_files import clustered_vectors, write_episodes

from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIBRARY = "import sys, cluster_engine as ce; print(ce.consolidate(*sys.argv[1:], slot='night').content_sha256)"


@pytest.fixture(scope="module")
def head(ray_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with start_head(tmp_path_factory.mktemp("installed")) as started:
        yield started


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("input") / "episodes.parquet", clustered_vectors(600, 24))


@pytest.fixture(scope="module")
def content(ray_home: Path, episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the digest that the library gives, on a local Ray without tokens."""
    store = tmp_path_factory.mktemp("library")
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    return run(sys.executable, "-c", LIBRARY, str(episodes), str(store), env=environment).stdout.strip()


def cli(*args: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "cluster_engine.cli", *map(str, args), env=env)


def report_of(out: str) -> Any:  # noqa: ANN401  # parsed JSON
    """Return the report of a command: its stdout, which must be one line of JSON."""
    assert out.count("\n") == 1
    return json.loads(out)


def test_a_local_ray_with_tokens_gives_the_contents_of_one_without(
    content: str, episodes: Path, tmp_path: Path
) -> None:
    arguments = ("consolidate", "--input", episodes, "--store", tmp_path, "--slot", "night", "--json")
    first, again = (cli(*arguments) for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0)
    report, repeated = report_of(first.stdout), report_of(again.stdout)
    assert report["content_sha256"] == content
    assert (report["repeated"], repeated["repeated"]) == (False, True)
    assert repeated["content_sha256"] == content
    assert ConceptStore.open(tmp_path).version == 1
    phases = [json.loads(line)["phase"] for line in first.stderr.splitlines()]
    assert list(dict.fromkeys(phases)) == ["read", "pairwise", "linkage", "concepts"]


def test_a_cluster_gives_the_contents_of_a_local_ray(head: Head, content: str, episodes: Path, tmp_path: Path) -> None:
    done = cli("consolidate", "--input", episodes, "--store", tmp_path, "--slot", "night", "--json", env=head.client())
    assert done.returncode == 0, done.stderr
    assert report_of(done.stdout)["content_sha256"] == content
    assert head.token not in done.stdout + done.stderr


def test_a_job_from_a_checkout_gives_the_contents_of_the_library(
    head: Head, content: str, episodes: Path, tmp_path: Path
) -> None:
    checkout = copy_packages(tmp_path / "checkout", compiled=False)
    entrypoint = (
        sys.executable,
        "-m",
        "jobs.consolidate",
        "--input",
        str(episodes),
        "--store",
        str(tmp_path / "store"),
        "--slot",
        "night",
    )
    done = head.submit(checkout, *entrypoint)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"version"'))
    assert json.loads(line)["content_sha256"] == content
    assert head.token not in done.stdout + done.stderr


def test_a_job_that_fails_says_why(head: Head, tmp_path: Path) -> None:
    checkout = copy_packages(tmp_path / "checkout", compiled=False)
    done = head.submit(checkout, sys.executable, "-m", "jobs.consolidate", "--input", "none", "--store", str(tmp_path))
    assert done.returncode == 1
    assert "error: none: no file matches" in done.stdout
    assert "exit code 3" in done.stdout + done.stderr


def test_a_job_refuses_a_store_in_its_working_directory(episodes: Path, tmp_path: Path) -> None:
    for store in ("memory", "./memory/", "--store=a/b"):
        command = [store] if store.startswith("--") else ["--store", store]
        done = subprocess.run(
            [sys.executable, "-m", "jobs.consolidate", "--input", str(episodes), *command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: --store {store.removeprefix('--store=')}: ")
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_wrong_token_is_told_at_the_first_attempt_and_never_printed(
    head: Head, episodes: Path, tmp_path: Path
) -> None:
    wrong = secrets.token_hex(32)
    done = cli("--debug", "consolidate", "--input", episodes, "--store", tmp_path, env=head.client(wrong))
    assert done.returncode == 6
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "refuses this client's token" in done.stderr.splitlines()[-1]
    assert done.stderr.count("Failed to get cluster ID") == 1  # Ray tries once a second, 20 times if it is left to
    assert wrong not in done.stderr
    assert not list(tmp_path.glob("versions/*"))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:{port}", "Connection refused"),
        ("nowhere.invalid:6379", "nowhere.invalid:6379"),
        ("http://127.0.0.1:8265", "GCS address"),
        ("ray://127.0.0.1:10001", "Ray Client is not supported"),
        ("nonsense", "nonsense"),
    ],
)
def test_an_address_without_a_cluster_is_told(address: str, words: str) -> None:
    (port,) = free_ports(1)
    environment = {**os.environ, "RAY_ADDRESS": address.format(port=port)}
    done = cli("doctor", "--json", env=environment)
    assert done.returncode == 1
    (broken,) = (check for check in json.loads(done.stdout)["checks"] if check["status"] == "broken")
    assert broken["subject"] == "ray cluster"
    assert words in broken["detail"]


def test_doctor_reaches_a_cluster(head: Head) -> None:
    done = cli("doctor", env=head.client())
    assert done.returncode == 0, done.stdout
    assert head.address in done.stdout
    assert head.token not in done.stdout


def test_an_error_on_an_actor_is_one_line(episodes: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "CLUSTER_ENGINE_ISA": "sse9"}
    done = cli("consolidate", "--input", episodes, "--store", tmp_path, env=environment)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: CLUSTER_ENGINE_ISA='sse9' is not available here")


@pytest.mark.parametrize(
    ("phase", "by", "code", "word"),
    [
        ("pairwise", signal.SIGINT, 130, "interrupted"),
        ("pairwise", signal.SIGTERM, 143, "terminated"),
        ("read", signal.SIGTERM, 143, "terminated"),
    ],
)
def test_a_signal_leaves_the_store_as_it_was_and_says_so(
    phase: str, by: signal.Signals, code: int, word: str, tmp_path: Path
) -> None:
    episodes = write_episodes(tmp_path / "episodes.parquet", clustered_vectors(4_000, 256))
    store = tmp_path / "store"
    command = [
        sys.executable,
        "-m",
        "cluster_engine.cli",
        "consolidate",
        "--input",
        str(episodes),
        "--store",
        str(store),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        assert any(f'"{phase}"' in line for line in process.stderr)
        if by == signal.SIGINT:
            os.killpg(process.pid, by)  # as a terminal does: the actors hear it too
        else:
            process.send_signal(by)
        rest = process.stderr.read()
        assert process.wait(TIMEOUT_S) == code
    assert f"{word}: the store is as it was" in rest
    assert "Traceback" not in rest
    assert not list(store.glob("versions/*"))
