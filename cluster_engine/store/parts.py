"""Growing tables: a version adds a part, and rewrites the last parts together with it where they are small.

Owns how many parts there are, and the order of rows over several. Refuses to know what the columns mean, but for the
one that sorts a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster_engine.store.checking import parquet_errors
from cluster_engine.store.tables import ROW_GROUP_ROWS, canonical_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cluster_engine.store.location import Location
    from cluster_engine.store.manifest import FileEntry

SORTED_BY = {"episodes": "episode_id"}
"""Of the growing tables, those whose parts are each in ascending order of a column, and the column."""

_BATCH_ROWS = 4096  # of a part, decoded at once: 12 MiB of 768-dimensional vectors


def count_kept(parts: Sequence[FileEntry], n_added: int) -> int:
    """Return how many of the parts stay as they are when rows are added: the others are rewritten with these.

    From the last on, a part is taken in while it has fewer rows than twice those gathered so far. So each part has at
    least twice the rows of the next, of n rows there are at most log2(n) + 1 parts, and as its part grows by half at
    least each time, a row is rewritten at most log(n) / log(1.5) times.
    """
    n_kept, n_gathered = len(parts), n_added
    while n_kept and parts[n_kept - 1].n_rows < 2 * n_gathered:
        n_kept -= 1
        n_gathered += parts[n_kept].n_rows
    return n_kept


@dataclass(slots=True)
class PartRows:
    """The rows of one part in their order, to be taken some at a time.

    Attributes
    ----------
    schema : Schema
    n_rows : int
    keys : ChunkedArray or None
        Of all rows, the column that sorts the table.
    rest : iterator of Table
        What is not taken yet, in pieces of any size.
    """

    schema: pa.Schema
    n_rows: int
    keys: pa.ChunkedArray[Any] | None
    rest: Iterator[pa.Table]
    _begun: pa.Table | None = None

    def take(self, n_rows: int) -> list[pa.Table]:
        """Return the next rows, in pieces."""
        taken = []
        while n_rows:
            piece = self._begun or next(self.rest)
            taken.append(piece.slice(0, n_rows))
            self._begun = piece.slice(n_rows) if piece.num_rows > n_rows else None
            n_rows -= taken[-1].num_rows
        return taken


def rows_of_table(table: pa.Table, key: str | None) -> PartRows:
    """Return the rows of a table in memory."""
    table = table.cast(canonical_schema(table.schema))
    return PartRows(table.schema, table.num_rows, table[key] if key else None, iter([table]))


def rows_of_file(
    location: Location, part: FileEntry, data: pa.Buffer, key: str | None, columns: Sequence[str] | None = None
) -> PartRows:
    """Return the rows of a part, or some columns of them, decoded as they are taken from its bytes.

    Raises
    ------
    StoreCorruptError
        If it is not Parquet; while rows are taken, too.
    """
    with parquet_errors(location, part):
        file = pq.ParquetFile(pa.BufferReader(data))
        known = file.schema_arrow
        chosen = known.names if columns is None else [name for name in known.names if name in {*columns, key}]
        schema = pa.schema([known.field(name) for name in chosen])
        keys = file.read(columns=[key])[key] if key else None
    return PartRows(schema, part.n_rows, keys, _decode(location, part, file, schema))


def _decode(location: Location, part: FileEntry, file: pq.ParquetFile, schema: pa.Schema) -> Iterator[pa.Table]:
    with parquet_errors(location, part):
        for batch in file.iter_batches(_BATCH_ROWS, columns=schema.names):
            yield pa.Table.from_batches([batch], schema)


def unify(parts: Sequence[PartRows]) -> pa.Schema:
    """Return the columns of all parts."""
    return pa.unify_schemas([part.schema for part in parts])


def join_parts(parts: Sequence[PartRows]) -> Iterator[pa.Table]:
    """Yield the rows of all parts, `ROW_GROUP_ROWS` at a time: by key, or part after part where they have none.

    A column that a part lacks is null there. Holds the keys and two row groups.
    """
    empty = unify(parts).empty_table()
    ends = np.cumsum([part.n_rows for part in parts])
    begins = ends - [part.n_rows for part in parts]
    order = _order(parts, int(ends[-1]))
    n_taken = np.zeros(len(parts), np.int64)
    for first in range(0, len(order), ROW_GROUP_ROWS):
        rows = order[first : first + ROW_GROUP_ROWS]
        part_of = np.searchsorted(ends, rows, side="right")
        # Parts are sorted: what a window has of one of them are its next rows.
        counts = np.bincount(part_of, minlength=len(parts))
        pieces = [piece for part, n in zip(parts, counts.tolist(), strict=True) for piece in part.take(n)]
        gathered = pa.concat_tables([empty, *pieces], promote_options="default").combine_chunks()
        at = rows - begins[part_of] - n_taken[part_of] + (np.cumsum(counts) - counts)[part_of]
        n_taken += counts
        yield gathered.take(pa.array(at))


def _order(parts: Sequence[PartRows], n_rows: int) -> NDArray[np.int64]:
    keys = [part.keys for part in parts if part.keys is not None]
    if not keys:
        return np.arange(n_rows)
    chunks = [chunk for column in keys for chunk in column.chunks]
    return np.asarray(pc.sort_indices(pa.chunked_array(chunks, keys[0].type)), np.int64)
