"""Which group goes on as which concept: against obvious sets, on random partitions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from cycles import population
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.concepts.formation import Formation, Moments
from cluster_engine.concepts.population import Membership
from cluster_engine.concepts.transitions import NEW, Group, matched_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

partitions = st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), min_size=1, max_size=40)


def rows_by(labels: list[int]) -> dict[int, NDArray[np.int64]]:
    return {label: np.flatnonzero(np.array(labels) == label) for label in sorted(set(labels)) if label >= 0}


def match(before: list[int], after: list[int]) -> tuple[list[Group], list[int]]:
    """Match groups of rows by label; -1 is none. Centroids are all orthogonal, so only members tell."""
    old, new = rows_by(before), rows_by(after)
    concepts = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(old.values())] or [np.empty(0, np.int64)])
    rows = np.concatenate([*old.values(), np.empty(0, np.int64)]).astype(np.int64)
    ones = np.ones(len(rows), np.float32)
    membership = Membership.ordered(concepts.astype(np.int64), rows, ones, np.zeros(len(rows), np.int64))
    axes = np.eye(40, dtype=np.float32)
    formations = [Formation(Moments(1, axes[i].astype(float)), axes[20 + i], 1.0, ones[:0]) for i in range(len(new))]
    who = population(len(old))
    object.__setattr__(who, "centroids", axes[: len(old)])
    return matched_groups([Group(rows, 0.1) for rows in new.values()], formations, who, membership, len(before))


@settings(max_examples=300)
@given(partitions)
def test_ids_go_to_one_group_each_by_overlap(labels: list[tuple[int, int]]) -> None:
    before, after = [a for a, _ in labels], [b for _, b in labels]
    old, new = list(rows_by(before).values()), list(rows_by(after).values())
    groups, unmatched = match(before, after)
    overlap = Counter((i, j) for i, a in enumerate(old) for j, b in enumerate(new) for _ in set(a) & set(b))

    kept = [group.kept for group in groups if group.kept != NEW]
    absorbed = [concept for group in groups for concept in group.absorbed]
    assert sorted([*kept, *absorbed, *unmatched]) == list(range(len(old)))  # every concept has one fate
    for j, group in enumerate(groups):
        assert group.rows.tolist() == new[j].tolist()
        if group.kept != NEW:
            assert 2 * overlap[group.kept, j] >= min(len(old[group.kept]), len(new[j]))
        for concept in group.absorbed:
            assert 2 * overlap[concept, j] >= len(old[concept])
        if group.split_from != NEW:
            assert group.kept == NEW
            assert 2 * overlap[group.split_from, j] >= len(new[j])
    # No pair that shares half of the smaller is left out while both are free: greedy by overlap.
    for i, j in overlap:
        if 2 * overlap[i, j] >= min(len(old[i]), len(new[j])) and i not in kept and groups[j].kept == NEW:
            raise AssertionError((i, j))


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=40))
def test_an_equal_partition_keeps_every_id(labels: list[int]) -> None:
    groups, unmatched = match(labels, labels)
    assert [group.kept for group in groups] == list(range(len(groups)))
    assert not unmatched
    assert not any(group.absorbed for group in groups)


def test_a_concept_that_falls_in_two_goes_on_as_the_larger_part() -> None:
    groups, _ = match([0] * 10, [0] * 4 + [1] * 6)
    assert [(group.kept, group.split_from) for group in groups] == [(NEW, 0), (0, NEW)]


def test_of_two_concepts_in_one_group_the_one_with_more_members_goes_on() -> None:
    groups, _ = match([0] * 4 + [1] * 6, [0] * 10)
    assert [(group.kept, group.absorbed) for group in groups] == [(1, (0,))]


def test_one_new_member_does_not_make_a_new_concept() -> None:
    """Identity by a hash of the members would."""
    groups, _ = match([0] * 5 + [-1], [0] * 6)
    assert [group.kept for group in groups] == [0]
