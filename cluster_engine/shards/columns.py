"""Means of clusters, dealt out panel by panel, and kept up to date by sending what changed.

Part p of P has panels p, p + P, ... of all columns. However few are left, parts stay equal, and the columns of a part
keep their order, so that its ranked lists merge with those of the others. Knows arrays, and nothing of who holds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from native_simd import LANES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Share:
    """Part ``part`` of ``n_parts``."""

    part: int
    n_parts: int

    def numbers(self, n_columns: int) -> NDArray[np.int64]:
        """Return which of all columns the share has, in order."""
        panels = np.arange(self.part, -(-n_columns // LANES), self.n_parts)
        columns = (panels[:, np.newaxis] * LANES + np.arange(LANES)).reshape(-1)
        return columns[columns < n_columns]

    def place_of(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places that columns of the share have within it."""
        return columns // LANES // self.n_parts * LANES + columns % LANES

    def has(self, columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which columns are in the share."""
        return np.asarray(columns // LANES % self.n_parts == self.part)


@dataclass(frozen=True, slots=True)
class WholeShare:
    """All columns of a share: panels, shape (n, d, 16), and terms."""

    panels: Float32Array
    terms: Float32Array

    @classmethod
    def of(cls, share: Share, columns: native_simd.ClusterPanels) -> WholeShare:
        """Copy a share out of all columns."""
        panels = columns.panels.reshape(-1, columns.d, LANES)[share.part :: share.n_parts]
        return cls(np.ascontiguousarray(panels), columns.terms[share.numbers(columns.n)])


@dataclass(frozen=True, slots=True)
class ChangedShare:
    """The columns of a share that changed: their places in it, means, shape (k, d), and terms."""

    places: NDArray[np.int64]
    means: Float32Array
    terms: Float32Array

    @classmethod
    def of(cls, share: Share, columns: native_simd.ClusterPanels, changed: NDArray[np.int64]) -> ChangedShare:
        """Copy those of the changed columns that are in a share."""
        here = changed[share.has(changed)]
        means = columns.panels.reshape(-1, columns.d, LANES)[here // LANES, :, here % LANES]
        return cls(share.place_of(here), means, columns.terms[here])


class HeldShare:
    """A share as an actor has it.

    Parameters
    ----------
    share : Share
    whole : WholeShare
    version : int
        Goes up by one with each change.
    """

    def __init__(self, share: Share, whole: WholeShare, version: int) -> None:
        self.version = version
        self._share = share
        self._panels, self._terms = whole.panels.copy(), whole.terms.copy()  # what came through Ray is read-only

    def change(self, changed: ChangedShare) -> None:
        """Bring the share from its version to the next."""
        self._panels[changed.places // LANES, :, changed.places % LANES] = changed.means
        self._terms[changed.places] = changed.terms
        self.version += 1

    def rank(
        self,
        queries: native_simd.ClusterPanels,
        n_columns: int,
        width: int,
        *,
        method: native_simd.Method,
        metric: native_simd.Metric,
        threads: int,
    ) -> NDArray[np.uint64]:
        """Return the ranked lists of the queries over the share of the first ``n_columns`` of all columns."""
        numbers = self._share.numbers(n_columns)
        n, d = len(numbers), queries.d
        columns = native_simd.ClusterPanels(self._panels[: -(-n // LANES)].reshape(-1), self._terms[:n], n, d)
        lists = native_simd.empty_lists(queries.n, width)
        native_simd.rank_clusters(queries, columns, lists, method=method, metric=metric, threads=threads)
        return native_simd.renumber(lists, numbers) if n else lists
