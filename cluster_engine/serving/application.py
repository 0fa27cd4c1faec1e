"""The HTTP application: one route a call of the index. Knows nothing of Ray.

Requests wait for the index in threads, so that one which takes long keeps none of the others waiting. What waits for
nothing is a coroutine, however short: a function would be given a thread, which takes longer than its work.
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import Response  # noqa: TC002  # FastAPI reads the annotations
from pydantic import BaseModel  # noqa: TC002  # in signatures that are read when this is imported

from cluster_engine.search.conditions import Condition
from cluster_engine.serving import models, problems
from cluster_engine.serving.bodies import ARROW, JSON, Exchange, json_response, read_exchange, read_query
from cluster_engine.serving.index import Index  # noqa: TC001  # FastAPI reads the annotations
from cluster_engine.serving.tokens import check_bearer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}}
    for status in (400, 401, 403, 406, 409, 413, 415, 422, 503)
}

probes = APIRouter(tags=["probes"])
routes = APIRouter(prefix="/v1", dependencies=[Depends(check_bearer)], responses=_PROBLEMS)


def create_application(index: Index, token_digest: bytes | None) -> FastAPI:
    """Return the application that answers for an index.

    Parameters
    ----------
    index : Index
    token_digest : bytes or None
        SHA-256 of the token that requests must carry; None to answer requests to a loopback name without one.
    """
    application = FastAPI(
        title="Cluster Engine",
        version=metadata.version("cluster-engine"),
        description="Concepts, their bindings to episodes, spreading activation and search. See docs/serving.md.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    application.state.index = index
    application.state.token_digest = token_digest
    application.include_router(probes)
    application.include_router(routes)
    problems.handle_problems(application)
    return application


async def _index(request: Request) -> Index:
    index: Index = request.app.state.index
    return index


IndexHere = Annotated[Any, Depends(_index)]  # an Index; a protocol is no type that FastAPI could check
Body = Annotated[Exchange, Depends(read_exchange)]
NoBody = Annotated[Exchange, Depends(read_query)]


def _content(model: type[BaseModel], *formats: str) -> dict[str, Any]:
    """Return what OpenAPI says of a body that is read here and not by FastAPI."""
    schemas = {JSON: model.model_json_schema(), ARROW: {"type": "string", "format": "binary"}}
    return {
        "requestBody": {"required": True, "content": {format_: {"schema": schemas[format_]} for format_ in formats}}
    }


def _answer(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}}}


@probes.get("/health")
async def health() -> models.HealthAnswer:
    """Answer if the process does."""
    return models.HealthAnswer(status="alive")


@probes.get("/ready", responses={503: _PROBLEMS[503]})
def ready(index: IndexHere) -> models.ReadinessAnswer:
    """Answer if every actor of the index does."""
    index.statistics()
    return models.ReadinessAnswer(status="ready", version=index.version)


@routes.post("/search", responses=_answer(models.SearchAnswer), openapi_extra=_content(models.QueryTable, JSON, ARROW))
def search(index: IndexHere, body: Body, ask: Annotated[models.SearchParameters, Query()]) -> Response:
    """Find the concepts nearest to vectors, by cosine."""
    found = index.search(body.columns(models.QueryTable)["vector"], ask.k, where=_conditions(ask))
    return body.answer({"concept_id": found.concept_ids, "similarity": found.similarities})


@routes.post("/assign", responses=_answer(models.AssignAnswer), openapi_extra=_content(models.QueryTable, JSON, ARROW))
def assign(index: IndexHere, body: Body, ask: Annotated[models.AssignParameters, Query()]) -> Response:
    """Find the concept that each vector belongs to, -1 if none may be found, and how clear that is."""
    found = index.search(body.columns(models.QueryTable)["vector"], 2, where=_conditions(ask))
    n_queries, n_found = found.similarities.shape
    ids, similarities = np.full((n_queries, 2), -1, np.int64), np.full((n_queries, 2), np.nan, np.float32)
    ids[:, :n_found], similarities[:, :n_found] = found.concept_ids, found.similarities
    margins = similarities[:, 0] - similarities[:, 1]
    return body.answer({"concept_id": ids[:, 0], "similarity": similarities[:, 0], "margin": margins})


@routes.post("/spread", responses={200: {"model": models.SpreadAnswer}}, openapi_extra=_content(models.Cues, JSON))
def spread(index: IndexHere, body: Body, ask: Annotated[models.SpreadParameters, Query()]) -> Response:
    """Find what activating these activates next."""
    cues = body.record(models.Cues)
    _check_episode_ids(index, "episodes.id", cues.episodes.id)
    reached = index.spread(_mapping("episodes", cues.episodes), _mapping("concepts", cues.concepts), **ask.model_dump())
    nodes = {"concepts": reached.concepts, "episodes": reached.episodes}
    return json_response(
        {
            kind: {"id": np.asarray(found.ids).tolist(), "activation": found.activations.tolist()}
            for kind, found in nodes.items()
        }
    )


@routes.get("/episodes_of", responses=_answer(models.EpisodesAnswer))
def episodes_of(index: IndexHere, body: NoBody, ask: Annotated[models.EpisodeParameters, Query()]) -> Response:
    """Return the episodes bound to a concept, strongest first; none for a concept that is not there."""
    ids, strengths = index.episodes_of(ask.concept_id, ask.k, min_strength=ask.min_strength)
    return body.answer({"episode_id": ids, "strength": strengths})


@routes.get("/concepts_of", responses=_answer(models.ConceptsAnswer))
def concepts_of(index: IndexHere, body: NoBody, ask: Annotated[models.ConceptParameters, Query()]) -> Response:
    """Return the concepts that an episode is bound to, strongest first; none for an episode that is not there."""
    episode_id = ask.episode_id if index.is_string_ids else _int64("episode_id", ask.episode_id)
    ids, strengths = index.concepts_of(episode_id, ask.k, min_strength=ask.min_strength)
    return body.answer({"concept_id": ids, "strength": strengths})


@routes.post("/bind", openapi_extra=_content(models.BindingTable, JSON, ARROW))
def bind(
    index: IndexHere, body: Body, operation: Annotated[models.OperationParameters, Query()]
) -> models.MutationAnswer:
    """Add bindings, or set the strengths of those that exist."""
    columns = body.columns(models.BindingTable)
    _check_episode_ids(index, "episode_id", columns["episode_id"])
    applied = index.bind(columns["concept_id"], columns["episode_id"], columns["strength"], op_id=operation.op_id)
    return models.MutationAnswer(applied=applied)


@routes.post("/unbind", openapi_extra=_content(models.PairTable, JSON, ARROW))
def unbind(
    index: IndexHere, body: Body, operation: Annotated[models.OperationParameters, Query()]
) -> models.MutationAnswer:
    """Remove bindings."""
    columns = body.columns(models.PairTable)
    _check_episode_ids(index, "episode_id", columns["episode_id"])
    applied = index.unbind(columns["concept_id"], columns["episode_id"], op_id=operation.op_id)
    return models.MutationAnswer(applied=applied)


@routes.post("/set_centroids", openapi_extra=_content(models.CentroidTable, JSON, ARROW))
def set_centroids(
    index: IndexHere, body: Body, operation: Annotated[models.OperationParameters, Query()]
) -> models.MutationAnswer:
    """Set the vectors that concepts are found by, until a batch computes them anew."""
    columns = body.columns(models.CentroidTable)
    applied = index.set_centroids(columns["concept_id"], columns["vector"], op_id=operation.op_id)
    return models.MutationAnswer(applied=applied)


@routes.post("/decay", openapi_extra=_content(models.Decay, JSON))
def decay(
    index: IndexHere, body: Body, operation: Annotated[models.OperationParameters, Query()]
) -> models.MutationAnswer:
    """Let all strengths decay."""
    given = body.record(models.Decay)
    applied = index.decay(half_life_s=given.half_life_s, dt_s=given.dt_s, op_id=operation.op_id)
    return models.MutationAnswer(applied=applied)


def _check_episode_ids(index: Index, field: str, ids: Sequence[int | str] | NDArray[Any]) -> None:
    """Refuse ids of the type that the store does not have; a column has one type."""
    for row, episode_id in enumerate(ids[:1]):
        if isinstance(episode_id, str) != index.is_string_ids:
            wanted = "strings" if index.is_string_ids else "integers"
            raise problems.unprocessable(f"episodes of this store are named by {wanted}", field, row)


def _conditions(ask: models.AssignParameters) -> list[Condition]:
    """Return what concepts must meet to be found."""
    try:
        return [Condition(**given.model_dump()) for given in ask.where]
    except ValueError as error:
        raise problems.unprocessable(str(error), "where") from error


def _mapping(kind: str, cues: models.ConceptCues | models.EpisodeCues) -> Mapping[Any, float]:
    """Return activations by id; an id that comes twice is refused."""
    if len(cues.id) != len(cues.activation):
        raise problems.unprocessable(f"{len(cues.activation)} rows, but id has {len(cues.id)}", f"{kind}.activation")
    activations: dict[int | str, float] = {}
    for row, (node, activation) in enumerate(zip(cues.id, cues.activation, strict=True)):
        if node in activations:
            raise problems.unprocessable(f"{node!r} comes twice", f"{kind}.id", row)
        activations[node] = activation
    return activations


def _int64(field: str, text: str) -> int:
    if re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) is None or not -(2**63) <= int(text) < 2**63:
        raise problems.unprocessable("episodes of this store are named by integers of 64 bits", field)
    return int(text)
