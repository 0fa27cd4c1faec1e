"""The HTTP application on Ray Serve: a replica that attaches to the service of a namespace, behind Serve's proxy."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from cluster_engine.errors import ServiceError
from cluster_engine.serving.application import create_application
from cluster_engine.serving.listening import check_port
from cluster_engine.shards.metrics import Recorder
from cluster_engine.shards.service import BindingService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

    from fastapi import FastAPI
    from ray.serve import Application

    Message = MutableMapping[str, Any]
    Send = Callable[[Message], Awaitable[None]]
    Asgi = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]

APPLICATION = "cluster-engine"
_REQUEST_TIMEOUT_S = 60.0  # chosen, not measured
_MAX_ONGOING = 64  # more wait in the proxy; chosen, not measured
_LOGS = LoggingConfig(log_level="WARNING", enable_access_log=False)
_UNMATCHED = "none"  # the route of a request that none answers


class RequestRecorder:
    """Middleware that counts requests, by route, and measures them.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self._recorder = Recorder()

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, n_bytes, start_s = 500, 0, time.perf_counter()

        async def receive_counted() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            return message

        async def send_watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive_counted, send_watched)
        finally:
            route = getattr(scope.get("route"), "path", _UNMATCHED)
            self._recorder.add("requests", 1, route=route, status=str(status))
            self._recorder.observe("request_bytes", n_bytes, route=route)
            self._recorder.observe("request_seconds", time.perf_counter() - start_s, route=route)


class Http:
    """What a replica runs.

    Parameters
    ----------
    namespace : str
        Of a service that runs.
    token_digest : bytes or None
        As `create_application` takes it.
    """

    def __init__(self, namespace: str, token_digest: bytes | None) -> None:
        self._service = BindingService.attach(namespace)
        self._token_digest = token_digest

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application; Serve calls it."""
        application = create_application(self._service, self._token_digest)
        application.add_middleware(RequestRecorder)
        return application


def bind_application(namespace: str, token_digest: bytes | None) -> Application:
    """Return the application for a Serve of one's own, which then says where it listens.

    Parameters
    ----------
    namespace : str
        Of a service that runs.
    token_digest : bytes or None
        SHA-256 of the token that requests must carry; None answers requests to a loopback name alone.
    """
    deployment = serve.deployment(
        max_ongoing_requests=_MAX_ONGOING, ray_actor_options={"num_cpus": 0}, logging_config=_LOGS
    )
    application: Application = deployment(serve.ingress()(Http)).bind(namespace, token_digest)
    return application


@contextmanager
def serving(namespace: str, host: str, port: int, token_digest: bytes | None) -> Iterator[None]:
    """Answer HTTP while the block runs, by a Serve that is started for it on the Ray this process is connected to.

    Raises
    ------
    ConfigError
        The port is taken or no port of this host.
    ServiceError
        Serve runs already, with options of its own, or the application does not start.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if serve.status().proxies:
        raise ServiceError("Ray Serve runs on this cluster already; deploy serving.deployment.bind_application there")
    check_port(host, port)
    options = HTTPOptions(host=host, port=port, request_timeout_s=_REQUEST_TIMEOUT_S)
    try:
        try:
            serve.start(http_options=options, logging_config=_LOGS)
            serve.run(bind_application(namespace, token_digest), name=APPLICATION, logging_config=_LOGS)
        except (RuntimeError, TimeoutError, RayServeException, RayError) as error:
            raise ServiceError(f"the application does not start: {' '.join(str(error).split())}") from error
        yield
    finally:
        serve.shutdown()
