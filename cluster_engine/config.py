"""Configuration: YAML, read once, into frozen models.

The only reader of files in ``configs/``. Unknown keys are refused with the nearest known name.
"""

from __future__ import annotations

import difflib
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

from cluster_engine.errors import ConfigError
from cluster_engine.linkage.criterion import Criterion, Method, Metric


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputConfig(_Section):
    """Names of the input's columns, and the dimension if it is to be enforced."""

    id: str = "id"
    vector: str = "vector"
    time: str = "time"
    importance: str = "importance"
    text: str = "text"
    dimension: PositiveInt | None = None


class LinkageConfig(_Section):
    """How episodes are compared and joined."""

    method: Method = "average"
    metric: Metric = "cosine"

    @model_validator(mode="after")
    def _is_meaningful(self) -> LinkageConfig:
        Criterion(self.method, self.metric)
        return self


class CutConfig(_Section):
    """Where the dendrogram is cut into concepts: at a distance, into a number of groups, or (neither) by the data."""

    distance: FiniteFloat | None = None
    n_groups: PositiveInt | None = None
    min_episodes: PositiveInt = 3

    @model_validator(mode="after")
    def _is_one_rule(self) -> CutConfig:
        if self.distance is not None and self.n_groups is not None:
            raise ValueError("give distance or n_groups, not both")
        return self


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
    linkage: LinkageConfig = LinkageConfig()
    cut: CutConfig = CutConfig()
    pool: PoolConfig = PoolConfig()
    n_exemplars: PositiveInt = 5
    memory_limit_bytes: PositiveInt | None = None


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
