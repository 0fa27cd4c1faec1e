"""Rules in whole numbers: a threshold is met in the cycle that says so, the best come first, nothing comes twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from cycles import DAY_US, episodes, population, topic, us
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.concepts import rules
from cluster_engine.concepts.population import NEVER, PPM, Population, Roster
from cluster_engine.concepts.rules import PromotionRule, ReplayRule, RetirementRule

DAILY = ReplayRule(half_life_days=None, stage_factor=1.0, gain_ppm=20_000)


def replayed(who: Population, gained_ppm: list[int], now_us: int = 0, rule: ReplayRule = DAILY) -> Population:
    gained = np.array(gained_ppm, np.int64)
    return rules.strengthened(who, gained, now_us, rule, is_replayed=gained > 0)


def test_five_replays_of_a_fiftieth_are_a_tenth() -> None:
    """In float32 they are 0.099999994, and "> 0.1" is first true at the sixth."""
    rule = PromotionRule(strength_ppm=100_000, n_replays=3, coherence=0.65, most_per_cycle=None)
    who = population(1)
    promoted_in = []
    for cycle in range(1, 9):
        who = rules.promoted(replayed(who, [PPM]), np.array([5]), cycle, rule)
        promoted_in.append(int(who.promoted_cycle[0]))
    assert promoted_in == [NEVER] * 4 + [5] * 4
    total = np.float32(0)
    for _ in range(5):
        total += np.float32(0.02)
    assert total < np.float32(0.1)


@given(
    st.lists(st.tuples(st.integers(0, PPM), st.floats(-1, 1), st.integers(1, 9)), min_size=1, max_size=30),
    st.integers(1, 9),
)
def test_the_best_are_promoted_not_the_first(rows: list[tuple[int, float, int]], most: int) -> None:
    who = replace(
        population(len(rows)),
        strengths_ppm=np.array([strength for strength, _, _ in rows]),
        coherences=np.array([coherence for _, coherence, _ in rows]),
        n_replays=np.full(len(rows), 3),
    )
    sizes = np.array([size for _, _, size in rows])
    rule = PromotionRule(strength_ppm=PPM // 2, n_replays=3, coherence=0.0, most_per_cycle=most)
    after = rules.promoted(who, sizes, 7, rule)
    ready = [i for i, (strength, coherence, _) in enumerate(rows) if strength >= PPM // 2 and coherence >= 0]
    best = sorted(ready, key=lambda i: (-rows[i][0], -rows[i][1], -rows[i][2], i))[:most]
    assert np.flatnonzero(after.promoted_cycle == 7).tolist() == sorted(best)


def test_who_is_promoted_is_not_promoted_again() -> None:
    rule = PromotionRule(0, 1, None, None)
    who = rules.promoted(replayed(population(2), [PPM, PPM]), np.array([3, 3]), 1, rule)
    again = rules.promoted(replayed(who, [PPM, PPM]), np.array([4, 4]), 2, rule)
    assert again.promoted_cycle.tolist() == [1, 1]


def test_a_concept_retires_after_idle_cycles_and_comes_back_when_replayed() -> None:
    rule = RetirementRule(idle_cycles=50, strength_ppm=None, age_cycles=20)
    who = rules.promoted(replayed(population(1), [PPM]), np.array([3]), 1, PromotionRule(0, 1, None, None))
    for cycle in range(2, 52):
        assert not who.is_retired[0], cycle
        who = rules.retired(replayed(who, [0]), cycle, rule)
    assert who.is_retired[0]
    assert who.idle_cycles.tolist() == [50]
    assert replayed(who, [1]).states.tolist() == ["active"]


def test_the_weak_retire_once_they_are_old_but_not_in_the_cycle_of_a_replay() -> None:
    rule = RetirementRule(idle_cycles=None, strength_ppm=50_000, age_cycles=20)
    who = replace(population(2), strengths_ppm=np.array([49_999, 50_000]), idle_cycles=np.array([1, 1]))
    assert rules.retired(who, 21, rule).is_retired.tolist() == [False, False]
    assert rules.retired(who, 22, rule).is_retired.tolist() == [True, False]
    fresh = replace(who, idle_cycles=np.array([0, 0]))
    assert rules.retired(fresh, 22, rule).is_retired.tolist() == [False, False]


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.one_of(st.none(), st.floats(-30, 30))), min_size=1, max_size=8),
    st.sampled_from([1.5, 1.2, 0.8, 0.5]),
    st.one_of(st.none(), st.floats(0.1, 100)),
)
def test_an_episode_counts_for_recency_times_stage_times_importance(
    rows: list[tuple[float, float | None]], stage: float, half_life_days: float | None
) -> None:
    made = episodes(topic(0, len(rows), 2), list(range(len(rows))), days=[day for _, day in rows])
    made = replace(made, importances=np.array([importance for importance, _ in rows], np.float32))
    found = rules.replay_weights_ppm(
        Roster.join(None, made), np.arange(len(rows)), us(10), ReplayRule(half_life_days, stage, 1)
    )
    for (importance, day), weight in zip(rows, found.tolist(), strict=True):
        age_days = 0.0 if day is None or half_life_days is None else max(0.0, us(10) - us(day)) / DAY_US
        expected = importance * stage * 0.5 ** (age_days / (half_life_days or 1.0)) * PPM
        assert expected - 1.001 <= weight <= expected + 1e-6 * PPM


@pytest.mark.parametrize("half_life_days", [None, 0.5, 30.0])
def test_strength_fades_towards_zero_and_is_never_negative(half_life_days: float | None) -> None:
    who = replace(population(3), strengths_ppm=np.array([0, 1, PPM]))
    for _ in range(2_000):
        who = rules.weakened(who, DAY_US, half_life_days)
        assert (who.strengths_ppm >= 0).all()
    assert who.strengths_ppm.tolist() == ([0, 1, PPM] if half_life_days is None else [0, 0, 0])
    assert rules.weakened(population(1), -DAY_US, half_life_days).strengths_ppm.tolist() == [0]


def test_strength_does_not_exceed_one() -> None:
    who = population(1)
    for _ in range(60):
        who = replayed(who, [5 * PPM])
    assert who.strengths_ppm.tolist() == [PPM]
    assert pa.array(who.strengths_ppm).type == pa.int64()
