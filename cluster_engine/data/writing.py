"""Episodes to a Parquet file, as `read_episodes` takes it.

Knows columns and the file. Refuses to know where episodes come from.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet as pq

from cluster_engine.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from cluster_engine.data.episodes import Episodes


@contextmanager
def parquet_writer(path: str | os.PathLike[str], schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Give a writer of a file that appears, whole, when the block ends without an error, and not at all otherwise.

    Raises
    ------
    ConfigError
        The file cannot be written there.
    """
    whole = Path(path)
    partial = whole.with_name(f".{whole.name}.{os.getpid()}.partial")
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            yield writer
        partial.replace(whole)
    except OSError as error:
        raise ConfigError(f"{whole}: cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_table(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a table; the file appears whole or not at all."""
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table)


def write_episodes(episodes: Episodes, path: str | os.PathLike[str]) -> None:
    """Write episodes in their order; without texts there is no such column."""
    columns = {
        "id": episodes.ids,
        "time": episodes.times,
        "importance": pa.array(episodes.importances),
        "evergreen": pa.array(episodes.evergreen),
    }
    if episodes.texts is not None:
        columns["text"] = episodes.texts
    write_table(pa.table({**columns, "vector": vector_column(episodes.vectors)}), path)


def vector_column(vectors: npt.NDArray[np.float32]) -> pa.Array[Any]:
    """Return rows of an array as a column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), max(1, vectors.shape[1]))
