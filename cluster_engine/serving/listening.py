"""Where the application may listen."""

from __future__ import annotations

import socket

from cluster_engine.errors import ConfigError
from cluster_engine.serving.tokens import VARIABLE, is_loopback


def check_host(host: str, token_digest: bytes | None) -> None:
    """Refuse to listen where other hosts reach an application that asks for no token.

    Raises
    ------
    ConfigError
    """
    if token_digest is None and not is_loopback(host):
        raise ConfigError(f"--host {host} can be reached from other hosts: give a token, by --token-file or {VARIABLE}")


def check_port(host: str, port: int) -> None:
    """Refuse a port that something else listens on; Serve would share it.

    Raises
    ------
    ConfigError
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
