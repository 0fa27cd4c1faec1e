"""Clusters beside known groups: ``python -m benchmarks.quality`` prints the tables of ``docs/quality.md``.

Dendrogram purity, adjusted Rand index and normalised mutual information of this engine and its peers, on digits and on
labelled texts. Where its two arguments come from, that page says.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.cluster import hierarchy
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import cluster_engine as ce
from benchmarks.cut_data import Dataset, demo, leaf_nouns, text_files, wordnet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Method, Metric

    Labels = NDArray[np.int64]

N_SEEDS = 5
MINIMUM_SIZE = 3  # below it a group is no concept
RULE = "| {:32} | {:>6} | {:>6} | {:>6} | {:>6} | {:>7} | {:>6} | {:>6} |"


class Found(NamedTuple):
    """What one method makes of the vectors; of what it does not do, None.

    Attributes
    ----------
    children : ndarray of int64, shape (n - 1, 2)
        The two nodes that merge t joins into node n + t.
    groups : ndarray of int64, shape (n,)
        Labels where the true number of groups is given.
    chosen : ndarray of int64, shape (n,)
        Labels where it is not; -1 for points in no group.
    """

    children: Labels | None = None
    groups: Labels | None = None
    chosen: Labels | None = None


# --- the methods: vectors, number of groups and seed to what is found ------------------------------------------------


def engine(method: Method, metric: Metric, X: NDArray[np.float32], k: int, _seed: int) -> Found:
    clustering = ce.ConceptClustering(linkage=method, metric=metric).fit(X)
    return Found(clustering.children_, clustering.dendrogram_.cut_count(k), clustering.labels_)


def approximate(X: NDArray[np.float32], k: int, _seed: int) -> Found:
    tree = ce.Dendrogram(ce.approximate_linkage(X).Z)
    return Found(tree.Z[:, :2].astype(np.int64), tree.cut_count(k))


def by_scipy(method: Method, metric: Metric, X: NDArray[np.float32], k: int, _seed: int) -> Found:
    z = hierarchy.linkage(X.astype(np.float64), method, metric)
    return Found(z[:, :2].astype(np.int64), hierarchy.fcluster(z, k, "maxclust"))


def by_scikit_learn(method: Method, metric: Metric, X: NDArray[np.float32], k: int, _seed: int) -> Found:
    model = AgglomerativeClustering(k, linkage=method, metric=metric, compute_full_tree=True).fit(X)
    return Found(model.children_, model.labels_)


def by_fast_hdbscan(X: NDArray[np.float32], _k: int, seed: int) -> Found:
    from fast_hdbscan import HDBSCAN  # noqa: PLC0415 - in this script's own environment only

    np.random.seed(seed)  # noqa: NPY002 - what its search of neighbours draws from
    model = HDBSCAN().fit(X)
    return Found(children=model._single_linkage_tree[:, :2].astype(np.int64), chosen=model.labels_)  # noqa: SLF001 - its only access to the tree


def by_evoc(X: NDArray[np.float32], k: int, seed: int) -> Found:
    from evoc import EVoC  # noqa: PLC0415 - in this script's own environment only

    chosen = EVoC(random_state=seed).fit_predict(X)
    return Found(groups=EVoC(approx_n_clusters=k, random_state=seed).fit_predict(X), chosen=chosen)


def by_k_means(X: NDArray[np.float32], k: int, seed: int) -> Found:
    return Found(groups=KMeans(k, n_init=10, random_state=seed).fit_predict(X))


METHODS: dict[str, Callable[[NDArray[np.float32], int, int], Found]] = {
    "engine, average, cosine": partial(engine, "average", "cosine"),
    "engine, Ward": partial(engine, "ward", "euclidean"),
    "engine, approximate, cosine": approximate,
    "SciPy, average, cosine": partial(by_scipy, "average", "cosine"),
    "SciPy, Ward": partial(by_scipy, "ward", "euclidean"),
    "scikit-learn, average, cosine": partial(by_scikit_learn, "average", "cosine"),
    "scikit-learn, Ward": partial(by_scikit_learn, "ward", "euclidean"),
    "fast_hdbscan": by_fast_hdbscan,
    "EVoC": by_evoc,
    "k-means": by_k_means,
}
RANDOM = ("fast_hdbscan", "EVoC", "k-means")

# --- the measures ----------------------------------------------------------------------------------------------------


def dendrogram_purity(children: Labels, labels: Labels) -> float:
    """Return how pure the smallest branch that holds two points of one group is, on average over all such pairs.

    Heller and Ghahramani 2005. Exact, from the counts of each group in each branch: O(n) for a number of groups.
    """
    _, group = np.unique(labels, return_inverse=True)
    n = len(group)
    counts = np.zeros((2 * n - 1, group.max() + 1))
    counts[np.arange(n), group] = 1
    total = n_pairs = 0.0
    for row, (left, right) in enumerate(children):
        a, b = counts[left], counts[right]
        counts[n + row] = a + b
        joined = a * b
        total += joined @ counts[n + row] / counts[n + row].sum()
        n_pairs += joined.sum()
    return float(total / n_pairs)


def agreement(labels: Labels | None, truth: Labels) -> list[float]:
    """Return the adjusted Rand index and the normalised mutual information; points in no group are alone."""
    if labels is None:
        return [np.nan, np.nan]
    alone = labels < 0
    whole = np.where(alone, labels.max() + 1 + np.cumsum(alone), labels)
    return [adjusted_rand_score(truth, whole), normalized_mutual_info_score(truth, whole)]


def extent(labels: Labels | None) -> list[float]:
    """Return the number of groups of three or more, and the share of all points that they hold."""
    if labels is None:
        return [np.nan, np.nan]
    sizes = np.bincount(labels[labels >= 0])
    return [np.count_nonzero(sizes >= MINIMUM_SIZE), sizes[sizes >= MINIMUM_SIZE].sum() / len(labels)]


def measure(found: Found, truth: Labels) -> list[float]:
    purity = np.nan if found.children is None else dendrogram_purity(found.children, truth)
    return [purity, *agreement(found.groups, truth), *extent(found.chosen), *agreement(found.chosen, truth)]


# --- the tables ------------------------------------------------------------------------------------------------------


def datasets(data_noun: Path, tokenizer_json: Path) -> Iterator[Dataset]:
    """Yield vectors with known groups; the texts of a data set are not looked at."""
    digits = load_digits()
    yield Dataset("Digits, by digit", digits.data.astype(np.float32), digits.target)
    nouns = leaf_nouns(data_noun)
    data = wordnet(nouns, tokenizer_json)
    yield data._replace(name="Nouns of WordNet, by what they are a kind of")
    yield data._replace(name="Nouns of WordNet, by subject", labels=codes([noun.subject for noun in nouns]))
    episodes = demo()
    assert episodes.ids is not None
    sources = codes([name.partition("/")[0] for name in episodes.ids])
    yield episodes._replace(name="Changelog entries, by package", labels=sources)


def codes(names: list[str]) -> Labels:
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def shown(name: str, values: list[float]) -> str:
    cells = ["" if np.isnan(value) else f"{value:.3f}" for value in values]
    if not np.isnan(values[3]):
        cells[3:5] = f"{values[3]:.0f}", f"{values[4]:.0%}"
    return RULE.format(name, *cells)


def print_table(data: Dataset) -> None:
    assert data.labels is not None
    n, d = data.vectors.shape
    k = len(np.unique(data.labels))
    print(f"\n### {data.name}\n{n:,} x {d}, {k} groups\n")
    print(RULE.format("", "purity", f"ARI {k}", f"NMI {k}", "chosen", "in them", "ARI", "NMI"))
    print("|---" * 8 + "|", flush=True)
    for name, method in METHODS.items():
        seeds = range(N_SEEDS if name in RANDOM else 1)
        rows = [measure(method(data.vectors, k, seed), data.labels) for seed in seeds]
        print(shown(name, np.mean(rows, axis=0).tolist()), flush=True)


def main() -> None:
    for data in datasets(*text_files(__doc__)):
        print_table(data)


if __name__ == "__main__":
    main()
