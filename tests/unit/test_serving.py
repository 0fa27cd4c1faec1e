"""The HTTP application over an index in this process: what is asked for is what the index answers."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from asgi_client import AsgiClient, join_workers
from in_process_index import InProcessIndex

import native_simd
from cluster_engine.errors import (
    CapacityError,
    ClusterConnectionError,
    ClusterEngineError,
    CommitConflictError,
    PassError,
    ServiceError,
    StoreCorruptError,
    StoreError,
)
from cluster_engine.serving import models
from cluster_engine.serving.application import create_application
from cluster_engine.serving.bodies import ARROW, JSON
from cluster_engine.serving.tokens import read_digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

DIMENSION = 6
CONCEPTS = np.array([2**62 + 1, 5, -3, 9], np.int64)
TOKEN = "0123456789abcdef0123"  # noqa: S105  # of these tests alone


@pytest.fixture
def centroids() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).standard_normal((len(CONCEPTS), DIMENSION)).astype(np.float32)


@pytest.fixture
def index(centroids: np.ndarray[Any, np.dtype[np.float32]]) -> InProcessIndex:
    return InProcessIndex(CONCEPTS, centroids)


@pytest.fixture
def client(index: InProcessIndex) -> AsgiClient:
    return AsgiClient(create_application(index, None))


def stream(columns: dict[str, Any], **options: Any) -> bytes:  # noqa: ANN401
    batch = pa.RecordBatch.from_pydict(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def arrow_headers(**more: str) -> dict[str, str]:
    return {"Content-Type": ARROW, "Accept": ARROW} | more


def table(answer: httpx.Response) -> dict[str, list[Any]]:
    assert answer.headers["Content-Type"] == ARROW
    return pa.ipc.open_stream(answer.content).read_all().to_pydict()


def refusal(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem.keys() == {"type", "title", "status", "detail", "errors"}
    return problem


class TestAnswers:
    def test_search_is_that_of_the_index_in_both_formats(
        self, client: AsgiClient, centroids: np.ndarray[Any, np.dtype[np.float32]]
    ) -> None:
        queries = np.random.default_rng(2).standard_normal((3, DIMENSION)).astype(np.float32)
        unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, centroids)]
        cosines = unit[0] @ unit[1].T
        want = CONCEPTS[np.argsort(-cosines, axis=1)[:, :2]].tolist()
        answer = client.post("/v1/search?k=2", json={"vector": queries.tolist()})
        models.SearchAnswer.model_validate_json(answer.content, strict=True)
        assert answer.json()["concept_id"] == want
        np.testing.assert_allclose(answer.json()["similarity"], -np.sort(-cosines)[:, :2], atol=1e-6)
        vectors = pa.FixedSizeListArray.from_arrays(queries.ravel(), DIMENSION)
        for column in (vectors, vectors.cast(pa.list_(pa.float32())), vectors.cast(pa.large_list(pa.float64()))):
            same = client.post("/v1/search?k=2", content=stream({"vector": column}), headers=arrow_headers())
            assert table(same) == answer.json()

    def test_assign_tells_the_margin_to_the_next(self, client: AsgiClient) -> None:
        queries = np.random.default_rng(3).standard_normal((4, DIMENSION)).tolist()
        found = client.post("/v1/search?k=2", json={"vector": queries}).json()
        assigned = client.post("/v1/assign", json={"vector": queries}).json()
        assert assigned["concept_id"] == [row[0] for row in found["concept_id"]]
        np.testing.assert_allclose(assigned["margin"], [a - b for a, b in found["similarity"]], atol=1e-6)

    def test_conditions_choose_what_may_be_found(self, client: AsgiClient) -> None:
        queries = np.random.default_rng(4).standard_normal((2, DIMENSION)).tolist()
        for where, want in (
            ([{"column": "n_episodes", "least": 1}], [c for c in CONCEPTS.tolist() if c % 5 >= 1]),
            ([{"column": "n_episodes", "most": 3}, {"column": "concept_id", "among": [5, 9]}], [5]),
            ([{"column": "n_episodes", "least": 7}], []),
        ):
            asked = f"where={quote(json.dumps(where))}"
            found = client.post(f"/v1/search?{asked}", json={"vector": queries}).json()
            assert [sorted(row) for row in found["concept_id"]] == [sorted(want)] * 2
            assigned = client.post(f"/v1/assign?{asked}", json={"vector": queries}).json()
            assert assigned["concept_id"] == [row[0] if row else -1 for row in found["concept_id"]]
            assert [similarity is None for similarity in assigned["similarity"]] == [not want] * 2

    def test_a_concept_is_found_where_its_centroid_was_set(self, client: AsgiClient) -> None:
        there = np.eye(DIMENSION)[:2].tolist()
        body = {"concept_id": [9, 777], "vector": there}
        assert client.post("/v1/set_centroids?op_id=1", json=body).json() == {"applied": True}
        found = client.post("/v1/search?k=1", json={"vector": there}).json()
        assert found == {"concept_id": [[9], [777]], "similarity": [[1.0], [1.0]]}
        columns = {"concept_id": pa.array([777]), "vector": pa.array(there[:1], pa.list_(pa.float32()))}
        assert client.post("/v1/set_centroids?op_id=2", content=stream(columns), headers=arrow_headers()).json()
        assert client.post("/v1/search?k=1", json={"vector": there[:1]}).json()["concept_id"] == [[9]]

    def test_the_only_concept_has_no_margin(self) -> None:
        client = AsgiClient(create_application(InProcessIndex(CONCEPTS[:1], np.ones((1, 2), np.float32)), None))
        answer = client.post("/v1/assign", json={"vector": [[1, 0]]})
        assert answer.json()["margin"] == [None]
        models.AssignAnswer.model_validate_json(answer.content, strict=True)
        arrow = client.post("/v1/assign", json={"vector": [[1, 0]]}, headers={"Accept": ARROW})
        assert math.isnan(table(arrow)["margin"][0])

    def test_spread_passes_cues_steps_and_law_on(self, client: AsgiClient, index: InProcessIndex) -> None:
        body = {"episodes": {"id": [11, 4], "activation": [0.5, 1.0]}, "concepts": {"id": [2], "activation": [0.25]}}
        answer = client.post("/v1/spread?steps=5&fan_law=linear&half_lives=0.5&cutoff=0.1&k=7", json=body)
        assert answer.json() == body  # this index's spread returns the cues
        assert index.asked == {"steps": 5, "fan_law": "linear", "half_lives": 0.5, "cutoff": 0.1, "k": 7}
        models.SpreadAnswer.model_validate_json(answer.content, strict=True)
        some = client.post("/v1/spread", json={"concepts": body["concepts"]}).json()
        assert some == {"episodes": {"id": [], "activation": []}, "concepts": body["concepts"]}

    def test_a_binding_made_is_found_from_both_ends_and_counts_once(self, client: AsgiClient) -> None:
        columns = {"concept_id": [5, 5, 9], "episode_id": [1, 2**63 - 1, 1], "strength": [0.25, 1.0, 0.5]}
        made = [client.post("/v1/bind?op_id=-7", json=columns).json() for _ in range(2)]
        assert made == [{"applied": True}, {"applied": False}]
        assert client.get("/v1/episodes_of?concept_id=5").json() == {
            "episode_id": [2**63 - 1, 1],
            "strength": [1.0, 0.25],
        }
        assert client.get("/v1/episodes_of?concept_id=5&k=1").json()["episode_id"] == [2**63 - 1]
        assert client.get("/v1/episodes_of?concept_id=5&min_strength=0.3").json()["episode_id"] == [2**63 - 1]
        arrow = client.get("/v1/concepts_of?episode_id=1", headers={"Accept": ARROW})
        assert table(arrow) == {"concept_id": [9, 5], "strength": [0.5, 0.25]}
        assert client.get("/v1/concepts_of?episode_id=404").json() == {"concept_id": [], "strength": []}
        assert client.post("/v1/decay?op_id=8", json={"half_life_s": 10, "dt_s": 10}).json() == {"applied": True}
        assert client.get("/v1/concepts_of?episode_id=1").json()["strength"] == [0.25, 0.125]
        pairs = {"concept_id": pa.array([5], pa.uint16()), "episode_id": [1]}
        assert client.post("/v1/unbind?op_id=9", content=stream(pairs), headers=arrow_headers()).json()["applied"]
        assert client.get("/v1/concepts_of?episode_id=1").json()["concept_id"] == [9]

    def test_episodes_may_be_named_by_strings(self, index: InProcessIndex, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []

        def bind(*columns: Any, op_id: int) -> bool:  # noqa: ANN401
            asked.append([column.tolist() for column in columns])
            return True

        def concepts_of(episode_id: object, *_args: object, **_more: object) -> Any:  # noqa: ANN401
            asked.append(episode_id)
            return np.array([4]), np.array([0.5], np.float32)

        def episodes_of(*_args: object, **_more: object) -> Any:  # noqa: ANN401
            return ["b/1?", "ü"], np.array([1.0, 0.5], np.float32)

        monkeypatch.setattr(index, "is_string_ids", True)
        monkeypatch.setattr(index, "bind", bind)
        monkeypatch.setattr(index, "concepts_of", concepts_of)
        monkeypatch.setattr(index, "episodes_of", episodes_of)
        client = AsgiClient(create_application(index, None))
        columns = {"concept_id": [5, 5], "episode_id": ["b/1?", "ü"], "strength": [0.5, 1.0]}
        assert client.post("/v1/bind?op_id=1", json=columns).json() == {"applied": True}
        assert client.post("/v1/bind?op_id=1", content=stream(columns), headers=arrow_headers()).status_code == 200
        assert client.get("/v1/concepts_of", params={"episode_id": "b/1?"}).json() == {
            "concept_id": [4],
            "strength": [0.5],
        }
        assert asked == [list(columns.values())] * 2 + ["b/1?"]
        assert client.get("/v1/episodes_of?concept_id=5").json()["episode_id"] == ["b/1?", "ü"]
        arrow = client.get("/v1/episodes_of?concept_id=5", headers={"Accept": ARROW})
        assert table(arrow)["episode_id"] == ["b/1?", "ü"]
        for numbers in (
            {"json": columns | {"episode_id": [1, 2]}},
            {"content": stream(columns | {"episode_id": [1, 2]})},
        ):
            headers = arrow_headers() if "content" in numbers else {}
            refused = client.post("/v1/bind?op_id=2", headers=headers, **numbers)
            assert "strings" in refusal(refused, 422)["errors"][0]["reason"]

    def test_probes(self, client: AsgiClient) -> None:
        assert client.get("/health").json() == {"status": "alive"}
        assert client.get("/ready").json() == {"status": "ready", "version": 7}


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "body", "field", "row", "words"),
        [
            ("/v1/search", {"vector": [[1.0] * 6, [1.0, "a"]]}, "vector", 1, "item 1: "),
            ("/v1/search", {"vector": [[1.0] * 6, [1.0]]}, "vector", 1, "1 elements, but row 0 has 6"),
            ("/v1/search", {"vector": [[1.0] * 5]}, None, None, "(q, 6)"),
            ("/v1/search", {"vector": [[1.0] * 6, [0.0] * 6]}, None, None, "row 1"),
            ("/v1/search", {"vector": [[1.0] * 6, [1e300] * 6]}, None, None, "row 1"),
            ("/v1/search", {"vector": []}, "vector", None, "no rows"),
            ("/v1/search", {"vector": [[]]}, "vector", 0, "at least 1"),
            ("/v1/search", {"vector": [[1.0] * (models.MAX_DIMENSION + 1)]}, "vector", 0, "at most 16384"),
            ("/v1/search", {"vector": [[1.0]] * (models.MAX_QUERIES + 1)}, "vector", None, "at most 1024"),
            ("/v1/search", {}, "vector", None, "required"),
            ("/v1/search", {"vector": [[1.0] * 6], "k": 3}, "k", None, "not permitted"),
            ("/v1/search?k=0", {"vector": [[1.0] * 6]}, "k", None, "greater than"),
            ("/v1/search?k=1001", {"vector": [[1.0] * 6]}, "k", None, "less than or equal to 1000"),
            ("/v1/search?n=1", {"vector": [[1.0] * 6]}, "n", None, "not permitted"),
            ("/v1/search?where=[", {"vector": [[1.0] * 6]}, "where", None, "JSON"),
            ("/v1/search?where={}", {"vector": [[1.0] * 6]}, "where", None, "list"),
            ('/v1/search?where=[{"column":"a"}]', {"vector": [[1.0] * 6]}, "where", None, "needs least, most or among"),
            ('/v1/search?where=[{"column":"a","least":1}]', {"vector": [[1.0] * 6]}, None, None, "no column 'a'"),
            ('/v1/assign?where=[{"column":"n_episodes","most":"a"}]', {"vector": [[1.0] * 6]}, None, None, "int64"),
            ('/v1/assign?where=[{"column":"a","x":1}]', {"vector": [[1.0] * 6]}, "where", 0, "not permitted"),
            (
                "/v1/set_centroids?op_id=1",
                {"concept_id": [1, 1], "vector": [[1.0] * 6] * 2},
                None,
                None,
                "occurs twice",
            ),
            ("/v1/set_centroids?op_id=1", {"concept_id": [1], "vector": [[0.0] * 6]}, None, None, "row 0"),
            ("/v1/set_centroids?op_id=1", {"concept_id": [1], "vector": [[1.0] * 5]}, None, None, "(1, 6)"),
            ("/v1/set_centroids?op_id=1", {"concept_id": [], "vector": [[1.0] * 6]}, "vector", None, "1 rows"),
            ("/v1/spread?steps=17", {}, "steps", None, "16"),
            ("/v1/spread?fan_law=cube", {}, "fan_law", None, "sqrt"),
            ("/v1/spread", {"concepts": {"id": [3, 3], "activation": [1, 1]}}, "concepts.id", 1, "3 comes twice"),
            ("/v1/spread", {"concepts": {"id": [3], "activation": []}}, "concepts.activation", None, "0 rows"),
            ("/v1/spread", {"concepts": {"id": [1, 2.5], "activation": [1, 1]}}, "concepts.id", 1, "integer"),
            ("/v1/spread", {"episodes": {"id": ["a"], "activation": [1]}}, "episodes.id", 0, "integers"),
            ("/v1/unbind?op_id=1", {"concept_id": [1], "episode_id": ["a"]}, "episode_id", 0, "integers"),
            (
                "/v1/unbind?op_id=1",
                {"concept_id": [1, 2], "episode_id": [1, "a"]},
                "episode_id",
                1,
                "str, but row 0 is int",
            ),
            ("/v1/bind", {"concept_id": [1], "episode_id": [1], "strength": [0.5]}, "op_id", None, "required"),
            (
                "/v1/bind?op_id=1",
                {"concept_id": [1, 2**63], "episode_id": [1, 2], "strength": [0.5, 0.5]},
                "concept_id",
                1,
                "less than",
            ),
            (
                "/v1/bind?op_id=1",
                {"concept_id": [1, 2], "episode_id": [1], "strength": [0.5, 0.5]},
                "episode_id",
                None,
                "1 rows, but concept_id has 2",
            ),
            (
                "/v1/bind?op_id=1",
                {"concept_id": [1, 2], "episode_id": [1, 2], "strength": [0.5, 1.5]},
                None,
                None,
                "1",
            ),
            ("/v1/decay?op_id=1", {"half_life_s": 0, "dt_s": 1}, "half_life_s", None, "greater than 0"),
        ],
    )
    def test_what_is_wrong_is_named(  # noqa: PLR0917  # a case
        self, client: AsgiClient, path: str, body: object, field: str | None, row: int | None, words: str
    ) -> None:
        (fault,) = refusal(client.post(path, json=body), 422)["errors"]
        assert (fault["field"], fault["row"]) == (field, row)
        assert words in fault["reason"]

    @pytest.mark.parametrize(
        ("columns", "field", "row", "words"),
        [
            ({"vector": pa.array([[1.0], None])}, "vector", 1, "null"),
            ({"vector": pa.array([[1.0, 2.0], [1.0]])}, "vector", 1, "1 elements"),
            ({"vector": pa.array([[1.0, 2.0], [1.0, None]])}, "vector", 1, "item 1: null"),
            ({"vector": pa.array([1.0])}, "vector", None, "cannot hold vectors"),
            ({"vector": pa.array([["1"]])}, "vector", None, "cannot hold vectors"),
            ({"vector": pa.array(["1"]).dictionary_encode()}, "vector", None, "cannot hold vectors"),
            ({"vector": pa.array([], pa.list_(pa.float32()))}, "vector", None, "no rows"),
            ({"vector": pa.array([[1.0]] * 1025)}, "vector", None, "1025 rows"),
            ({"vectors": pa.array([[1.0]])}, "vectors", None, "unknown column"),
        ],
    )
    def test_what_is_wrong_in_an_arrow_body_is_named(
        self, client: AsgiClient, columns: dict[str, Any], field: str, row: int | None, words: str
    ) -> None:
        answer = client.post("/v1/search", content=stream(columns), headers=arrow_headers())
        (fault,) = refusal(answer, 422)["errors"]
        assert (fault["field"], fault["row"]) == (field, row)
        assert words in fault["reason"]

    def test_ids_must_fit(self, client: AsgiClient) -> None:
        ids = {"concept_id": pa.array([1, 2**63], pa.uint64()), "episode_id": [1, 2]}
        answer = client.post("/v1/unbind?op_id=1", content=stream(ids), headers=arrow_headers())
        assert refusal(answer, 422)["errors"][0]["row"] == 1

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"nonsense",
            b"\xff\xff\xff\xff\x00\x00\x00\x00",  # the end of a stream
            stream({"vector": [[1.0]]})[:-30],
            stream({"vector": [[1.0] * 999]}, compression="zstd"),
            stream({"vector": [[1.0] * 999]}, compression="lz4"),
        ],
    )
    def test_what_is_no_plain_stream_is_malformed(self, client: AsgiClient, content: bytes) -> None:
        refusal(client.post("/v1/search", content=content, headers=arrow_headers()), 400)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"vector": NaN', b'{"vector": [[1e9']
    )
    def test_what_is_no_json_is_malformed(self, client: AsgiClient, content: bytes) -> None:
        refusal(client.post("/v1/search", content=content, headers={"Content-Type": JSON}), 400)

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Content-Type": "text/plain"}, 415),
            ({"Content-Type": ""}, 415),
            ({"Content-Type": JSON, "Content-Encoding": "gzip"}, 415),
            ({"Content-Type": JSON, "Accept": "text/html"}, 406),
            ({"Content-Type": f"{JSON}; charset=utf-8", "Accept": "text/html, */*;q=0.1"}, 200),
        ],
    )
    def test_formats(self, client: AsgiClient, headers: dict[str, str], status: int) -> None:
        answer = client.post("/v1/search", content=b'{"vector": [[1, 0, 0, 0, 0, 0]]}', headers=headers)
        if status == 200:
            assert answer.status_code == 200
        else:
            refusal(answer, status)

    def test_decay_takes_no_arrow(self, client: AsgiClient) -> None:
        refusal(client.post("/v1/decay?op_id=1", content=b"", headers=arrow_headers()), 415)

    @pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/search", 405)])
    def test_routes(self, client: AsgiClient, method: str, path: str, status: int) -> None:
        refusal(client.request(method, path), status)

    def test_no_more_is_read_than_allowed(self, index: InProcessIndex) -> None:
        n_parts = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal n_parts
            while True:
                n_parts += 1
                yield bytes(1 << 20)

        client = AsgiClient(create_application(index, None), Content_Type=JSON)
        sent = b" " * (models.MAX_BODY_BYTES + 1)
        refusal(client.post("/v1/search", content=sent), 413)
        received: list[dict[str, Any]] = []
        parts = endless()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(parts), "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            received.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/search",
            "raw_path": b"/v1/search",
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", JSON.encode())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        asyncio.run(create_application(index, None)(scope, receive, send))  # type: ignore[arg-type]
        join_workers()
        assert received[0]["status"] == 413
        assert n_parts == models.MAX_BODY_BYTES // (1 << 20) + 1


class TestTokens:
    @pytest.fixture
    def guarded(self, index: InProcessIndex, tmp_path: Path) -> AsgiClient:
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        return AsgiClient(create_application(index, read_digest(tmp_path / "token")))

    def test_the_right_token_is_asked_for(self, guarded: AsgiClient, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        path = "/v1/episodes_of?concept_id=5"
        missing = guarded.get(path)
        refusal(missing, 401)
        assert missing.headers["WWW-Authenticate"] == "Bearer"
        refusal(guarded.get(path, headers={"Authorization": f"Basic {TOKEN}"}), 401)
        for wrong in ("nonsense", TOKEN[:-1], f"{TOKEN}0", "é"):
            refused = guarded.get(path, headers={"Authorization": f"Bearer {wrong}".encode("latin-1")})  # type: ignore[dict-item]
            refusal(refused, 403)
            assert wrong not in refused.text
        for base_url in ("http://127.0.0.1", "http://memory.example"):
            right = guarded.get(path, headers={"Authorization": f"bearer {TOKEN}"}, base_url=base_url)
            assert right.status_code == 200
        assert TOKEN not in caplog.text

    def test_a_body_is_not_read_for_a_stranger(self, guarded: AsgiClient) -> None:
        refusal(guarded.post("/v1/search", content=b"nonsense", headers={"Content-Type": "text/plain"}), 401)

    def test_probes_need_none(self, guarded: AsgiClient) -> None:
        assert [guarded.get(path).status_code for path in ("/health", "/ready", "/openapi.json")] == [200, 200, 200]

    @pytest.mark.parametrize(
        ("base_url", "status"),
        [
            ("http://localhost:8000", 200),
            ("http://[::1]", 200),
            ("http://memory.example", 403),
            ("http://10.0.0.1", 403),
        ],
    )
    def test_without_a_token_only_this_host_is_answered(self, client: AsgiClient, base_url: str, status: int) -> None:
        assert client.get("/v1/episodes_of?concept_id=5", base_url=base_url).status_code == status


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (CapacityError("needs 9 bytes"), 413),
            (ClusterConnectionError("no cluster"), 503),
            (CommitConflictError("taken"), 409),
            (PassError("no actor is left"), 503),
            (ServiceError("stopped"), 503),
            (StoreCorruptError("a byte flipped"), 503),
            (StoreError("gone"), 503),
            (ValueError("row 3: above 1"), 422),
            (native_simd.RowError(3, "above 1"), 422),
        ],
    )
    def test_the_engine_says_which_status(
        self, index: InProcessIndex, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
    ) -> None:
        def fail(*_args: object, **_more: object) -> None:
            raise error

        monkeypatch.setattr(index, "concepts_of", fail)
        problem = refusal(AsgiClient(create_application(index, None)).get("/v1/concepts_of?episode_id=1"), status)
        assert problem["detail"] == str(error)

    @pytest.mark.parametrize("error", [ClusterEngineError("secret"), RuntimeError("secret"), KeyError("secret")])
    def test_a_defect_is_not_told(
        self, index: InProcessIndex, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail(*_args: object, **_more: object) -> None:
            raise error

        monkeypatch.setattr(index, "statistics", fail)
        sent: list[dict[str, Any]] = []

        async def ask() -> None:
            async def receive() -> dict[str, Any]:
                return {"type": "http.request"}

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "GET", "path": "/ready", "query_string": b"", "headers": []}
            await create_application(index, None)(scope, receive, send)  # type: ignore[arg-type]

        try:
            asyncio.run(ask())
        except type(error):
            pass  # raised again for the server's log
        join_workers()
        assert sent[0]["status"] == 500
        assert b"secret" not in sent[1]["body"]


def test_the_schema_describes_every_route(client: AsgiClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/health",
        "/ready",
        "/v1/search",
        "/v1/assign",
        "/v1/spread",
        "/v1/bind",
        "/v1/unbind",
        "/v1/set_centroids",
        "/v1/decay",
        "/v1/episodes_of",
        "/v1/concepts_of",
    }
    content = schema["paths"]["/v1/search"]["post"]["requestBody"]["content"]
    assert set(content) == {JSON, ARROW}
    vectors = content[JSON]["schema"]["properties"]["vector"]
    assert (vectors["maxItems"], vectors["items"]["maxItems"]) == (models.MAX_QUERIES, models.MAX_DIMENSION)
    assert content[JSON]["schema"]["additionalProperties"] is False
    answers = schema["paths"]["/v1/search"]["post"]["responses"]
    assert {"200", "400", "401", "403", "413", "415", "422"} <= set(answers)
    assert "application/problem+json" in answers["422"]["content"]
