"""Differences between versions against brute force, over made-up histories."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycles import World, make_world

from cluster_engine.concepts.difference import Difference, diff_concepts

Bindings = set[tuple[int, int]]


def brute_force(before: Bindings, after: Bindings) -> dict[str, object]:
    """Compare set by set, episode by episode."""

    def members(bindings: Bindings, name: int) -> set[int]:
        return {episode for concept, episode in bindings if concept == name}

    def homes(bindings: Bindings, episode: int) -> set[int]:
        return {concept for concept, other in bindings if other == episode}

    names = {name for name, _ in before | after}
    episodes = {episode for _, episode in before | after}
    flows: dict[tuple[int, int], int] = {}
    n_moved = 0
    for episode in episodes:
        lost, gained = (homes(x, episode) - homes(y, episode) for x, y in ((before, after), (after, before)))
        n_moved += bool(lost and gained)
        for source in lost:
            for target in gained:
                flows[source, target] = flows.get((source, target), 0) + 1
    return {
        "sizes": {
            name: (
                len(members(before, name)),
                len(members(after, name)),
                len(members(after, name) - members(before, name)),
                len(members(before, name) - members(after, name)),
            )
            for name in names
        },
        "flows": flows,
        "n_bound": sum(not homes(before, e) and bool(homes(after, e)) for e in episodes),
        "n_unbound": sum(bool(homes(before, e)) and not homes(after, e) for e in episodes),
        "n_moved": n_moved,
    }


def as_tables(bindings: Bindings, *, text: bool = False) -> dict[str, pa.Table]:
    names = sorted({name for name, _ in bindings})
    pairs = sorted(bindings)
    kind = pa.string() if text else pa.int64()
    return {
        "concepts": pa.table(
            {
                "concept_id": pa.array(names, pa.int64()),
                "state": pa.array(["active"] * len(names), pa.string()),
                "strength_ppm": pa.array([1] * len(names), pa.int64()),
            }
        ),
        "bindings": pa.table(
            {
                "concept_id": pa.array([name for name, _ in pairs], pa.int64()),
                "episode_id": pa.array([episode for _, episode in pairs], pa.int64()).cast(kind),
            }
        ),
    }


some_bindings = st.sets(st.tuples(st.integers(1, 5), st.integers(0, 12)), max_size=25)


@given(some_bindings, some_bindings, st.booleans())
def test_a_difference_is_that_of_brute_force(before: Bindings, after: Bindings, text: bool) -> None:
    want = brute_force(before, after)
    found = diff_concepts(as_tables(before, text=text), as_tables(after, text=text))
    changed = {name: sizes for name, sizes in want["sizes"].items() if sizes[2] or sizes[3]}  # type: ignore[attr-defined]
    assert {c.concept_id: (c.n_before, c.n_after, c.n_gained, c.n_lost) for c in found.changes} == changed
    assert found.n_kept == len(want["sizes"]) - len(changed)  # type: ignore[arg-type]
    assert {(flow.from_id, flow.to_id): flow.n_episodes for flow in found.flows} == want["flows"]
    assert (found.n_bound, found.n_unbound, found.n_moved) == (want["n_bound"], want["n_unbound"], want["n_moved"])
    for change in found.changes:
        n_before, n_after, gained, lost = changed[change.concept_id]
        if n_before and n_after:
            kind = "grown" if gained > lost else "shrunk" if gained < lost else "exchanged"
            assert (change.kind, change.other_id) == (kind, None)
        elif change.other_id is None:
            assert change.kind == ("born" if n_after else "gone")
        else:
            link = (change.concept_id, change.other_id)
            moved = found_flow(found, *(link if n_before else link[::-1]))
            assert change.kind == ("absorbed" if n_before else "split")
            assert 2 * moved > max(n_before, n_after)


def found_flow(found: Difference, source: int, target: int) -> int:
    return next(flow.n_episodes for flow in found.flows if (flow.from_id, flow.to_id) == (source, target))


@given(some_bindings, some_bindings)
def test_the_way_back_is_the_mirror_image(before: Bindings, after: Bindings) -> None:
    there, back = diff_concepts(as_tables(before), as_tables(after)), diff_concepts(as_tables(after), as_tables(before))
    opposite = {"born": "gone", "split": "absorbed", "grown": "shrunk", "exchanged": "exchanged"}
    opposite |= {value: key for key, value in opposite.items()}
    assert {(c.concept_id, opposite[c.kind], c.other_id) for c in there.changes} == {
        (c.concept_id, c.kind, c.other_id) for c in back.changes
    }
    assert (there.before, there.n_bound, there.n_unbound, there.n_moved) == (
        back.after,
        back.n_unbound,
        back.n_bound,
        back.n_moved,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_a_cycle_differs_by_what_its_journal_says(seed: int, string_ids: bool) -> None:
    world = make_world(6, seed=seed, string_ids=string_ids)
    before, n_rows = world.tables(), len(world.journal)
    states = {name: life.state for name, life in world.lives.items()}
    world.advance(births=2, growths=3, merges=0, splits=1, retirements=2)
    found = diff_concepts(before, world.tables())
    said = [(row["kind"], row["concept_id"], tuple(row["other_ids"])) for row in world.journal[n_rows:]]
    fresh = {name for kind, name, _ in said if kind == "born"}
    splits = {name: others[0] for kind, name, others in said if kind == "split"}
    fresh |= {name for name, other in splits.items() if other in fresh}  # it was not there before to be split
    assert {c.concept_id for c in found.of_kind("born")} == fresh
    assert {c.concept_id: c.other_id for c in found.of_kind("split")} == {
        name: other for name, other in splits.items() if name not in fresh
    }
    assert not found.of_kind("gone", "absorbed")
    restated = {(c.concept_id, c.state_before, c.state_after) for c in found.changes if c.is_restated}
    assert restated == {
        (name, states[name], life.state)
        for name, life in world.lives.items()
        if name in states and states[name] != life.state
    }
    assert found.after["episodes"] - found.before["episodes"] == found.n_bound


def test_an_absorbed_concept_says_where_it_went() -> None:
    world = make_world(6)
    before = world.tables()
    kept, gone = world.pick(list(world.lives), 2)
    world.cycle += 1
    world.absorb(kept, gone)
    (change,) = diff_concepts(before, world.tables()).of_kind("absorbed")
    assert (change.concept_id, change.other_id, change.state_after) == (gone, kept, None)


def test_a_version_does_not_differ_from_itself() -> None:
    tables = make_world(6).tables()
    found = diff_concepts(tables, tables)
    assert found.changes == found.flows == ()
    assert found.n_kept == tables["concepts"].num_rows
    assert found.before == found.after


def test_episodes_may_lie_in_several_parts() -> None:
    world: World = make_world(6)
    before = world.tables()
    world.advance()
    after = world.tables()
    parts = {**after, "bindings": pa.concat_tables([after["bindings"].slice(0, 9), after["bindings"].slice(9)])}
    assert diff_concepts(before, parts) == diff_concepts(before, after)


@pytest.mark.parametrize("side", [0, 1])
def test_of_two_targets_the_one_with_more_episodes_is_named(side: int) -> None:
    before = {(1, 0), (1, 1), (1, 2)}
    after = {(2 + side, 0), (2 + side, 1), (3 - side, 0), (3 - side, 1), (3 - side, 2)}
    (change,) = diff_concepts(as_tables(before), as_tables(after)).of_kind("absorbed")
    assert change.other_id == 3 - side
