"""Which columns an episode needs, and which types can hold them.

Knows names and types. Refuses to know values.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa
from pyarrow import types

from cluster_engine.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator

Content: TypeAlias = Literal["vector", "text"]
"""What an episode of an input must have besides its id; a text is yet to be embedded."""

_EXTENSION_KEY = b"ARROW:extension:name"
_TENSOR = b"arrow.fixed_shape_tensor"
_LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType, pa.FixedShapeTensorType)


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """What the input calls each column of an episode.

    Attributes
    ----------
    id : str
        Required: an integer or string column, also dictionary-encoded.
    vector : str
        Required: lists (of any kind) or fixed-shape tensors of float16, float32 or float64.
    time : str
        Optional: timestamps of any unit and zone, or dates. Without a zone they are UTC.
    importance : str
        Optional: any integer or float type; 1.0 where absent or null.
    evergreen : str
        Optional: booleans; false where absent or null. Bindings of an evergreen episode never fade.
    text : str
        Optional: strings, also dictionary-encoded.

    Notes
    -----
    An optional column whose name differs from the default was asked for: at least one file must have it.

    Raises
    ------
    ConfigError
        If a name is empty or two are equal.
    """

    id: str = "id"
    vector: str = "vector"
    time: str = "time"
    importance: str = "importance"
    evergreen: str = "evergreen"
    text: str = "text"

    def __post_init__(self) -> None:
        names = astuple(self)
        if not all(names) or len(set(names)) < len(names):
            raise ConfigError(f"column names must be non-empty and differ from each other: {self}")


@dataclass(frozen=True, slots=True)
class EpisodeColumns:
    """How one file holds episodes.

    Attributes
    ----------
    id_type : pyarrow.DataType
        What its ids become: int64 or large_string.
    dimension : int or None
        Length of every vector when its type says so.
    present : tuple of str
        The roles (attributes of `ColumnNames`) that the file has a column for.
    """

    id_type: pa.DataType
    dimension: int | None
    present: tuple[str, ...]


def resolve_columns(schema: pa.Schema, columns: ColumnNames, file: str, content: Content = "vector") -> EpisodeColumns:
    """Find the columns of an episode in the schema of one file; a vector beside a text to embed is left out.

    Raises
    ------
    SchemaError
        If a required column is missing, a name is there twice, or a type cannot hold what it must. Extension types
        other than ``arrow.fixed_shape_tensor`` are refused, known or not: their meaning is code, which data is never.
    """
    roles = [field.name for field in fields(columns) if content == "vector" or field.name != "vector"]
    present = tuple(role for role in roles if _find(schema, columns, role, file, is_required=role in ("id", content)))
    for role in present:
        field = schema.field(getattr(columns, role))
        _refuse_extensions(field, role, file)
        if not _ACCEPTS[role](field.type):
            raise SchemaError(
                f"{file}: column {field.name!r} has type {field.type}, which cannot hold the {role}; "
                f"accepted: {_ACCEPTED[role]}"
            )
    id_type = schema.field(columns.id).type
    stored = pa.int64() if types.is_integer(_decoded(id_type)) else pa.large_string()
    dimension = _fixed_dimension(schema.field(columns.vector).type) if "vector" in present else None
    return EpisodeColumns(stored, dimension, present)


def _find(schema: pa.Schema, columns: ColumnNames, role: str, file: str, *, is_required: bool) -> bool:
    name = getattr(columns, role)
    found = schema.names.count(name)
    if found > 1:
        raise SchemaError(f"{file}: {found} columns are called {name!r}; rename all but one")
    if not found and is_required:
        raise SchemaError(missing_column(role, name, schema.names, file))
    return found == 1


def missing_column(role: str, name: str, present: list[str], where: str) -> str:
    """Say that a column is missing, what is there instead, and what to do.

    Returns
    -------
    str
        One sentence for a `SchemaError`.
    """
    nearest = get_close_matches(name, present, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return (
        f"{where}: no column {name!r} for the {role}, name it with --{role}-column, or input.{role} in a "
        f"configuration; present: {present}{hint}"
    )


def _refuse_extensions(field: pa.Field[Any], role: str, file: str) -> None:
    tensor = role == "vector" and isinstance(field.type, pa.FixedShapeTensorType)
    for nested in _nested_fields(field):
        name = _extension_name(nested)
        if name is not None and not (tensor and nested is field and name == _TENSOR):
            raise SchemaError(
                f"{file}: column {field.name!r} has extension type {name.decode(errors='replace')!r}, which is not "
                f"accepted for the {role}; write it with its storage type"
            )


def _nested_fields(field: pa.Field[Any]) -> Iterator[pa.Field[Any]]:
    yield field
    if isinstance(field.type, pa.BaseExtensionType):
        return
    if types.is_dictionary(field.type):
        yield from _nested_fields(pa.field(field.name, field.type.value_type))
    for i in range(field.type.num_fields):
        yield from _nested_fields(field.type.field(i))


def _extension_name(field: pa.Field[Any]) -> bytes | None:
    if isinstance(field.type, pa.BaseExtensionType):
        return field.type.extension_name.encode()
    return (field.metadata or {}).get(_EXTENSION_KEY)  # not registered here, so pyarrow shows its storage type


def _decoded(data_type: pa.DataType) -> pa.DataType:
    return data_type.value_type if isinstance(data_type, pa.DictionaryType) else data_type


def _is_string(data_type: pa.DataType) -> bool:
    return types.is_string(data_type) or types.is_large_string(data_type) or types.is_string_view(data_type)


def _holds_ids(data_type: pa.DataType) -> bool:
    decoded = _decoded(data_type)
    return types.is_integer(decoded) or _is_string(decoded)


def holds_vectors(data_type: pa.DataType) -> bool:
    """Tell whether a column of this type holds vectors: lists or one-dimensional tensors of floats."""
    if isinstance(data_type, pa.FixedShapeTensorType) and len(data_type.shape) != 1:
        return False
    return (
        isinstance(data_type, _LISTS) and types.is_floating(data_type.value_type) and _fixed_dimension(data_type) != 0
    )


def _holds_times(data_type: pa.DataType) -> bool:
    return types.is_timestamp(data_type) or types.is_date(data_type) or types.is_null(data_type)


def _holds_importances(data_type: pa.DataType) -> bool:
    return types.is_integer(data_type) or types.is_floating(data_type) or types.is_null(data_type)


def _holds_flags(data_type: pa.DataType) -> bool:
    return types.is_boolean(data_type) or types.is_null(data_type)


def _holds_texts(data_type: pa.DataType) -> bool:
    return _is_string(_decoded(data_type)) or types.is_null(data_type)


def _fixed_dimension(data_type: pa.DataType) -> int | None:
    if isinstance(data_type, pa.FixedShapeTensorType):
        return data_type.shape[0]
    return data_type.list_size if types.is_fixed_size_list(data_type) else None


_ACCEPTS = {
    "id": _holds_ids,
    "vector": holds_vectors,
    "time": _holds_times,
    "importance": _holds_importances,
    "evergreen": _holds_flags,
    "text": _holds_texts,
}
_ACCEPTED = {
    "id": "integers, strings and dictionaries of those",
    "vector": "lists (list, large_list, fixed_size_list) or one-dimensional fixed_shape_tensors of floats",
    "time": "timestamps and dates",
    "importance": "integers and floats",
    "evergreen": "booleans",
    "text": "strings and dictionaries of those",
}
