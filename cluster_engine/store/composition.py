"""Which files a new version has: new ones for what changes, those of the version before for the rest.

Owns what becomes of each table. Refuses to know where files are made and how the version is published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from cluster_engine.store.checking import parquet_errors, read_file
from cluster_engine.store.manifest import FileEntry
from cluster_engine.store.parts import SORTED_BY, count_kept, join_parts, rows_of_file, rows_of_table, unify
from cluster_engine.store.tables import (
    TABLE_NAMES,
    canonical_schema,
    read_schema,
    require_same_types,
    write_row_groups,
    write_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa
    from typing_extensions import Buffer

    from cluster_engine.store.location import Location
    from cluster_engine.store.manifest import Manifest

CreateFile: TypeAlias = "Callable[[str], AbstractContextManager[tuple[str, Callable[[Buffer], object]]]]"
"""Makes the file of a table; gives its path, relative to the store, and a function that appends bytes to it."""


def compose_version(
    location: Location,
    before: Manifest | None,
    tables: Mapping[str, pa.Table],
    added: Mapping[str, pa.Table],
    create: CreateFile,
) -> tuple[FileEntry, ...]:
    """Write what is new in a version, and return all its files.

    Parameters
    ----------
    location : Location
    before : Manifest or None
        The version before; None for the first, which has all tables.
    tables, added : mapping of str to Table
        Those to be replaced, and rows for those that grow.
    create : CreateFile

    Raises
    ------
    ValueError
        Rows have other types than those that are there.
    StoreCorruptError
        A part that was to be rewritten is damaged.
    """
    entries: list[FileEntry] = []
    for name in TABLE_NAMES:
        parts = before.parts(name) if before else ()
        if name in tables:
            entries.append(_write(name, tables[name], create))
        elif name in added and (added[name].num_rows or not parts):
            entries += _grow(location, name, parts, added[name], create)
        else:
            entries += parts
    return tuple(entries)


def _write(name: str, table: pa.Table, create: CreateFile) -> FileEntry:
    with create(name) as (path, write):
        n_bytes, sha256 = write_table(table, write)
    return FileEntry(name, path, n_bytes, table.num_rows, sha256)


def _grow(
    location: Location, name: str, parts: Sequence[FileEntry], added: pa.Table, create: CreateFile
) -> list[FileEntry]:
    """Write a part with the rows that are added and those of the last parts that are small beside them."""
    key, n_kept = SORTED_BY.get(name), count_kept(parts, added.num_rows)
    schemas = []
    for part in parts[:n_kept]:
        with location.open(part.path) as file, parquet_errors(location, part):
            schemas.append(read_schema(file))
    # Checked, for damaged rows must not get a checksum that vouches for them.
    taken = [rows_of_file(location, part, read_file(location, part), key) for part in parts[n_kept:]]
    for schema in [*schemas, *(rows.schema for rows in taken)]:
        require_same_types(name, canonical_schema(added.schema), schema)
    if not taken:
        return [*parts, _write(name, added, create)]
    joined = [*taken, rows_of_table(added, key)]
    n_rows = sum(part.n_rows for part in joined)
    with create(name) as (path, write):
        n_bytes, sha256 = write_row_groups(unify(joined), join_parts(joined), write)
    return [*parts[:n_kept], FileEntry(name, path, n_bytes, n_rows, sha256)]
