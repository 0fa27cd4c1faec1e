"""Requests to an ASGI application in the process of the test."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from fastapi import FastAPI

LOOPBACK = "http://127.0.0.1"


class AsgiClient:
    """A client that waits; what an application fails to handle is raised here."""

    def __init__(self, application: FastAPI, **headers: str) -> None:
        self._application = application
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def request(self, method: str, path: str, *, base_url: str = LOOPBACK, **options: Any) -> httpx.Response:  # noqa: ANN401  # httpx's
        """Send one request and return the answer."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._application)
            async with httpx.AsyncClient(transport=transport, base_url=base_url, headers=self._headers) as client:
                return await client.request(method, path, **options)

        try:
            return asyncio.run(ask())
        finally:
            join_workers()

    def get(self, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401  # httpx's
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401  # httpx's
        return self.request("POST", path, **options)


def join_workers() -> None:
    """Wait for the threads that an event loop which has ended told to end."""
    for thread in threading.enumerate():
        if thread.name.startswith("AnyIO worker"):
            thread.join()
