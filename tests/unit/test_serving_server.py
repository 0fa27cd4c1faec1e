"""What `serve` refuses before anything starts: hosts, ports and tokens."""

from __future__ import annotations

import socket
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from cluster_engine import cli
from cluster_engine.errors import ConfigError
from cluster_engine.serving.listening import check_host, check_port
from cluster_engine.serving.tokens import VARIABLE, read_digest

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "0123456789abcdef"  # noqa: S105  # of these tests alone


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    check_host(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "memory.example", ""])  # noqa: S104  # refused
def test_others_need_one(host: str) -> None:
    with pytest.raises(ConfigError, match="--token-file"):
        check_host(host, None)
    check_host(host, sha256(b"x").digest())


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen"):
            check_port("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ConfigError, match="nowhere"):
        check_port("nowhere.invalid", 8000)


def test_a_token_comes_from_a_file_or_else_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_digest(None) is None
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert read_digest(None) == sha256(TOKEN.encode()).digest()
    (tmp_path / "token").write_text(f"  other-{TOKEN}\n")
    assert read_digest(tmp_path / "token") == sha256(f"other-{TOKEN}".encode()).digest()


@pytest.mark.parametrize("text", ["", "short", "a b" * 9, "ü" * 20, "a" * 15 + "\x00" + "b" * 9])
def test_a_weak_token_is_refused_and_not_repeated(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_digest(tmp_path / "token")
    assert str(tmp_path / "token") in str(refused.value)
    assert not text or text not in str(refused.value)


def test_the_command_refuses_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for options in (["--host", "0.0.0.0"], ["--token-file", str(tmp_path / "none")], ["--port", "0"]):  # noqa: S104
        with pytest.raises(SystemExit) as ended:
            cli.main(["serve", "--store", str(tmp_path), *options])
        assert ended.value.code == 2
        assert capsys.readouterr().out == ""
