"""Names of episodes on disk are those in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_engine.shards.kept_names import KeptNames
from cluster_engine.shards.names import EpisodeNames, number_episodes
from native_simd import RowError

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=20)


@settings(deadline=None)
@given(batches=st.lists(NAMES, max_size=4), later=NAMES, asked=NAMES)
def test_names_on_disk_are_those_in_memory(batches: list[list[str]], later: list[str], asked: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        on_disk, in_memory = EpisodeNames(Path(scratch)), EpisodeNames()
        for names in (on_disk, in_memory):
            names.load(batches)
        numbers = number_episodes(later, is_string_ids=True)
        assert on_disk.unknown(numbers, later) == in_memory.unknown(numbers, later)
        for names in (on_disk, in_memory):
            names.add(names.unknown(numbers, later))
        wanted = number_episodes(asked, is_string_ids=True)
        for _ in range(2):
            assert on_disk.known(wanted) == in_memory.known(wanted)
            assert on_disk.of(numbers) == later
            on_disk.keep()
            in_memory.keep()
        assert not list(Path(scratch).iterdir())


def test_of_two_names_with_one_number_the_second_is_refused(tmp_path: Path) -> None:
    names = EpisodeNames(tmp_path)
    names.load([["a", "b"]])
    numbers = number_episodes(["b"], is_string_ids=True)
    with pytest.raises(RowError, match="episodes 'b' and 'c' have the same number; rename one"):
        names.unknown(numbers, ["c"])
    same_number = np.array([5, 9, 5], np.int64)
    assert KeptNames(tmp_path, [(same_number, ["a", "b", "a"])]).find(same_number) == ["a", "b", "a"]
    with pytest.raises(ValueError, match="episodes 'a' and 'c' have the same number; rename one"):
        KeptNames(tmp_path, [(same_number[:2], ["a", "b"]), (same_number[2:], ["c"])])


@pytest.mark.parametrize("sorted_rows", [1, 7, 1000])
def test_ranges_of_any_size_hold_all(tmp_path: Path, sorted_rows: int) -> None:
    given = [f"episode-{i:03d}" for i in range(100)]
    numbers = number_episodes(given, is_string_ids=True)
    kept = KeptNames(tmp_path, [(numbers[:60], given[:60]), (numbers[40:], given[40:])], sorted_rows)
    assert kept.find(numbers) == given
    assert kept.find(numbers[:1] + 1) == [None]
    listed = [pair for batch in kept.batches() for pair in zip(batch[0].tolist(), batch[1], strict=True)]
    assert listed == sorted(zip(numbers.tolist(), given, strict=True))
