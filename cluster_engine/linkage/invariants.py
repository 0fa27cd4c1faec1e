"""The invariants of a dendrogram from anywhere, checked; `cluster_engine.dendrogram.Dendrogram` states them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cluster_engine.errors import InputError
from cluster_engine.linkage.leaf_order import children_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def as_rows(Z: ArrayLike) -> NDArray[np.float64]:
    """Return a copy of Z."""
    z = np.asarray(Z)
    if z.dtype.kind not in "fiu" or z.ndim != 2 or z.shape[1] != 4:
        raise InputError(f"Z is an array of real numbers of shape (n_merges, 4), got {z.dtype} of shape {z.shape}")
    return np.array(z, np.float64, order="C")


def check_merges(z: NDArray[np.float64], n: int) -> None:
    """Refuse rows against I1 to I4."""
    if len(z) >= n:
        raise InputError(f"I1: Z has {len(z)} rows; {n} leaves have at most {n - 1} merges")
    a, b = z[:, 0], z[:, 1]
    is_earlier = (np.minimum(a, b) >= 0) & (np.maximum(a, b) < n + np.arange(len(z)))
    is_wrong = ~is_earlier | (np.floor(a) != a) | (np.floor(b) != b) | (a == b)
    _refuse(is_wrong, z, "I1: joins two different nodes numbered below n + t")
    joined = children_of(z).ravel()
    is_again = np.ones(len(joined), np.bool_)
    is_again[np.unique(joined, return_index=True)[1]] = False
    _refuse(is_again[::2] | is_again[1::2], z, "I2: joins no node that an earlier row joined")
    heights = z[:, 2]
    _refuse(~np.isfinite(heights), z, "I3: has a finite height")
    _refuse(np.diff(heights, prepend=heights[:1]) < 0, z, "I3: is not below the row before")
    sizes = np.concatenate((np.ones(n), z[:, 3]))
    _refuse(z[:, 3] != sizes[children_of(z)].sum(axis=1), z, "I4: counts the leaves below its two nodes")


def _refuse(is_bad: NDArray[np.bool_], z: NDArray[np.float64], want: str) -> None:
    if is_bad.any():
        row = int(np.flatnonzero(is_bad)[0])
        invariant, rule = want.split(": ")
        raise InputError(f"{invariant}: row t of Z {rule}; row {row} is {z[row].tolist()}")


def check_cut(z: NDArray[np.float64], cut: float | None) -> float:
    """Return the height up to which the merges of a forest are known: where linkage stopped, or its last merge."""
    last = float(z[-1, 2]) if len(z) else -np.inf
    if cut is not None and not cut >= last:
        raise InputError(f"the cut of a forest is not below its last merge, at {last:g}; got {cut}")
    return last if cut is None else float(cut)


def as_ids(ids: ArrayLike, n: int) -> NDArray[Any]:
    """Return ids as I5 has them."""
    values = np.array(ids, object)
    if values.shape != (n,):
        raise InputError(f"I5: want {n} ids, one a leaf, got shape {values.shape}; a forest needs its n as well")
    is_text = all(isinstance(value, str) for value in values)
    if not is_text and not all(_is_int64(value) for value in values):
        raise InputError("I5: ids are all strings, or all integers of 64 bits")
    first = {value: n - 1 - k for k, value in enumerate(reversed(values))}
    if len(first) < n:
        leaf = next(leaf for leaf, value in enumerate(values) if first[value] < leaf)
        raise InputError(f"I5: ids differ; leaf {leaf} has the id {values[leaf]!r} of an earlier one")
    return values if is_text else values.astype(np.int64)


def _is_int64(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and bool(-(2**63) <= value < 2**63)
