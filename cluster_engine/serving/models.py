"""What requests and answers look like: the models that validate JSON, that Arrow is held to, and that OpenAPI shows.

A body is a table: an object of columns in JSON, a stream of record batches in Arrow. Limits are here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, Json

from native_simd import SpreadLaw  # noqa: TC001  # pydantic reads the annotations

MAX_BODY_BYTES = 16 << 20  # all limits: chosen, not measured
MAX_QUERIES = 1_024
MAX_DIMENSION = 16_384
MAX_K = 1_000
MAX_STEPS = 16
MAX_ROWS = 1_000_000
MAX_CUES = 10_000
MAX_CONDITIONS = 16

ColumnKind = Literal["id", "episode", "number", "vector"]


@dataclass(frozen=True, slots=True)
class Column:
    """What a column of a body holds, and how many rows of it a request may have."""

    kind: ColumnKind
    max_rows: int


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Value = bool | Int64 | Finite | Annotated[str, Field(max_length=1_024)]
EpisodeId = Int64 | Annotated[str, Field(max_length=1_024)]
Ids = Annotated[list[Int64], FailFast(), Field(max_length=MAX_ROWS), Column("id", MAX_ROWS)]
EpisodeIds = Annotated[list[EpisodeId], FailFast(), Field(max_length=MAX_ROWS), Column("episode", MAX_ROWS)]
Numbers = Annotated[list[Finite], FailFast(), Field(max_length=MAX_ROWS), Column("number", MAX_ROWS)]
Vector = Annotated[list[Finite], FailFast(), Field(min_length=1, max_length=MAX_DIMENSION)]
Vectors = Annotated[list[Vector], FailFast(), Field(max_length=MAX_QUERIES), Column("vector", MAX_QUERIES)]


class QueryTable(_Strict):
    """Vectors to compare with the centroids of concepts, a row each."""

    vector: Vectors


class ConceptCues(_Strict):
    """Concepts to activate."""

    id: Annotated[list[Int64], FailFast(), Field(max_length=MAX_CUES)] = []
    activation: Annotated[list[Finite], FailFast(), Field(max_length=MAX_CUES)] = []


class EpisodeCues(_Strict):
    """Episodes to activate."""

    id: Annotated[list[EpisodeId], FailFast(), Field(max_length=MAX_CUES)] = []
    activation: Annotated[list[Finite], FailFast(), Field(max_length=MAX_CUES)] = []


class Cues(_Strict):
    """What to activate, of either kind."""

    episodes: EpisodeCues = EpisodeCues()
    concepts: ConceptCues = ConceptCues()


class BindingTable(_Strict):
    """Bindings with their strengths in [0, 1]."""

    concept_id: Ids
    episode_id: EpisodeIds
    strength: Numbers


class PairTable(_Strict):
    """Bindings without their strengths."""

    concept_id: Ids
    episode_id: EpisodeIds


class CentroidTable(_Strict):
    """Concepts and the vectors that they are found by."""

    concept_id: Annotated[list[Int64], FailFast(), Field(max_length=MAX_QUERIES), Column("id", MAX_QUERIES)]
    vector: Vectors


class Decay(_Strict):
    """All strengths are multiplied by ``2**-(dt_s / half_life_s)``."""

    half_life_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    dt_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConditionModel(_Strict):
    """What a column of the store's concepts must be, times as text in ISO 8601; nothing holds for a null."""

    column: Annotated[str, Field(max_length=128)]
    least: Value | None = None
    most: Value | None = None
    among: Annotated[list[Value], Field(max_length=MAX_K)] | None = None


class AssignParameters(_Parameters):
    """Which concepts may be found: those that meet all conditions, a list of objects in JSON."""

    where: Json[Annotated[list[ConditionModel], Field(max_length=MAX_CONDITIONS)]] = []


class SearchParameters(AssignParameters):
    """How many concepts are returned for each vector, and which may be."""

    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10


class SpreadParameters(_Parameters):
    """How far activation spreads, what a concept of n bindings passes on, and how many of either kind are returned."""

    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 3
    fan_law: SpreadLaw = "sqrt"
    half_lives: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    cutoff: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    k: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 100


class OperationParameters(_Parameters):
    """The name of a mutation; a second one of the same name changes nothing."""

    op_id: Int64


class _BindingParameters(_Parameters):
    k: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 100
    min_strength: Annotated[float, Field(ge=0, le=1)] = 0.0


class EpisodeParameters(_BindingParameters):
    """Of which concept, and which of its bindings, are returned."""

    concept_id: Int64


class ConceptParameters(_BindingParameters):
    """Of which episode, and which of its bindings, are returned."""

    episode_id: Annotated[str, Field(max_length=1_024)]


class SearchAnswer(BaseModel):
    """For each vector the nearest concepts, nearest first."""

    concept_id: list[list[int]]
    similarity: list[list[float]]


class AssignAnswer(BaseModel):
    """For each vector the nearest concept, and how much nearer it is than the next; -1 and null if there is none."""

    concept_id: list[int]
    similarity: list[float | None]
    margin: list[float | None]


class ActiveConcepts(BaseModel):
    """Concepts, most active first."""

    id: list[int]
    activation: list[float]


class ActiveEpisodes(BaseModel):
    """Episodes, most active first."""

    id: list[int] | list[str]
    activation: list[float]


class SpreadAnswer(BaseModel):
    """What activation reached."""

    concepts: ActiveConcepts
    episodes: ActiveEpisodes


class EpisodesAnswer(BaseModel):
    """Episodes of a concept, strongest first."""

    episode_id: list[int] | list[str]
    strength: list[float]


class ConceptsAnswer(BaseModel):
    """Concepts of an episode, strongest first."""

    concept_id: list[int]
    strength: list[float]


class MutationAnswer(BaseModel):
    """Whether this request was the one that applied."""

    applied: bool


class HealthAnswer(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class ReadinessAnswer(BaseModel):
    """Every actor answers, with this version of the store loaded."""

    status: Literal["ready"]
    version: int
