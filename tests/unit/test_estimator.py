"""`ConceptClustering` against scikit-learn (its checks, its clusters) and slow definitions of the rest."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import distance_matrix
from scipy.cluster import hierarchy
from sklearn.base import clone
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import pairwise_distances
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import cluster_engine as ce
from cluster_engine.errors import CapacityError, InputError, SchemaError, VectorError
from cluster_engine.linkage import centers

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from cluster_engine.linkage.criterion import Method, Metric
    from cluster_engine.progress import Progress

CHECKED = [
    {},
    {"n_clusters": 3},
    {"n_clusters": 3, "linkage": "single"},
    {"n_clusters": 3, "linkage": "complete"},
    {"n_clusters": 3, "linkage": "weighted"},
    {"n_clusters": 3, "metric": "dot"},
    {"n_clusters": 3, "metric": "euclidean"},
    {"n_clusters": 3, "metric": "sqeuclidean"},
    {"n_clusters": 3, "metric": "euclidean", "linkage": "ward"},
    {"n_clusters": 3, "metric": "precomputed"},
]
EXPECTED_FAILURES = {  # the same for scikit-learn's AgglomerativeClustering
    "cosine": {"check_estimators_dtypes": "casts numbers below 1 to integers; a zero vector has no direction"},
    "precomputed": {"check_clustering": "feeds vectors, not distances"},
}


@pytest.mark.parametrize("parameters", CHECKED)
def test_scikit_learn_checks(parameters: dict[str, Any]) -> None:
    estimator = ce.ConceptClustering(**parameters)
    expected = EXPECTED_FAILURES.get(estimator.metric, {})
    results = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    assert [result for result in results if result["status"] == "failed"] == []
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(expected)


def clouds(n: int, d: int, seed: int, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Return points of a few clouds within clouds."""
    rng = np.random.default_rng(seed)
    points = 0.3 * rng.standard_normal((n, d))
    for k in (3, 9):
        points += rng.standard_normal((k, d))[rng.integers(k, size=n)]
    return points.astype(dtype)


def partition(labels: NDArray[Any]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def members(clustering: ce.ConceptClustering, x: NDArray[Any]) -> list[NDArray[np.float64]]:
    return [x[clustering.labels_ == label].astype(np.float64) for label in range(clustering.n_clusters_)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("linkage", "metric"),
    [(linkage, metric) for linkage in ("average", "complete", "single") for metric in ("cosine", "euclidean")]
    + [("ward", "euclidean")],
)
def test_equals_agglomerative_clustering(linkage: Method, metric: Metric, seed: int) -> None:
    x = clouds(120, 12, seed)
    theirs = AgglomerativeClustering(7, linkage=linkage, metric=metric, compute_distances=True).fit(x.astype(float))
    ours = ce.ConceptClustering(7, linkage=linkage, metric=metric).fit(x)
    assert partition(ours.labels_) == partition(theirs.labels_)
    assert (ours.n_clusters_, ours.n_leaves_) == (7, 120)
    assert np.array_equal(np.sort(ours.children_), np.sort(theirs.children_))
    assert ours.distances_ == pytest.approx(theirs.distances_, rel=1e-5)

    threshold = float(ours.distances_[70:72].mean())
    theirs.set_params(n_clusters=None, distance_threshold=threshold).fit(x.astype(float))
    ours.set_params(n_clusters=None, distance_threshold=threshold).fit(x)
    assert partition(ours.labels_) == partition(theirs.labels_)
    assert ours.n_clusters_ == theirs.n_clusters_ == 120 - 71


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "sqeuclidean"])
def test_weighted_linkage_equals_scipy(metric: Metric) -> None:
    x = clouds(80, 9, seed=4)
    z = hierarchy.linkage(distance_matrix(x, metric)[np.triu_indices(80, 1)], "weighted")
    ours = ce.ConceptClustering(6, linkage="weighted", metric=metric).fit(x)
    assert partition(ours.labels_) == partition(hierarchy.fcluster(z, 6, "maxclust"))


@pytest.mark.parametrize("linkage", ["average", "complete", "ward"])
def test_precomputed_distances(linkage: Method) -> None:
    x = clouds(60, 5, seed=5)
    ours = ce.ConceptClustering(5, linkage=linkage, metric="precomputed").fit(distance_matrix(x, "euclidean"))
    assert partition(ours.labels_) == partition(
        ce.ConceptClustering(5, linkage=linkage, metric="euclidean").fit_predict(x)
    )
    assert np.all(np.diff(np.bincount(ours.labels_)) <= 0)
    assert not hasattr(ours, "predict")
    assert not hasattr(ours, "transform")


def test_precomputed_distances_that_differ_by_rounding() -> None:
    distances = pairwise_distances(clouds(60, 5, seed=5, dtype=np.float64))
    assert (distances != distances.T).any()
    ours = ce.ConceptClustering(5, metric="precomputed").fit(distances)
    theirs = AgglomerativeClustering(5, metric="precomputed", linkage="average").fit(distances)
    assert partition(ours.labels_) == partition(theirs.labels_)
    distances[3, 4] += 1e-3
    with pytest.raises(InputError, match=r"distance \(\d, 4\)"):
        ours.fit(distances)


def test_what_is_exactly_at_the_threshold_is_joined() -> None:
    x = np.array([[0.0], [1.0], [3.0], [6.0]])
    labels = ce.ConceptClustering(distance_threshold=2, linkage="single", metric="euclidean").fit_predict(x)
    assert partition(labels) == {frozenset({0, 1, 2}), frozenset({3})}


def test_the_default_cut_finds_clear_groups() -> None:
    rng = np.random.default_rng(6)
    truth = np.repeat(np.arange(5), 20)
    x = rng.standard_normal((5, 40))[truth] + 0.3 * rng.standard_normal((100, 40))
    for parameters in ({}, {"linkage": "complete"}, {"linkage": "ward", "metric": "euclidean"}):
        assert partition(ce.ConceptClustering(**parameters).fit_predict(x)) == partition(truth)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(["cosine", "dot", "euclidean"]))
def test_labels_do_not_depend_on_the_order_of_the_rows(seed: int, metric: Metric) -> None:
    x = clouds(30, 6, seed)
    order = np.random.default_rng(seed).permutation(30)
    first = ce.ConceptClustering(8, metric=metric).fit(x)
    second = ce.ConceptClustering(8, metric=metric).fit(x[order])
    assert np.array_equal(second.labels_, first.labels_[order])
    assert second.cluster_centers_ == pytest.approx(first.cluster_centers_, rel=1e-6)
    assert np.all(np.diff(np.bincount(first.labels_)) <= 0)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_average_linkage_places_a_point_where_it_would_join(metric: Metric) -> None:
    x, y = clouds(90, 16, seed=7), clouds(200, 16, seed=8, dtype=np.float64)
    clustering = ce.ConceptClustering(9, metric=metric).fit(x)
    if metric == "cosine":
        x, y = (rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True) for rows in (x, y))
    expected = np.array([[np.mean([1 - p @ q for q in group]) for group in members(clustering, x)] for p in y])
    assert clustering.transform(y) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    nearest = np.sort(expected, axis=1)
    clear = nearest[:, 1] - nearest[:, 0] > 1e-4
    assert clear.sum() > 190
    assert np.array_equal(clustering.predict(y)[clear], expected.argmin(axis=1)[clear])


@pytest.mark.parametrize(
    ("linkage", "metric"), [("ward", "euclidean"), ("single", "euclidean"), ("average", "sqeuclidean")]
)
def test_euclidean_metrics_go_by_the_centroid(linkage: Method, metric: Metric) -> None:
    x, y = 100 + clouds(90, 16, seed=9), 100 + clouds(200, 16, seed=10)
    clustering = ce.ConceptClustering(9, linkage=linkage, metric=metric).fit(x)
    centroids = np.array([group.mean(axis=0) for group in members(clustering, x)])
    assert clustering.cluster_centers_ == pytest.approx(centroids, rel=1e-6)
    apart = y[:, None].astype(float) - centroids
    expected = (apart**2).sum(axis=2) ** (0.5 if metric == "euclidean" else 1)
    assert clustering.transform(y) == pytest.approx(expected, rel=1e-4)
    assert np.array_equal(clustering.predict(y), expected.argmin(axis=1))


def test_a_tie_goes_to_the_smaller_label() -> None:
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    clustering = ce.ConceptClustering(3).fit(x)
    assert clustering.labels_[1] == clustering.labels_[2] == 0
    assert clustering.predict([[1, 1], [-3, 3], [0, -1]]).tolist() == [0, 0, 1]


@pytest.mark.parametrize("cut", [{"n_clusters": 7}, {"distance_threshold": 0.6}, {}])
@pytest.mark.parametrize(
    ("linkage", "metric"),
    [("average", "cosine"), ("average", "sqeuclidean"), ("ward", "euclidean")]
    + [(linkage, "cosine") for linkage in ("single", "complete", "weighted")],
)
def test_weights_are_repetitions(linkage: Method, metric: Metric, cut: dict[str, Any]) -> None:
    x = clouds(80, 6, seed=20)
    weights = np.random.default_rng(21).integers(0, 4, 80)
    weighted = ce.ConceptClustering(linkage=linkage, metric=metric, **cut).fit(x, sample_weight=weights)
    repeated = ce.ConceptClustering(linkage=linkage, metric=metric, **cut).fit(x.repeat(weights, axis=0))
    assert weighted.n_leaves_ == np.count_nonzero(weights) < 80
    assert np.array_equal(weighted.labels_.repeat(weights), repeated.labels_)
    assert np.array_equal(weighted.labels_[weights == 0], repeated.predict(x[weights == 0]))
    assert weighted.cluster_centers_ == pytest.approx(repeated.cluster_centers_, rel=1e-6)
    assert weighted.distances_ == pytest.approx(repeated.distances_[-len(weighted.distances_) :], rel=1e-6)


def test_precomputed_weights() -> None:
    x, weights = clouds(40, 6, seed=22), np.random.default_rng(23).uniform(0.5, 3, 40)
    ours = ce.ConceptClustering(5, metric="precomputed").fit(distance_matrix(x, "cosine"), sample_weight=weights)
    assert partition(ours.labels_) == partition(ce.ConceptClustering(5).fit(x, sample_weight=weights).labels_)
    assert np.all(np.diff(np.bincount(ours.labels_, weights)) <= 0)


def test_a_tree_that_is_not_full() -> None:
    x = clouds(80, 6, seed=24)
    full = ce.ConceptClustering(distance_threshold=0.5).fit(x)
    stopped = ce.ConceptClustering(distance_threshold=0.5, compute_full_tree=False).fit(x)
    assert 1 < stopped.n_clusters_ == full.n_clusters_
    assert np.array_equal(stopped.labels_, full.labels_)
    assert np.array_equal(stopped.children_, full.children_[: 80 - stopped.n_clusters_])
    assert np.array_equal(stopped.distances_, full.distances_[: 80 - stopped.n_clusters_])
    assert stopped.dendrogram_.n_trees == stopped.n_clusters_
    assert np.array_equal(stopped.predict(x), full.predict(x))


def test_prediction_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clouds(60, 7, seed=11), clouds(150, 7, seed=12)
    clustering = ce.ConceptClustering(6, threads=3).fit(x)
    labels, distances = clustering.predict(y), clustering.transform(y)
    monkeypatch.setattr(centers, "_BLOCK_BYTES", 1)
    assert np.array_equal(clustering.predict(y), labels)
    assert np.array_equal(clustering.transform(y), distances)
    y[77] = 0
    with pytest.raises(VectorError, match=r"row 77: the vector is zero"):
        clustering.predict(y)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16])
def test_any_real_dtype(dtype: DTypeLike) -> None:
    x = (40 * clouds(50, 6, seed=13)).clip(-120, 120)
    x = (np.abs(x) if dtype == np.uint16 else x).astype(dtype)
    ours = ce.ConceptClustering(5).fit(x)
    assert np.array_equal(ours.labels_, ce.ConceptClustering(5).fit_predict(x.astype(np.float64)))
    assert np.array_equal(ours.predict(x), ours.predict(x.astype(np.float64)))


def as_arrow(x: NDArray[Any], kind: str) -> pa.Array[Any] | pa.ChunkedArray[Any]:
    flat = pa.array(x.ravel())
    width = x.shape[1]
    if kind == "list":
        return pa.ListArray.from_arrays(pa.array(np.arange(0, x.size + 1, width, dtype=np.int32)), flat)
    fixed = pa.FixedSizeListArray.from_arrays(flat, width)
    if kind == "tensor":
        return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, [width]), fixed)
    if kind == "chunks":
        return pa.chunked_array([fixed[:7], fixed[7:7], fixed[7:20], fixed[20:]])
    return pa.table({"vector": fixed})["vector"] if kind == "column" else fixed


@pytest.mark.parametrize("kind", ["list", "fixed", "tensor", "chunks", "column"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrow_columns_are_arrays(kind: str, dtype: DTypeLike) -> None:
    x = clouds(40, 5, seed=14, dtype=dtype)
    expected = ce.ConceptClustering(4).fit(x)
    ours = ce.ConceptClustering(4).fit(as_arrow(x, kind))
    assert np.array_equal(ours.labels_, expected.labels_)
    assert np.array_equal(ours.distances_, expected.distances_)
    assert np.array_equal(ours.predict(as_arrow(x[::-1], kind)), expected.predict(x[::-1]))
    assert ours.n_features_in_ == 5


@pytest.mark.parametrize(
    ("column", "error", "match"),
    [
        (pa.array([[1.0, 2.0], None, [1.0, 3.0]]), VectorError, "row 1: the vector is null"),
        (pa.array([[1.0, 2.0], [1.0, None]]), VectorError, "row 1: element 1 is null"),
        (pa.array([[1.0, 2.0], [1.0, 2.0], [1.0]]), VectorError, "row 2: the vector has 1 elements, row 0 has 2"),
        (
            pa.chunked_array([[[1.0]], [[1.0], [2.0, 3.0]]]),
            VectorError,
            "row 2: the vector has 2 elements, row 0 has 1",
        ),
        (pa.chunked_array([[[1.0], [2.0]], [[None]]], pa.list_(pa.float32())), VectorError, "row 2: element 0 is null"),
        (pa.array([1.0, 2.0]), SchemaError, "type double holds no vectors"),
        (pa.array([["a"], ["b"]]), SchemaError, "holds no vectors"),
        (pa.chunked_array([], pa.list_(pa.float32())), ValueError, "minimum of 2 is required"),
    ],
)
def test_arrow_columns_that_hold_no_matrix(
    column: pa.Array[Any] | pa.ChunkedArray[Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        ce.ConceptClustering(1).fit(column)


def test_memory_maps_are_read_only_arrays(tmp_path: Path) -> None:
    x = clouds(50, 6, seed=15)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    ours = ce.ConceptClustering(5).fit(mapped)
    assert np.array_equal(ours.labels_, ce.ConceptClustering(5).fit_predict(x))
    assert np.array_equal(ours.predict(mapped), ours.predict(x))


def test_data_frames_name_the_features() -> None:
    pytest.importorskip("sklearn", minversion="1.9")  # earlier ones know the frames of pandas only
    x = clouds(30, 3, seed=16)
    frame = pl.DataFrame(x, schema=["a", "b", "c"])
    clustering = ce.ConceptClustering(4).fit(frame)
    assert clustering.feature_names_in_.tolist() == ["a", "b", "c"]
    assert np.array_equal(clustering.labels_, ce.ConceptClustering(4).fit_predict(x))
    assert np.array_equal(clustering.predict(frame), ce.ConceptClustering(4).fit(x).predict(x))
    with pytest.raises(ValueError, match="feature names should match"):
        clustering.predict(frame.select("c", "b", "a"))


def test_is_an_estimator_like_others() -> None:
    x = clouds(60, 6, seed=17)
    estimator = ce.ConceptClustering(distance_threshold=0.4, threads=1)
    twin = clone(estimator)
    assert twin is not estimator
    assert twin.get_params() == estimator.get_params()
    assert repr(estimator) == "ConceptClustering(distance_threshold=0.4, threads=1)"
    loaded = pickle.loads(pickle.dumps(estimator.fit(x)))  # noqa: S301  # our own bytes
    assert loaded.dendrogram_ == estimator.dendrogram_
    assert np.array_equal(loaded.predict(x), estimator.predict(x))
    assert np.array_equal(estimator.dendrogram_.cut_height(0.4) == 0, estimator.labels_ == estimator.labels_[0])
    assert estimator.set_output(transform="polars").transform(x).columns == [
        f"conceptclustering{label}" for label in range(estimator.n_clusters_)
    ]


def test_works_in_a_pipeline() -> None:
    x = clouds(60, 6, seed=18)
    pipeline = make_pipeline(StandardScaler(), Normalizer(), ce.ConceptClustering(5)).fit(x)
    scaled = StandardScaler().fit_transform(x)
    assert np.array_equal(pipeline.fit_predict(x), ce.ConceptClustering(5).fit_predict(scaled))
    assert np.array_equal(pipeline.predict(x), ce.ConceptClustering(5).fit(scaled).predict(scaled))


def test_reports_progress_and_keeps_to_the_memory_limit() -> None:
    x = clouds(300, 6, seed=19)
    seen: list[Progress] = []
    ce.ConceptClustering(5, progress=seen.append).fit(x)
    assert {report.phase for report in seen} == {"pairwise", "linkage"}
    with pytest.raises(CapacityError, match="300 vectors needs"):
        ce.ConceptClustering(5, memory_limit=1000).fit(x)


X = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"n_clusters": 2, "distance_threshold": 0.5}, "give one of them"),
        ({"n_clusters": 0}, "n_clusters must be an integer from 1 to the 4 points, got 0"),
        ({"n_clusters": 5}, "from 1 to the 4 points, got 5"),
        ({"n_clusters": 2.0}, "got 2.0"),
        ({"distance_threshold": float("nan")}, "distance_threshold must be a number, got nan"),
        ({"distance_threshold": "0.5"}, "distance_threshold must be a number, got '0.5'"),
        ({"linkage": "median"}, "method must be one of"),
        ({"metric": "manhattan"}, "metric must be one of"),
        ({"linkage": "ward"}, "'ward' is defined for metric 'euclidean' only"),
        ({"metric": "precomputed"}, "give n_clusters or distance_threshold"),
        ({"n_clusters": 2, "compute_full_tree": False}, "without a distance_threshold the tree is full"),
        ({"threads": 0}, "threads must be a positive integer"),
    ],
)
def test_refuses_parameters(parameters: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ce.ConceptClustering(**parameters).fit(X)


@pytest.mark.parametrize(
    ("parameters", "weights", "match"),
    [
        ({}, [1, 1, 1], "must be 4 numbers"),
        ({}, [1, -1, 1, 1], "none negative"),
        ({}, [0, 0, 0, 0], "not all zero"),
        ({}, [1, np.nan, 1, 1], "sample_weight contains NaN"),
        ({}, [1, 0, 0, 0], "at least 2 vectors"),
        ({"metric": "precomputed"}, [1, 0, 1, 1], "no sample_weight is 0"),
        ({"metric": "precomputed", "linkage": "ward"}, [1, 2, 1, 1], "not for precomputed Ward"),
    ],
)
def test_refuses_weights(parameters: dict[str, Any], weights: list[float], match: str) -> None:
    x = distance_matrix(X, "euclidean") if parameters else X
    with pytest.raises(ValueError, match=match):
        ce.ConceptClustering(1, **parameters).fit(x, sample_weight=weights)


def test_refuses_vectors_without_direction() -> None:
    x = X.copy()
    x[2] = 0
    with pytest.raises(VectorError, match="row 2: the vector is zero"):
        ce.ConceptClustering(2).fit(x)
    with pytest.raises(VectorError, match=r"row 2: .* give n_clusters or distance_threshold"):
        ce.ConceptClustering(metric="euclidean").fit(x)
    assert ce.ConceptClustering(2, metric="euclidean").fit_predict(x).max() == 1
    with pytest.raises(VectorError, match="row 0: element 1 is inf"):
        ce.ConceptClustering(2).fit([[1, 1e300], [1, 2]])
    with pytest.raises(InputError, match="square"):
        ce.ConceptClustering(2, metric="precomputed").fit(X)
