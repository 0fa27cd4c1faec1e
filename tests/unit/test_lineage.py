"""Stories of concepts against a slow recursion over the journal, and cycles added up."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycles import JOURNAL, day, make_world

from cluster_engine.concepts.journal import CHANGE_KINDS
from cluster_engine.concepts.lineage import summarise_cycles, trace_concept


def slow_story(rows: list[dict[str, Any]], name: int, end: float, depth: int) -> dict[int, int]:
    """The rows of a concept from cycles before one, and all that they lead to, by their least depth."""
    found: dict[int, int] = {}
    for number, row in enumerate(rows):
        if row["concept_id"] != name or row["cycle"] >= end:
            continue
        stories = [{number: depth}]
        if row["kind"] != "absorbed":
            stories += [slow_story(rows, other, row["cycle"], depth + 1) for other in row["other_ids"]]
        for story in stories:
            for other, at in story.items():
                found[other] = min(at, found.get(other, at))
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_story_is_that_of_the_slow_recursion(seed: int) -> None:
    world = make_world(10, seed=seed, n_topics=5)
    rows = sorted(world.journal, key=lambda row: (row["cycle"], row["concept_id"]))  # as a cycle writes them
    journal = pa.Table.from_pylist(rows, JOURNAL)
    for name in {row["concept_id"] for row in rows}:
        want = slow_story(rows, name, math.inf, 0)
        story = trace_concept(journal, name)
        assert [(event.concept_id, event.kind, event.depth) for event in story] == [
            (rows[row]["concept_id"], rows[row]["kind"], want[row]) for row in sorted(want)
        ]


def entry(cycle: int, name: int, kind: str, *others: int, n: int = 0) -> dict[str, Any]:
    return {
        "cycle": cycle,
        "as_of": day(cycle),
        "slot": None,
        "concept_id": name,
        "kind": kind,
        "other_ids": others,
        "n_episodes": n,
        "reason": f"{kind}.",
    }


def test_what_another_does_after_it_was_left_is_not_part_of_the_story() -> None:
    rows = [
        entry(1, 1, "born", n=6),
        entry(2, 2, "split", 1, n=3),
        entry(2, 1, "shrank", n=-3),
        entry(3, 1, "grew", n=1),
        entry(4, 3, "born", n=3),
        entry(5, 2, "merged", 3, n=3),
        entry(5, 3, "absorbed", 2, n=-3),
    ]
    journal = pa.Table.from_pylist(rows, JOURNAL)
    story = [(event.cycle, event.concept_id, event.kind, event.depth) for event in trace_concept(journal, 2)]
    assert story == [(1, 1, "born", 1), (2, 2, "split", 0), (4, 3, "born", 1), (5, 2, "merged", 0)]
    assert [event.kind for event in trace_concept(journal, 3)] == ["born", "absorbed"]
    assert trace_concept(journal, 9) == []
    assert trace_concept(journal.slice(0, 0), 1) == []


def test_concepts_that_name_each_other_end() -> None:
    rows = [entry(1, 1, "merged", 2), entry(1, 2, "merged", 1), entry(2, 1, "merged", 2), entry(3, 2, "merged", 1)]
    story = trace_concept(pa.Table.from_pylist(rows, JOURNAL), 1)
    assert [(event.cycle, event.depth) for event in story] == [(1, 0), (1, 1), (2, 0)]


@pytest.mark.parametrize("seed", range(3))
def test_cycles_add_up(seed: int) -> None:
    world = make_world(9, seed=seed)
    found = summarise_cycles(pa.Table.from_pylist(world.journal, JOURNAL))
    assert [cycle.cycle for cycle in found] == list(range(1, 10))
    for cycle in found:
        rows = [row for row in world.journal if row["cycle"] == cycle.cycle]
        counts = {kind: sum(row["kind"] == kind for row in rows) for kind in CHANGE_KINDS}
        assert cycle.counts == {kind: n for kind, n in counts.items() if n}
        assert (cycle.as_of, cycle.slot) == (day(cycle.cycle), f"day {cycle.cycle}")
        assert cycle.n_gained == sum(row["n_episodes"] for row in rows if row["n_episodes"] > 0)
        assert cycle.n_lost == -sum(row["n_episodes"] for row in rows if row["n_episodes"] < 0)
    assert summarise_cycles(JOURNAL.empty_table()) == []
