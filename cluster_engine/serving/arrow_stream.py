"""Arrow IPC streams from strangers: columns of known names and plain types, or a refusal that says why.

Takes uncompressed record batches only, and neither dictionaries nor nested types: bytes can then not claim more memory
than they have. Nothing that a stream says is run.
"""

from __future__ import annotations

import struct
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from cluster_engine.serving.problems import Fault, RequestError, unprocessable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cluster_engine.serving.models import Column

# What pyarrow raises on bytes that are truncated, corrupt or claim absurd sizes.
_FAILURES = (pa.ArrowException, OSError, MemoryError, UnicodeError, struct.error)
_MAX_BATCHES = 1_024  # chosen, not measured
_HEADER_FIELD, _COMPRESSION_FIELD = 2, 3  # of Message and of RecordBatch in Arrow's Message.fbs
_VTABLE_START = 4  # its own size and that of the table come first


def read_columns(content: bytes, rules: Mapping[str, Column]) -> dict[str, NDArray[Any]]:
    """Return the columns of a stream as arrays.

    Parameters
    ----------
    content : bytes
    rules : mapping of str to Column
        The columns that must be there, and no others.

    Returns
    -------
    dict of str to ndarray
        Ids as int64, of episodes also as str objects, numbers as float32, all of shape (m,), and vectors as float32
        of shape (m, d).

    Raises
    ------
    RequestError
        400 for what is no sound stream, 422 for columns that are not what they must be.
    """
    try:
        batches = list(_read_batches(content, rules))
    except _FAILURES as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RequestError(HTTPStatus.BAD_REQUEST, Fault(reason=f"not a sound Arrow stream: {reason}")) from None
    return {name: _array(name, [batch.column(name) for batch in batches], rule) for name, rule in rules.items()}


def write_columns(columns: Mapping[str, NDArray[Any] | Sequence[str]]) -> bytes:
    """Return columns as a stream of one batch; those of two axes become lists of a fixed size."""
    arrays = [
        pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), column.shape[1])
        if column.ndim == 2
        else pa.array(column)
        for column in map(np.asarray, columns.values())
    ]
    batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _read_batches(content: bytes, rules: Mapping[str, Column]) -> Iterator[pa.RecordBatch]:
    messages = iter(ipc.MessageReader.open_stream(pa.BufferReader(content)))
    first = next(messages, None)
    if first is None:
        raise pa.ArrowInvalid("it has no schema")
    schema = ipc.read_schema(first)
    _check_schema(schema, rules)
    for number, message in enumerate(messages):
        if number >= _MAX_BATCHES:
            raise unprocessable(f"more than {_MAX_BATCHES} record batches")
        if message.type != "record batch" or _is_compressed(message.metadata):
            raise pa.ArrowInvalid("send uncompressed record batches without dictionaries")
        batch = ipc.read_record_batch(message, schema)
        batch.validate(full=True)
        yield batch


def _check_schema(schema: pa.Schema, rules: Mapping[str, Column]) -> None:
    names = schema.names
    for name in names:
        if name not in rules:
            raise unprocessable(f"unknown column; known: {', '.join(rules)}", name[:80])
    for name, rule in rules.items():
        if names.count(name) != 1:
            raise unprocessable(f"wanted once, found {names.count(name)} times", name)
        kind = schema.field(name).type
        if not _is_legal(kind, rule):
            raise unprocessable(f"{str(kind)[:80]} cannot hold {_WANTED[rule.kind]}", name)


_WANTED = {
    "id": "ids (int64)",
    "episode": "ids (int64 or string)",
    "number": "numbers (float32)",
    "vector": "vectors (lists of float32)",
}


def _is_legal(kind: pa.DataType, rule: Column) -> bool:
    if rule.kind in ("id", "episode") and pa.types.is_integer(kind):
        return True
    if rule.kind == "episode":
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if rule.kind == "number":
        return pa.types.is_floating(kind)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.field(0).type))


def _is_compressed(metadata: pa.Buffer) -> bool:
    """Whether a record batch's message has compressed buffers, which pyarrow does not tell.

    Arrow has verified the flatbuffer by now. A table begins with the distance back to its vtable, which has the place
    of each field in the table, 0 or nothing for one that is absent.
    """
    (root,) = struct.unpack_from("<I", metadata, 0)
    place = _field(metadata, root, _HEADER_FIELD)
    header: int = place + struct.unpack_from("<I", metadata, place)[0]
    return _field(metadata, header, _COMPRESSION_FIELD) != header


def _field(metadata: pa.Buffer, table: int, number: int) -> int:
    """Return where a field of a table lies, or where the table lies if it lacks the field."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    (size_bytes,) = struct.unpack_from("<H", metadata, vtable)
    entry = _VTABLE_START + 2 * number
    return table + (struct.unpack_from("<H", metadata, vtable + entry)[0] if entry < size_bytes else 0)


def _array(name: str, parts: list[Any], rule: Column) -> NDArray[Any]:
    """Return the parts of a column as one array."""
    n_rows = sum(map(len, parts))
    if n_rows > rule.max_rows:
        raise unprocessable(f"{n_rows} rows; a request may have {rule.max_rows}", name)
    if not parts or (rule.kind == "vector" and not n_rows):
        raise unprocessable("no rows", name)
    row = 0
    for part in parts:
        if part.null_count:
            raise unprocessable("null", name, row + int(np.argmax(part.is_null().to_numpy(zero_copy_only=False))))
        row += len(part)
    if rule.kind == "vector":
        return _vectors(name, parts)
    if rule.kind == "episode" and not pa.types.is_integer(parts[0].type):
        return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])
    values = [part.to_numpy(zero_copy_only=False) for part in parts]
    if rule.kind == "number":
        with np.errstate(over="ignore"):
            return np.concatenate(values).astype(np.float32)
    for first, part in zip(np.cumsum([0, *map(len, values)]), values, strict=False):
        if part.dtype == np.uint64 and (part >> 63).any():
            raise unprocessable("does not fit into int64", name, int(first + np.argmax(part >> 63)))
    return np.concatenate([part.astype(np.int64) for part in values])


def _vectors(name: str, parts: list[Any]) -> NDArray[np.float32]:
    """Return lists of equal length as rows."""
    dimension, row, found = -1, 0, []
    for part in parts:
        lengths = np.asarray(part.value_lengths(), np.int64)
        if dimension < 0 and len(part):
            dimension = int(lengths[0])
        if (bad := np.flatnonzero(lengths != dimension)).size:
            reason = f"{lengths[bad[0]]} elements, but row 0 has {dimension}"
            raise unprocessable(reason, name, row + int(bad[0]))
        values = part.flatten()
        if values.null_count:
            at = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise unprocessable(f"item {at % dimension}: null", name, row + at // dimension)
        with np.errstate(over="ignore"):
            found.append(values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(part), dimension))
        row += len(part)
    return np.concatenate(found)
