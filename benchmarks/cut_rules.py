"""Compare rules that choose where to cut a dendrogram; ``docs/cut-rules.md`` holds the outcome and the advice.

A rule sees the dendrogram (average linkage, cosine distance) and, where it needs them, the pair similarities; never
the labels. ``python -m benchmarks.cut_rules DATA_NOUN`` prints one Markdown table per data set
(``cut_data.py`` says where the file comes from). Embedding takes most of its quarter of an hour.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import fastcluster
import numpy as np
from scipy.cluster.hierarchy import fcluster
from scipy.stats import beta
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import adjusted_rand_score, v_measure_score

from benchmarks.cut_data import Dataset, all_datasets

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

COPY_DISTANCE = 1e-6  # closer than the similarities are exact: the same vector
MINIMUM_SIZE = 3
WORD = r"[A-Za-z]{3,}"


@dataclass(frozen=True)
class Case:
    """A data set with its dendrogram ``Z`` and its similarities ``S``, (n, n) float64."""

    data: Dataset
    Z: FloatArray
    S: FloatArray

    @property
    def n(self) -> int:
        return len(self.S)

    @cached_property
    def pairs(self) -> FloatArray:
        return self.S[np.triu_indices(self.n, 1)]

    @cached_property
    def sizes(self) -> FloatArray:
        return np.concatenate((np.ones(self.n), self.Z[:, 3]))

    def total(self, value: FloatArray) -> FloatArray:
        """Sum ``value`` of the nodes, (2n - 1,), over the groups that exist after each merge, (n - 1,)."""
        left, right = self.Z[:, :2].T.astype(int)
        return np.asarray(value[: self.n].sum() + np.cumsum(value[self.n :] - value[left] - value[right]))

    def highest(self, score: FloatArray, largest_distance: float = np.inf) -> float:
        """Return the distance of the best scored merge, or 0 where none is above 0; equal distances merge as one."""
        distance = self.Z[:, 2]
        is_cut = np.r_[distance[1:] > distance[:-1], True] & (distance <= largest_distance)
        best = int(np.argmax(np.where(is_cut, score, -np.inf)))
        return float(distance[best]) if is_cut[best] and score[best] > 1e-9 else 0.0


def make_case(data: Dataset) -> Case:
    S = data.vectors.astype(np.float64)
    S = S @ S.T
    return Case(data, fastcluster.average(np.maximum(1 - S[np.triu_indices(len(S), 1)], 0)), S)


# --- the rules -------------------------------------------------------------------------------------------------------


def most_groups(case: Case) -> float:
    """Cut where most groups have three members or more."""
    return case.highest(case.total((case.sizes >= MINIMUM_SIZE).astype(float)))


def largest_gap(case: Case) -> float:
    """Cut in the largest absolute gap between consecutive distances."""
    return float(case.Z[np.argmax(np.diff(case.Z[:, 2])), 2])


def largest_relative_gap(case: Case) -> float:
    """Cut in the largest relative gap."""
    distance = np.maximum(case.Z[:, 2], COPY_DISTANCE)
    return float(distance[np.argmax(distance[1:] / distance[:-1])])


def pair_quantile(q: float) -> Callable[[Case], float]:
    """Cut at the ``q`` quantile of all pair similarities."""
    return lambda case: float(1 - np.quantile(case.pairs, q))


def unrelated_neighbour(case: Case) -> float:
    """Cut where an episode expects one unrelated neighbour: the 1 - 1/n quantile of a Beta law of the same moments."""
    mean, variance = (1 + case.pairs.mean()) / 2, case.pairs.var() / 4
    if variance < 1e-12:
        return COPY_DISTANCE
    weight = mean * (1 - mean) / variance - 1
    return float(2 - 2 * beta.isf(1 / case.n, mean * weight, (1 - mean) * weight))


def silhouette(case: Case) -> float:
    """Cut where the mean silhouette is highest, of 20 cuts evenly spaced in the logarithm of the number of groups."""
    ranks = np.unique(case.n - np.geomspace(2, case.n - 1, 20).astype(int)) - 1
    distances = [case.Z[rank, 2] for rank in ranks if 0 < case.Z[rank, 2] < case.Z[-1, 2]]
    return float(max(distances, key=lambda distance: mean_silhouette(case, distance), default=0.0))


def mean_silhouette(case: Case, distance: float) -> float:
    labels = fcluster(case.Z, distance, "distance")
    order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)[1:]
    to_group = sizes[:, None].astype(np.float64) - np.add.reduceat(
        case.S[order], np.r_[0, np.cumsum(sizes)[:-1]], axis=0
    )
    own = (labels - 1, np.arange(case.n))
    n_others = sizes[labels - 1] - 1
    inside = to_group[own] / np.maximum(n_others, 1)
    to_group /= sizes[:, None]
    to_group[own] = np.inf
    outside = to_group.min(axis=0)
    return float(np.where(n_others > 0, (outside - inside) / np.maximum(np.maximum(outside, inside), 1e-12), 0).mean())


def mass_lifetime(case: Case) -> float:
    """Cut where the groups' lifetimes, from their own to their parents' distance, weighted by size, are longest."""
    born = np.r_[np.zeros(case.n), case.Z[:, 2]]
    died = np.full(2 * case.n - 1, case.Z[-1, 2])
    died[case.Z[:, :2].astype(int)] = case.Z[:, 2, None]
    return case.highest(case.total(np.where(case.sizes >= MINIMUM_SIZE, case.sizes * (died - born), 0)))


def point_biserial(case: Case) -> float:
    """Cut where "same group" correlates best with similarity, over all pairs."""
    n_pairs, total = case.n * (case.n - 1) / 2, case.pairs.sum()
    inside, n_inside = sum_pairs(case.Z, case.sizes)
    inside, n_inside = case.total(inside), case.total(n_inside)
    n_apart = np.maximum(n_pairs - n_inside, 1)
    return case.highest((inside / n_inside - (total - inside) / n_apart) * np.sqrt(n_inside * (n_pairs - n_inside)))


def adjusted_similarity(level: float) -> Callable[[Case], float]:
    """Cut at ``level`` of the way from the mean similarity of all pairs to 1."""
    return lambda case: float((1 - level) * (1 - case.pairs.mean()))


def sum_pairs(Z: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each node's sum of pair similarities and number of pairs, (2n - 1,), both exact from ``Z`` alone."""
    n = len(Z) + 1
    inside = np.zeros(2 * n - 1)
    for row, (left, right, distance, _) in enumerate(Z.tolist()):
        a, b = int(left), int(right)
        inside[n + row] = inside[a] + inside[b] + weights[a] * weights[b] * (1 - distance)
    return inside, weights * (weights - 1) / 2


def count_distinct(Z: FloatArray) -> FloatArray:
    """Return how many distinct vectors each node holds, (2n - 1,): copies of one vector count once."""
    n = len(Z) + 1
    weights = np.ones(2 * n - 1)
    for row, (left, right, distance, _) in enumerate(Z.tolist()):
        if distance > COPY_DISTANCE:
            weights[n + row] = weights[int(left)] + weights[int(right)]
    return weights


def binding_gain(floor: float) -> Callable[[Case], float]:
    """Cut where the sum of ``m ln(m) (s - mu)**2`` over the groups is highest.

    A group has ``m`` distinct vectors, at least three, and mean pair similarity ``s``; ``mu`` is the mean similarity
    of all pairs. No cut goes below ``floor`` of the way from ``mu`` to 1.
    """

    def rule(case: Case) -> float:
        m = count_distinct(case.Z)
        inside, n_pairs = sum_pairs(case.Z, m)
        if n_pairs[-1] == 0:
            return COPY_DISTANCE
        mu = inside[-1] / n_pairs[-1]
        s = np.divide(inside, n_pairs, out=np.full_like(inside, mu), where=n_pairs > 0)
        gain = np.where(m >= MINIMUM_SIZE, m * np.log(m) * np.maximum(s - mu, 0) ** 2, 0)
        return max(case.highest(case.total(gain), (1 - floor) * (1 - mu)), COPY_DISTANCE)

    return rule


RULES: dict[str, Callable[[Case], float]] = {
    "(a) most groups of 3 or more": most_groups,
    "(b) largest gap": largest_gap,
    "(b) largest relative gap": largest_relative_gap,
    "(c) 99 % of pairs": pair_quantile(0.99),
    "(c) 99.9 % of pairs": pair_quantile(0.999),
    "(c) one unrelated neighbour": unrelated_neighbour,
    "(d) silhouette": silhouette,
    "(d) mass times lifetime": mass_lifetime,
    "(e) point-biserial": point_biserial,
    "(e) adjusted similarity 0.35": adjusted_similarity(0.35),
    "(e) adjusted similarity 0.5": adjusted_similarity(0.5),
    "(e) binding gain, no floor": binding_gain(-np.inf),
    "**(e) binding gain, floor 0.3**": binding_gain(0.3),
}

# --- the judgement ---------------------------------------------------------------------------------------------------


def shared_word(labels: NDArray[np.int32], texts: list[str]) -> float:
    """Return the mean share of a group's texts that hold its commonest word, of words in at most 5 % of all texts."""
    words = CountVectorizer(binary=True, max_df=0.05, token_pattern=WORD).fit_transform(texts)
    groups = [np.flatnonzero(labels == label) for label in np.flatnonzero(np.bincount(labels) >= MINIMUM_SIZE)]
    n_sharing = sum(words[group].sum(axis=0).max() for group in groups)
    return float(n_sharing / max(sum(map(len, groups)), 1))


def judge(case: Case, distance: float) -> str:
    """Return one table row: similarity, groups of three or more, coverage, median, largest, and the quality known."""
    labels = fcluster(case.Z, distance, "distance")
    sizes = np.bincount(labels)
    sizes = sizes[sizes >= MINIMUM_SIZE]
    cells = [f"{1 - distance:.2f}", f"{len(sizes)}", f"{sizes.sum() / case.n:.0%}"]
    cells += [f"{np.median(sizes):.0f}", f"{sizes.max()}"] if len(sizes) else ["", ""]
    if case.data.labels is not None:
        truth = case.data.labels
        cells.append(f"{adjusted_rand_score(truth, labels):.3f} / {v_measure_score(truth, labels):.3f}")
    elif case.data.texts is not None and " " in "".join(case.data.texts):
        cells.append(f"{shared_word(labels, case.data.texts):.0%}")
    return " | ".join(cells)


def describe_best(case: Case) -> str:
    if case.data.labels is None:
        return ""
    distances = np.unique(np.quantile(case.Z[:, 2], np.linspace(0.2, 1, 120)))
    scores = [adjusted_rand_score(case.data.labels, fcluster(case.Z, h, "distance")) for h in distances]
    return f", best possible ARI {max(scores):.3f} at similarity {1 - distances[int(np.argmax(scores))]:.2f}"


def print_table(data: Dataset) -> None:
    case = make_case(data)
    n, d = data.vectors.shape
    quality = "ARI / V" if data.labels is not None else "shared word" if data.texts is not None else ""
    print(f"\n### {data.name}\n{n:,} x {d}, mean similarity {case.pairs.mean():.2f}{describe_best(case)}\n")
    print(f"| rule | similarity | groups | coverage | median | largest | {quality} |\n|---|---|---|---|---|---|---|")
    for name, rule in RULES.items():
        print(f"| {name} | {judge(case, rule(case))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data_noun", type=Path, help="data.noun of WordNet 3.0")
    for data in all_datasets(parser.parse_args().data_noun):
        print_table(data)


if __name__ == "__main__":
    main()
