"""The outline of a dendrogram: which merges it keeps, what hangs below them, and the leaf that stands for a branch."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import Forest, forests, grow

import cluster_engine as ce


@settings(deadline=None)
@given(forests(), st.integers(1, 12), st.integers(1, 6))
def test_it_keeps_the_highest_merges_of_two_large_branches(forest: Forest, max_tips: int, min_leaves: int) -> None:
    sketch = ce.Dendrogram(forest.Z, n=forest.n).outline(max_tips, min_leaves)
    below = forest.members()
    trees = [tree for tree in forest.groups(len(forest.Z)) if len(tree) >= min_leaves]
    shown = set.union(set(), *sorted(trees, key=len, reverse=True)[:max_tips]) if len(trees) <= max_tips else None
    tips = [below[tip] for tip in sketch.tips.tolist()]
    assert len(tips) <= max_tips
    assert all(len(tip) >= min_leaves for tip in tips)
    assert sum(map(len, tips)) == len(set().union(*tips))
    if shown is None:
        assert sorted(map(len, tips)) == sorted(map(len, trees))[-max_tips:]
        assert all(tip in trees for tip in tips)
        assert not sketch.joins
        return
    splits = [
        forest.n + row
        for row, (a, b) in enumerate(forest.Z[:, :2].astype(int).tolist())
        if min(len(below[a]), len(below[b])) >= min_leaves and below[a] <= shown
    ]
    kept = splits[max(0, len(splits) - max_tips + len(trees)) :]
    assert [node for node, _, _ in sketch.joins] == kept
    assert len(tips) == len(kept) + len(trees)
    for node, *drawn in sketch.joins:
        sides = [below[int(side)] for side in forest.Z[node - forest.n, :2]]
        assert all(below[name] <= side for name, side in zip(drawn, sides, strict=True))


@settings(deadline=None)
@given(forests(), st.integers(1, 12))
def test_a_branch_is_named_after_its_first_merge(forest: Forest, max_tips: int) -> None:
    sketch = ce.Dendrogram(forest.Z, n=forest.n).outline(max_tips)
    below = forest.members()
    for tip, leaf in zip(sketch.tips.tolist(), sketch.exemplars.tolist(), strict=True):
        inner = (leaves for leaves in below[forest.n :] if leaves <= below[tip])
        assert leaf == min(next(inner, below[tip]))


def test_a_tree_that_fits_is_kept_whole() -> None:
    forest = grow(2, 40, 39, 9, 0.0)
    sketch = ce.Dendrogram(forest.Z).outline(40)
    assert sorted(sketch.tips.tolist()) == list(range(40))
    assert [sorted(join[1:]) for join in sketch.joins] == forest.Z[:, :2].tolist()


def test_bounds_below_one_are_refused() -> None:
    for bounds in ((0, 1), (3, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            ce.Dendrogram([[0, 1, 0.5, 2]]).outline(*bounds)
