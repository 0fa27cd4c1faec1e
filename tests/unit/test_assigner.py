"""Vectors to their nearest concepts, in batches of Arrow, NumPy and pandas, against float64 arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from assigner_store import IDS, centroids, store_of

from cluster_engine.assigner import ConceptAssigner
from cluster_engine.errors import SchemaError, StoreError, VectorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

RNG = np.random.default_rng(3)
VECTORS = RNG.standard_normal((40, 6)).astype(np.float32)
THRESHOLD = 0.3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_of(tmp_path_factory.mktemp("assigned") / "store", len(IDS))


def expected(threshold: float) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    x = VECTORS.astype(np.float64)
    similarities = x / np.linalg.norm(x, axis=1, keepdims=True) @ centroids().T.astype(np.float64)
    order = np.argsort(-similarities, axis=1)
    best, second = (np.take_along_axis(similarities, order[:, i : i + 1], 1)[:, 0] for i in (0, 1))
    return np.where(best >= threshold, IDS[order[:, 0]], -1), best, best - second


def test_each_vector_gets_its_nearest_concept_with_margin(store: Path) -> None:
    assigned = ConceptAssigner(store, threshold=THRESHOLD).assign(VECTORS)
    ids, similarities, margins = expected(THRESHOLD)
    assert assigned.concept_ids.tolist() == ids.tolist()
    assert {-1} < set(ids.tolist())
    np.testing.assert_allclose(assigned.similarities, similarities, atol=1e-6)
    np.testing.assert_allclose(assigned.margins, margins, atol=2e-6)


BATCHES: dict[str, Callable[[NDArray[np.float32]], Any]] = {
    "numpy": lambda x: {"vector": x, "name": np.arange(len(x))},
    "numpy of objects": lambda x: {"vector": np.array([*x, None], object)[:-1], "name": np.arange(len(x))},
    "arrow": lambda x: pa.table({"vector": list(x), "name": np.arange(len(x))}),
    "arrow, in chunks": lambda x: pa.concat_tables(
        [pa.table({"vector": list(part), "name": np.arange(len(part))}) for part in (x[:7], x[7:])]
    ),
    "arrow, fixed size": lambda x: pa.table(
        {"vector": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1]), "name": np.arange(len(x))}
    ),
    "pandas of objects": lambda x: pd.DataFrame(
        {"vector": [row.astype(object) for row in x], "name": np.arange(len(x))}
    ),
    "pandas of arrow": lambda x: pa.table({"vector": list(x), "name": np.arange(len(x))}).to_pandas(
        types_mapper=pd.ArrowDtype
    ),
    "pandas": lambda x: pd.DataFrame({"vector": list(x), "name": np.arange(len(x))}),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_a_batch_comes_back_as_it_was_with_three_columns_more(store: Path, kind: str) -> None:
    batch = BATCHES[kind](VECTORS)
    answer = ConceptAssigner(store, threshold=THRESHOLD)(batch)
    ids, similarities, margins = expected(THRESHOLD)
    assert type(answer) is type(batch)
    assert list(answer.column_names if isinstance(answer, pa.Table) else answer) == [
        "vector",
        "name",
        "concept_id",
        "similarity",
        "margin",
    ]
    assert np.asarray(answer["concept_id"]).tolist() == ids.tolist()
    np.testing.assert_allclose(np.asarray(answer["similarity"]), similarities, atol=1e-6)
    np.testing.assert_allclose(np.asarray(answer["margin"]), margins, atol=2e-6)
    assert len(answer["name"]) == len(VECTORS)


def test_an_empty_batch_stays_empty(store: Path) -> None:
    schema = pa.schema({"vector": pa.list_(pa.float32(), 6)})
    answer = ConceptAssigner(store)(schema.empty_table())
    assert answer.column_names == ["vector", "concept_id", "similarity", "margin"]
    assert len(answer) == 0


@pytest.mark.parametrize(("n_concepts", "ids", "margin"), [(0, -1, np.nan), (1, int(IDS[0]), np.inf)])
def test_without_a_second_concept_there_is_no_margin(tmp_path: Path, n_concepts: int, ids: int, margin: float) -> None:
    assigned = ConceptAssigner(store_of(tmp_path / "store", n_concepts)).assign(VECTORS)
    assert assigned.concept_ids.tolist() == [ids] * len(VECTORS)
    np.testing.assert_array_equal(assigned.margins, np.full(len(VECTORS), margin, np.float32))


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ({"vectors": VECTORS}, SchemaError, "no column 'vector'; it has: vectors"),
        ({"vector": VECTORS, "margin": VECTORS[:, 0]}, SchemaError, "already has a column 'margin'"),
        (pa.table({"vector": [1.0, 2.0]}), SchemaError, "must hold vectors and no nulls, got double"),
        (pa.table({"vector": [[1.0] * 6, None]}), SchemaError, "must hold vectors and no nulls"),
        (pa.table({"vector": [[1.0] * 6, [1.0]]}), SchemaError, r"of one dimension, got \[1, 6\]"),
        ({"vector": np.array([[1.0], [1.0, 2.0]], object)}, SchemaError, "of one dimension"),
        ({"vector": np.array([["a"] * 6], object)}, SchemaError, "all numbers"),
        ({"vector": VECTORS[:, :5]}, ValueError, r"shape \(q, 6\)"),
        ({"vector": np.zeros((2, 6))}, VectorError, "row 0"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(store: Path, batch: Any, error: type[Exception], message: str) -> None:  # noqa: ANN401
    with pytest.raises(error, match=message):
        ConceptAssigner(store)(batch)


def test_a_threshold_is_a_cosine(store: Path) -> None:
    for threshold in (1.5, -2.0, float("nan")):
        with pytest.raises(ValueError, match="threshold must be from -1 to 1"):
            ConceptAssigner(store, threshold=threshold)


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        ConceptAssigner(tmp_path / "nothing")
