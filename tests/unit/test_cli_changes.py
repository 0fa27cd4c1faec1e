"""The commands that say how a store came to be what it is, on made-up histories."""

from __future__ import annotations

import json
import math
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from commands import answer, refusal, run
from lifecycles import World
from store_tables import version_tables

from cluster_engine.concepts.labels import label_concepts
from cluster_engine.progress import Phase, Published
from cluster_engine.store.commit import commit_version, restore_version
from cluster_engine.store.work import Work

if TYPE_CHECKING:
    from pathlib import Path


class Past:
    """A store of some cycles, a version each, and what was true at each of them."""

    def __init__(self, path: Path, n_cycles: int = 8, **settings: Any) -> None:  # noqa: ANN401  # fields of a World
        self.path = path
        self.world = World(**settings)
        self.tables: list[dict[str, pa.Table]] = []
        for _ in range(n_cycles):
            self.world.advance()
            self.tables.append(self.world.tables())
            tables = {"moments": version_tables()["moments"], **self.tables[-1]}
            commit_version(path, tables, slot=f"day {self.world.cycle}")


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path / "store")


class TestHistory:
    def test_the_versions(self, past: Past, capsys: pytest.CaptureFixture[str]) -> None:
        versions = answer(capsys, "history", "--store", past.path)["versions"]
        assert [(row["version"], row["slot"], row["n_concepts"]) for row in versions] == [
            (number, f"day {number}", tables["concepts"].num_rows) for number, tables in enumerate(past.tables, 1)
        ]
        assert len(answer(capsys, "history", "--store", past.path, "--limit", 3)["versions"]) == 3
        assert run(capsys, "history", "--store", past.path)[1].count("\n") == 9

    def test_what_each_cycle_changed(self, past: Past, capsys: pytest.CaptureFixture[str]) -> None:
        cycles = answer(capsys, "history", "--store", past.path, "--journal")["cycles"]
        assert [cycle["cycle"] for cycle in cycles] == list(range(1, 9))
        for cycle in cycles:
            kinds = [row["kind"] for row in past.world.journal if row["cycle"] == cycle["cycle"]]
            assert cycle["counts"] == {kind: kinds.count(kind) for kind in set(kinds)}
        out = run(capsys, "history", "--store", past.path, "--journal")[1]
        assert "what each cycle changed" in out
        older = answer(capsys, "history", "--store", past.path, "--journal", "--version", 3)
        assert [cycle["cycle"] for cycle in older["cycles"]] == [1, 2, 3]

    def test_every_change_of_a_cycle_with_its_reason(self, past: Past, capsys: pytest.CaptureFixture[str]) -> None:
        events = answer(capsys, "history", "--store", past.path, "--cycle", 5)["events"]
        rows = [row for row in past.world.journal if row["cycle"] == 5]
        assert [(event["concept_id"], event["kind"], event["reason"]) for event in events] == [
            (row["concept_id"], row["kind"], row["reason"]) for row in rows
        ]
        out = run(capsys, "history", "--store", past.path, "--cycle", 5)[1]
        assert str(rows[0]["concept_id"]) in out
        assert rows[0]["reason"] in out
        assert "1 of " in run(capsys, "history", "--store", past.path, "--cycle", 5, "--limit", 1)[1]
        code, text = refusal(capsys, "history", "--store", past.path, "--cycle", 99)
        assert (code, "no cycle 99" in text) == (3, True)


class TestExplain:
    def test_a_concept_with_its_story_label_and_neighbours(
        self, past: Past, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tables = past.tables[-1]
        concepts = {row["concept_id"]: row for row in tables["concepts"].to_pylist()}
        labels = label_concepts(tables["bindings"], tables["episodes"])
        for name, facts in list(concepts.items())[:8]:
            told = answer(capsys, "explain", name, "--store", past.path, "-k", 3)
            assert told["concept"]["label"] == list(labels[name])
            for column in ("state", "strength_ppm", "n_replays", "idle_cycles", "born_cycle", "exemplar_ids"):
                assert told["concept"][column] == facts[column]
            own = [(event["cycle"], event["kind"]) for event in told["story"] if event["depth"] == 0]
            assert own == [(row["cycle"], row["kind"]) for row in past.world.journal if row["concept_id"] == name]
            centroid = np.array(facts["centroid"])
            cosines = {other: float(centroid @ row["centroid"]) for other, row in concepts.items() if other != name}
            expected = sorted(cosines, key=lambda other: -cosines[other])[:3]
            assert [row["concept_id"] for row in told["nearest"]] == expected
            assert [row["similarity"] for row in told["nearest"]] == pytest.approx(
                [cosines[other] for other in expected], abs=1e-5
            )
            code, out, _ = run(capsys, "explain", name, "--store", past.path)
            assert code == 0
            assert " ".join(labels[name]) in out
            assert f"born in cycle {facts['born_cycle']}" in out

    def test_a_concept_that_is_no_more_says_where_it_went(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        past = Past(tmp_path / "store", 10)
        went = {row["concept_id"]: row["other_ids"][0] for row in past.world.journal if row["kind"] == "absorbed"}
        assert went
        for name in went:
            end = name
            while end in went:
                end = went[end]
            told = answer(capsys, "explain", name, "--store", past.path)
            assert (told["concept"], told["became"], told["nearest"]) == (None, end, [])
            assert told["story"][-1]["kind"] == "absorbed"
            out = run(capsys, "explain", name, "--store", past.path)[1]
            assert f"it is now part of {end}" in out

    def test_one_that_never_was_is_refused(self, past: Past, capsys: pytest.CaptureFixture[str]) -> None:
        code, text = refusal(capsys, "explain", 1, "--store", past.path)
        assert (code, "no concept 1 in version 8" in text) == (3, True)
        last = past.tables[-1]["concepts"].to_pylist()
        newest = next(row["concept_id"] for row in last if row["born_cycle"] == 8)
        assert refusal(capsys, "explain", newest, "--store", past.path, "--version", 7)[0] == 3

    def test_without_texts_a_concept_is_told_by_its_exemplars(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        past = Past(tmp_path / "store", 3, texts=False)
        row = past.tables[-1]["concepts"].to_pylist()[0]
        assert answer(capsys, "explain", row["concept_id"], "--store", past.path)["concept"]["label"] == []
        assert row["exemplar_ids"][0] in run(capsys, "explain", row["concept_id"], "--store", past.path)[1]


class TestDiff:
    def test_two_versions(self, past: Past, capsys: pytest.CaptureFixture[str]) -> None:
        found = answer(capsys, "diff", 3, 8, "--store", past.path)
        members = [
            {(row["concept_id"], row["episode_id"]) for row in past.tables[version - 1]["bindings"].to_pylist()}
            for version in (3, 8)
        ]
        assert found["versions"] == [3, 8]
        assert (found["before"]["bindings"], found["after"]["bindings"]) == tuple(map(len, members))
        assert sum(change["n_gained"] for change in found["changes"]) == len(members[1] - members[0])
        assert sum(change["n_lost"] for change in found["changes"]) == len(members[0] - members[1])
        born = {change["concept_id"] for change in found["changes"] if change["kind"] in {"born", "split"}}
        ids = [set(past.tables[version - 1]["concepts"]["concept_id"].to_pylist()) for version in (3, 8)]
        assert born == ids[1] - ids[0]
        out = run(capsys, "diff", 3, 8, "--store", past.path)[1]
        assert all(str(name) in out for name in born)
        assert "1 of " in run(capsys, "diff", 3, 8, "--store", past.path, "--limit", 1)[1]

    def test_an_undone_version_does_not_differ(self, past: Past, capsys: pytest.CaptureFixture[str]) -> None:
        restore_version(past.path, 7)
        found = answer(capsys, "diff", 7, 9, "--store", past.path)
        assert found["changes"] == []
        assert found["n_kept"] == past.tables[6]["concepts"].num_rows
        assert " 0 concepts changed" in run(capsys, "diff", 7, 9, "--store", past.path)[1]
        there, back = (answer(capsys, "diff", a, b, "--store", past.path) for a, b in ((7, 8), (8, 9)))
        assert (there["n_bound"], there["before"]) == (back["n_unbound"], back["after"])

    def test_a_version_that_is_not_there_is_refused(self, past: Past, capsys: pytest.CaptureFixture[str]) -> None:
        assert refusal(capsys, "diff", 1, 99, "--store", past.path)[0] == 5


@pytest.mark.parametrize("command", [("history", "--cycle", 2), ("diff", 1, 2), ("explain", 0), ("show",)])
def test_hostile_texts_are_shown_as_they_are(
    command: tuple[Any, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World()
    world.text = lambda _: "[bold]x[/bold] \x1b[31m [link=file:///]y"  # type: ignore[method-assign]
    world.advance()
    for _ in range(2):
        commit_version(tmp_path, {"moments": version_tables()["moments"], **world.tables()})
        world.advance()
    words = [*command]
    if command[0] == "explain":
        words[1] = next(row["concept_id"] for row in world.journal if row["kind"] == "born" and row["cycle"] == 1)
    code, out, err = run(capsys, *words, "--store", tmp_path)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "[bold]x[/bold]" in out


def test_a_number_that_is_none_is_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.advance()
    tables = world.tables()
    row = tables["concepts"].column_names.index("coherence")
    nothing = pa.array([math.nan] * tables["concepts"].num_rows, pa.float32())
    tables["concepts"] = tables["concepts"].set_column(row, "coherence", nothing)
    commit_version(tmp_path, {"moments": version_tables()["moments"], **tables})
    name = tables["concepts"]["concept_id"][0].as_py()
    told = answer(capsys, "explain", name, "--store", tmp_path)
    assert told["concept"]["coherence"] is None
    assert json.dumps(told)


WATCHER = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from cluster_engine.cli import main; main(sys.argv[1:])"
)


class TestTop:
    def test_nothing_runs(self, past: Past, capsys: pytest.CaptureFixture[str]) -> None:
        told = answer(capsys, "top", "--store", past.path)
        assert told["running"] is None
        assert [row["version"] for row in told["versions"]] == list(range(1, 9))
        code, out, _ = run(capsys, "top", "--store", past.path)  # no terminal: one picture
        assert code == 0
        assert "nothing runs on this store" in out
        assert answer(capsys, "top", "--store", past.path.parent / "none")["versions"] == []

    def test_a_batch_at_work_is_seen_from_outside(self, past: Past, capsys: pytest.CaptureFixture[str]) -> None:
        work = Work(str(past.path), "key")
        phase = Phase("linkage", 10, Published(work.publish_status, "night"))
        assert answer(capsys, "top", "--store", past.path)["running"]["phase"] == "linkage"
        told = answer(capsys, "top", "--store", past.path)["running"]
        assert (told["slot"], told["pid"], told["done"], told["total"]) == ("night", os.getpid(), 0, 10)
        assert (told["remaining_s"], told["is_gone"]) == (None, False)
        Phase("concepts", 3, phase.reporter).advance(2)
        out = run(capsys, "top", "--store", past.path, "--once")[1]
        assert "concepts" in out
        work.clear()
        assert answer(capsys, "top", "--store", past.path)["running"] is None

    def test_a_terminal_is_kept_up_to_date_until_ctrl_c(self, past: Past) -> None:
        parent, child = pty.openpty()
        command = [sys.executable, "-c", WATCHER, "top", "--store", str(past.path), "--interval", "0.1"]
        with subprocess.Popen(command, stdout=child, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as watcher:
            os.close(child)
            seen = b""
            while seen.count(b"nothing runs") < 2:
                seen += os.read(parent, 1 << 16)
            watcher.send_signal(signal.SIGINT)
            with suppress(OSError):  # how Linux tells that the other side of a terminal is closed
                while os.read(parent, 1 << 16):
                    pass
            assert (watcher.wait(timeout=60), watcher.stderr.read() if watcher.stderr else b"") == (0, b"")
        os.close(parent)
