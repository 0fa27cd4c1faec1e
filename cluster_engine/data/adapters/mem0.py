"""Memories of mem0 (checked with mem0ai 2.2.1): what ``Memory.get_all`` returns, saved as JSON.

It has no vectors. It gives the first 20 memories unless it is told ``top_k``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from cluster_engine.data.adapters.export import Export, read_json, utc_time
from cluster_engine.data.files import EpisodeInput, find_files
from cluster_engine.data.validation import TIME_TYPE
from cluster_engine.errors import SchemaError

if TYPE_CHECKING:
    from cluster_engine.data.files import EpisodeFile


def read_mem0(input: EpisodeInput) -> list[Export]:  # noqa: A002  # as in consolidate
    """Read memories with the times they were made.

    Parameters
    ----------
    input : path, directory, glob, URI, or a sequence of those
        JSON files: ``{"results": [...]}``, or the list alone.

    Returns
    -------
    list of Export
        One a file.

    Raises
    ------
    InputError
        No file matches.
    EpisodeFileError, SchemaError
        A file cannot be read, or is not mem0's.
    """
    return [_read(file) for file in find_files(input, extensions=(".json",))]


def _read(file: EpisodeFile) -> Export:
    content = read_json(file)
    memories = content.get("results") if isinstance(content, dict) else content
    if not isinstance(memories, list):
        raise SchemaError(f"{file.name}: not as mem0ai 2.2.1 returns memories: no list of 'results'")
    for row, memory in enumerate(memories):
        if not isinstance(memory, dict) or not isinstance(memory.get("id"), str) or "memory" not in memory:
            raise SchemaError(f"{file.name}: memory {row} is not as mem0ai 2.2.1 returns it: no 'id' and 'memory'")
    times = [utc_time(memory.get("created_at"), f"{file.name}: {memory['id']}") for memory in memories]
    columns = {
        "id": pa.array([memory["id"] for memory in memories], pa.large_string()),
        "text": pa.array([memory["memory"] for memory in memories], pa.large_string()),
        "time": pa.array(times, TIME_TYPE),
    }
    return Export(file.name, pa.table(columns))
