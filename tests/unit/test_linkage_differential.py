"""Ten thousand small trees against SciPy and against greedy merging replayed: structure, ties, outliers, both ways.

Each case has a number that decides everything about it, so a failure is made again by its number alone. Two thirds
leave no choice within the errors, so SciPy's tree is the only one; the others must still be greedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from list_linkage import EXACT, from_lists
from reference import clusters
from scipy.cluster import hierarchy
from scipy.spatial.distance import cdist, squareform

import cluster_engine as ce
from cluster_engine.linkage import lists
from cluster_engine.linkage.criterion import METHODS, METRICS, Method, Metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Rows = NDArray[np.float64]

N_CASES = 10_000
N_CHUNKS = 12
LARGEST_N = 300
U = 2.0**-24  # unit roundoff of float32


def clustered(rng: np.random.Generator, n: int, d: int) -> Rows:
    rows = 0.2 * rng.standard_normal((n, d))
    for n_groups in (3, 7):
        rows += rng.standard_normal((n_groups, d))[rng.integers(n_groups, size=n)]
    return rows


def cone(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Return ever farther outliers, each of which joins all that came before it."""
    angles = np.linspace(0.01, 1.5, n)[:, np.newaxis]
    across = np.eye(d)[d - 1] + 0.01 * rng.standard_normal((n, d))
    return np.asarray(np.cos(angles) * np.eye(d)[0] + np.sin(angles) * across)


def duplicates(rng: np.random.Generator, n: int, d: int) -> Rows:
    return rng.standard_normal((max(2, n // 3), d))[rng.integers(max(2, n // 3), size=n)]


def ties(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Return points of a small lattice: many distances are equal, exactly."""
    rows = rng.integers(-2, 3, (n, d)).astype(np.float64)
    rows[~rows.any(axis=1), 0] = 1.0
    return rows


def collinear(rng: np.random.Generator, n: int, d: int) -> Rows:
    return np.asarray(rng.standard_normal(d) + rng.random((n, 1)) * rng.standard_normal(d))


def outlier(rng: np.random.Generator, n: int, d: int) -> Rows:
    rows = 1.0 + 0.01 * rng.standard_normal((n, d))
    rows[rng.integers(n)] *= -40.0
    return rows


KINDS: tuple[Callable[[np.random.Generator, int, int], Rows], ...] = (
    clustered,
    lambda rng, n, d: rng.standard_normal((n, d)),
    cone,
    duplicates,
    ties,
    collinear,
    outlier,
)
CRITERIA: list[tuple[Method, Metric]] = [
    (method, metric)
    for method in ("average", "complete", "single", "weighted", "ward")
    for metric in ("cosine", "dot", "euclidean", "sqeuclidean")
    if method != "ward" or metric == "euclidean"
]


class Replay(NamedTuple):
    """What replaying the merges in order tells; `worst` and `gap` are of distances, Ward's being squared.

    `worst` is by how much a merged pair was not the closest, or not as far apart as stated; `gap` by how much the
    runner-up of any merged pair was farther than the pair: what errors may not reach for the tree to be the only one.
    """

    worst: float
    gap: float


def replay(Z: Rows, distances: Rows, method: str) -> Replay:
    apart = distances.copy()
    np.fill_diagonal(apart, np.inf)
    n, worst, gap = len(apart), 0.0, np.inf
    slot, size = list(range(n)), np.ones(n)
    for left, right, height, count in Z:
        a, b = slot[int(left)], slot[int(right)]
        joint, closest = float(apart[a, b]), float(apart.min())
        worst = max(worst, joint - closest, abs(joint - (height**2 if method == "ward" else height)))
        row_a, row_b = apart[a].copy(), apart[b].copy()
        row_a[b] = row_b[a] = np.inf
        rivals = np.minimum(row_a, row_b)
        if np.isfinite(rivals).any():
            gap = min(gap, float(rivals.min()) - joint)
        apart[a] = apart[:, a] = joined(method, row_a, row_b, joint, (size[a], size[b], size))
        apart[b] = apart[:, b] = np.inf
        apart[a, a] = np.inf
        size[a] += size[b]
        assert size[a] == count
        slot.append(a)
    return Replay(worst, gap)


def joined(method: str, x: Rows, y: Rows, joint: float, sizes: tuple[float, float, Rows]) -> Rows:
    """Return the distances of A and B joined, by the formula of Lance and Williams; infinite where nothing is left."""
    a, b, c = sizes
    match method:
        case "average":
            return np.asarray((a * x + b * y) / (a + b))
        case "weighted":
            return np.asarray((x + y) / 2)
        case "complete":
            return np.maximum(x, y)
        case "single":
            return np.where(np.isinf(x), np.inf, np.minimum(x, y))
    return ((a + c) * x + (b + c) * y - c * joint) / (a + b + c)


def distances_of(X: NDArray[np.float32], metric: str) -> Rows:
    x = X.astype(np.float64)
    if metric == "dot":
        return np.asarray(1.0 - x @ x.T)
    if metric != "cosine":
        return cdist(x, x, metric)
    x /= np.linalg.norm(x, axis=1)[:, np.newaxis]
    return cdist(x, x, "sqeuclidean") / 2  # from differences: accurate for near duplicates too


def tolerance(X: NDArray[np.float32], method: Method, metric: Metric, distances: Rows) -> float:
    """Return the largest error of a distance between clusters, squared under Ward.

    Decisions in float64 leave rounding errors of means and products. Others are on float32: `d` operations a distance,
    one for each update of a row, and of unit vectors their own rounding, which is absolute.
    """
    n, d = X.shape
    largest = float(np.abs(distances).max())
    length = float((X.astype(np.float64) ** 2).sum(axis=1).max())
    if (method, metric) in EXACT or method == "single":
        return 1e-13 * (1.0 if metric == "cosine" else length) * (n if method == "ward" else 1)
    error = (d + 8 + n) * U * largest
    if metric == "dot":
        return (d + 2 + n) * U * (length + largest)
    return error + (4 * U * np.sqrt(2 * largest) if metric == "cosine" else 0.0)


def scipy_linkage(distances: Rows, method: str) -> Rows:
    shift = max(0.0, -float(distances.min()))  # SciPy wants distances that are not negative
    Z = np.asarray(hierarchy.linkage(squareform(distances + shift, checks=False), method))
    Z[:, 2] -= shift
    return Z


def check(case: int) -> None:
    rng = np.random.default_rng(case)
    method, metric = CRITERIA[case % len(CRITERIA)]
    n, d = int(np.exp(rng.uniform(np.log(2), np.log(LARGEST_N + 0.5)))), int(rng.integers(2, 24))
    X = KINDS[int(rng.integers(len(KINDS)))](rng, n, d).astype(np.float32)
    if (method, metric) in EXACT and rng.random() < 0.5:
        Z = from_lists(X, method, metric, int(rng.integers(1, 33)))[0]
    else:
        Z = ce.linkage(X, method, metric)
    assert Z.shape == (n - 1, 4)
    distances = distances_of(X, metric)
    allowed = tolerance(X, method, metric, distances**2 if method == "ward" else distances)
    found = replay(Z, distances**2 if method == "ward" else distances, method)
    assert found.worst <= 2 * allowed, (case, found, allowed)
    if found.gap > 4 * allowed:
        expected = scipy_linkage(distances, method)
        assert clusters(Z) == clusters(expected), case
        power = 2 if method == "ward" else 1
        assert np.abs(Z[:, 2] ** power - expected[:, 2] ** power).max() <= 2 * allowed, case


@pytest.mark.parametrize("few", [1, lists.FEW])
@pytest.mark.parametrize("chunk", range(N_CHUNKS // 2))
def test_trees_are_scipys(chunk: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "FEW", few)  # below it, lists finish through a matrix
    first = chunk + (N_CHUNKS // 2 if few == 1 else 0)
    for case in range(first, N_CASES, N_CHUNKS):
        check(case)


def test_every_criterion_is_drawn() -> None:
    assert {method for method, _ in CRITERIA} == set(METHODS)
    assert {metric for _, metric in CRITERIA} == set(METRICS)
