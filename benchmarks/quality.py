"""Clusters beside known groups: ``python -m benchmarks.quality`` prints the tables of ``docs/quality.md``.

Dendrogram purity, adjusted Rand index, v-measure and adjusted mutual information of this engine and its peers, on
digits and on labelled texts. Where its arguments come from, that page says.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.cluster import hierarchy
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, v_measure_score

import cluster_engine as ce
from benchmarks.cut_data import Dataset, demo, leaf_nouns, wordnet
from benchmarks.labelled_texts import add_files, labelled_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from cluster_engine.linkage.criterion import Method, Metric

    Labels = NDArray[np.int64]

N_SEEDS = 5
MINIMUM_SIZE = 3  # below it a group is no concept
RULE = "| {:32} | {:>6} | {:>6} | {:>6} | {:>6} | {:>6} | {:>7} | {:>6} | {:>6} | {:>6} |"
BEST = "| {:32} | {:>6} | {:>6} | {:>6} | {:>6} | {:>6} |"


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


class BestCuts(NamedTuple):
    """What somebody who knows the true groups would cut a tree into.

    Attributes
    ----------
    ari, v_at_ari : float
        The largest adjusted Rand index of any cut, and the v-measure of that cut.
    n_at_ari : int
        Groups of that cut, those of one point with them.
    v : float
        The largest v-measure of any cut.
    n_at_v : int
    """

    ari: float
    v_at_ari: float
    n_at_ari: int
    v: float
    n_at_v: int


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
ENGINE = "engine, average, cosine"
AS_MANY = "k-means, as many as the engine"  # of three or more

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


def best_cuts(children: Labels, truth: Labels) -> BestCuts:
    """Try every cut of a tree, from all points alone to all in one group. O(n) for a number of true groups."""
    _, group = np.unique(truth, return_inverse=True)
    n = len(group)
    counts = np.zeros((2 * n - 1, group.max() + 1))
    counts[np.arange(n), group] = 1
    for row, (left, right) in enumerate(children):
        counts[n + row] = counts[left] + counts[right]
    true, size = counts[-1], counts.sum(axis=1)

    def after_merges(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over the groups of a value of each node, after 0, 1, ... merges."""
        left, right = children.T
        return np.concatenate(
            ([values[:n].sum()], values[:n].sum() + np.cumsum(values[n:] - values[left] - values[right]))
        )

    # sums of m ln m over cells, groups and true groups are n ln n less n times an entropy
    cells, groups = after_merges(_m_ln_m(counts).sum(axis=1)), after_merges(_m_ln_m(size))
    classes, whole = _m_ln_m(true).sum(), n * np.log(n)
    shared = whole - groups - classes + cells  # n times the mutual information
    v = 2 * shared / (whole - classes + whole - groups)
    pair_cells, pair_groups = after_merges(_pairs(counts).sum(axis=1)), after_merges(_pairs(size))
    chance = pair_groups * _pairs(true).sum() / _pairs(np.float64(n))
    with np.errstate(invalid="ignore"):  # 0 / 0 where every point is alone, as it should
        ari = np.nan_to_num((pair_cells - chance) / ((pair_groups + _pairs(true).sum()) / 2 - chance), nan=1.0)
    by_ari, by_v = int(ari.argmax()), int(v.argmax())
    return BestCuts(float(ari[by_ari]), float(v[by_ari]), n - by_ari, float(v[by_v]), n - by_v)


def _m_ln_m(m: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(m * np.log(np.maximum(m, 1)))


def _pairs(m: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(m * (m - 1) / 2)


def agreement(labels: Labels | None, truth: Labels) -> list[float]:
    """Return the adjusted Rand index and the v-measure; points in no group are alone."""
    if labels is None:
        return [np.nan, np.nan]
    whole = with_singles(labels)
    return [adjusted_rand_score(truth, whole), v_measure_score(truth, whole)]


def with_singles(labels: Labels) -> Labels:
    """Return labels in which each point in no group is a group of its own."""
    alone = labels < 0
    return np.where(alone, labels.max() + 1 + np.cumsum(alone), labels)


def extent(labels: Labels | None) -> list[float]:
    """Return the number of groups of three or more, the share of all points in them, and the number of all groups."""
    if labels is None:
        return [np.nan, np.nan, np.nan]
    sizes = np.bincount(labels[labels >= 0])
    n_groups = len(np.unique(with_singles(labels)))
    return [np.count_nonzero(sizes >= MINIMUM_SIZE), sizes[sizes >= MINIMUM_SIZE].sum() / len(labels), n_groups]


def measure(found: Found, truth: Labels) -> list[float]:
    purity = np.nan if found.children is None else dendrogram_purity(found.children, truth)
    adjusted = np.nan if found.chosen is None else adjusted_mutual_info_score(truth, with_singles(found.chosen))
    given, chosen = agreement(found.groups, truth), agreement(found.chosen, truth)
    return [purity, *given, *extent(found.chosen), *chosen, adjusted]


# --- the tables ------------------------------------------------------------------------------------------------------


def datasets(arguments: argparse.Namespace) -> Iterator[Dataset]:
    """Yield vectors with known groups; the texts of a data set are not looked at."""
    yield from labelled_texts(arguments.wordnet, arguments.fortunes, arguments.packages)
    digits = load_digits()
    yield Dataset("Digits, by digit", digits.data.astype(np.float32), digits.target)
    nouns = leaf_nouns(arguments.wordnet / "data.noun")
    data = wordnet(nouns)
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
        cells[3:6] = f"{values[3]:.0f}", f"{values[4]:.0%}", f"{values[5]:.0f}"
    return RULE.format(name, *cells)


def print_table(data: Dataset) -> None:
    """Print what the methods find, and below it what the best cuts of their trees would be."""
    assert data.labels is not None
    n, d = data.vectors.shape
    k = len(np.unique(data.labels))
    print(f"\n### {data.name}\n{n:,} x {d}, {k} groups\n")
    print(RULE.format("", "purity", f"ARI {k}", f"v {k}", "chosen", "in them", "in all", "ARI", "v", "AMI"))
    print("|---" * 10 + "|", flush=True)
    trees, n_chosen = {}, 0
    for name, method in METHODS.items():
        seeds = range(N_SEEDS if name in RANDOM else 1)
        found = [method(data.vectors, k, seed) for seed in seeds]
        rows = [measure(each, data.labels) for each in found]
        print(shown(name, np.mean(rows, axis=0).tolist()), flush=True)
        if found[0].children is not None and name not in RANDOM:
            trees[name] = found[0].children
        if name == ENGINE:
            n_chosen = int(rows[0][3])
    as_many = (KMeans(n_chosen, n_init=1, random_state=seed).fit_predict(data.vectors) for seed in range(N_SEEDS))
    rows = [measure(Found(chosen=labels), data.labels) for labels in as_many]
    print(shown(AS_MANY, np.mean(rows, axis=0).tolist()), flush=True)
    print("\n" + BEST.format("best cut of the tree", "ARI", "v", "groups", "best v", "groups"))
    print("|---" * 6 + "|")
    for name, children in trees.items():
        best = best_cuts(children, data.labels)
        cells = f"{best.ari:.3f}", f"{best.v_at_ari:.3f}", best.n_at_ari, f"{best.v:.3f}", best.n_at_v
        print(BEST.format(name, *cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_files(parser)
    parser.add_argument("--only", default="", help="data whose name holds this")
    arguments = parser.parse_args()
    for data in datasets(arguments):
        if arguments.only in data.name:
            print_table(data)


if __name__ == "__main__":
    main()
