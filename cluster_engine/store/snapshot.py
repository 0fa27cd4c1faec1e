"""`ConceptStore`: one version of a store, read-only.

Owns the checking of what is read. Refuses to write.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.errors import StoreCorruptError, StoreError
from cluster_engine.store.catalog import list_versions, read_history, read_manifest
from cluster_engine.store.location import Location, StoreUri, locate
from cluster_engine.store.search import CentroidIndex, Neighbours
from cluster_engine.store.tables import TABLE_NAMES, read_batches, read_schema, read_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.search.conditions import Condition
    from cluster_engine.search.explanation import Explanation
    from cluster_engine.store.manifest import Manifest


class ConceptStore:
    """One version of a store. Later commits do not change what it shows; `open` again to see them.

    Sizes of files are checked at `open` and at every read, checksums at the first read of each file.

    Attributes
    ----------
    uri : str
        Where the store is.
    version : int
        Number of the version, from 1.
    slot : str or None
        The batch that made the version.
    manifest : Manifest
        Names, sizes, rows and checksums of its files.
    """

    def __init__(self, location: Location, manifest: Manifest) -> None:
        self.uri = location.uri
        self.version = manifest.version
        self.slot = manifest.slot
        self.manifest = manifest
        self._location = location
        self._verified: set[str] = set()

    @classmethod
    def open(cls, uri: StoreUri, *, version: int | None = None) -> ConceptStore:
        """Open a version of the store at ``uri``: the current one unless ``version`` is given.

        Raises
        ------
        StoreError
            If nothing was committed there yet, or there is no such version.
        StoreFormatError
            If the current version has a format that this code does not know.
        StoreCorruptError
            If a manifest is damaged, or a file is missing or has the wrong size.
        """
        location = locate(uri)
        versions = list_versions(location)
        if not versions:
            raise StoreError(f"no store at {location.uri} yet: no version was committed there; run consolidate first")
        manifest = read_manifest(location, versions[-1])
        if version is not None and version != manifest.version:
            if version not in versions:
                raise StoreError(
                    f"the store {location.uri} has no version {version}; it has {versions[0]} to {versions[-1]}"
                )
            manifest = read_manifest(location, version)
        store = cls(location, manifest)
        store._check_sizes()
        return store

    def episodes(self) -> pa.Table:
        """Return the episodes: episode_id, time, importance, text (if any), vector; by episode_id."""
        return self._table("episodes")

    def concepts(self) -> pa.Table:
        """Return the concepts, with their centroids and exemplars; by size descending, then concept_id."""
        return self._table("concepts")

    def bindings(self) -> pa.Table:
        """Return the bindings: concept_id, episode_id, strength, contribution; by concept_id, then episode_id."""
        return self._table("bindings")

    def binding_schema(self) -> pa.Schema:
        """Return the names and types of the columns of `bindings`."""
        with self._parquet_errors("bindings"):
            return read_schema(self._data("bindings"))

    def binding_batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield these columns of `bindings`, so many rows at a time as a writer held."""
        with self._parquet_errors("bindings"):
            yield from read_batches(self._data("bindings"), columns)

    def hierarchy(self) -> pa.Table:
        """Return the merges above the cut: node_id, left_id, right_id, distance, n_episodes."""
        return self._table("hierarchy")

    def dendrogram(self) -> pa.Table:
        """Return all merges in SciPy's layout, over episodes in order of id: left, right, distance, n_episodes."""
        return self._table("dendrogram")

    def quarantine(self) -> pa.Table:
        """Return the rows of the input that were refused: file, row_number, episode_id, reason, detail."""
        return self._table("quarantine")

    def report(self) -> pa.Table:
        """Return the one row of facts about the run that made the version."""
        return self._table("report")

    def search(
        self,
        vectors: ArrayLike,
        k: int = 10,
        *,
        where: Sequence[Condition] = (),
        mask: NDArray[np.bool_] | None = None,
        exact: bool = False,
    ) -> Neighbours:
        """Return the concepts whose centroids are nearest to each vector by cosine.

        Exact, O(q n d), for as many concepts as one core compares in 0.1 ms; of more, those in the cells of the nearest
        centres are compared, which finds at least 0.95 of the nearest: ``index.plan`` says which and why. Similarities
        are exact in both. The index is built by the first call and stays in memory.

        Parameters
        ----------
        vectors
            (q, d) real numbers, finite, not zero.
        k
            How many concepts per vector, at least 1. Of n concepts that may be found, min(k, n) are.
        where
            Conditions that concepts must all meet, on columns of `concepts` but lists.
        mask
            Bool, one for each of ``index.concept_ids``: which may be found.
        exact
            Compare all concepts.

        Returns
        -------
        Neighbours
            By similarity descending, then by concept id.

        Raises
        ------
        ValueError
            If ``k``, the mask, a condition, or the shape or the dtype of ``vectors`` is wrong.
        VectorError
            If a vector is zero or not finite; names the row.
        """
        return self.index.search(vectors, k, where=where, mask=mask, exact=exact)

    def explain(
        self,
        vector: ArrayLike,
        concept_id: int,
        k: int = 10,
        *,
        where: Sequence[Condition] = (),
        mask: NDArray[np.bool_] | None = None,
        exact: bool = False,
    ) -> Explanation:
        """Return what a `search` for one vector, shape (d,), with these arguments makes of one concept, and why.

        O(n d).

        Raises
        ------
        InputError
            If the version has no such concept.
        ValueError, VectorError
            As `search`.
        """
        return self.index.explain(vector, concept_id, k, where=where, mask=mask, exact=exact)

    def history(self) -> pa.Table:
        """Return the versions of the store as it is now, one row each, ascending.

        Columns: version, slot, engine_version, n_episodes, n_concepts, n_bindings, n_quarantined, n_bytes,
        content_sha256 (equal for versions with equal results).
        """
        return read_history(self._location)

    def verify(self) -> None:
        """Read every file of the version and check its size and checksum.

        Raises
        ------
        StoreCorruptError
            Naming every file that differs.
        """
        if problems := [problem for name in TABLE_NAMES if (problem := self._find_problem(name))]:
            raise StoreCorruptError("; ".join(problems))

    @cached_property
    def index(self) -> CentroidIndex:
        """The centroids of the version, ready to search."""
        concepts = self._table("concepts").combine_chunks()
        dimension = cast("pa.FixedSizeListType[Any, Any]", concepts.schema.field("centroid").type).list_size
        flat = np.asarray(pc.list_flatten(concepts["centroid"]), np.float32)
        is_list = [pa.types.is_nested(field.type) for field in concepts.schema]
        facts = concepts.drop_columns(
            [name for name, nested in zip(concepts.column_names, is_list, strict=True) if nested]
        )
        ids = np.asarray(concepts["concept_id"], np.int64)
        return CentroidIndex(ids, flat.reshape(-1, dimension), facts=facts)

    def _check_sizes(self) -> None:
        paths = [self.manifest.path(name) for name in TABLE_NAMES]
        for name, path, size_bytes in zip(TABLE_NAMES, paths, self._location.sizes_bytes(paths), strict=True):
            self._check_size(path, name, size_bytes)

    def _table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        with self._parquet_errors(name):
            return read_table(self._data(name), columns)

    def _data(self, name: str) -> pa.Buffer:
        path = self.manifest.path(name)
        data = self._location.read(path)
        self._check_size(path, name, data.size)
        if name not in self._verified:
            self._check_sha256(path, name, data)
        return data

    @contextmanager
    def _parquet_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            path = self._full(self.manifest.path(name))
            raise StoreCorruptError(f"{path} has the right checksum but is not Parquet: {error}") from error

    def _find_problem(self, name: str) -> str | None:
        path = self.manifest.path(name)
        try:
            data = self._location.read(path)
            self._check_size(path, name, data.size)
            self._check_sha256(path, name, data)
        except StoreError as error:
            return str(error)
        return None

    def _check_size(self, path: str, name: str, size_bytes: int | None) -> None:
        want_bytes = self.manifest.file(name).n_bytes
        if size_bytes != want_bytes:
            got = "no file" if size_bytes is None else f"{size_bytes} bytes"
            raise StoreCorruptError(f"{self._full(path)}: want {want_bytes} bytes, got {got}")

    def _check_sha256(self, path: str, name: str, data: pa.Buffer) -> None:
        want, got = self.manifest.file(name).sha256, hashlib.sha256(data).hexdigest()
        if got != want:
            raise StoreCorruptError(f"{self._full(path)}: want sha256 {want}, got {got}")
        self._verified.add(name)

    def _full(self, path: str) -> str:
        return f"{self._location.root}/{path}"
