"""`ConceptClustering`: the tree, a cut of it and the centres of its clusters, as a scikit-learn clusterer.

Owns what scikit-learn asks of an estimator. Refuses to know how merges are found, and Ray.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted, check_non_negative, validate_data

import native_simd
from cluster_engine.data.columns import as_rows
from cluster_engine.dendrogram import Dendrogram
from cluster_engine.errors import VectorError
from cluster_engine.linkage.centers import center_distances, center_similarities, cluster_means, vector_norms
from cluster_engine.linkage.criterion import Criterion, Method, Metric
from cluster_engine.linkage.gain import choose_cut, cross_similarities
from cluster_engine.linkage.linkage import linkage as link
from cluster_engine.similarity.capacity import count_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from sklearn.utils import Tags

    from cluster_engine.progress import Reporter

_ROUNDING = 2.0**-20
_WEIGHED: tuple[Method, ...] = ("average", "ward")  # under the others two equal rows join to what one of them would


def _has_centers(estimator: ConceptClustering) -> bool:
    """Tell whether the estimator clusters vectors, rather than given distances."""
    return bool(estimator.metric != "precomputed")


class ConceptClustering(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no annotations
    TransformerMixin,  # type: ignore[misc]  # as above
    ClusterMixin,  # type: ignore[misc]  # as above
    BaseEstimator,  # type: ignore[misc]  # as above
):
    """Exact agglomerative clustering of vectors, with labels for new ones.

    Parameters
    ----------
    n_clusters : int, optional
        Cut the tree into so many clusters.
    distance_threshold : float, optional
        Join what is at most this far apart, as SciPy's ``fcluster`` does (scikit-learn's `AgglomerativeClustering`
        leaves apart what is exactly at it). With neither this nor `n_clusters`, the cut is chosen from the data by
        :func:`cluster_engine.linkage.gain.choose_cut`, which takes no zero vectors.
    linkage : {"average", "complete", "single", "weighted", "ward"}
        As `method` of :func:`cluster_engine.linkage`.
    metric : {"cosine", "dot", "euclidean", "sqeuclidean", "precomputed"}
        As in :func:`cluster_engine.linkage`: "cosine" takes no zero vectors, and "ward" needs "euclidean" or
        "precomputed". With "precomputed", X is a square matrix of distances, symmetric but for rounding.
    compute_full_tree : bool
        If False, `fit` stops at `distance_threshold`, which takes less time: the labels are the same, what would join
        above is not found out.
    threads : int, optional
        Default, all CPUs that this process may use. Never changes the result.
    memory_limit : int, optional
        Bytes that `fit` may allocate; default, what is available.
    progress : callable, optional
        Called by `fit` with :class:`cluster_engine.progress.Progress`.

    Attributes
    ----------
    labels_ : ndarray of int64, shape (n_samples,)
        The cluster of each row, numbered from 0, the largest (heaviest, with `sample_weight`) first. The order
        of equal ones follows from their centres; so the numbers do not depend on the order of the rows.
    n_clusters_ : int
    dendrogram_ : cluster_engine.Dendrogram
        The tree, to be cut elsewhere; its cuts number groups by their first row.
    n_leaves_ : int
        Leaves of the tree: the rows, but those of weight 0.
    children_ : ndarray of int64, shape (n_leaves_ - 1, 2), or (n_leaves_ - n_clusters_, 2) of a tree that is not full
        Row t: the two nodes joined into node ``n_leaves_ + t``.
    distances_ : ndarray of float64, shape (len(children_),)
        The distance at which they join; never decreasing.
    cluster_centers_ : ndarray of float32, shape (n_clusters_, n_features_in_)
        Mean of the members, under "cosine" of their unit vectors. With metric "precomputed" there are none, and
        clusters of equal weight are numbered by their first row.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Only if X is a data frame whose columns are all named by strings.

    See Also
    --------
    cluster_engine.linkage : The tree alone.
    sklearn.cluster.AgglomerativeClustering : In float64, without `predict`.

    Notes
    -----
    X is an array of any real dtype, a memory map, a data frame, or a pyarrow column of vectors (an ``Array`` or
    ``ChunkedArray`` of lists or tensors, such as ``table["vector"]``). Computed on in float32.

    Time and memory are those of :func:`cluster_engine.linkage`; the rest is O(n d).

    Examples
    --------
    >>> X = [[1, 0], [9, 1], [0, 3], [1, 8], [0, 1]]
    >>> clustering = ConceptClustering(distance_threshold=0.1).fit(X)
    >>> clustering.labels_
    array([1, 1, 0, 0, 0])
    >>> clustering.predict([[5, 1]])
    array([1])
    """

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        distance_threshold: float | None = None,
        linkage: Method = "average",
        metric: Metric | Literal["precomputed"] = "cosine",
        compute_full_tree: bool = True,
        threads: int | None = None,
        memory_limit: int | None = None,
        progress: Reporter | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.distance_threshold = distance_threshold
        self.linkage = linkage
        self.metric = metric
        self.compute_full_tree = compute_full_tree
        self.threads = threads
        self.memory_limit = memory_limit
        self.progress = progress

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> ConceptClustering:  # noqa: ARG002  # scikit-learn's signature
        """Build the tree of the rows, cut it, and take the centres of the clusters.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features), or (n_samples, n_samples) with metric "precomputed"
            At least two rows.
        y : ignored
        sample_weight : array_like, shape (n_samples,), optional
            Not negative. A row of weight 2 counts as two equal rows; one of weight 0 shapes nothing, has no leaf in
            the tree, and is labelled as `predict` does.

        Returns
        -------
        ConceptClustering
            Itself.

        Raises
        ------
        InputError, VectorError, CapacityError
            As :func:`cluster_engine.linkage`.
        ValueError
            A parameter is out of range, or X is what scikit-learn refuses: NaN, not two-dimensional, too few rows.
        """
        rows: NDArray[Any] = validate_data(self, as_rows(X), ensure_min_samples=2)
        weights = np.ones(len(rows)) if sample_weight is None else _as_weights(sample_weight, len(rows))
        if _has_centers(self):
            self._fit_vectors(_as_float32(rows), weights)
        else:
            self._fit_distances(rows, weights)
        return self

    def _fit_vectors(self, vectors: NDArray[np.float32], weights: NDArray[np.float64]) -> None:
        norms = vector_norms(vectors, self._criterion, self._n_threads)
        is_leaf = weights > 0
        leaves, leaf_weights = (vectors, weights) if is_leaf.all() else (vectors[is_leaf], weights[is_leaf])
        groups = self._cluster(leaves, leaf_weights)
        totals = np.bincount(groups, leaf_weights)
        centers = cluster_means(leaves, leaf_weights / (norms[is_leaf] * totals[groups]), groups, len(totals))
        order = sorted(range(len(totals)), key=lambda group: (-totals[group], centers[group].tobytes()))
        self.cluster_centers_ = centers[order]
        self.labels_ = np.empty(len(vectors), np.int64)
        self.labels_[is_leaf] = np.argsort(order)[groups]
        if not is_leaf.all():
            self.labels_[~is_leaf] = self._nearest(vectors[~is_leaf])

    def _fit_distances(self, distances: NDArray[Any], weights: NDArray[np.float64]) -> None:
        if not weights.all():
            raise ValueError('under metric "precomputed" no sample_weight is 0: nothing could label such a row')
        check_non_negative(distances, "ConceptClustering as distances")
        groups = self._cluster(_mirrored(distances), weights)
        order = np.argsort(-np.bincount(groups, weights), kind="stable")
        self.labels_ = np.argsort(order)[groups]

    def _cluster(self, X: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.int64]:
        """Build the tree and return the group of each leaf, numbered by its first."""
        self._check_cut(len(X))
        z = link(
            X,
            self.linkage,
            self.metric,
            weights=weights if self.linkage in _WEIGHED and (weights != 1).any() else None,
            cut=None if self.compute_full_tree else self.distance_threshold,
            threads=self.threads,
            memory_limit=self.memory_limit,
            progress=self.progress,
        )
        self.dendrogram_ = Dendrogram(z, n=len(X), cut=None if self.compute_full_tree else self.distance_threshold)
        self.n_leaves_ = len(X)
        self.children_ = z[:, :2].astype(np.int64)
        self.distances_ = z[:, 2].copy()
        groups = self._cut(X, weights)
        self.n_clusters_ = int(groups.max()) + 1
        return groups

    def _check_cut(self, n_leaves: int) -> None:
        n_clusters: object = self.n_clusters
        threshold: object = self.distance_threshold
        if n_clusters is not None and threshold is not None:
            raise ValueError("n_clusters and distance_threshold are two ways to cut; give one of them, or neither")
        if n_clusters is not None and not (isinstance(n_clusters, (int, np.integer)) and 1 <= n_clusters <= n_leaves):
            raise ValueError(f"n_clusters must be an integer from 1 to the {n_leaves} points, got {n_clusters!r}")
        if threshold is not None and not (isinstance(threshold, Real) and not math.isnan(threshold)):
            raise ValueError(f"distance_threshold must be a number, got {threshold!r}")
        if threshold is None and not self.compute_full_tree:
            raise ValueError("without a distance_threshold the tree is full; leave out compute_full_tree=False")
        if n_clusters is None and threshold is None and not _has_centers(self):
            raise ValueError('under metric "precomputed", give n_clusters or distance_threshold')

    def _cut(self, X: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.int64]:
        if self.distance_threshold is not None:
            return self.dendrogram_.cut_height(self.distance_threshold)
        if self.n_clusters is not None:
            return self.dendrogram_.cut_count(self.n_clusters)
        try:
            cross = cross_similarities(self.dendrogram_.Z, self._criterion, X, weights)
        except native_simd.RowError as fault:
            raise VectorError(f"{fault}; without directions, give n_clusters or distance_threshold") from None
        return self.dendrogram_.cut_count(len(X) - choose_cut(self.dendrogram_.Z, cross).n_merges)

    @available_if(_has_centers)  # type: ignore[untyped-decorator]  # scikit-learn has no annotations
    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return the cluster whose centre is nearest to each row, however far; ties go to the smaller label.

        Nearest is by inner product under "cosine" (with the unit vector of the row) and "dot", else by Euclidean
        distance. For "average" linkage under "cosine" and "dot" that is the linkage's own distance of a point to a
        cluster; for "ward" it is that of the centroids, which leaves out the factor of the sizes. Single, complete and
        weighted linkage, and "average" under the Euclidean metrics, go by the centres too, since nothing less than all
        members would tell their own distance; long chains of "single" may so be split. Under any of them a row of the
        training set may be nearer to another cluster than to its own, and be predicted there.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
            As for `fit`; one row is enough.

        Returns
        -------
        ndarray of int64, shape (n_samples,)

        Raises
        ------
        VectorError
            A row is zero under "cosine", or too large.
        ValueError
            As `fit`.

        Notes
        -----
        O(n_samples n_clusters d), on float32 similarities; 64 MiB of memory beside X and the result. For what is too
        far to belong anywhere, see `transform`.
        """
        return self._nearest(self._checked(X))

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the distance of each row to each centre.

        Under "cosine" and "dot" that is 1 less the inner product: for "average" linkage the height at which the row
        would join the cluster, comparable with `distance_threshold`.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)

        Returns
        -------
        ndarray of float32, shape (n_samples, n_clusters)

        Raises
        ------
        VectorError, ValueError
            As `predict`.
        """
        vectors = self._checked(X)
        distances = np.empty((len(vectors), self.n_clusters_), np.float32)
        for rows, similarities in center_similarities(vectors, self.cluster_centers_, self._criterion, self._n_threads):
            distances[rows] = center_distances(similarities, self._criterion)
        return distances

    def _checked(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        return np.asarray(validate_data(self, as_rows(X), reset=False))

    def _nearest(self, vectors: NDArray[Any]) -> NDArray[np.int64]:
        labels = np.empty(len(vectors), np.int64)
        for rows, similarities in center_similarities(vectors, self.cluster_centers_, self._criterion, self._n_threads):
            similarities.argmax(axis=1, out=labels[rows])
        return labels

    @property
    def _criterion(self) -> Criterion:
        return Criterion(self.linkage, cast("Metric", self.metric))

    @property
    def _n_threads(self) -> int:
        return count_threads(self.threads)

    @property
    def _n_features_out(self) -> int:
        return self.n_clusters_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = tags.input_tags.positive_only = not _has_centers(self)
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


# scikit-learn wraps both for `set_output` when the class is made, which would hide a condition inside
for _name in ("transform", "fit_transform"):
    setattr(ConceptClustering, _name, available_if(_has_centers)(getattr(ConceptClustering, _name)))


def _mirrored(distances: NDArray[Any]) -> NDArray[Any]:
    """Return the larger of each pair's two distances if they differ by rounding alone (scikit-learn's Euclidean do)."""
    if distances.ndim != 2 or distances.shape != distances.shape[::-1] or np.array_equal(distances, distances.T):
        return distances
    larger = np.maximum(distances, distances.T)
    return larger if (larger - distances).max() <= _ROUNDING * larger.max() else distances  # linkage names the pair


def _as_float32(X: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused with its row
        return np.ascontiguousarray(X, np.float32)


def _as_weights(sample_weight: ArrayLike, n: int) -> NDArray[np.float64]:
    weights = check_array(sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight")
    if weights.shape != (n,) or (weights < 0).any() or not weights.any():
        raise ValueError(
            f"sample_weight must be {n} numbers, none negative and not all zero; its shape {weights.shape}"
        )
    return np.asarray(weights)
