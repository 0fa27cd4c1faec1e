"""Output folders of GraphRAG (checked with graphrag 3.3.0): text units, or entities with their descriptions.

Vectors are there if it ran with ``snapshots.embeddings: true``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.data.adapters.export import Export, utc_time
from cluster_engine.data.files import EpisodeInput, find_files
from cluster_engine.data.formats import inspect_file, read_batches
from cluster_engine.data.validation import TIME_TYPE
from cluster_engine.errors import InputError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster_engine.data.files import EpisodeFile


def read_text_units(input: EpisodeInput) -> list[Export]:  # noqa: A002  # as in consolidate
    """Read text units: the pieces of documents, each with the creation time of its document.

    Parameters
    ----------
    input : folder, or a sequence of those
        As GraphRAG's ``output_storage``.

    Returns
    -------
    list of Export
        One a folder.

    Raises
    ------
    InputError
        A folder has no text units.
    EpisodeFileError, SchemaError
        A file cannot be read, or is not GraphRAG's.
    """
    exports = []
    for folder in _folders(input):
        file = _find(folder, "text_units")
        units = _read(file, ["id", "text", "document_id"])
        columns = {"id": units["id"], "text": units["text"]}
        if (documents := _find_if_any(folder, "documents")) is not None:
            columns["time"] = _times(units["document_id"], _read(documents, ["id", "creation_date"]), documents.name)
        exports.append(Export(file.name, pa.table(columns | _vectors(folder, "text_unit_text", units["id"]))))
    return exports


def read_entities(input: EpisodeInput) -> list[Export]:  # noqa: A002  # as in consolidate
    """Read entities: "title: description" each.

    Parameters
    ----------
    input : folder, or a sequence of those

    Returns
    -------
    list of Export
        One a folder.

    Raises
    ------
    InputError, EpisodeFileError, SchemaError
        As `read_text_units`.
    """
    exports = []
    for folder in _folders(input):
        file = _find(folder, "entities")
        entities = _read(file, ["id", "title", "description"])
        described = zip(entities["title"].to_pylist(), entities["description"].to_pylist(), strict=True)
        texts = [f"{title or ''}: {description or ''}" for title, description in described]
        columns = {"id": entities["id"], "text": pa.chunked_array([texts], pa.large_string())}
        exports.append(Export(file.name, pa.table(columns | _vectors(folder, "entity_description", entities["id"]))))
    return exports


def _folders(input: EpisodeInput) -> list[str]:  # noqa: A002  # as in consolidate
    folders = [input] if isinstance(input, (str, os.PathLike)) else input
    return [os.fspath(folder) for folder in folders]


def _find(folder: str, name: str) -> EpisodeFile:
    return find_files(f"{folder.rstrip('/')}/{name}.parquet")[0]


def _find_if_any(folder: str, name: str) -> EpisodeFile | None:
    try:
        return _find(folder, name)
    except InputError:
        return None


def _read(file: EpisodeFile, columns: Sequence[str]) -> pa.Table:
    schema = inspect_file(file).schema
    if missing := [name for name in columns if schema.names.count(name) != 1]:
        raise SchemaError(f"{file.name}: not as graphrag 3.3.0 writes it: no column {missing[0]!r}")
    fields = [schema.field(name) for name in columns]
    return pa.Table.from_batches(read_batches(file, columns), pa.schema(fields)).combine_chunks()


def _vectors(folder: str, field: str, ids: pa.ChunkedArray[Any]) -> dict[str, pa.ChunkedArray[Any]]:
    """Return the column of vectors, null where there is none; no column if the folder has no vectors."""
    file = _find_if_any(folder, f"embeddings.{field}")
    if file is None:
        return {}
    embeddings = _read(file, ["id", "embedding"])
    return {"vector": embeddings["embedding"].take(pc.index_in(ids, embeddings["id"].combine_chunks()))}


def _times(document_ids: pa.ChunkedArray[Any], documents: pa.Table, name: str) -> pa.ChunkedArray[Any]:
    times = [utc_time(text, name) for text in documents["creation_date"].to_pylist()]
    rows = pc.index_in(document_ids.combine_chunks(), documents["id"].combine_chunks())
    return pa.chunked_array([pa.array(times, TIME_TYPE).take(rows)])
