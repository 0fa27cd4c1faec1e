"""Memories of LangMem in a LangGraph store (checked with langmem 0.0.30 and langgraph-checkpoint-sqlite 3.1.2).

A database of ``SqliteStore``, or a JSON list of what ``Item.dict`` returns, from any store. An episode's id is the
namespace, its parts joined by dots, a slash, and the key.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import fs

from cluster_engine.data.adapters.export import Export, read_json, utc_time
from cluster_engine.data.files import EpisodeInput, find_files
from cluster_engine.data.validation import TIME_TYPE
from cluster_engine.errors import EpisodeFileError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster_engine.data.files import EpisodeFile

_DATABASES = (".sqlite", ".sqlite3", ".db")
_ITEMS = "SELECT prefix, key, value, created_at FROM store ORDER BY prefix, key"
_VECTORS = "SELECT prefix, key, embedding FROM store_vectors ORDER BY prefix, key, field_name"
_HAS_VECTORS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'store_vectors'"


def read_langmem(input: EpisodeInput) -> list[Export]:  # noqa: A002  # as in consolidate
    """Read memories with the times they were made, and the vectors of a database.

    The text is the ``content`` of what is stored, with or without a ``kind`` around it; content of several fields, as
    of a profile, is told as JSON. Where a store indexes several fields of an item, the vector is that of the first by
    name (``$``, the whole of it, comes before any other).

    Parameters
    ----------
    input : path, directory, glob, URI, or a sequence of those
        ``.json``, or local ``.sqlite``, ``.sqlite3`` or ``.db``.

    Returns
    -------
    list of Export
        One a file.

    Raises
    ------
    InputError
        No file matches.
    EpisodeFileError, SchemaError
        A file cannot be read, or is not LangGraph's.
    """
    files = find_files(input, extensions=(".json", *_DATABASES))
    return [_read_database(file) if file.path.lower().endswith(_DATABASES) else _read_items(file) for file in files]


def _read_items(file: EpisodeFile) -> Export:
    items = read_json(file)
    if not isinstance(items, list):
        raise SchemaError(f"{file.name}: not a list of items of a LangGraph store")
    rows = []
    for row, item in enumerate(items):
        if not isinstance(item, dict) or not {"namespace", "key", "value", "created_at"} <= item.keys():
            raise SchemaError(f"{file.name}: item {row} is not as LangGraph's Item.dict returns it")
        rows.append((".".join(item["namespace"]), item["key"], item["value"], item["created_at"]))
    return Export(file.name, _table(rows, file.name))


def _read_database(file: EpisodeFile) -> Export:
    if not isinstance(file.filesystem, fs.LocalFileSystem):
        raise EpisodeFileError(f"{file.name}: a database is read where it is, so it must be a local file")
    address = f"{Path(file.path).absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            found = database.execute(_ITEMS).fetchall()
            rows = [(prefix, key, json.loads(value), created) for prefix, key, value, created in found]
            table = _table(rows, file.name)
            if database.execute(_HAS_VECTORS).fetchone():
                first: dict[tuple[str, str], Any] = {}
                for prefix, key, blob in database.execute(_VECTORS):
                    first.setdefault((prefix, key), np.frombuffer(blob, "<f4"))
                vectors = [first.get((prefix, key)) for prefix, key, _, _ in rows]
                table = table.append_column("vector", pa.array(vectors, pa.list_(pa.float32())))
    except (sqlite3.Error, ValueError) as error:
        raise EpisodeFileError(f"{file.name}: not a database of LangGraph's SqliteStore: {error}") from error
    return Export(file.name, table)


def _table(rows: Iterable[tuple[str, str, Any, str]], name: str) -> pa.Table:
    """Return items, each its namespace, key, value and time, as episodes."""
    found = [
        (f"{namespace}/{key}", _text(value), utc_time(created, f"{name}: {key}"))
        for namespace, key, value, created in rows
    ]
    types = {"id": pa.large_string(), "text": pa.large_string(), "time": TIME_TYPE}
    columns = zip(*found, strict=True) if found else ([], [], [])
    return pa.table({name: pa.array(column, types[name]) for name, column in zip(types, columns, strict=True)})


def _text(value: Any) -> str | None:  # noqa: ANN401  # what a JSON document may hold
    """Return the content of a value: ``content`` inside it, as deep as it goes; null if it is null."""
    while isinstance(value, dict) and "content" in value and value.keys() <= {"kind", "content"}:
        value = value["content"]
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
