"""`ConceptAssigner`: the nearest concept of each vector of a batch, as a callable that keeps its index.

Owns the columns that a batch gets. Refuses to know who cuts a dataset into batches: Ray Data does, and
this module needs no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.errors import SchemaError
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.store.location import StoreUri

NO_CONCEPT = -1
_COLUMNS = ("concept_id", "similarity", "margin")


@dataclass(frozen=True, slots=True)
class Assignment:
    """The concept of each vector.

    Attributes
    ----------
    concept_ids : ndarray of int64, shape (q,)
        -1 where no concept is near enough.
    similarities : ndarray of float32, shape (q,)
        The cosine with the nearest concept, whether it is near enough or not; NaN where there are no concepts.
    margins : ndarray of float32, shape (q,)
        By how much the nearest is nearer than the next; infinite where there is no other.
    """

    concept_ids: NDArray[np.int64]
    similarities: NDArray[np.float32]
    margins: NDArray[np.float32]


class ConceptAssigner:
    """Assigns vectors to the concepts of one version of a store.

    With Ray Data, one for each actor::

        dataset.map_batches(ce.ConceptAssigner, fn_constructor_kwargs={"store": "memory/"}, compute=ActorPoolStrategy())

    Parameters
    ----------
    store : str, path or URI
    version : int, optional
        The current one unless given.
    vector_column : str
        Of the batches that are given.
    threshold : float
        Least cosine with a concept, from -1 to 1.
    exact : bool
        Compare all concepts, whatever the index of the store would do.

    Raises
    ------
    StoreError
        As `ConceptStore.open`.
    """

    def __init__(
        self,
        store: StoreUri,
        *,
        version: int | None = None,
        vector_column: str = "vector",
        threshold: float = -1.0,
        exact: bool = False,
    ) -> None:
        if not -1 <= threshold <= 1:
            raise ValueError(f"threshold must be from -1 to 1, got {threshold}")
        self._store = ConceptStore.open(store, version=version)
        self._vector_column, self._threshold, self._exact = vector_column, threshold, exact

    def assign(self, vectors: ArrayLike) -> Assignment:
        """Return the nearest concept of each of ``vectors``, shape (q, d); errors as of `ConceptStore.search`."""
        found = self._store.search(vectors, 2, exact=self._exact)
        q, n_found = found.similarities.shape
        if not n_found:
            missing = np.full(q, np.nan, np.float32)
            return Assignment(np.full(q, NO_CONCEPT), missing, missing)
        nearest = found.similarities[:, 0]
        margins = nearest - found.similarities[:, 1] if n_found > 1 else np.full(q, np.inf, np.float32)
        return Assignment(
            np.where(nearest >= np.float32(self._threshold), found.concept_ids[:, 0], NO_CONCEPT), nearest, margins
        )

    def __call__(self, batch: Any) -> Any:  # noqa: ANN401 - Ray Data's batches: as it is given, so it returns
        """Return the batch with columns concept_id, similarity and margin, of the meaning of `Assignment`.

        Parameters
        ----------
        batch : pyarrow.Table, pandas.DataFrame or dict of names to arrays
            With a column of vectors.

        Raises
        ------
        SchemaError
            The batch lacks the column, or has one of those that it would get; or the column does not hold vectors.
        """
        names = list(batch.column_names if isinstance(batch, pa.Table) else batch)
        if self._vector_column not in names:
            raise SchemaError(f"batch has no column {self._vector_column!r}; it has: {', '.join(map(str, names))}")
        if taken := [name for name in _COLUMNS if name in names]:
            raise SchemaError(f"batch already has a column {taken[0]!r}: rename or drop it")
        found = self.assign(_matrix(batch[self._vector_column], self._vector_column))
        columns = dict(zip(_COLUMNS, (found.concept_ids, found.similarities, found.margins), strict=True))
        if isinstance(batch, pa.Table):
            for name, values in columns.items():
                batch = batch.append_column(name, pa.array(np.asarray(values)))
            return batch
        return {**batch, **columns} if isinstance(batch, dict) else batch.assign(**columns)


def _matrix(column: Any, name: str) -> NDArray[Any]:  # noqa: ANN401 - of Arrow, pandas or NumPy
    """Return the vectors of a column as rows."""
    if isinstance(column, pa.ChunkedArray):
        column = _rows(column.combine_chunks(), name)
    rows = np.asarray(column)
    try:
        return rows if rows.dtype != object else np.stack([np.asarray(row, np.float64) for row in rows])
    except ValueError as error:
        raise SchemaError(f"column {name!r} must hold vectors of one dimension, all numbers: {error}") from error


def _rows(column: Any, name: str) -> NDArray[Any]:  # noqa: ANN401 - an array of Arrow
    is_fixed = pa.types.is_fixed_size_list(column.type)
    if column.null_count or not (is_fixed or pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise SchemaError(f"column {name!r} must hold vectors and no nulls, got {column.type}")
    lengths = np.unique(np.asarray(pc.list_value_length(column)))
    if len(lengths) > 1:
        raise SchemaError(f"column {name!r} must hold vectors of one dimension, got {lengths.tolist()}")
    dimension = column.type.list_size if is_fixed else int(lengths[0]) if len(lengths) else 0
    return np.asarray(pc.list_flatten(column)).reshape(len(column), dimension)
