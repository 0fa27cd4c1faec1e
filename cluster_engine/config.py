"""Configuration: YAML, read once, into frozen models.

The only reader of files in ``configs/``. Unknown keys are refused with the nearest known name.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from cluster_engine.concepts.fading import Fading, FadingLaw
from cluster_engine.concepts.population import PPM
from cluster_engine.concepts.rules import PromotionRule, ReplayRule, RetirementRule
from cluster_engine.data.adapters import ExportFormat  # noqa: TC001  # pydantic reads the annotations
from cluster_engine.data.schema import ColumnNames
from cluster_engine.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputConfig(_Section):
    """What the input is: names of its columns, the dimension if it is to be enforced, or texts and what embeds them."""

    id: str = "id"
    vector: str = "vector"
    time: str = "time"
    importance: str = "importance"
    evergreen: str = "evergreen"
    text: str = "text"
    dimension: PositiveInt | None = None
    embedder: str | None = None
    format: ExportFormat = "files"

    @property
    def columns(self) -> ColumnNames:
        """The names alone."""
        return ColumnNames(**self.model_dump(exclude={"dimension", "embedder", "format"}))

    @property
    def has_texts(self) -> bool:
        """Whether the input is read as texts, or as an export of another program, rather than as vectors."""
        return self.embedder is not None or self.format != "files"


class CutConfig(_Section):
    """Which groups are concepts.

    The dendrogram is cut at a distance, into a number of groups, or (neither) by the data; a rule other than a distance
    is used in a rebuild, and gives the distance of the cycles after it.
    """

    distance: FiniteFloat | None = None
    n_groups: PositiveInt | None = None
    min_episodes: PositiveInt = 3
    min_coherence: FiniteFloat | None = None

    @model_validator(mode="after")
    def _is_one_rule(self) -> CutConfig:
        if self.distance is not None and self.n_groups is not None:
            raise ValueError("give distance or n_groups, not both")
        return self


class RebuildConfig(_Section):
    """When all episodes are clustered from scratch again: when they have grown so much, up to a size; or regularly."""

    growth: float = Field(default=1.5, gt=1)
    most_episodes: int = Field(default=50_000, ge=0)
    every_cycles: PositiveInt | None = None


class ReplayConfig(_Section):
    """What an episode that joins a concept counts for, and what a concept gains by it."""

    half_life_days: PositiveFloat | None = None
    stage: str | None = None
    stage_factors: dict[str, PositiveFloat] = {"nrem2": 1.5, "nrem3": 1.2, "rem": 0.8, "awake": 0.5}
    gain_ppm: int = Field(default=20_000, ge=0, le=PPM)

    @model_validator(mode="after")
    def _has_stage(self) -> ReplayConfig:
        if self.stage is not None and self.stage not in self.stage_factors:
            raise ValueError(f"stage must be one of {', '.join(self.stage_factors)}, or null")
        return self

    def rule(self) -> ReplayRule:
        """Return the rule that this states."""
        factor = 1.0 if self.stage is None else self.stage_factors[self.stage]
        return ReplayRule(self.half_life_days, factor, self.gain_ppm)


class PromoteConfig(_Section):
    """When a proto-concept becomes active: at all of these, the best first, so many a cycle."""

    min_strength_ppm: int = Field(default=0, ge=0, le=PPM)
    min_replays: PositiveInt = 1
    min_coherence: FiniteFloat | None = None
    most_per_cycle: PositiveInt | None = None

    def rule(self) -> PromotionRule:
        """Return the rule that this states."""
        return PromotionRule(self.min_strength_ppm, self.min_replays, self.min_coherence, self.most_per_cycle)


class RetireConfig(_Section):
    """When a concept retires: idle for so many cycles, or weak at a certain age."""

    idle_cycles: PositiveInt | None = 50
    below_strength_ppm: int | None = Field(default=None, ge=0, le=PPM)
    age_cycles: int = Field(default=20, ge=0)

    def rule(self) -> RetirementRule:
        """Return the rule that this states."""
        return RetirementRule(self.idle_cycles, self.below_strength_ppm, self.age_cycles)


class FadeConfig(_Section):
    """How strengths fade: of bindings by a law, of concepts by a half-life."""

    law: FadingLaw = "exponential"
    half_life_days: PositiveFloat = 30.0
    exponent: PositiveFloat = 0.5
    fast_half_life_days: PositiveFloat = 1.0
    fast_share: float = Field(default=0.5, ge=0, le=1)
    floor: float = Field(default=0.05, ge=0, le=1)
    concept_half_life_days: PositiveFloat | None = None

    def rule(self) -> Fading:
        """Return the law of bindings that this states."""
        return Fading(
            self.law, self.half_life_days, self.exponent, self.fast_half_life_days, self.fast_share, self.floor
        )


class LeaseConfig(_Section):
    """How batches of one store keep out of each other's way."""

    ttl_s: PositiveFloat = 20.0
    wait_s: float = Field(default=3600.0, ge=0)


class PoolConfig(_Section):
    """The shard actors: how many, where, and how tiles travel."""

    actors_per_numa_node: PositiveInt = 1
    threads_per_actor: PositiveInt | None = None
    numa: Literal["require", "prefer", "off"] = "prefer"
    placement: Literal["local", "interleaved", "separated", "adaptive"] = "local"
    n_shards: PositiveInt = 16
    tiles_in_flight: PositiveInt = 2
    transport: Literal["auto", "shared", "objects"] = "auto"
    max_restarts: int = Field(default=3, ge=0)
    start_timeout_s: PositiveFloat = 60.0


class Config(_Section):
    """Everything a batch can be told."""

    input: InputConfig = InputConfig()
    cut: CutConfig = CutConfig()
    rebuild: RebuildConfig = RebuildConfig()
    replay: ReplayConfig = ReplayConfig()
    promote: PromoteConfig = PromoteConfig()
    retire: RetireConfig = RetireConfig()
    fade: FadeConfig = FadeConfig()
    lease: LeaseConfig = LeaseConfig()
    pool: PoolConfig = PoolConfig()
    n_exemplars: PositiveInt = 5
    keep_versions: PositiveInt | None = 100
    memory_limit_bytes: PositiveInt | None = None

    def rules_sha256(self) -> str:
        """Return a digest of what decides the result of a cycle: equal rules, equal digests."""
        sections = ("cut", "rebuild", "replay", "promote", "retire", "fade")
        rules = {name: getattr(self, name).model_dump() for name in sections} | {"n_exemplars": self.n_exemplars}
        return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def load_config(path: str | Path) -> Config:
    """Read a YAML file.

    Raises
    ------
    ConfigError
        The file cannot be read, is not YAML, or holds an unknown key or an impossible value; each is named.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"configuration {path} must be a mapping of sections, got {type(content).__name__}")
    return parse_config(content or {}, str(path))


def parse_config(content: dict[str, object], source: str) -> Config:
    """Validate a mapping; `source` names it in errors.

    Raises
    ------
    ConfigError
        An unknown key or an impossible value; every one is named.
    """
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(_describe(fault) for fault in error.errors())) from None


def _describe(fault: object) -> str:
    assert isinstance(fault, dict)  # noqa: S101  # pydantic's ErrorDetails, a TypedDict
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location) or "the configuration"
    if fault["type"] != "extra_forbidden":
        return f"{key}: {fault['msg']} (got {fault['input']!r})"
    known = _known_keys(location[:-1])
    nearest = difflib.get_close_matches(location[-1], known, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; known keys: {', '.join(known)}"
    return f"{key}: unknown key{hint}"


def _known_keys(section: list[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in section:
        annotation = model.model_fields[part].annotation
        assert isinstance(annotation, type)  # noqa: S101  # sections are plain models
        model = annotation
    return list(model.model_fields)
