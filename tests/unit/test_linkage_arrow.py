"""A pyarrow column of vectors is clustered as the array of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.distance import squareform

import cluster_engine as ce
from cluster_engine.errors import InputError, SchemaError, VectorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike, NDArray

    Column = pa.Array[Any] | pa.ChunkedArray[Any]


def lists(x: NDArray[Any]) -> pa.Array[Any]:
    offsets = np.arange(0, x.size + 1, x.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(x.ravel()))


def fixed(x: NDArray[Any]) -> pa.Array[Any]:
    return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])


def tensors(x: NDArray[Any]) -> pa.Array[Any]:
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.from_numpy_dtype(x.dtype), [x.shape[1]]), fixed(x))


def chunks(x: NDArray[Any]) -> pa.ChunkedArray[Any]:
    return pa.chunked_array([fixed(x[:50]), fixed(x[50:50]), fixed(x[50:])])


def table_column(x: NDArray[Any]) -> pa.ChunkedArray[Any]:
    return pa.table({"id": np.arange(len(x)), "vector": fixed(x)})["vector"]


def slice_of_more(x: NDArray[Any]) -> pa.Array[Any]:
    return fixed(np.concatenate((x[:3] + 1, x, x[:2])))[3 : 3 + len(x)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("column_of", [lists, fixed, tensors, chunks, table_column, slice_of_more])
def test_a_column_gives_the_bytes_of_its_array(column_of: Callable[[NDArray[Any]], Column], dtype: DTypeLike) -> None:
    x = np.random.default_rng(3).standard_normal((120, 7)).astype(dtype)
    for method, metric in (("average", "cosine"), ("ward", "euclidean")):
        Z = ce.linkage(column_of(x), method, metric)  # type: ignore[arg-type]
        assert Z.tobytes() == ce.linkage(x, method, metric).tobytes()  # type: ignore[arg-type]


@pytest.mark.parametrize("column_of", [lists, fixed, tensors, chunks, table_column, slice_of_more])
def test_a_square_of_distances_is_read_as_its_array(column_of: Callable[[NDArray[Any]], Column]) -> None:
    distances = squareform(np.random.default_rng(4).random(120 * 119 // 2))
    Z = ce.linkage(column_of(distances), "complete", "precomputed")  # type: ignore[arg-type]
    assert Z.tobytes() == ce.linkage(distances, "complete", "precomputed").tobytes()


def test_condensed_distances_are_a_column_of_numbers() -> None:
    distances = np.random.default_rng(5).random(120 * 119 // 2)
    Z = ce.linkage(distances, "complete", "precomputed")
    for column in (pa.array(distances), pa.chunked_array([distances[:99], distances[99:]])):
        assert ce.linkage(column, "complete", "precomputed").tobytes() == Z.tobytes()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "error", "match"),
    [
        (pa.array([[0.0, 1.0], None]), VectorError, "row 1: the vector is null"),
        (pa.array([[0.0, 1.0]]), InputError, "square"),
        (pa.array([1.0, None, 1.0]), InputError, r"distance \(0, 2\) is nan"),
        (pa.array(["a", "b", "c"]), InputError, "real numbers"),
    ],
)
def test_a_column_that_holds_no_distances_is_refused(column: Column, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        ce.linkage(column, "complete", "precomputed")


@pytest.mark.parametrize(
    ("column", "error", "match"),
    [
        (pa.array([[1.0, 2.0], None, [1.0, 3.0]]), VectorError, "row 1: the vector is null"),
        (pa.array([[1.0, 2.0], [1.0, 3.0], [1.0, None]]), VectorError, "row 2: element 1 is null"),
        (
            pa.chunked_array([[[1.0]], [[1.0], None]], pa.list_(pa.float32())),
            VectorError,
            "row 2: the vector is null",
        ),
        (pa.array([[1.0, 2.0], [1.0]]), VectorError, "row 1: the vector has 1 elements, row 0 has 2"),
        (pa.array([[1.0, 2.0], [float("nan"), 1.0]]), VectorError, "row 1"),
        (pa.array([1.0, 2.0]), SchemaError, "type double holds no vectors"),
        (pa.array([[1.0, 2.0]]), InputError, "at least 2 vectors are needed, got 1"),
        (pa.array([], pa.list_(pa.float32())), InputError, "at least 2 vectors are needed, got 0"),
    ],
)
def test_a_column_that_holds_no_vectors_is_refused(column: Column, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        ce.linkage(column)
