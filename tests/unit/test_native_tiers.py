"""Bindings of concepts leave a native index and come back: as in a model, and what is refused changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from native_simd import BindingIndex, RowError, Tier

N_CONCEPTS, N_EPISODES = 300, 40


def filled(n_shards: int = 4) -> BindingIndex:
    """Return an index of which everything is kept, by number of the concept, too."""
    rng = np.random.default_rng(0)
    index = BindingIndex(n_shards)
    numbers = np.flatnonzero(rng.random(N_CONCEPTS * N_EPISODES) < 0.3)
    concepts, episodes = np.divmod(numbers, N_EPISODES)
    index.bind(concepts, episodes, rng.random(len(concepts), np.float32), 1)
    index.tiers.settle(np.arange(N_CONCEPTS), np.arange(N_CONCEPTS))
    return index


def state(index: BindingIndex) -> list[object]:
    lines = index.tiers.lines()
    order = np.argsort(lines.ids)
    known = index.states(np.sort(lines.ids))
    columns = [*index.bindings(), lines.ids[order], lines.fan_outs[order], lines.kept_at[order], lines.tiers[order]]
    return [*(column.tolist() for column in columns), known.version.tolist(), known.n_activations.tolist()]


@pytest.mark.parametrize("n_shards", [1, 16])
def test_what_comes_and_goes_is_the_same_as_ever(n_shards: int) -> None:
    rng, index, whole = np.random.default_rng(1), filled(n_shards), filled(n_shards)
    bindings, outside = whole.bindings(), np.zeros(N_CONCEPTS, np.bool_)
    starts = np.searchsorted(bindings[0], np.arange(N_CONCEPTS + 1))
    for turn in range(60):
        if turn % 2:
            leaving = rng.permutation(np.flatnonzero(~outside))[: rng.integers(1, 80)]
            index.tiers.evict(leaving)
            outside[leaving] = True
        else:
            coming = rng.permutation(np.flatnonzero(outside))[: rng.integers(0, 80)]
            rows = np.concatenate([np.arange(0), *(np.arange(starts[c], starts[c + 1]) for c in coming)])
            offsets = np.concatenate([[0], np.cumsum(starts[coming + 1] - starts[coming])])
            index.tiers.admit(coming, offsets, bindings[1][rows], bindings[2][rows])
            outside[coming] = False
        if turn % 7 == 0:
            index.tiers.shrink()
        index.check()
        here = ~outside[bindings[0]]
        assert all(np.array_equal(a, b[here]) for a, b in zip(index.bindings(), bindings, strict=True))
        assert np.array_equal(index.fan_out(np.arange(N_CONCEPTS)), whole.fan_out(np.arange(N_CONCEPTS)))
        episode = int(rng.integers(N_EPISODES))
        assert set(index.concepts_of(np.array([episode])).ids.tolist()) == set(
            bindings[0][here & (bindings[1] == episode)].tolist()
        )
        assert index.tiers.counts() == (N_CONCEPTS, int(outside.sum()))
        lines = index.tiers.find(np.arange(N_CONCEPTS + 1))
        assert lines.tiers.tolist() == [*np.where(outside, Tier.OUTSIDE, Tier.HERE).tolist(), Tier.UNKNOWN]
        versions = [x.states(np.arange(N_CONCEPTS)).version for x in (index, whole)]
        assert np.array_equal(*versions)


def test_memory_is_given_back() -> None:
    index = filled()
    index.spread(np.arange(5), np.full(5, 1 << 32), np.empty(0, np.int64), np.empty(0, np.int64), steps=2)
    before = index.tiers.n_bytes
    assert before == index.statistics().n_bytes
    index.tiers.evict(np.arange(N_CONCEPTS - 10))
    index.tiers.shrink()
    assert index.tiers.n_bytes < before / 3
    assert index.statistics().n_line_bytes <= index.tiers.n_bytes


def test_adopted_concepts_are_as_if_they_had_been_bound() -> None:
    index, other = filled(), BindingIndex(4)
    bindings, lines = index.bindings(), index.tiers.lines()
    other.tiers.adopt(lines.ids, lines.fan_outs, lines.kept_at)
    other.check()
    assert len(other.bindings()[0]) == 0
    order = np.argsort(lines.ids)
    offsets = np.concatenate([[0], np.cumsum(lines.fan_outs[order])])
    other.tiers.admit(lines.ids[order], offsets, *bindings[1:])
    assert state(other) == state(index)


def test_a_change_makes_what_is_kept_outside_old() -> None:
    index = filled()
    assert index.tiers.use(np.array([3, 4]), change=True).kept_at.tolist() == [3, 4]
    assert index.tiers.find(np.array([3, 4, 5])).kept_at.tolist() == [-1, -1, 5]
    assert index.statistics().n_unkept == index.fan_out(np.array([3, 4])).sum()
    with pytest.raises(RowError, match="row 1: concept 4 has no bindings here that are kept outside"):
        index.tiers.evict(np.array([5, 4]))
    bindings = index.episodes_of(np.array([5]))
    index.tiers.evict(np.array([5]))
    index.tiers.admit(np.array([5]), bindings.offsets, bindings.ids, bindings.strengths, change=True)
    assert index.tiers.find(np.array([5])).kept_at.tolist() == [-1]


def test_the_least_used_of_each_eight_goes() -> None:
    index = BindingIndex(1)
    concepts = np.arange(32)
    index.bind(concepts, concepts, np.ones(32, np.float32), 1)
    index.tiers.settle(concepts, concepts)
    for concept in range(32):
        for _ in range(1 + (5 * concept) % 8):
            index.tiers.use(np.array([concept]))
    assert index.tiers.find(concepts).uses.tolist() == [1 + 5 * concept % 8 for concept in range(32)]
    chosen, n_uses = index.tiers.choose(3)
    assert (chosen.tolist(), n_uses) == ([0, 8, 16], 3)
    assert index.tiers.choose(1)[0].tolist() == [24]
    index.tiers.use(np.array([0]), change=True)
    assert index.tiers.choose(10**6)[0].tolist() == [8, 16, 24, 29]  # 0 is not kept


def test_uses_fade() -> None:
    index = BindingIndex(1)
    index.bind(np.arange(4), np.arange(4), np.ones(4, np.float32), 1)
    for _ in range(10):
        index.tiers.use(np.array([0, 0, 0, 1]))
    assert index.tiers.find(np.arange(3)).uses.tolist() == [30, 10, 0]
    index.tiers.use(np.array([2]))
    assert index.tiers.find(np.arange(3)).uses.tolist() == [15, 5, 0]
    index.tiers.use(np.zeros(300, np.int64))
    assert index.tiers.find(np.arange(1)).uses.tolist() == [127]  # it ends at 255


def test_what_is_outside_refuses_a_batch() -> None:
    index = filled()
    index.tiers.evict(np.array([7, 8]))
    before = state(index)
    episode = np.array([0, 0])
    halves = np.full(2, 0.5, np.float32)
    for call, message in (
        (lambda: index.bind(np.array([9, 7]), episode, halves, 2), "row 1: the bindings of concept 7 are outside"),
        (
            lambda: index.decay_concepts(np.array([9, 8]), halves, 1.0, 2),
            "row 1: the bindings of concept 8 are outside",
        ),
        (lambda: index.set_strengths(np.array([7, 8]), episode, halves, 2), r"row 0: binding \(7, 0\) is not here"),
        (lambda: index.unbind(np.array([8]), episode[:1], 2), r"row 0: binding \(8, 0\) is not here"),
    ):
        with pytest.raises(RowError, match=message):
            call()
        index.check()
        assert state(index) == before
    assert index.activate(np.array([7]), 5, 2)
    assert len(index.episodes_of(np.array([7])).ids) == 0
    cues = np.array([7]), np.array([1 << 32])
    nothing = np.empty(0, np.int64), np.empty(0, np.int64)
    spread = index.spread(*nothing, *cues, steps=3)
    assert (spread.concepts.ids.tolist(), spread.passed_units) == ([], 1 << 32)


def test_what_is_refused_changes_nothing() -> None:
    index = filled()
    lists = index.episodes_of(np.array([7, 8, 9]))
    index.tiers.evict(np.array([7, 8]))
    before, concepts = state(index), np.array([7, 8, 9])
    twice = np.where(np.arange(len(lists.ids)) == lists.offsets[1] + 1, lists.ids[lists.offsets[1]], lists.ids)
    beyond = np.where(np.arange(len(lists.ids)) == lists.offsets[1], np.float32(1.5), lists.strengths)
    others = lists.offsets + np.array([0, 0, 1, 0])
    both = slice(0, lists.offsets[2])
    refused = [
        (lambda: index.tiers.admit(concepts, *(lists.offsets, lists.ids, lists.strengths)), "row 2: .* is not outside"),
        (
            lambda: index.tiers.admit(concepts[:2], lists.offsets[:3], twice[both], lists.strengths[both]),
            "row 1: .*twice",
        ),
        (
            lambda: index.tiers.admit(concepts[:2], lists.offsets[:3], lists.ids[both], beyond[both]),
            r"row 1: .*\[0, 1\]",
        ),
        (
            lambda: index.tiers.admit(concepts, others, lists.ids, lists.strengths),
            "row 1: concept 8: had other bindings",
        ),
        (
            lambda: index.tiers.adopt(np.array([900, 7]), np.array([1, 1]), np.array([0, 0])),
            "row 1: .* is here already",
        ),
        (lambda: index.tiers.adopt(np.array([900, 901]), np.array([1, 0]), np.array([0, 0])), "row 1: .*cannot be"),
        (lambda: index.tiers.adopt(np.array([900]), np.array([1]), np.array([-1])), "row 0: .*cannot be"),
        (lambda: index.tiers.evict(np.array([0, 7])), "row 1: concept 7 has no bindings here"),
        (lambda: index.tiers.evict(np.array([0, 950])), "row 1: concept 950 has no bindings here"),
    ]
    for call, message in refused:
        with pytest.raises(RowError, match=message):
            call()
        index.check()
        assert state(index) == before
    with pytest.raises(ValueError, match="offsets must rise from 0"):
        index.tiers.admit(concepts, lists.offsets[::-1].copy(), lists.ids, lists.strengths)
