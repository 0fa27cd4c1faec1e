"""Damaged requests end in a typed refusal or in an answer, never in a crash, a hang or an unhandled error.

Run as a script, this file is the child process.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import json
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pyarrow as pa
from in_process_index import InProcessIndex
from mutation import child_outcomes, mutate, report_outcomes

from cluster_engine.serving.application import create_application
from cluster_engine.serving.bodies import ARROW, JSON

if TYPE_CHECKING:
    import random

DIMENSION = 4
ANSWER_WITHIN_S = 10
STATUSES = {"200", "400", "413", "415", "422"}
PARAMETERS = {
    "/v1/search": {"k": "2", "where": '[{"column": "n_episodes", "least": 1, "among": [1, 2, 3]}]'},
    "/v1/assign": {"where": '[{"column": "concept_id", "most": 9}]'},
    "/v1/spread": {"steps": "2", "fan_law": "log", "cutoff": "0.1"},
    "/v1/bind": {"op_id": "1"},
    "/v1/unbind": {"op_id": "2"},
    "/v1/set_centroids": {"op_id": "4"},
    "/v1/decay": {"op_id": "3"},
}
VECTORS = np.random.default_rng(0).standard_normal((3, DIMENSION)).astype(np.float32).tolist()
BODIES: dict[str, dict[str, Any]] = {
    "/v1/search": {"vector": VECTORS},
    "/v1/assign": {"vector": VECTORS},
    "/v1/spread": {"episodes": {"id": [1, 4], "activation": [0.5, 1.0]}, "concepts": {"id": [6], "activation": [0.25]}},
    "/v1/bind": {"concept_id": [1, 2, 2], "episode_id": [5, 6, 7], "strength": [0.5, 1.0, 0.0]},
    "/v1/unbind": {"concept_id": [1], "episode_id": [5]},
    "/v1/set_centroids": {"concept_id": [1, 2, 900], "vector": VECTORS},
    "/v1/decay": {"half_life_s": 3600.0, "dt_s": 60.0},
}
RECORDS = ("/v1/spread", "/v1/decay")  # bodies that are no tables, in JSON alone
HOSTILE = (
    "1e400", "-1e400", "1e308", "1e-400", "9" * 400, "9" * 5000, "-9223372036854775809", "18446744073709551616", "-0",
    "0.1e", "NaN", "Infinity", "null", "true", '"1"', '"\\ud800"', '"\\u0000"', "{}", "[]", "[" * 50_000,
    '{"a":' * 50_000, "[[[[1]]]]", "[null]", "\x00", '"' + "x" * 100_000 + '"', "[" + "0," * 50_000 + "0]",
)  # fmt: skip
VALUES: tuple[pa.Array[Any], ...] = (
    pa.nulls(3),
    pa.array([1, None, 3]),
    pa.array([True, False, True]),
    pa.array(["1", "2", "3"]),
    pa.array([b"1", b"2", b"3"]),
    pa.array(["1", "2", "3"]).dictionary_encode(),
    pa.array([1, 2, 3]).dictionary_encode(),
    pa.array([1.0, float("nan"), float("inf")]),
    pa.array([1e300, -1e300, 0.0]),
    pa.array([-(2**63), 2**63 - 1, 0]),
    pa.array([2**64 - 1, 0, 1], pa.uint64()),
    pa.array([decimal.Decimal(1)] * 3),
    pa.array([dt.date(2026, 1, 1)] * 3),
    pa.array([{"a": 1}] * 3),
    pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
    pa.array([[[1.0]]] * 3),
    pa.array([[1.0], [], [1.0, 2.0]]),
    pa.array([[], [], []], pa.list_(pa.float32())),
    pa.array([[]] * 3, pa.list_(pa.float32(), 0)),
    pa.array([["a"], ["b"], ["c"]]),
    pa.array([[1.0], None, [2.0]], pa.list_(pa.float64(), 1)),
    pa.array([uuid.UUID(int=0).bytes] * 3, pa.uuid()),
    pa.RunEndEncodedArray.from_arrays([3], [1.0]),
    pa.array([VECTORS[0]] * 3, pa.list_view(pa.float32())),
    pa.array(VECTORS, pa.list_(pa.float16(), DIMENSION)),
    pa.array([[1.0] * 100_000] * 3, pa.list_(pa.float32())),
    pa.array([], pa.int64()),
)  # fmt: skip


def test_damaged_requests_never_crash_the_service() -> None:
    outcomes = child_outcomes(__file__)
    assert {"200", "400", "422"} <= set(outcomes) <= STATUSES


def stream(columns: dict[str, Any], compression: str | None = None) -> bytes:
    n_rows = min(map(len, columns.values()))
    arrays = {
        name: (column if isinstance(column, pa.Array) else pa.array(column))[:n_rows]
        for name, column in columns.items()
    }
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def hostile_json(body: dict[str, Any], rng: random.Random) -> bytes:
    """Return a body with one value, of any depth, replaced by a text that may not even be JSON."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:  # noqa: ANN401  # any JSON
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    copy = json.loads(json.dumps(body))
    walk(copy)
    node, key = rng.choice(places)
    node[key] = "@"
    return json.dumps(copy).replace('"@"', rng.choice(HOSTILE)).encode("utf-8", "surrogatepass")


def hostile_stream(body: dict[str, Any], rng: random.Random) -> bytes:
    """Return a sound stream with one column replaced, renamed, doubled, missing or compressed."""
    columns = {name: values if isinstance(values, list) else [values] for name, values in body.items()}
    name = rng.choice(list(columns))
    kind = rng.choice(("replace", "replace", "replace", "rename", "drop", "compress"))
    if kind == "replace":
        columns[name] = rng.choice(VALUES)
    elif kind == "rename":
        columns[rng.choice(("", "id", "vector ", "\u0000", name * 50))] = columns.pop(name)
    elif kind == "drop":
        columns["more"] = columns.pop(name) if len(columns) == 1 else [1]
    return stream(columns, "zstd" if kind == "compress" else None)


def mutant_request(path: str, rng: random.Random) -> tuple[bytes, str]:
    """Return the content of a request, and its content type."""
    body = BODIES[path]
    is_arrow = path not in RECORDS and rng.random() < 0.5
    seed = stream(body) if is_arrow else json.dumps(body).encode()
    kind = rng.choice(("bytes", "bytes", "hostile", "splice", "type"))
    if kind == "bytes":
        content = mutate(seed, rng)
    elif kind == "hostile":
        content = hostile_stream(body, rng) if is_arrow else hostile_json(body, rng)
    elif kind == "splice":
        other = rng.choice(list(BODIES.values()))
        is_record = other in [BODIES[record] for record in RECORDS]
        donor = json.dumps(other).encode() if rng.random() < 0.5 or is_record else stream(other)
        content = seed[: rng.randrange(len(seed))] + donor[rng.randrange(len(donor)) :]
    else:
        content, is_arrow = seed, not is_arrow
    return content, ARROW if is_arrow else JSON


def mutant_parameters(path: str, rng: random.Random) -> dict[str, str]:
    """Return query parameters, one in eight with a damaged value."""
    parameters = dict(PARAMETERS[path])
    if parameters and rng.random() < 1 / 8:
        parameters[rng.choice(list(parameters))] = rng.choice(
            ("", "0", "-1", "9" * 5000, "1e3", "NaN", "\x00", "é", "1 ")
        )
    if "op_id" in parameters and rng.random() < 0.9:
        parameters["op_id"] = str(rng.randrange(-(2**63), 2**63))
    return parameters


async def ask(client: httpx.AsyncClient, path: str, content: bytes, kind: str, parameters: dict[str, str]) -> str:
    request = client.post(path, params=parameters, content=content, headers={"Content-Type": kind})
    answer = await asyncio.wait_for(request, ANSWER_WITHIN_S)
    if answer.status_code == 200:
        assert answer.headers["Content-Type"] == JSON
        answer.json()
    else:
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert len(answer.content) < 20_000
    return str(answer.status_code)


def main() -> None:
    index = InProcessIndex(np.arange(1, 9), np.random.default_rng(1).standard_normal((8, DIMENSION)).astype(np.float32))
    transport = httpx.ASGITransport(create_application(index, None))
    loop = asyncio.new_event_loop()
    client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    def outcome(number: int, rng: random.Random) -> str:
        path = list(BODIES)[number % len(BODIES)]
        return loop.run_until_complete(ask(client, path, *mutant_request(path, rng), mutant_parameters(path, rng)))

    for path, body in BODIES.items():
        assert loop.run_until_complete(ask(client, path, json.dumps(body).encode(), JSON, PARAMETERS[path])) == "200"
        if path not in RECORDS:
            fresh = PARAMETERS[path] | ({"op_id": "9"} if path == "/v1/bind" else {})
            assert loop.run_until_complete(ask(client, path, stream(body), ARROW, fresh)) == "200", path
    report_outcomes(outcome)
    loop.run_until_complete(client.aclose())
    loop.close()


if __name__ == "__main__":
    main()
