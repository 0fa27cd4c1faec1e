"""`Dendrogram`: a tree of merges, or a forest, as one frozen value, and what can be asked of it.

Owns the checking of a Z from anywhere. Refuses to know how merges were found.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster_engine.errors import EpisodeFileError, SchemaError
from cluster_engine.linkage.ancestry import joining_merges
from cluster_engine.linkage.cut import cut_at
from cluster_engine.linkage.invariants import as_ids, as_rows, check_cut, check_merges
from cluster_engine.linkage.leaf_order import LeafOrder, children_of, find_tops, order_leaves
from cluster_engine.linkage.newick import newick_pieces
from cluster_engine.linkage.outline import Outline, outline
from cluster_engine.linkage.stability import stable_branches

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from numpy.typing import ArrayLike, NDArray

MERGE_COLUMNS = ("left", "right", "distance", "n_episodes")
"""Columns of Z as a table."""


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Dendrogram:
    """Merges over n leaves, in SciPy's layout: leaves are nodes 0 to n - 1, row t of Z forms node n + t.

    Fewer than n - 1 merges make a forest, as linkage that stops at a height does; each node that is never joined is
    the root of a tree. Such a linkage does not tell what joins above the height where it stopped, so no cut is there.

    Invariants, checked when it is made:

    I1. Z has fewer rows than there are leaves; row t joins two different earlier nodes, numbered below n + t.
    I2. No node is joined twice.
    I3. Heights ``Z[:, 2]`` are finite and never decrease: the tree is monotone. They may be negative.
    I4. ``Z[:, 3]`` is the number of leaves below the node.
    I5. There are n ids, all integers or all strings, no two equal.

    Parameters
    ----------
    Z : array_like, shape (n_merges, 4)
        Copied. From :func:`cluster_engine.linkage`, :func:`scipy.cluster.hierarchy.linkage` or elsewhere.
    ids : array_like of integers or strings, shape (n,), optional
        Of the leaves; by default their numbers.
    n : int, optional
        Number of leaves; by default ``len(Z) + 1``, one tree.
    cut : float, optional
        Of a forest, the height where linkage stopped, at or above the last merge; infinity if its trees never join. By
        default the height of the last merge: up to there all merges are known.

    Attributes
    ----------
    Z : ndarray of float64, shape (n_merges, 4)
        Read-only; SciPy's functions take it where it is one tree.
    ids : ndarray of int64 or of str objects, shape (n,)
        Read-only.
    cut : float
        Height up to which merges are known; infinity for one tree.

    Raises
    ------
    InputError
        An invariant does not hold; names it and the row. Or the cut is below a merge.
    """

    Z: NDArray[np.float64]
    ids: NDArray[Any]
    cut: float

    def __init__(
        self, Z: ArrayLike, ids: ArrayLike | None = None, *, n: int | None = None, cut: float | None = None
    ) -> None:
        z = as_rows(Z)
        n_leaves = len(z) + 1 if n is None else operator.index(n)
        check_merges(z, n_leaves)
        names = np.arange(n_leaves) if ids is None else as_ids(ids, n_leaves)
        for array in (z, names):
            array.flags.writeable = False
        object.__setattr__(self, "Z", z)
        object.__setattr__(self, "ids", names)
        object.__setattr__(self, "cut", math.inf if len(z) == n_leaves - 1 else check_cut(z, cut))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dendrogram):
            return NotImplemented
        return np.array_equal(self.Z, other.Z) and np.array_equal(self.ids, other.ids) and self.cut == other.cut

    def __hash__(self) -> int:
        return hash((self.n, self.n_trees))

    def __repr__(self) -> str:
        return f"Dendrogram(n={self.n}, n_trees={self.n_trees})"

    @property
    def n(self) -> int:
        """Number of leaves."""
        return len(self.ids)

    @property
    def n_trees(self) -> int:
        """Number of trees: 1, or more for a forest."""
        return self.n - len(self.Z)

    @cached_property
    def _order(self) -> LeafOrder:
        return order_leaves(self.Z, self.n)

    def cut_height(self, height: float) -> NDArray[np.int64]:
        """Return the groups that merges at or below a height make. O(n log n).

        Parameters
        ----------
        height : float
            Not NaN, and not above `cut`.

        Returns
        -------
        ndarray of int64, shape (n,)
            Number of the group of each leaf, from 0, groups by their smallest leaf.
        """
        if math.isnan(height):
            raise ValueError("height must be a number, got NaN")
        if height > self.cut:
            raise ValueError(
                f"height {height:g} is above {self.cut:g}, up to where the merges of this forest are known: let "
                "linkage go on, or tell Dendrogram with cut= where it stopped"
            )
        return self._label_merged(cut_at(self.Z, height).n_merges)

    def cut_count(self, n_clusters: int) -> NDArray[np.int64]:
        """Return a number of groups: those after the first ``n - n_clusters`` merges. O(n log n).

        Where the next merge is as high as the last, the order of the rows of Z decides.

        Parameters
        ----------
        n_clusters : int
            From `n_trees` to n.

        Returns
        -------
        ndarray of int64, shape (n,)
            Number of the group of each leaf, from 0, groups by their smallest leaf.
        """
        if not self.n_trees <= n_clusters <= self.n:
            raise ValueError(f"n_clusters must be from {self.n_trees} to {self.n}, got {n_clusters}")
        return self._label_merged(self.n - operator.index(n_clusters))

    def cut_stability(self, min_cluster_size: int = 5) -> NDArray[np.int64]:
        """Return the most stable branches, at whatever heights: the excess of mass of HDBSCAN. O(n log n).

        Going down from the root, a merge of two branches of at least `min_cluster_size` leaves is a split: both are
        born at its height. At any other merge leaves only leave the branch. The stability of a branch is the sum, over
        its leaves, of the height of its birth minus the height at which the leaf leaves or the branch is split. Of all
        ways to choose branches none below another, the one of the largest total stability is taken, of equal ones that
        with the larger branches. The trunk, down to the first split, is never a cluster. The trees of a forest are
        born at the height of its last merge, if two of them or more are large enough.

        HDBSCAN puts ``1 / height`` in the place of ``-height``: for that, make a dendrogram with the heights
        ``-1 / height``.

        Parameters
        ----------
        min_cluster_size : int
            At least 2.

        Returns
        -------
        ndarray of int64, shape (n,)
            Number of the cluster of each leaf, from 0, clusters by their smallest leaf; -1 for leaves in none.
        """
        if min_cluster_size < 2:
            raise ValueError(f"min_cluster_size must be at least 2, got {min_cluster_size}")
        return self._order.label(stable_branches(self.Z, self._order, operator.index(min_cluster_size)))

    def outline(self, max_tips: int = 48, min_leaves: int = 1) -> Outline:
        """Return the highest merges of two branches of at least `min_leaves`, so many that `max_tips` branches result.

        Smaller branches are left out, and with them the merges that only add those. Of a forest with more trees than
        `max_tips`, the largest trees. O(n + max_tips**2).
        """
        if max_tips < 1 or min_leaves < 1:
            raise ValueError(f"max_tips and min_leaves must be at least 1, got {max_tips} and {min_leaves}")
        return outline(self.Z, self._order, operator.index(max_tips), operator.index(min_leaves))

    def cophenetic(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
        """Return the height at which leaves join, pair by pair. O((n + m) log n) for m pairs.

        Parameters
        ----------
        first, second : array_like of int
            Leaves; broadcast against each other.

        Returns
        -------
        ndarray of float64
            0 for a leaf and itself, infinity for leaves of different trees.
        """
        pairs = np.broadcast_arrays(self._as_leaves(first), self._as_leaves(second))
        a, b = (leaves.ravel() for leaves in pairs)
        heights = np.append(self.Z[:, 2], np.inf)
        joined = np.zeros(len(a))
        differ = a != b
        joined[differ] = heights[joining_merges(self.Z, self._order, a[differ], b[differ])]
        return joined.reshape(pairs[0].shape)

    def to_newick(self, file: TextIO) -> None:
        """Write the dendrogram as Newick text, one line a tree, without holding it in memory. O(n log n).

        Leaves are named by their ids, from left to right as in `leaf_order`. The length of a branch is the height of
        the node above it minus its own; leaves lie at 0.
        """
        file.writelines(newick_pieces(self.Z, self._order, self.ids.tolist()))

    def to_parquet(self, path: str | Path, leaves_path: str | Path | None = None) -> None:
        """Write the merges as a Parquet file, and the leaves' ids as another.

        The cut of a forest is written with the schema of the merges, as the entry ``cut`` of its metadata.

        Parameters
        ----------
        path : str or Path
            Gets the columns left, right, distance, n_episodes.
        leaves_path : str or Path, optional
            Gets the column episode_id, one row a leaf. Only one tree whose ids are the numbers of its leaves can be
            read back without it.
        """
        if leaves_path is None and (self.n_trees > 1 or not np.array_equal(self.ids, np.arange(self.n))):
            raise ValueError("the merges alone do not hold the ids, nor the n of a forest: give leaves_path")
        merges = _merge_table(self.Z)
        pq.write_table(merges if self.n_trees == 1 else merges.replace_schema_metadata({"cut": repr(self.cut)}), path)
        if leaves_path is not None:
            pq.write_table(pa.table({"episode_id": pa.array(self.ids)}), leaves_path)

    @classmethod
    def from_parquet(cls, path: str | Path, leaves_path: str | Path | None = None) -> Dendrogram:
        """Read what `to_parquet` wrote.

        Raises
        ------
        EpisodeFileError
            A file cannot be read as Parquet.
        SchemaError
            A column is missing; names it.
        InputError
            As the constructor.
        """
        merges = _read_columns(path, MERGE_COLUMNS)
        if leaves_path is None:
            return cls.from_tables(merges)
        return cls.from_tables(merges, _read_columns(leaves_path, ("episode_id",)))

    @classmethod
    def from_tables(cls, merges: pa.Table, leaves: pa.Table | None = None) -> Dendrogram:
        """Make a dendrogram from the tables that `to_parquet` writes.

        Parameters
        ----------
        merges : pyarrow.Table
            Columns left, right, distance, n_episodes; in the metadata of its schema the cut of a forest.
        leaves : pyarrow.Table, optional
            Column episode_id, one row a leaf; by default ids are numbers.
        """
        rows = np.column_stack([np.asarray(merges[name]) for name in MERGE_COLUMNS])
        if leaves is None:
            return cls(rows)
        cut = (merges.schema.metadata or {}).get(b"cut")
        return cls(rows, np.asarray(leaves["episode_id"]), n=leaves.num_rows, cut=None if cut is None else float(cut))

    def _as_leaves(self, leaves: ArrayLike) -> NDArray[np.int64]:
        numbers = np.asarray(leaves)
        if numbers.dtype.kind not in "iu" or ((numbers < 0) | (numbers >= self.n)).any():
            raise ValueError(f"leaves are integers from 0 to {self.n - 1}")
        return numbers.astype(np.int64)

    def _label_merged(self, n_merges: int) -> NDArray[np.int64]:
        return self._order.label(find_tops(children_of(self.Z[:n_merges]), self.n))

    def leaf_order(self) -> NDArray[np.int64]:
        """Return the leaves from left to right: the branch, and the tree, with the smaller leaf first. O(n).

        Every node's leaves lie side by side, the smallest first.
        """
        return self._order.leaves.copy()

    def leaves(self, node: int) -> NDArray[np.int64]:
        """Return the leaves below a node, ascending; of a leaf, itself. O(m log m) for m leaves."""
        return np.sort(self._order.below(self._check_node(node)))

    def subtree(self, node: int) -> Dendrogram:
        """Return the branch of a node, of one leaf or more, with the ids of its leaves. O(n).

        Leaves and merges keep their order and are numbered anew: leaf i is ``leaves(node)[i]``.
        """
        leaves = self.leaves(node)
        order, first = self._order, self._order.start[node]
        is_inside = (order.start >= first) & (order.start < first + len(leaves)) & (order.size <= len(leaves))
        renumbered = np.cumsum(is_inside) - 1
        rows = self.Z[is_inside[self.n :]]
        rows[:, :2] = renumbered[children_of(rows)]
        return Dendrogram(rows, self.ids[leaves])

    def _check_node(self, node: int) -> int:
        n_nodes = self.n + len(self.Z)
        if not 0 <= node < n_nodes:
            raise ValueError(f"node must be from 0 to {n_nodes - 1}, got {node}")
        return operator.index(node)


def _merge_table(z: NDArray[np.float64]) -> pa.Table:
    left, right, distance, n_leaves = z.T
    columns = (left.astype(np.int64), right.astype(np.int64), distance.copy(), n_leaves.astype(np.int64))
    return pa.table(dict(zip(MERGE_COLUMNS, columns, strict=True)))


def _read_columns(path: str | Path, names: tuple[str, ...]) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            for name in names:
                if name not in found:
                    raise SchemaError(f"{path}: no column {name!r}; there are {', '.join(map(repr, found))}")
            return file.read(columns=list(names))
    except (pa.ArrowException, OSError) as error:
        raise EpisodeFileError(f"{path}: cannot be read as Parquet: {error}") from error
