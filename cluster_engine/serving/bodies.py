"""Bodies of requests and answers, in JSON or Arrow IPC: bytes in, checked columns out, and back.

Owns the choice of format, the limit on size and what is legal in a column. Refuses to know what a column means.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from fastapi import Request  # noqa: TC002  # FastAPI reads the annotations
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from cluster_engine.serving import arrow_stream
from cluster_engine.serving.models import MAX_BODY_BYTES, Column
from cluster_engine.serving.problems import Fault, RequestError, faults_of, unprocessable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Columns = dict[str, NDArray[Any]]

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
_DTYPES = {"id": np.int64, "number": np.float32, "vector": np.float32}
_ANY = ("*/*", "application/*")

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Exchange:
    """The body of a request, and the format of its answer.

    Attributes
    ----------
    content : bytes
    format, answer_format : str
        `JSON` or `ARROW`.
    """

    content: bytes
    format: str
    answer_format: str

    def record(self, model: type[T]) -> T:
        """Return a JSON body as a model; Arrow is refused.

        Raises
        ------
        RequestError
            400 for what is not JSON, 415 for Arrow, 422 for what the model refuses.
        """
        if self.format != JSON:
            raise _unsupported(JSON)
        try:
            return model.model_validate_json(self.content)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            malformed = faults[0]["type"] == "json_invalid"
            status = HTTPStatus.BAD_REQUEST if malformed else HTTPStatus.UNPROCESSABLE_ENTITY
            raise RequestError(status, *faults_of(faults)) from None

    def columns(self, model: type[BaseModel]) -> Columns:
        """Return the columns that a model names.

        Returns
        -------
        dict of str to ndarray
            Ids as int64, of episodes also as str objects, numbers as float32, vectors as float32 of shape (q, d).

        Raises
        ------
        RequestError
            400 for what is neither JSON nor an Arrow stream, 422 for columns of another name, type or length, for
            nulls, and for too many rows; names the column, and the row where there is one.
        """
        rules = {name: _rule(model, name) for name in model.model_fields}
        if self.format == ARROW:
            columns = arrow_stream.read_columns(self.content, rules)
        else:
            table = self.record(model)
            columns = {name: _array(name, getattr(table, name), rule) for name, rule in rules.items()}
        first, *others = columns
        for other in others:
            if len(columns[other]) != len(columns[first]):
                raise unprocessable(f"{len(columns[other])} rows, but {first} has {len(columns[first])}", other)
        return columns

    def answer(self, columns: Mapping[str, NDArray[Any] | Sequence[str]]) -> Response:
        """Return columns in the format that was asked for; NaN becomes null in JSON."""
        if self.answer_format == ARROW:
            return Response(arrow_stream.write_columns(columns), media_type=ARROW)
        lists = {name: np.asarray(column).tolist() for name, column in columns.items()}
        return json_response(lists)


def json_response(content: Mapping[str, Any]) -> Response:
    """Return lists and numbers as JSON; NaN becomes null."""
    return Response(to_json(content, inf_nan_mode="null"), media_type=JSON)


async def read_exchange(request: Request) -> Exchange:
    """Read the body of a request, at most `MAX_BODY_BYTES` of it.

    Raises
    ------
    RequestError
        406, 413 or 415.
    """
    answer_format = _answer_format(request.headers.get("Accept", JSON))
    format_ = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if format_ not in (JSON, ARROW):
        raise _unsupported(JSON, ARROW)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Fault(field="Content-Encoding", reason="send the body uncompressed")
        )
    announced = request.headers.get("Content-Length", "0")
    if announced.isdecimal() and int(announced[:20]) > MAX_BODY_BYTES:
        raise _too_large()
    content = bytearray()
    async for part in request.stream():
        if len(content) + len(part) > MAX_BODY_BYTES:
            raise _too_large()
        content += part
    return Exchange(bytes(content), format_, answer_format)


async def read_query(request: Request) -> Exchange:
    """Return the exchange of a request without a body."""
    return Exchange(b"", JSON, _answer_format(request.headers.get("Accept", JSON)))


def _answer_format(accepted: str) -> str:
    """Return the first format of an Accept header that is spoken here."""
    for part in accepted.split(","):
        media_range = part.partition(";")[0].strip().lower()
        if media_range in (JSON, ARROW):
            return media_range
        if media_range in _ANY:
            return JSON
    raise RequestError(HTTPStatus.NOT_ACCEPTABLE, Fault(field="Accept", reason=f"answers are {JSON} or {ARROW}"))


def _unsupported(*formats: str) -> RequestError:
    return RequestError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Fault(field="Content-Type", reason=f"send {' or '.join(formats)}")
    )


def _too_large() -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Fault(reason=f"a body may have {MAX_BODY_BYTES} bytes; send fewer rows")
    )


def _rule(model: type[BaseModel], name: str) -> Column:
    return next(part for part in model.model_fields[name].metadata if isinstance(part, Column))


def _array(name: str, values: list[Any], rule: Column) -> NDArray[Any]:
    if rule.kind == "episode":
        kinds = [type(value) for value in values]
        if kinds and kinds.count(kinds[0]) < len(kinds):
            row = next(row for row, kind in enumerate(kinds) if kind is not kinds[0])
            raise unprocessable(f"{kinds[row].__name__}, but row 0 is {kinds[0].__name__}", name, row)
        return np.array(values, object if str in kinds else np.int64)
    if rule.kind == "vector":
        for row, vector in enumerate(values):
            if len(vector) != len(values[0]):
                raise unprocessable(f"{len(vector)} elements, but row 0 has {len(values[0])}", name, row)
        if not values:
            raise unprocessable("no rows", name)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which the index refuses with its row
        return np.array(values, _DTYPES[rule.kind])
