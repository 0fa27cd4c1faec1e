"""`ConceptStore`: one version of a store, read-only.

Owns the checking of what is read. Refuses to write.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.errors import StoreCorruptError, StoreError
from cluster_engine.store.catalog import current_version, newest_manifest, read_history, read_version, removal_told
from cluster_engine.store.checking import check_sizes, parquet_errors, read_file
from cluster_engine.store.location import Location, StoreUri, locate
from cluster_engine.store.parts import SORTED_BY, join_parts, rows_of_file, unify
from cluster_engine.store.search import CentroidIndex, Neighbours
from cluster_engine.store.tables import read_batches, read_schema, read_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cluster_engine.search.conditions import Condition
    from cluster_engine.search.explanation import Explanation
    from cluster_engine.store.manifest import FileEntry, Manifest


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
        manifest = newest_manifest(location)
        if manifest is None or version not in {None, manifest.version}:
            manifest = read_version(location, 0 if version is None else version)
        try:
            with removal_told(location, manifest.version):
                check_sizes(location, manifest.files)
        except StoreError:
            if version is None and current_version(location) != manifest.version:
                return cls.open(location)  # another was committed meanwhile, and this one removed
            raise
        return cls(location, manifest)

    def n_rows(self, name: str) -> int:
        """Return the number of rows of a table, which the manifest tells."""
        return sum(part.n_rows for part in self.manifest.parts(name))

    @property
    def dimension(self) -> int:
        """Elements of every vector."""
        size: int = cast("pa.FixedSizeListType[Any, Any]", self.concepts().schema.field("centroid").type).list_size
        return size

    def episodes(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the episodes: episode_id, time, importance, evergreen, text (if any), vector; by episode_id.

        Parameters
        ----------
        columns : sequence of str, optional
            Those to read, as far as they are there; by default all. What is not asked for is not decoded.
        """
        return self._table("episodes", columns)

    def select_episodes(self, ids: pa.Array[Any], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield some episodes in pieces, at least one, which may be empty; in the order of the files.

        Holds a piece of a file at a time; files that have none of them are not decoded but for their ids.

        Parameters
        ----------
        ids : pyarrow.Array
            Those to find; ids that are not there are passed over.
        columns : sequence of str, optional
            Those to read, beside episode_id; by default all.
        """
        for part in self.manifest.parts("episodes"):
            rows = rows_of_file(self._location, part, self._read(part), "episode_id", columns)
            keys = cast("pa.ChunkedArray[Any]", rows.keys)
            is_wanted = np.asarray(pc.is_in(keys, value_set=ids))
            yield rows.schema.empty_table()
            if not is_wanted.any():
                continue
            first = 0
            for piece in rows.rest:
                wanted = np.flatnonzero(is_wanted[first : first + piece.num_rows])
                first += piece.num_rows
                if len(wanted):
                    yield piece.take(wanted)

    def concepts(self) -> pa.Table:
        """Return the concepts, with their centroids and exemplars; by size descending, then concept_id."""
        return self._table("concepts")

    def bindings(self) -> pa.Table:
        """Return the bindings: concept_id, episode_id, strength, initial, touched; by concept_id, then episode_id."""
        return self._table("bindings")

    def binding_schema(self) -> pa.Schema:
        """Return the names and types of the columns of `bindings`."""
        (part,) = self.manifest.parts("bindings")
        data = self._read(part)
        with parquet_errors(self._location, part):
            return read_schema(pa.BufferReader(data))

    def binding_batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield these columns of `bindings`, so many rows at a time as a writer held."""
        (part,) = self.manifest.parts("bindings")
        data = self._read(part)
        with parquet_errors(self._location, part):
            yield from read_batches(data, columns)

    def hierarchy(self) -> pa.Table:
        """Return the merges above the cut: node_id, left_id, right_id, distance, n_episodes; from the bottom up."""
        return self._table("hierarchy")

    def moments(self) -> pa.Table:
        """Return what is kept of concepts for the next cycle: concept_id, weight, sum."""
        return self._table("moments")

    def cycle(self) -> pa.Table:
        """Return the one row about the cycle that made the version: cycle, as_of, the cut, rules."""
        return self._table("cycle")

    def journal(self) -> pa.Table:
        """Return what changed and why, in all cycles up to this one: cycle, as_of, slot, concept_id, kind, reason."""
        return self._table("journal")

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

    def paths(self, name: str) -> list[str]:
        """Return where the Parquet files of the table ``name`` are in the store's filesystem, for other readers."""
        return [f"{self._location.root}/{part.path}" for part in self.manifest.parts(name)]

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
        with removal_told(self._location, self.version):
            if problems := [problem for file in self.manifest.files if (problem := self._find_problem(file))]:
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

    def _table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        parts = self.manifest.parts(name)
        if len(parts) == 1:
            data = self._read(parts[0])
            with parquet_errors(self._location, parts[0]):
                return read_table(data, None if columns is None else list(columns))
        key = SORTED_BY.get(name)
        rows = [rows_of_file(self._location, part, self._read(part), key, columns) for part in parts]
        joined = pa.concat_tables([unify(rows).empty_table(), *join_parts(rows)])
        return joined if columns is None else joined.select([c for c in joined.column_names if c in columns])

    def _read(self, file: FileEntry) -> pa.Buffer:
        with removal_told(self._location, self.version):
            data = read_file(self._location, file, is_verified=file.path in self._verified)
        self._verified.add(file.path)
        return data

    def _find_problem(self, file: FileEntry) -> str | None:
        try:
            read_file(self._location, file)
        except StoreError as error:
            return str(error)
        return None
