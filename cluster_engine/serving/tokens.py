"""Who may ask: those who know the token, or, where there is none, this host alone.

The service knows a digest only, so that the token itself is in no process but the one that read it.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Request  # noqa: TC002  # FastAPI reads the annotations

from cluster_engine.errors import ConfigError
from cluster_engine.serving.problems import Fault, RequestError

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "CLUSTER_ENGINE_TOKEN"  # the environment variable's name
_MIN_LENGTH = 16  # chosen, not measured: what nobody guesses over a network


def read_digest(file: Path | None) -> bytes | None:
    """Return the SHA-256 digest of the token in a file or else in the environment; None where neither is given.

    Raises
    ------
    ConfigError
        The file cannot be read, or the token is shorter than 16 characters or has white space or controls inside.
    """
    if file is None and VARIABLE not in os.environ:
        return None
    source = VARIABLE if file is None else f"--token-file {file}"
    try:
        token = os.environ[VARIABLE] if file is None else file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read as text: {type(error).__name__}") from None
    token = token.strip()
    if len(token) < _MIN_LENGTH or not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(
            f"{source}: a token has at least {_MIN_LENGTH} ASCII characters without spaces; "
            "`openssl rand -hex 32` makes one"
        )
    return sha256(token.encode()).digest()


def is_loopback(host: str) -> bool:
    """Whether a host name or address is reached from this host alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


async def check_bearer(request: Request) -> None:
    """Refuse a request without the right token.

    Without a token to ask for, a request must name this host: a page of another site whose name was pointed here
    (DNS rebinding) names that site.
    """
    digest: bytes | None = request.app.state.token_digest
    if digest is None:
        if not is_loopback(request.url.hostname or ""):
            raise RequestError(HTTPStatus.FORBIDDEN, Fault(field="Host", reason="this service answers its own host"))
        return
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise RequestError(
            HTTPStatus.UNAUTHORIZED, Fault(field="Authorization", reason="give the token: Authorization: Bearer ...")
        )
    if not hmac.compare_digest(sha256(token.strip().encode("latin-1")).digest(), digest):
        raise RequestError(HTTPStatus.FORBIDDEN, Fault(field="Authorization", reason="the token is not the right one"))
