"""Cycles after each other: nothing is lost, ids last, and every table is what the history says it must be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cycles import History, episodes, none, topic, us
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

from cluster_engine.config import Config, CutConfig, FadeConfig, PromoteConfig, RebuildConfig, RetireConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

D = 16
FIXED = Config(cut=CutConfig(distance=0.3))
FOLDED = Config(cut=CutConfig(distance=0.3), rebuild=RebuildConfig(most_episodes=0))


def mixed(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Return vectors around six axes, some between two of them, some anywhere."""
    vectors = 0.15 * rng.standard_normal((n, D))
    vectors[np.arange(n), rng.integers(0, 6, n)] += 1
    between = rng.random(n) < 0.1
    vectors[between, rng.integers(0, 6)] += 1
    anywhere = rng.random(n) < 0.2
    vectors[anywhere] = rng.standard_normal((anywhere.sum(), D))
    return vectors.astype(np.float32)


def check_tables(history: History, vectors: dict[Any, NDArray[np.float32]]) -> None:
    """Compare all tables with what the members and the journal say."""
    concepts, members = history.concepts(), history.members()
    assert set(concepts) == set(members)
    assert all(count == 1 for count in Counter(e for group in members.values() for e in group).values())
    assert set(history.tables["episodes"]["episode_id"].to_pylist()) == set(vectors)
    moments = {row["concept_id"]: row for row in history.tables["moments"].to_pylist()}
    gained: Counter[int] = Counter()
    for entry in history.journal:
        gained[entry["concept_id"]] += entry["n_episodes"]
    for name, concept in concepts.items():
        units = np.array([vectors[e] for e in sorted(members[name])], np.float64)
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        total = units.sum(axis=0)
        k = len(units)
        assert concept["n_episodes"] == k == gained[name]
        np.testing.assert_allclose(moments[name]["sum"], total, atol=1e-9)
        np.testing.assert_allclose(concept["centroid"], total / np.linalg.norm(total), atol=1e-6)
        assert concept["coherence"] == pytest.approx((total @ total - k) / (k * (k - 1)), abs=1e-9)
        assert set(concept["exemplar_ids"]) <= members[name]
    nodes = history.tables["hierarchy"].to_pylist()
    assert len(nodes) == max(0, len(concepts) - 1)
    ended = {entry["concept_id"] for entry in history.journal if entry["kind"] in {"absorbed", "dissolved"}}
    begun = {entry["concept_id"] for entry in history.journal if entry["kind"] in {"born", "split"}}
    assert begun == set(concepts) | ended
    assert not set(concepts) & ended  # an id that ended is never used again


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 9999),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([FIXED, FOLDED, Config()]),
)
def test_every_history_adds_up(seed: int, sizes: list[int], config: Config) -> None:
    rng = np.random.default_rng(seed)
    history, vectors = History(config), {}
    for day, size in enumerate(sizes):
        if not size and not vectors:
            continue
        new = mixed(rng, size)
        ids = rng.choice(10_000, size, replace=False) + 10_000 * day
        rng.shuffle(ids)
        vectors |= dict(zip(ids.tolist(), new, strict=True))
        history.run(episodes(new, ids.tolist(), days=float(day)) if size else none(D), day=day)
        check_tables(history, vectors)


def test_the_first_cycle_is_average_linkage_of_scipy_cut() -> None:
    vectors = mixed(np.random.default_rng(3), 120)
    history = History(FIXED)
    history.run(episodes(vectors, list(range(120))))
    labels = hierarchy.fcluster(
        hierarchy.linkage(pdist(vectors.astype(np.float64), "cosine"), "average"), 0.3, "distance"
    )
    expected = {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}
    assert set(map(frozenset, history.members().values())) == {group for group in expected if len(group) >= 3}


def test_folding_in_is_average_linkage_that_goes_on_from_the_concepts() -> None:
    """Against greedy average linkage over pairs of episodes, with the concepts as first clusters."""
    rng = np.random.default_rng(5)
    old, new = mixed(rng, 60), mixed(rng, 40)
    history = History(FOLDED)
    history.run(episodes(old, list(range(60))))
    before = list(history.members().values())
    units = np.concatenate((old, new)).astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    similarity = units @ units.T
    bound = set().union(*before)
    clusters = [sorted(group) for group in before] + [[i] for i in range(100) if i not in bound]
    while True:
        means = [[similarity[np.ix_(a, b)].mean() if a is not b else -9 for b in clusters] for a in clusters]
        i, j = np.unravel_index(np.argmax(means), (len(clusters), len(clusters)))
        if means[i][j] < 1 - 0.3:
            break
        joined = clusters[i] + clusters[j]
        clusters = [c for k, c in enumerate(clusters) if k not in (i, j)] + [joined]
    history.run(episodes(new, list(range(60, 100))))
    expected = {frozenset(c) for c in clusters if len(c) >= 3}
    assert set(map(frozenset, history.members().values())) == expected


def test_ids_last() -> None:
    rng = np.random.default_rng(7)
    vectors = mixed(rng, 600)
    history = History(Config())
    history.run(episodes(vectors, list(range(600))))
    before = history.members()
    history.run(none(D), day=1)
    assert history.members() == before  # the same data again brings nothing new
    history.run(episodes(mixed(rng, 30), list(range(600, 630))), day=2)
    kept = set(before) & set(history.members())
    assert len(kept) >= 0.98 * len(before)
    history.run(none(D), day=3, rebuild=True, config=Config(cut=CutConfig(distance=history.results[0].cut_distance)))
    assert len(set(before) & set(history.members())) >= 0.9 * len(before)


def test_unrelated_groups_that_a_bridge_connects_stay_apart() -> None:
    """Snowballs: single links from one group to the other, in many batches, must not join them."""
    rng = np.random.default_rng(11)
    history = History(FIXED)
    label: dict[int, int] = {}
    for batch in range(10):
        parts = [topic(0, 20, D, seed=2 * batch), topic(1, 20, D, seed=2 * batch + 1)]
        steps = np.linspace(0.1, 0.9, 5)[:, np.newaxis]
        bridge = (1 - steps) * np.eye(D)[0] + steps * np.eye(D)[1] + 0.02 * rng.standard_normal((5, D))
        vectors = np.concatenate([*parts, bridge.astype(np.float32)])
        ids = list(range(100 * batch, 100 * batch + 45))
        label |= dict(zip(ids, [0] * 20 + [1] * 20 + [2] * 5, strict=True))
        history.run(episodes(vectors, ids, days=float(batch)), day=batch)
        mixed_concepts = [m for m in history.members().values() if {0, 1} <= {label[e] for e in m}]
        assert not mixed_concepts


def test_a_dense_set_does_merge() -> None:
    """A gate so strict that nothing merges is the other failure: halves of one topic found apart become one."""
    history = History(FOLDED)
    halves = [topic(0, 12, D, seed=1), topic(0, 12, D, seed=2)]
    halves[0][:, 1] += 0.55
    halves[1][:, 1] -= 0.55
    for batch, half in enumerate(halves):
        history.run(episodes(half, list(range(100 * batch, 100 * batch + 12))), day=batch)
    assert len(history.members()) == 2
    history.run(episodes(topic(0, 40, D, seed=3), list(range(200, 240))), day=2)
    assert "merged" in history.kinds(3)
    assert len(history.members()) == 1


def test_members_are_those_of_the_unsorted_input() -> None:
    """Positions in a sorted copy, applied to the unsorted input, would bind the wrong episodes."""
    vectors = np.concatenate([topic(0, 8, D), topic(1, 8, D)])
    ids = [f"e{i}" for i in np.random.default_rng(2).permutation(16)]
    history = History(FIXED)
    history.run(episodes(vectors, ids))
    assert set(map(frozenset, history.members().values())) == {frozenset(ids[:8]), frozenset(ids[8:])}


def test_identical_episodes_meet_however_far_apart_in_time() -> None:
    """A similarity that fades with time would keep identical episodes more than a day apart for ever."""
    vector = topic(0, 1, D).repeat(3, axis=0)
    history = History(FIXED)
    history.run(episodes(vector, [1, 2, 3], days=[0.0, 10.0, 400.0]))
    assert list(history.members().values()) == [{1, 2, 3}]


def test_an_episode_that_stayed_unbound_is_clustered_again() -> None:
    history = History(FOLDED)
    lone = topic(5, 2, D, seed=1)
    history.run(episodes(np.concatenate([topic(0, 5, D), lone]), list(range(7))))
    assert len(history.members()) == 1
    history.run(episodes(topic(5, 1, D, seed=2), [7]), day=1)
    assert {5, 6, 7} in history.members().values()


def test_a_proto_concept_keeps_its_strength_when_it_gains_members() -> None:
    slow = Config(
        cut=CutConfig(distance=0.3),
        rebuild=RebuildConfig(most_episodes=0),
        promote=PromoteConfig(min_strength_ppm=100_000, min_replays=3, most_per_cycle=5),
    )
    history = History(slow)
    states = []
    for batch in range(6):
        history.run(episodes(topic(0, 4, D, seed=batch), list(range(10 * batch, 10 * batch + 4))), day=batch)
        ((name, concept),) = history.concepts().items()
        states.append((name, concept["state"], concept["strength_ppm"]))
    assert len({name for name, _, _ in states}) == 1
    assert [strength for _, _, strength in states] == [20_000, 40_000, 60_000, 80_000, 100_000, 120_000]
    assert [state for _, state, _ in states] == ["proto"] * 4 + ["active"] * 2
    assert history.kinds().count("promoted") == 1


def test_a_retired_concept_comes_back_under_its_id() -> None:
    config = Config(
        cut=CutConfig(distance=0.3), rebuild=RebuildConfig(most_episodes=0), retire=RetireConfig(idle_cycles=2)
    )
    history = History(config)
    history.run(episodes(topic(0, 4, D), [0, 1, 2, 3]))
    (name,) = history.concepts()
    for day in (1, 2):
        history.run(none(D), day=day)
    assert history.concepts()[name]["state"] == "retired"
    history.run(episodes(topic(0, 2, D, seed=9), [4, 5]), day=3)
    assert history.concepts()[name]["state"] == "active"
    assert history.members() == {name: {0, 1, 2, 3, 4, 5}}
    assert [entry["kind"] for entry in history.journal] == ["born", "promoted", "retired", "grew", "revived"]


def test_bindings_fade_unless_replayed_and_evergreen_ones_never() -> None:
    fade = FadeConfig(half_life_days=10, floor=0.1)
    history = History(Config(cut=CutConfig(distance=0.3), rebuild=RebuildConfig(most_episodes=0), fade=fade))
    vectors = np.concatenate([topic(0, 4, D), topic(1, 4, D)])
    history.run(episodes(vectors, list(range(8)), evergreen=[True] + [False] * 7))
    first = history.strengths()
    history.run(episodes(topic(1, 1, D, seed=4), [8]), day=10)
    after = history.strengths()
    assert after[0] == first[0]
    assert [after[i] / first[i] for i in (1, 2, 3)] == pytest.approx([0.5] * 3)
    assert [after[i] for i in (4, 5, 6, 7)] == [first[i] for i in (4, 5, 6, 7)]  # their concept was replayed
    history.run(none(D), day=1000)
    last = history.strengths()
    assert last[0] == first[0]
    assert [last[i] / first[i] for i in range(1, 8)] == pytest.approx([0.1] * 7)


def test_a_clock_that_goes_back_changes_nothing() -> None:
    history = History(FOLDED)
    history.run(episodes(topic(0, 4, D), [0, 1, 2, 3]), day=10)
    first = history.strengths()
    history.run(none(D), day=3)
    assert history.strengths() == first
    assert history.tables["cycle"].column("as_of").cast("int64").to_pylist() == [us(10)]


def test_what_a_service_unbound_is_taken_out_of_the_sums() -> None:
    history = History(FOLDED)
    vectors = np.concatenate([topic(0, 5, D), topic(1, 3, D)])
    history.run(episodes(vectors, list(range(8))))
    names = {frozenset(members): name for name, members in history.members().items()}
    of_zero, of_one = names[frozenset(range(5))], names[frozenset({5, 6, 7})]
    bindings, moments = history.tables["bindings"], history.tables["moments"]
    rows = [row for row in bindings.to_pylist() if row["episode_id"] not in {0, 5, 6, 7}]
    history.tables["bindings"] = bindings.from_pylist(rows, schema=bindings.schema)
    history.tables["moments"] = moments.from_pylist([], schema=moments.schema)
    far = 5 * np.ones((1, D), np.float32)
    far[0, ::2] *= -1
    history.run(episodes(far, [100]), day=1)
    assert {0, 1, 2, 3, 4} in history.members().values()  # unbound, it was near enough to join again
    assert of_zero in history.members()
    assert of_one not in history.members()
    assert "dissolved" in history.kinds(2)
    assert {5, 6, 7} in history.members().values()


@pytest.mark.parametrize("law", ["exponential", "power", "two-component", "none"])
def test_five_years_of_days(law: str) -> None:
    """No collapse into one concept, nothing negative, evergreen untouched, ids of topics that come every week last."""
    rng = np.random.default_rng(13)
    n_topics = 12
    fade = FadeConfig.model_validate({"law": law})
    config = Config(
        cut=CutConfig(distance=0.4),
        rebuild=RebuildConfig(most_episodes=600),
        fade=fade,
        retire=RetireConfig(idle_cycles=30),
    )
    history = History(config)
    topics_of: dict[int, int] = {}
    sizes = []
    for day in range(5 * 365):
        n = int(rng.integers(0, 3))
        axes = rng.integers(0, n_topics, n)
        axes[rng.random(n) < 0.1] = n_topics  # now and then something that fits nowhere
        vectors = 0.1 * rng.standard_normal((n, D))
        vectors[np.arange(n), np.minimum(axes, D - 1)] += 1
        ids = list(range(1000 * day, 1000 * day + n))
        topics_of |= dict(zip(ids, axes.tolist(), strict=True))
        fresh = episodes(vectors.astype(np.float32), ids, days=float(day), evergreen=day == 3) if n else none(D)
        if n or history.tables:
            history.run(fresh, day=day)
        if history.tables:
            strengths = history.tables["bindings"]["strength"].to_numpy()
            assert (strengths >= 0).all()
            assert (strengths <= 1).all()
            sizes.append(len(history.tables["concepts"]))
    assert n_topics <= sizes[-1] <= n_topics + 1
    assert max(sizes) <= n_topics + 2
    for members in history.members().values():
        assert len({topics_of[episode] for episode in members}) == 1
    rows = {row["episode_id"]: row for row in history.tables["bindings"].to_pylist()}
    evergreen = [rows[e] for e in range(3000, 3003) if e in rows]
    assert all(row["strength"] == row["initial"] for row in evergreen)
    assert all(row["strength"] >= 0.05 * row["initial"] * 0.999 for row in rows.values())
    assert len(history.tables["episodes"]) == len(topics_of)
