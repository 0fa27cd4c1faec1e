"""Assigning a dataset of Ray Data: each batch by an actor that has read the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
import ray.data
from assigner_store import IDS, store_of

from cluster_engine.assigner import ConceptAssigner

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.filterwarnings("ignore:`.*` is deprecated:DeprecationWarning"),  # of Ray, by Ray
]


@pytest.mark.parametrize("batch_format", ["pyarrow", "numpy", "pandas"])
def test_a_dataset_gets_what_one_call_gives(tmp_path: Path, batch_format: str) -> None:
    store = store_of(tmp_path / "store", len(IDS))
    vectors = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float32)
    table = pa.table({"row": np.arange(500), "vector": list(vectors)})
    assigned = ray.data.from_arrow([table.slice(0, 250), table.slice(250)]).map_batches(
        ConceptAssigner,
        fn_constructor_kwargs={"store": str(store), "threshold": 0.2},
        compute=ray.data.ActorPoolStrategy(size=2),
        batch_size=64,
        batch_format=batch_format,
    )
    rows = sorted(assigned.take_all(), key=lambda row: int(row["row"]))
    expected = ConceptAssigner(store, threshold=0.2).assign(vectors)
    assert [row["concept_id"] for row in rows] == expected.concept_ids.tolist()
    assert [row["similarity"] for row in rows] == expected.similarities.tolist()
    assert [row["margin"] for row in rows] == expected.margins.tolist()
