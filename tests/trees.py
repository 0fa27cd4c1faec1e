"""Random trees and forests in SciPy's layout, and what can be said of them by walking them naively."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Forest(NamedTuple):
    Z: NDArray[np.float64]
    n: int

    def members(self) -> list[set[int]]:
        """Return the leaves below each node."""
        below = [{leaf} for leaf in range(self.n)]
        for a, b in self.Z[:, :2].astype(int):
            below.append(below[a] | below[b])
        return below

    def groups(self, n_merges: int) -> list[set[int]]:
        """Return the groups after the first merges, by their smallest leaf."""
        below = self.members()
        joined = {int(node) for node in self.Z[:n_merges, :2].ravel()}
        return sorted((below[node] for node in range(self.n + n_merges) if node not in joined), key=min)


def grow(seed: int, n: int, n_merges: int, n_levels: int, lowest: float, *, is_chain: bool = False) -> Forest:
    """Return a forest with random merges at so many heights, ties among them, from `lowest` up; or one long chain."""
    rng = np.random.default_rng(seed)
    heights = np.sort(lowest + rng.integers(0, n_levels, n_merges) / 4)
    tops, sizes = list(rng.permutation(n).tolist()), [1] * n
    rows = np.empty((n_merges, 4))
    for t, height in enumerate(heights):
        a = tops.pop() if is_chain else tops.pop(int(rng.integers(len(tops))))
        b = tops.pop(int(rng.integers(len(tops))))
        sizes.append(sizes[a] + sizes[b])
        rows[t] = min(a, b), max(a, b), height, sizes[-1]
        tops.append(n + t)
    return Forest(rows, n)


@st.composite
def forests(draw: st.DrawFn, max_leaves: int = 40, *, whole: bool = False) -> Forest:
    """Trees of any shape with ties and heights of 0; unless `whole`, as SciPy needs them, also forests, and below 0."""
    n = draw(st.integers(1, max_leaves))
    n_merges = n - 1 if whole else draw(st.integers(0, n - 1))
    lowest = draw(st.sampled_from([0.0, 0.5] if whole else [-2.0, 0.0, 0.5]))
    return grow(
        draw(st.integers(0, 2**32)), n, n_merges, draw(st.integers(1, 60)), lowest, is_chain=draw(st.booleans())
    )
