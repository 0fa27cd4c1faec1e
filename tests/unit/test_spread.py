"""Spreading activation against a dictionary of pairs: every rounding of it, and exact arithmetic within the bound."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import native_simd
from cluster_engine.shards.shard import BindingShard, shard_of
from cluster_engine.shards.spread import Cues, SpreadRule, cues_of, spread_over
from native_simd import UNITS, BindingIndex, RowError

if TYPE_CHECKING:
    from collections.abc import Callable

    Bindings = dict[tuple[int, int], float]
    Sums = dict[int, int]

INT64 = np.iinfo(np.int64)
DIVISORS: dict[str, Callable[[int], float]] = {
    "sqrt": math.sqrt,
    "linear": float,
    "log": lambda f: 1 + math.log(f),
    "none": lambda _: 1.0,
}
ids = st.sampled_from([0, 1, 2, -3, INT64.max, INT64.min]) | st.integers(4, 12)
bindings_of = st.dictionaries(st.tuples(ids, ids), st.floats(0, 1, width=32), max_size=60)
cues_for = st.dictionaries(ids, st.floats(0, 8), max_size=6)
rules = st.builds(
    SpreadRule,
    fan_law=st.sampled_from(["sqrt", "linear", "none"]),
    half_lives=st.sampled_from([0.0, 0.3, 1.0, 200.0]),
    cutoff=st.sampled_from([0.0, 2.0**-32, 0.1, 1.0]),
)
EMPTY = np.empty(0, np.int64)


def filled(bindings: Bindings, n_shards: int = 16, threads: int = 1) -> BindingShard:
    shard = BindingShard(3, n_shards, threads=threads)
    bind(shard, bindings, op_id=1)
    return shard


def bind(shard: BindingShard, bindings: Bindings, *, op_id: int) -> None:
    concepts, episodes = [pair[0] for pair in bindings], [pair[1] for pair in bindings]
    shard.bind(concepts, episodes, list(bindings.values()), op_id=op_id)


def decay_factor(half_lives: float) -> float:
    """Return what an index multiplies a strength of 1 by."""
    index = BindingIndex(1)
    index.bind(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1, np.float32), 1)
    index.decay(half_lives, 2)
    return float(index.bindings()[2][0])


def by_definition(
    bindings: Bindings, cues: Cues, rule: SpreadRule, steps: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Follow the definition binding by binding, with its roundings; nodes by units, then id."""
    fans: dict[int, int] = {}
    for concept, _ in bindings:
        fans[concept] = fans.get(concept, 0) + 1
    decay, divisor = decay_factor(rule.half_lives), DIVISORS[rule.fan_law]
    totals: tuple[Sums, Sums] = ({}, {})
    given = dict(zip(cues.concepts.ids.tolist(), cues.concepts.units.tolist(), strict=True))
    passing = dict(zip(cues.episodes.ids.tolist(), cues.episodes.units.tolist(), strict=True))
    for _ in range(steps):
        gathered: Sums = {}
        for (concept, episode), strength in bindings.items():
            if passing.get(episode, 0) >= max(rule.cutoff_units, 1):
                gathered[concept] = gathered.get(concept, 0) + round(strength * float(passing[episode]))
        add(totals[0], gathered)
        add(gathered, given)
        given, passing = {}, {}
        for (concept, episode), strength in bindings.items():
            if gathered.get(concept, 0) >= max(rule.cutoff_units, 1):
                passed = round(float(gathered[concept]) * decay / divisor(fans[concept]))
                passing[episode] = passing.get(episode, 0) + round(strength * float(passed))
        add(totals[1], passing)
    return ranked(totals[0]), ranked(totals[1])


def add(sums: Sums, others: Sums) -> None:
    for name, value in others.items():
        sums[name] = sums.get(name, 0) + value


def ranked(sums: Sums) -> list[tuple[int, int]]:
    return sorted(((name, units) for name, units in sums.items() if units), key=lambda item: (-item[1], item[0]))


def listed(nodes: native_simd.Activations) -> list[tuple[int, int]]:
    return list(zip(nodes.ids.tolist(), nodes.units.tolist(), strict=True))


def columns(spread: native_simd.Spread) -> tuple[bytes, ...]:
    sides = (spread.concepts.ids, spread.concepts.units, spread.episodes.ids, spread.episodes.units)
    return (*(column.tobytes() for column in sides), spread.passed_units.to_bytes(8, "little"))


@settings(max_examples=200, deadline=None)
@given(
    histories=st.lists(bindings_of, min_size=1, max_size=3),
    removed=st.sets(st.integers(0, 59), max_size=30),
    episode_cues=cues_for,
    concept_cues=cues_for,
    rule=rules,
    steps=st.integers(1, 4),
    n_shards=st.sampled_from([1, 2, 16]),
    threads=st.sampled_from([1, 3]),
    k=st.none() | st.integers(0, 5),
)
def test_a_spread_is_its_definition_whatever_the_index_has_been_through(
    *,
    histories: list[Bindings],
    removed: set[int],
    episode_cues: dict[int, float],
    concept_cues: dict[int, float],
    rule: SpreadRule,
    steps: int,
    n_shards: int,
    threads: int,
    k: int | None,
) -> None:
    cues, model, shard = cues_of(episode_cues, concept_cues), {}, BindingShard(3, n_shards, threads=threads)
    for number, batch in enumerate(histories):
        bind(shard, batch, op_id=2 * number)
        model |= batch
        gone = [pair for i, pair in enumerate(sorted(model)) if i in removed]
        shard.unbind([pair[0] for pair in gone], [pair[1] for pair in gone], op_id=2 * number + 1)
        for pair in gone:
            del model[pair]
        got = shard.spread(episode_cues, concept_cues, steps=steps, rule=rule, k=k)
        expected = by_definition(model, cues, rule, steps)
        assert (listed(got.concepts), listed(got.episodes)) == (expected[0][:k], expected[1][:k])
        shard._index.check()


def error_bounds(
    bindings: Bindings, cues: Cues, rule: SpreadRule, steps: int
) -> tuple[dict[int, tuple[float, float]], dict[int, tuple[float, float]]]:
    """Return (exact value, bound of its error), both in units, of each node in sum over the steps; no cutoff."""
    fans: dict[int, int] = {}
    for concept, _ in bindings:
        fans[concept] = fans.get(concept, 0) + 1
    factor = {c: 2.0**-rule.half_lives / DIVISORS[rule.fan_law](f) for c, f in fans.items()}
    relative = 2.6e-7 if rule.half_lives else 2.0**-49  # of the factor, and of each product
    totals: tuple[dict[int, list[tuple[float, float]]], ...] = ({}, {})
    given = dict(zip(cues.concepts.ids.tolist(), cues.concepts.units.tolist(), strict=True))
    passing = {e: (float(u), 0.0) for e, u in zip(*(c.tolist() for c in (cues.episodes.ids, cues.episodes.units)))}  # noqa: B905 - equal
    for _ in range(steps):
        at_concepts: dict[int, list[tuple[float, float]]] = {}
        for (concept, episode), strength in bindings.items():
            value, error = passing.get(episode, (0.0, 0.0))
            part = (strength * value, strength * error + 0.5 + 2.0**-49 * value)
            at_concepts.setdefault(concept, []).append(part)
        gathered = {
            c: (math.fsum(v for v, _ in parts), math.fsum(e for _, e in parts)) for c, parts in at_concepts.items()
        }
        at_episodes: dict[int, list[tuple[float, float]]] = {}
        for (concept, episode), strength in bindings.items():
            value = (gathered[concept][0] + given.get(concept, 0)) * factor[concept]
            error = gathered[concept][1] * factor[concept] + 0.5 + relative * value
            part = (strength * value, strength * error + 0.5 + 2.0**-49 * value)
            at_episodes.setdefault(episode, []).append(part)
        passing = {
            e: (math.fsum(v for v, _ in parts), math.fsum(e for _, e in parts)) for e, parts in at_episodes.items()
        }
        given = {}
        for total, step in zip(totals, (gathered, passing), strict=True):
            for name, part in step.items():
                total.setdefault(name, []).append(part)
    return tuple(
        {name: (math.fsum(v for v, _ in parts), math.fsum(e for _, e in parts)) for name, parts in total.items()}
        for total in totals
    )


@settings(max_examples=100, deadline=None)
@given(
    bindings=bindings_of,
    episode_cues=cues_for,
    concept_cues=cues_for,
    law=st.sampled_from(list(DIVISORS)),
    half_lives=st.sampled_from([0.0, 0.7]),
    steps=st.integers(1, 4),
)
def test_errors_are_within_the_proven_bound(
    *,
    bindings: Bindings,
    episode_cues: dict[int, float],
    concept_cues: dict[int, float],
    law: native_simd.SpreadLaw,
    half_lives: float,
    steps: int,
) -> None:
    rule, cues = SpreadRule(law, half_lives), cues_of(episode_cues, concept_cues)
    got = filled(bindings).spread(episode_cues, concept_cues, steps=steps, rule=rule)
    for side, bounds in zip((got.concepts, got.episodes), error_bounds(bindings, cues, rule, steps), strict=True):
        found = dict(listed(side))
        for name, (exact, bound) in bounds.items():
            assert abs(found.get(name, 0) - exact) <= bound
        assert set(found) <= set(bounds)


def large(seed: int = 1, n: int = 60_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return bindings of 300 concepts, some far larger than others, and 20,000 episodes, ids all over int64."""
    rng = np.random.default_rng(seed)
    pairs = np.unique((rng.random(n) ** 3 * 300).astype(np.int64) * 20_000 + rng.integers(0, 20_000, n))
    names = rng.integers(INT64.min, INT64.max, 20_300)
    return names[pairs // 20_000], names[300 + pairs % 20_000], rng.random(len(pairs), np.float32)


@pytest.mark.parametrize("n_cues", [3, 700, 20_000])
def test_no_answer_depends_on_shards_threads_or_history(n_cues: int) -> None:
    bindings = large()
    episodes = np.unique(bindings[1])
    cues = episodes[:: max(len(episodes) // n_cues, 1)].copy()
    units = np.arange(1, len(cues) + 1) * (UNITS // len(cues))
    answers = set()
    for n_shards, threads in ((1, 1), (16, 1), (16, 2), (256, 5), (4, 2)):
        index = BindingIndex(n_shards)
        index.bind(*bindings, 1)
        for turn in range(2):  # the second time, bindings have numbers
            answer = index.spread(cues, units, bindings[0][:1], units[:1], steps=3, threads=threads, half_lives=0.25)
            answers.add(columns(answer))
            best = index.spread(cues, units, bindings[0][:1], units[:1], steps=3, k=40 + turn, half_lives=0.25)
            assert listed(best.episodes) == listed(answer.episodes)[: 40 + turn]
            assert listed(best.concepts) == listed(answer.concepts)[: 40 + turn]
        index.check()
    assert len(answers) == 1
    assert len(answer.episodes.ids) > 10_000


def test_sums_of_several_threads_are_those_of_one() -> None:
    """As many episodes as it takes for threads to have sums of their own."""
    rng, n = np.random.default_rng(3), 150_000
    episodes, answers = rng.permutation(n), set()
    bindings = (rng.random(n) ** 2 * 700).astype(np.int64), episodes, rng.random(n, np.float32)
    for threads in (1, 2, 8):
        index = BindingIndex()
        index.bind(*bindings, 1)
        answers.add(columns(index.spread(np.arange(n), np.arange(n) << 10, EMPTY, EMPTY, steps=2, threads=threads)))
    assert len(answers) == 1


@pytest.mark.parametrize("n_parts", [1, 2, 4])
@pytest.mark.parametrize("cutoff", [0.0, 0.02])
def test_steps_of_several_shards_are_those_of_one(n_parts: int, cutoff: float) -> None:
    bindings, rule = large(2), SpreadRule("log", 0.5, cutoff)
    episode_cues = dict.fromkeys(np.unique(bindings[1])[::3000].tolist(), 0.75) | {5: 1.0}
    concept_cues = dict.fromkeys(np.unique(bindings[0])[::100].tolist(), 1.5) | {7: 1.0}
    whole = BindingShard.load(3, *bindings)
    owners = shard_of(bindings[0], n_parts)
    parts = [BindingShard.load(3, *(column[owners == number] for column in bindings)) for number in range(n_parts)]
    got = spread_over(
        lambda cues, rule: [part.spread_step(cues, rule) for part in parts],
        cues_of(episode_cues, concept_cues),
        rule,
        steps=3,
        k=500,
    )
    assert columns(got) == columns(whole.spread(episode_cues, concept_cues, steps=3, rule=rule, k=500))
    assert len(got.episodes.ids) == 500


def test_the_cutoff_keeps_what_it_does_not_pass_on() -> None:
    shard = filled({(1, 10): 1.0, (1, 11): 0.25, (2, 11): 1.0, (2, 12): 1.0})
    rule = SpreadRule("none", cutoff=0.5)
    got = shard.spread({10: 1.0}, steps=2, rule=rule)
    assert listed(got.episodes) == [(10, 2 * UNITS), (11, UNITS // 2)]
    assert listed(got.concepts) == [(1, 2 * UNITS)]
    everything = shard.spread({10: 1.0}, steps=2, rule=SpreadRule("none"))
    assert 12 in everything.episodes.ids
    assert everything.episodes.activations[0] == float(Fraction(everything.episodes.units.tolist()[0], UNITS))


def test_a_hub_passes_less_the_more_it_has() -> None:
    """Anderson's fan effect: the same cue activates each of many episodes less than each of few."""
    strongest = []
    for fan in (1, 2, 3, 100):
        shard = filled({(1, episode): 1.0 for episode in range(fan)})
        for law in ("sqrt", "linear", "log"):
            got = shard.spread({}, {1: 1.0}, steps=1, rule=SpreadRule(law))
            assert len(set(got.episodes.units.tolist())) == 1
            assert got.episodes.activations[0] == pytest.approx(1 / DIVISORS[law](fan), abs=2.0**-32)
        strongest.append(got.episodes.units[0])
    assert strongest == sorted(strongest, reverse=True)


def test_what_overflows_is_refused_and_leaves_nothing_behind() -> None:
    bindings = {(concept, episode): 1.0 for concept in range(40) for episode in range(40)}
    shard, rule = filled(bindings), SpreadRule("none")
    before = shard.spread({1: 1.0}, steps=2, rule=rule)
    with pytest.raises(ValueError, match="pass on 2"):
        shard.spread({1: 2.0**20}, steps=4, rule=rule)
    cue = 2.0**30 / (40**5 + 40**4) * 0.9997  # what the third step passes on is below the limit; all three are above it
    with pytest.raises(ValueError, match="over steps=3 they pass on"):
        shard.spread({1: cue}, steps=3, rule=rule)
    with pytest.raises(ValueError, match="too large: over 3 steps"):
        spread_over(lambda *step: [shard.spread_step(*step)], cues_of({1: cue}, {}), rule, steps=3)
    assert columns(shard.spread({1: 1.0}, steps=2, rule=rule)) == columns(before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"episode_units": np.array([1, -1])}, "row 1: episode_units -1 is not at least 0"),
        ({"episode_ids": np.array([7, 7])}, "row 1: episode 7 occurs twice in episode_ids"),
        ({"episode_ids": np.array([9, 9])}, "row 1: episode 9 occurs twice"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 257}, "steps must be at most 256"),
        ({"law": "cube"}, "law must be one of sqrt, linear, log, none"),
        ({"half_lives": -0.5}, "half_lives must be at least 0"),
        ({"half_lives": float("nan")}, "half_lives must be at least 0"),
        ({"cutoff_units": -1}, "cutoff_units must be at least 0"),
        ({"k": -1}, "k must be at least 0"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, object], words: str) -> None:
    good = {"episode_ids": np.array([1, 2]), "episode_units": np.array([1, 1]), "steps": 1}
    with pytest.raises((RowError, ValueError), match=words):
        BindingIndex().spread(**(good | {"concept_ids": EMPTY, "concept_units": EMPTY} | arguments))


def test_a_cue_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match=r"the cue of episode 4 must be at least 0 and below 2\*\*30, got -1"):
        BindingShard(3).spread({3: 1.0, 4: -1})


def test_numbers_of_episodes_that_have_gone_are_given_up() -> None:
    shard, n = BindingShard(3, 2), 3000
    sizes = []
    for turn in range(8):
        episodes = np.arange(turn * n, (turn + 1) * n)
        shard.bind(np.zeros(n, np.int64), episodes, np.ones(n), op_id=2 * turn)
        got = shard.spread({int(episodes[5]): 1.0}, steps=1)
        assert sorted(got.episodes.ids.tolist()) == episodes.tolist()
        sizes.append(shard.statistics().n_bytes)
        shard._index.check()
        shard.unbind(np.zeros(n, np.int64), episodes, op_id=2 * turn + 1)
    assert sizes[-1] == sizes[4]
