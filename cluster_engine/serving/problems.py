"""What a refused request is told: a status code, and a problem in the sense of RFC 9457.

Owns the table from the engine's errors to status codes. Nothing of a defect leaves the process but that there was one.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from cluster_engine.errors import (
    CapacityError,
    ClusterConnectionError,
    ClusterEngineError,
    CommitConflictError,
    InputError,
    PassError,
    ServiceError,
    StoreError,
)
from cluster_engine.exit_codes import message_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI, Request

_LOG = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_MAX_FAULTS = 8  # chosen, not measured: what a person reads

_STATUSES: dict[type[Exception], HTTPStatus] = {
    CapacityError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ClusterConnectionError: HTTPStatus.SERVICE_UNAVAILABLE,
    CommitConflictError: HTTPStatus.CONFLICT,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    PassError: HTTPStatus.SERVICE_UNAVAILABLE,
    ServiceError: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    ValueError: HTTPStatus.UNPROCESSABLE_ENTITY,  # how the index refuses an argument; it names the row
}


class Fault(BaseModel):
    """One thing wrong with a request.

    Attributes
    ----------
    field : str or None
        Column of the body, or parameter; None for the request as a whole.
    row : int or None
        Row of the column, from 0.
    reason : str
    """

    model_config = ConfigDict(frozen=True)

    field: str | None = None
    row: int | None = None
    reason: str


class Problem(BaseModel):
    """The body of every answer that is not a success."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] = []


class RequestError(InputError):
    """A request is refused before the index sees it.

    Parameters
    ----------
    status : HTTPStatus
    *faults : Fault
        At least one.
    """

    def __init__(self, status: HTTPStatus, *faults: Fault) -> None:
        super().__init__(status, *faults)
        self.status = status
        self.faults = faults


def unprocessable(reason: str, field: str | None = None, row: int | None = None) -> RequestError:
    """Return the error for content that is well-formed and not acceptable."""
    return RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, Fault(field=field, row=row, reason=reason))


def faults_of(errors: Sequence[Mapping[str, Any]], *, skip: int = 0) -> list[Fault]:
    """Return pydantic's errors as faults: the name first, then the row, then places within the row.

    Parameters
    ----------
    errors : sequence of mapping
        As ``ValidationError.errors()`` returns them.
    skip : int
        Leading parts of each location that are no names.
    """
    return [_fault(error["loc"][skip:], error["msg"]) for error in errors[:_MAX_FAULTS]]


def problem_response(status: HTTPStatus, faults: Sequence[Fault], headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that tells of faults."""
    problem = Problem(title=status.phrase, status=status, detail="; ".join(map(_sentence, faults)), errors=list(faults))
    return Response(problem.model_dump_json(), status, headers, MEDIA_TYPE)


def handle_problems(application: FastAPI) -> None:
    """Let an application answer every error with a problem."""
    application.add_exception_handler(RequestError, _answer_request_error)
    application.add_exception_handler(RequestValidationError, _answer_parameters)
    application.add_exception_handler(HTTPException, _answer_http)
    for kind in _STATUSES:
        application.add_exception_handler(kind, _answer_engine)
    application.add_exception_handler(ClusterEngineError, _answer_defect)
    application.add_exception_handler(Exception, _answer_defect)


def _fault(location: Sequence[str | int], reason: str) -> Fault:
    names = list(takewhile(lambda part: isinstance(part, str), location))
    row, *items = [*(part for part in location if isinstance(part, int)), None][: max(1, len(location) - len(names))]
    place = "".join(f"item {item}: " for item in items if item is not None)
    return Fault(field=".".join(map(str, names)) or None, row=row, reason=place + reason)


def _sentence(fault: Fault) -> str:
    where = [fault.field, None if fault.row is None else f"row {fault.row}"]
    return ": ".join(filter(None, [", ".join(filter(None, where)), fault.reason]))


async def _answer_request_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101  # registered for it
    headers = {"WWW-Authenticate": "Bearer"} if error.status is HTTPStatus.UNAUTHORIZED else None
    return problem_response(error.status, error.faults, headers)


async def _answer_parameters(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, faults_of(error.errors(), skip=1))


async def _answer_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
    return problem_response(HTTPStatus(error.status_code), [Fault(reason=str(error.detail))], error.headers)


async def _answer_engine(_request: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
    retry = {"Retry-After": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return problem_response(status, [Fault(reason=message_of(error))], retry)


async def _answer_defect(_request: Request, _error: Exception) -> Response:
    return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, [Fault(reason="a defect; the service's log has it")])
