"""What every export becomes: a table with the columns of episodes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from cluster_engine.data.formats import failures_named
from cluster_engine.errors import EpisodeFileError

if TYPE_CHECKING:
    import pyarrow as pa

    from cluster_engine.data.files import EpisodeFile


@dataclass(frozen=True, slots=True)
class Export:
    """The episodes of one file or folder.

    Attributes
    ----------
    name : str
        What people call it.
    table : pyarrow.Table
        Columns id (string), text (string), and time (timestamp) and vector (list of floats) where the export has them.
    """

    name: str
    table: pa.Table


def read_json(file: EpisodeFile) -> Any:  # noqa: ANN401  # what a JSON document may hold
    """Read a JSON document.

    Raises
    ------
    EpisodeFileError
        It is none.
    """
    with failures_named(file), file.filesystem.open_input_file(file.path) as source:
        content = source.read()
    try:
        return json.loads(content)
    except ValueError as error:
        raise EpisodeFileError(f"{file.name}: not JSON: {error}") from error


def utc_time(text: str | None, where: str) -> datetime | None:
    """Return a time that an export has as text; one without a zone is UTC.

    Parameters
    ----------
    text : str or None
        ISO 8601, or with a space before the zone, as GraphRAG writes it.
    where : str
        Named in the error.

    Raises
    ------
    EpisodeFileError
        It is no time.

    Examples
    --------
    >>> utc_time("2026-11-29 19:29:59 +0100", "a file").isoformat()
    '2026-11-29T18:29:59+00:00'
    """
    if text is None:
        return None
    try:
        time = datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        try:
            time = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError as error:
            raise EpisodeFileError(f"{where}: {text!r} is not a time") from error
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)
