"""Exports of other programs as episodes to embed, each format read as the release that its module names writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from cluster_engine.data.adapters.graphrag import read_entities, read_text_units
from cluster_engine.data.adapters.langmem import read_langmem
from cluster_engine.data.adapters.mem0 import read_mem0

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster_engine.data.adapters.export import Export
    from cluster_engine.data.files import EpisodeInput

ExportFormat: TypeAlias = Literal["files", "graphrag", "graphrag-entities", "mem0", "langmem"]
"""What an input is; "files" is no export but files with columns of their own names."""
FORMATS: tuple[str, ...] = get_args(ExportFormat)

EXPORTS: dict[ExportFormat, Callable[[EpisodeInput], list[Export]]] = {
    "graphrag": read_text_units,
    "graphrag-entities": read_entities,
    "mem0": read_mem0,
    "langmem": read_langmem,
}
"""The readers, by format."""
