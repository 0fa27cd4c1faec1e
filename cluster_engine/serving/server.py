"""The server of one store: a binding service and its HTTP application, from start to a clean end."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cluster_engine.serving.deployment import serving
from cluster_engine.serving.listening import check_host, check_port
from cluster_engine.serving.tokens import read_digest
from cluster_engine.shards.pool import connected
from cluster_engine.shards.service import BindingService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["read_digest", "serve_store"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve_store(
    store: str,
    namespace: str,
    host: str,
    port: int,
    token_digest: bytes | None,
    *,
    memory_limit_bytes: int | None = None,
    ready: Callable[[dict[str, Any]], object],
) -> None:
    """Serve a store until Ctrl-C or SIGTERM, and then commit what was changed.

    Parameters
    ----------
    store, namespace : str
    host : str
        Address to listen on; one that other hosts reach needs a token.
    port : int
    token_digest : bytes or None
        SHA-256 of the token that requests must carry.
    memory_limit_bytes : int, optional
        See `BindingService.start`.
    ready : callable
        Called with what is served, and where, once requests are answered.

    Raises
    ------
    ConfigError
        The host or the port cannot be used.
    CapacityError
        The memory limit is below what must be in memory.
    ClusterConnectionError, ServiceError, StoreError
        Ray cannot be reached, a service runs in the namespace already, or the store cannot be read.
    """
    check_host(host, token_digest)
    check_port(host, port)
    with (
        _until_signalled(),
        connected(),
        _running(store, namespace, memory_limit_bytes) as service,
        serving(namespace, host, port, token_digest),
    ):
        _listen_for_signals()  # Ray has put its own handler in place of ours
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        ready({"url": url, "store": store, "version": service.version, "namespace": namespace})
        while True:
            signal.pause()


@contextmanager
def _running(store: str, namespace: str, memory_limit_bytes: int | None) -> Iterator[BindingService]:
    """Start a service; at the end commit what it was told."""
    service = BindingService.start(store, namespace, memory_limit_bytes=memory_limit_bytes)
    try:
        yield service
    finally:
        service.stop()


@contextmanager
def _until_signalled() -> Iterator[None]:
    """End the block at Ctrl-C or SIGTERM, and let nothing end its end."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    _listen_for_signals()
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen_for_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: object) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the end has begun; a second signal must not cut it short
    raise KeyboardInterrupt
