"""Configuration: every fault is named, and the files in configs/ say everything there is to say."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from cluster_engine.config import Config, load_config, parse_config
from cluster_engine.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def keys(model: type[BaseModel]) -> set[str]:
    """Return the dotted keys of a model and its sections."""
    found = set()
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found |= {f"{name}.{key}" for key in keys(section)}
        else:
            found.add(name)
    return found


def dotted(content: dict[str, Any]) -> set[str]:
    return {
        f"{name}.{key}" if key else name
        for name, value in content.items()
        for key in (value if isinstance(value, dict) else [""])
    }


def write(directory: Path, text: str) -> Path:
    path = directory / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_there_are_four_configurations() -> None:
    assert [path.stem for path in CONFIGS] == ["cluster", "gradual", "laptop", "two-socket"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_is_valid_and_has_every_key(path: Path) -> None:
    load_config(path)
    assert dotted(yaml.safe_load(path.read_text(encoding="utf-8"))) == keys(Config)


def test_the_laptop_is_the_default() -> None:
    assert load_config(next(path for path in CONFIGS if path.stem == "laptop")) == Config()


def test_what_a_file_leaves_out_is_the_default(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "cut:\n  distance: 0.25\n"))
    assert config.cut.distance == 0.25
    assert config.model_copy(update={"cut": Config().cut}) == Config()
    assert load_config(write(tmp_path, "# nothing\n")) == Config()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cut:\n  distnce: 1\n", ["cut.distnce", "unknown key", "did you mean 'distance'?"]),
        ("clt: {}\n", ["clt", "did you mean 'cut'?"]),
        ("zzz: 1\n", ["zzz", "known keys: input, cut, rebuild"]),
        ("cut:\n  min_episodes: 0\npool:\n  numa: maybe\n", ["cut.min_episodes", "got 0", "pool.numa", "got 'maybe'"]),
        ("cut:\n  distance: 1\n  n_groups: 2\n", ["cut", "give distance or n_groups, not both"]),
        ("replay:\n  stage: nap\n", ["replay", "stage must be one of nrem2, nrem3, rem, awake"]),
        ("fade:\n  floor: 2\n", ["fade.floor", "got 2"]),
        ("rebuild:\n  growth: 1\n", ["rebuild.growth", "got 1"]),
        ("pool:\n  max_restarts: -1\n", ["pool.max_restarts", "got -1"]),
        ("cut: [1]\n", ["cut", "got [1]"]),
        ("- 1\n", ["must be a mapping of sections, got list"]),
        ("just text\n", ["must be a mapping of sections, got str"]),
        ("cut: {\n", ["cannot be read"]),
        ("!!python/object/apply:os.getcwd []\n", ["cannot be read"]),
    ],
)
def test_a_fault_is_named_with_its_file_and_key(text: str, words: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_a_config_error(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.yaml", tmp_path, binary):
        with pytest.raises(ConfigError, match=rf"configuration {path} cannot be read"):
            load_config(path)


def test_a_configuration_is_frozen_and_travels() -> None:
    config = parse_config({"n_exemplars": 2}, "here")
    with pytest.raises(ValidationError, match="frozen"):
        config.n_exemplars = 3
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301  # our own bytes
