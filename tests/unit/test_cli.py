"""The command line without Ray: what it reads, prints and refuses, and the code it exits with."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import answer, refusal, run
from hypothesis import given
from hypothesis import strategies as st
from store_tables import version_tables

from cluster_engine import errors
from cluster_engine.cli.batch import override_config
from cluster_engine.config import Config
from cluster_engine.errors import ConfigError
from cluster_engine.exit_codes import EXPECTED_ERRORS, exit_code_of
from cluster_engine.progress import Progress
from cluster_engine.store.commit import commit_version
from cluster_engine.terminal import JSON_INTERVAL_S, shorten, shown_progress

if TYPE_CHECKING:
    from pathlib import Path

# Three concepts in the plane, of 4, 3 and 2 episodes; 11 and 12 join first.
DIRECTIONS = {11: (1.0, 0.0), 12: (0.8, 0.6), 13: (0.0, 1.0)}
MEMBERS = {11: "abcd", 12: "efg", 13: "hi"}
STRENGTHS = dict(zip("abcdefghi", (0.5, 0.9, 0.5, 0.7, 0.8, 0.6, 0.7, 0.9, 0.8), strict=True))
DAYS = {episode: datetime(2026, 1, day, tzinfo=timezone.utc) for day, episode in enumerate("abcdefghi", start=1)}


def make_tables(n_concepts: int = 3, *, integer_ids: bool = False) -> dict[str, pa.Table]:
    name: Any = (lambda episode: ord(episode) - ord("a")) if integer_ids else (lambda episode: episode)
    concepts = list(MEMBERS)[:n_concepts]
    owners = {episode: concept for concept in MEMBERS for episode in MEMBERS[concept]}
    episodes = {
        "episode_id": [name(episode) for episode in owners],
        "time": pa.array([DAYS[episode] for episode in owners], pa.timestamp("us", "UTC")),
        "importance": pa.array([1.0] * len(owners), pa.float32()),
        "text": pa.array([f"text of {episode}" for episode in owners], pa.large_string()),
        "vector": pa.array([DIRECTIONS[concept] for concept in owners.values()], pa.list_(pa.float32(), 2)),
    }
    bound = [(concept, episode) for concept in concepts for episode in MEMBERS[concept]]
    n_nodes = max(0, n_concepts - 1)
    strengths = pa.array([STRENGTHS[episode] for _, episode in bound], pa.float32())
    return version_tables() | {
        "episodes": pa.table(episodes),
        "concepts": pa.table(
            {
                "concept_id": concepts,
                "state": ["active"] * n_concepts,
                "parent_id": pa.array([21, 21, 22][:n_concepts]),
                "n_episodes": [len(MEMBERS[concept]) for concept in concepts],
                "coherence": pa.array([0.9, 0.8, math.nan][:n_concepts], pa.float32()),
                "distance": [0.1, 0.2, 0.3][:n_concepts],
                "first_time": pa.array([DAYS[MEMBERS[c][0]] for c in concepts], pa.timestamp("us", "UTC")),
                "last_time": pa.array([DAYS[MEMBERS[c][-1]] for c in concepts], pa.timestamp("us", "UTC")),
                "exemplar_ids": [[name(MEMBERS[concept][0])] for concept in concepts],
                "exemplar_texts": [[f"text of {MEMBERS[concept][0]}", None] for concept in concepts],
                "centroid": pa.array([DIRECTIONS[c] for c in concepts], pa.list_(pa.float32(), 2)),
            }
        ),
        "bindings": pa.table(
            {
                "concept_id": pa.array([concept for concept, _ in bound], pa.int64()),
                "episode_id": pa.array([name(episode) for _, episode in bound]),
                "strength": strengths,
                "initial": strengths,
                "touched": pa.array([DAYS[episode] for _, episode in bound], pa.timestamp("us", "UTC")),
            }
        ),
        "hierarchy": pa.table(
            {
                "node_id": pa.array([21, 22][:n_nodes], pa.int64()),
                "left_id": pa.array([11, 13][:n_nodes], pa.int64()),
                "right_id": pa.array([12, 21][:n_nodes], pa.int64()),
                "distance": pa.array([0.5, 0.75][:n_nodes], pa.float64()),
                "n_episodes": pa.array([7, 9][:n_nodes], pa.int64()),
            }
        ),
    }


@pytest.fixture
def store(tmp_path: Path) -> str:
    path = str(tmp_path / "store")
    commit_version(path, make_tables(), slot="night 1")
    return path


class TestShow:
    def test_concepts_are_those_of_the_store_the_largest_first(
        self, store: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shown = answer(capsys, "show", "--store", store)
        assert (shown["version"], shown["slot"], shown["n_concepts"]) == (1, "night 1", 3)
        assert [concept["concept_id"] for concept in shown["concepts"]] == [11, 12, 13]
        assert shown["concepts"][0]["first_time"] == "2026-01-01T00:00:00+00:00"
        assert shown["concepts"][2]["coherence"] is None
        assert len(answer(capsys, "show", "--store", store, "--limit", 2)["concepts"]) == 2

    def test_people_see_size_span_and_exemplar(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = run(capsys, "show", "--store", store)
        assert code == 0
        row = next(line.split() for line in out.splitlines() if line.split()[0] == "11")
        assert row == ["11", "4", "0.90", "2026-01-01", "2026-01-04", "of", "text", "·", "text", "of", "a"]

    @pytest.mark.parametrize("integer_ids", [False, True])
    def test_a_concept_has_its_strongest_bindings_and_its_ancestors(
        self, integer_ids: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commit_version(tmp_path, make_tables(integer_ids=integer_ids))
        concept = answer(capsys, "show", "--store", tmp_path, 11)["concept"]
        bound = [(row["episode_id"], row["text"]) for row in concept["bindings"]]
        ids = {"a": 0, "b": 1, "c": 2, "d": 3} if integer_ids else {name: name for name in "abcd"}
        assert bound == [(ids[name], f"text of {name}") for name in "bdac"]
        assert [(row["node_id"], row["joined_concept_id"]) for row in concept["ancestors"]] == [(21, 12), (22, 13)]
        single = answer(capsys, "show", "--store", tmp_path, 13, "--limit", 1)["concept"]
        assert [row["text"] for row in single["bindings"]] == ["text of h"]
        assert [(row["joined_concept_id"], row["n_episodes"]) for row in single["ancestors"]] == [(11, 9)]
        assert run(capsys, "show", "--store", tmp_path, 11)[0] == 0

    def test_an_older_version(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        commit_version(store, make_tables(1))
        assert answer(capsys, "show", "--store", store)["n_concepts"] == 1
        assert answer(capsys, "show", "--store", store, "--version", 1)["n_concepts"] == 3

    def test_a_dendrogram_is_drawn_and_named(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "tree.png"
        shown = answer(capsys, "show", "--store", store, "--dendrogram", path)
        assert (shown["dendrogram"], shown["n_drawn"]) == (str(path), 3)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert str(path) in run(capsys, "show", "--store", store, "--dendrogram", path)[1]

    def test_the_tree_of_the_concepts_is_written(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "tree.nwk"
        shown = answer(capsys, "show", "--store", store, "--newick", path)
        assert (shown["newick"], shown["n_leaves"]) == (str(path), 3)
        assert path.read_text(encoding="utf-8") == "((11:0.5,12:0.5):0.25,13:0.75);\n"
        assert str(path) in run(capsys, "show", "--store", store, "--newick", path)[1]
        assert refusal(capsys, "show", "--store", store, "--newick", tmp_path / "no" / "tree.nwk")[0] == 2
        assert refusal(capsys, "show", "--store", store, "--newick", path, 11)[0] == 2

    def test_concepts_that_never_joined_are_trees_alone_unless_they_are_retired(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tables = make_tables()
        tables["hierarchy"] = tables["hierarchy"][:1]
        commit_version(tmp_path, tables)
        path = tmp_path / "tree.nwk"
        assert answer(capsys, "show", "--store", tmp_path, "--newick", path)["n_leaves"] == 3
        assert path.read_text(encoding="utf-8") == "(11:0.5,12:0.5);\n13;\n"
        retired = tables["concepts"].set_column(1, "state", pa.array(["retired"] * 3))
        commit_version(tmp_path, {"concepts": retired})
        assert answer(capsys, "show", "--store", tmp_path, "--newick", path)["n_leaves"] == 2
        assert path.read_text(encoding="utf-8") == "(11:0.5,12:0.5);\n"

    def test_what_cannot_be_shown_or_drawn_is_refused(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, text = refusal(capsys, "show", "--store", store, 99)
        assert (code, "no concept 99 in version 1" in text) == (3, True)
        assert refusal(capsys, "show", "--store", tmp_path / "none")[0] == 5
        assert refusal(capsys, "show", "--store", store, "--version", 7)[0] == 5
        code, text = refusal(capsys, "show", "--store", store, "--dendrogram", tmp_path / "tree.gif")
        assert (code, ".png, .svg, .pdf" in text) == (2, True)
        assert refusal(capsys, "show", "--store", store, "--dendrogram", tmp_path / "no" / "tree.png")[0] == 2
        commit_version(store, make_tables(1))
        assert refusal(capsys, "show", "--store", store, "--dendrogram", tmp_path / "tree.png")[0] == 3


class TestSearch:
    def test_every_kind_of_query_finds_the_concepts_by_cosine(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        query = np.array([3.0, 0.5])
        np.save(tmp_path / "flat.npy", query)
        np.save(tmp_path / "row.npy", query[np.newaxis].astype(np.float16))
        rows = pa.table({"v": pa.array([[0.0, 0.0], query.tolist()], pa.list_(pa.float64()))})
        pq.write_table(rows, tmp_path / "rows.parquet")
        cosines = {c: float(query @ d / np.linalg.norm(query)) for c, d in DIRECTIONS.items()}
        expected = sorted(cosines, key=lambda concept: -cosines[concept])
        for asked in (
            ["--vector-file", tmp_path / "flat.npy"],
            ["--vector-file", tmp_path / "row.npy"],
            ["--query-row", tmp_path / "rows.parquet", 1, "--vector-column", "v"],
        ):
            found = answer(capsys, "search", "--store", store, *asked)["concepts"]
            assert [concept["concept_id"] for concept in found] == expected
            assert [concept["similarity"] for concept in found] == pytest.approx(
                [cosines[c] for c in expected], abs=1e-6
            )
        assert len(answer(capsys, "search", "--store", store, *asked, "-k", 1)["concepts"]) == 1
        assert "0.986" in run(capsys, "search", "--store", store, *asked)[1]

    @pytest.mark.parametrize(("integer_ids", "like"), [(False, "f"), (True, "5")])
    def test_like_an_episode(
        self, integer_ids: bool, like: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        commit_version(tmp_path, make_tables(integer_ids=integer_ids))
        found = answer(capsys, "search", "--store", tmp_path, "--like", like)["concepts"]
        assert found[0]["concept_id"] == 12
        assert found[0]["similarity"] == pytest.approx(1, abs=1e-6)
        for absent in ("77", "zz", "-5", ""):
            assert refusal(capsys, "search", "--store", tmp_path, f"--like={absent}")[0] == 3

    def test_a_query_that_is_none_is_refused_with_its_file(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arrays: dict[str, Any] = {
            "three": np.zeros(3) + 1,
            "two_rows": np.ones((2, 2)),
            "scalar": np.float64(1),
            "zero": np.zeros(2),
            "nan": np.array([np.nan, 1]),
            "words": np.array(["a", "b"]),
            "objects": np.array([1, None]),
        }
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
            assert refusal(capsys, "search", "--store", store, "--vector-file", tmp_path / f"{name}.npy")[0] == 3, name
        (tmp_path / "empty.npy").write_bytes(b"")
        np.savez(tmp_path / "archive.npz", a=np.ones(2))
        for name in ("none.npy", "empty.npy", "archive.npz"):
            code, text = refusal(capsys, "search", "--store", store, "--vector-file", tmp_path / name)
            assert (code, name in text) == (3, True)

    def test_a_row_that_is_none_is_refused_with_its_number(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "rows.parquet"
        vectors = pa.array([[1.0, 0.0], None, [1.0, None]], pa.list_(pa.float32()))
        pq.write_table(pa.table({"vector": vectors, "text": ["a", "b", "c"]}), path)
        for row, words in (
            (-1, "no row -1; it has 3 rows"),
            (3, "no row 3"),
            (1, "row 1"),
            (2, "row 2, column 'vector': element 1 is nan"),
        ):
            code, text = refusal(capsys, "search", "--store", store, "--query-row", path, row)
            assert (code, words in text) == (3, True), text
        for column, words in (("vektor", "did you mean 'vector'"), ("text", "row 0")):
            code, text = refusal(capsys, "search", "--store", store, "--query-row", path, 0, "--vector-column", column)
            assert (code, words in text) == (3, True), text
        assert refusal(capsys, "search", "--store", store, "--query-row", tmp_path / "none", 0)[0] == 3

    def test_a_missing_column_is_named_by_the_option_that_the_refusal_says(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({"embedding": [[1.0, 0.0]]}), path)
        search = ["search", "--store", store, "--query-row", path, 0]
        consolidate = ["consolidate", "--store", tmp_path / "new", "--input", path]
        for command in (search, consolidate):
            code, _, text = run(capsys, *command)
            option = re.findall(r"with (--\S+),", text)
            assert (code, len(option)) == (3, 1), text
            assert "no column 'chosen'" in run(capsys, *command, *option, "chosen")[2]

    def test_one_query_is_asked_for(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert refusal(capsys, "search", "--store", store)[0] == 2
        assert refusal(capsys, "search", "--store", store, "--like", "a", "--vector-file", "b")[0] == 2


class TestConsolidate:
    def test_a_time_of_the_cycle_needs_a_zone(
        self, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pq.write_table(pa.table({"id": [1], "vector": [[1.0, 0.0]]}), tmp_path / "episodes.parquet")
        for time in ("2026-11-22T02:00", "yesterday"):
            asked = ["consolidate", "--input", tmp_path / "episodes.parquet", "--store", store, "--as-of", time]
            code, text = refusal(capsys, *asked)
            assert (code, f"--as-of {time}: not a time in ISO 8601 with a zone" in text) == (2, True)


class TestConfig:
    def test_options_replace_what_the_file_says(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text("cut:\n  n_groups: 7\n  min_episodes: 2\nfade:\n  law: power\nn_exemplars: 9\n")
        config = override_config(path, {"cut.distance": 0.5, "fade.floor": 0.5, "input.id": None})
        assert (config.cut.distance, config.cut.n_groups, config.cut.min_episodes) == (0.5, None, 2)
        assert (config.fade.law, config.fade.floor) == ("power", 0.5)
        assert (config.input, config.n_exemplars) == (Config().input, 9)
        assert override_config(path, {"cut.distance": None}).cut.n_groups == 7
        assert override_config(None, {}) == Config()

    @pytest.mark.parametrize(
        "options",
        [
            {"cut.distance": 0.5, "cut.n_groups": 3},
            {"fade.law": "manhattan"},
            {"cut.min_episodes": 0},
            {"input.dimension": -1},
        ],
    )
    def test_options_are_validated_like_a_file(self, options: dict[str, object]) -> None:
        with pytest.raises(ConfigError, match="command line"):
            override_config(None, options)

    @pytest.mark.parametrize(
        "option",
        [
            ["--groups", "0"],
            ["--distance", "1", "--groups", "2"],
            ["--config", "none.yaml"],
        ],
    )
    def test_a_bad_option_stops_a_batch_before_it_starts(
        self, option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store = tmp_path / "store"
        assert refusal(capsys, "consolidate", "--input", "x", "--store", store, *option)[0] == 2
        assert not store.exists()


class TestErrors:
    @pytest.mark.parametrize(
        ("args", "code"),
        [
            (["consolidate", "--store", "{tmp}/store"], 2),
            (["consolidate", "--input", "{tmp}/none", "--store", "{tmp}/store"], 3),
            (["consolidate", "--input", "{tmp}/none", "--store", "{tmp}/file"], 5),
            (["bogus"], 2),
            (["show", "--store", "{tmp}", "--bogus"], 2),
            (["show", "--store", "{tmp}", "not-a-number"], 2),
            (["search", "--store", "{tmp}", "--like", "a", "-k", "0"], 2),
        ],
    )
    def test_exit_codes(self, args: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").write_text("")
        got, out, err = run(capsys, *(arg.format(tmp=tmp_path) for arg in args))
        assert (got, out) == (code, "")
        assert err

    def test_every_error_of_the_package_has_an_exit_code(self) -> None:
        for name in vars(errors):
            kind = getattr(errors, name)
            if isinstance(kind, type) and issubclass(kind, errors.ClusterEngineError):
                if kind is errors.ClusterEngineError:
                    continue
                assert issubclass(kind, EXPECTED_ERRORS)
                assert 2 <= exit_code_of(kind("text")) <= 7

    def test_a_lease_that_another_run_holds_is_told_from_a_store_that_cannot_be_written(self) -> None:
        assert exit_code_of(errors.LeaseHeldError("text")) == 7
        assert exit_code_of(errors.CommitConflictError("text")) == exit_code_of(errors.StoreError("text")) == 5

    def test_an_error_is_one_line_and_its_traceback_a_question_of_debug(self, tmp_path: Path) -> None:
        def stderr(*options: str) -> str:
            command = [sys.executable, "-m", "cluster_engine.cli", *options, "show", "--store", str(tmp_path)]
            return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stderr

        assert stderr().count("\n") == 1
        assert "Traceback" in stderr("--debug")


def test_doctor_passes_here_and_fails_where_an_instruction_set_is_not_there() -> None:
    def diagnose(**variables: str) -> tuple[int, Any]:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        done = subprocess.run(
            [sys.executable, "-m", "cluster_engine.cli", "doctor", "--json"],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, json.loads(done.stdout)

    code, diagnosis = diagnose()
    assert (code, diagnosis["ok"]) == (0, True)
    assert {"ray", "processor", "instruction set", "memory", "numa cpus"} <= {c["subject"] for c in diagnosis["checks"]}
    code, diagnosis = diagnose(CLUSTER_ENGINE_ISA="sse9")
    assert (code, diagnosis["ok"]) == (1, False)
    assert [c["subject"] for c in diagnosis["checks"] if c["status"] == "broken"] == ["instruction set"]


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "version")
    assert code == 0
    assert out.split()[0] == "cluster-engine"


class TestProgress:
    def report(self, phase: str, done: int, elapsed_s: float, total: int = 100) -> Progress:
        return Progress(phase, done, total, elapsed_s, math.nan, 1 << 20)

    def test_lines_tell_each_phase_once_and_then_every_few_seconds(self) -> None:
        stream = io.StringIO()
        with shown_progress(stream) as reporter:
            for step in range(10_001):
                reporter(self.report("pairwise", step // 101, step * 1e-3))
            reporter(self.report("pairwise", 100, 10.002))
            reporter(self.report("linkage", 0, 0.0))
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        told = [(line["phase"], line["elapsed_s"]) for line in lines]
        assert told == [
            ("pairwise", 0.0),
            ("pairwise", JSON_INTERVAL_S),
            ("pairwise", 2 * JSON_INTERVAL_S),
            ("pairwise", 10.002),
            ("linkage", 0.0),
        ]
        assert lines[0]["remaining_s"] is None

    def test_a_terminal_gets_a_bar_a_phase(self) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        stream = Terminal()
        with shown_progress(stream) as reporter:
            for phase in ("pairwise", "linkage"):
                reporter(self.report(phase, 0, 0.0, total=0))
                reporter(self.report(phase, 100, 2.0))
        done = [line for line in stream.getvalue().splitlines() if "100%" in line and "1 MiB" in line]
        assert any("pairwise" in line for line in done)
        assert any("linkage" in line for line in done)


@given(text=st.text(max_size=60), width=st.integers(1, 40))
def test_a_shortened_text_is_one_printable_line_and_a_prefix(text: str, width: int) -> None:
    short = shorten(text, width)
    assert len(short) <= width
    assert short.isprintable()
    words = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    assert words.startswith(short.removesuffix("…").rstrip()) or short == words
