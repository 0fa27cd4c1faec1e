"""Typed ids against arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import native_simd

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]

limited = st.integers(-(2**62), 2**62 - 1)
ids = arrays(np.int64, st.integers(0, 100), elements=st.sampled_from([-(2**62), 2**62 - 1, 0, -1]) | limited)


@given(ids, ids)
def test_a_type_and_an_id_come_back(concept_ids: Int64Array, episode_ids: Int64Array) -> None:
    typed = np.concatenate([native_simd.typed_concepts(concept_ids), native_simd.typed_episodes(episode_ids)])
    assert typed.tolist() == [2 * n + 1 for n in concept_ids.tolist()] + [2 * n for n in episode_ids.tolist()]
    assert native_simd.is_concept(typed).tolist() == [True] * len(concept_ids) + [False] * len(episode_ids)
    assert np.array_equal(native_simd.plain_ids(typed), np.concatenate([concept_ids, episode_ids]))


@pytest.mark.parametrize("typed", [native_simd.typed_concepts, native_simd.typed_episodes])
@pytest.mark.parametrize("bad", [2**62, -(2**62) - 1, 2**63 - 1, -(2**63)])
def test_an_id_without_a_bit_to_spare_is_refused(typed: Callable[[Int64Array], Int64Array], bad: int) -> None:
    with pytest.raises(ValueError, match=rf"_ids must be in \[-2\*\*62, 2\*\*62\), got {bad} at 1"):
        typed(np.array([0, bad]))
