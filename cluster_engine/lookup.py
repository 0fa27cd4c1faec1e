"""What a store says about its concepts, as plain records: the answers to `search`, `show` and `explain`.

Owns the joining of tables. Refuses to know how an answer is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.concepts.labels import label_concepts
from cluster_engine.concepts.lineage import trace_concept
from cluster_engine.data.files import find_files
from cluster_engine.data.formats import inspect_file, read_batches
from cluster_engine.data.schema import missing_column
from cluster_engine.errors import InputError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cluster_engine.store.snapshot import ConceptStore

Record: TypeAlias = dict[str, Any]
"""One row of an answer: numbers, strings, datetimes, and lists and records of those."""


def concept_records(store: ConceptStore, limit: int | None = None) -> list[Record]:
    """Return the largest concepts, without their centroids; all of them without a limit."""
    table = store.concepts().slice(0, limit)
    return table.drop_columns(["centroid"]).to_pylist()


def nearest_concepts(store: ConceptStore, vector: NDArray[Any], k: int) -> list[Record]:
    """Return the k concepts nearest to a vector, best first, each with its "similarity" (cosine).

    Raises
    ------
    InputError
        The vector has another dimension than the store, or is zero, not finite or not real.
    """
    try:
        found = store.search(vector[np.newaxis], k, exact=True)
    except ValueError as error:
        raise InputError(f"the query does not fit the store {store.uri}: {error}") from error
    records = {record["concept_id"]: record for record in concept_records(store)}
    ranked = zip(found.concept_ids[0].tolist(), found.similarities[0].tolist(), strict=True)
    return [{**records[concept_id], "similarity": similarity} for concept_id, similarity in ranked]


def concept_detail(store: ConceptStore, concept_id: int, limit: int) -> Record:
    """Return a concept with its strongest "bindings" and its nearest "ancestors", at most so many of each.

    Raises
    ------
    InputError
        The version has no such concept.
    """
    records = {record["concept_id"]: record for record in concept_records(store)}
    if concept_id not in records:
        raise InputError(f"no concept {concept_id} in version {store.version} of {store.uri}; `show` lists them")
    return {
        **records[concept_id],
        "bindings": _strongest_bindings(store, concept_id, limit),
        "ancestors": _ancestors(store, records, concept_id)[:limit],
    }


def read_labels(store: ConceptStore) -> dict[int, tuple[str, ...]]:
    """Return the most distinctive terms of each concept, from the texts of all members. Some seconds for 10^5 texts."""
    return label_concepts(store.bindings(), store.episodes(["episode_id", "text"]))


def add_labels(store: ConceptStore, concepts: Sequence[Record]) -> list[Record]:
    """Return the records, each with its "label": the terms of `read_labels`."""
    labels = read_labels(store)
    return [concept | {"label": labels.get(concept["concept_id"], ())} for concept in concepts]


def explain_concept(store: ConceptStore, concept_id: int, n_nearest: int) -> Record:
    """Return why a concept is there, or where it went.

    Returns
    -------
    Record
        "concept": as in `concept_records`, with its "label"; None where it is no more. "became": the concept that it
        was absorbed into, in the end, or None. "story": a list of `cluster_engine.concepts.lineage.Event`, its own and
        those of the concepts that it came from or took in. "nearest": other concepts by the cosine of their centroids.
        "titles": what every concept of the answer is about, by id, as far as it is still there.

    Raises
    ------
    InputError
        The version has no such concept, and its journal never had.
    """
    records = {record["concept_id"]: record for record in concept_records(store)}
    journal = store.journal()
    story = trace_concept(journal, concept_id)
    if concept_id not in records and not story:
        raise InputError(
            f"no concept {concept_id} in version {store.version} of {store.uri}, nor in its journal; `show` lists them"
        )
    labels = read_labels(store)
    nearest = _nearest_others(store, concept_id, n_nearest) if concept_id in records else []
    mentioned = {name for event in story for name in (event.concept_id, *event.other_ids)}
    named = (mentioned | {neighbour["concept_id"] for neighbour in nearest}) & records.keys()
    concept = records.get(concept_id)
    return {
        "concept_id": concept_id,
        "concept": None if concept is None else concept | {"label": labels.get(concept_id, ())},
        "became": _became(journal, concept_id) if concept is None else None,
        "story": story,
        "nearest": nearest,
        "titles": {name: " ".join(labels.get(name, ())) or title(records[name]) for name in sorted(named)},
    }


def _nearest_others(store: ConceptStore, concept_id: int, k: int) -> list[Record]:
    concepts = store.concepts()
    row = pc.index(concepts["concept_id"], pa.scalar(concept_id, pa.int64())).as_py()
    centroid = np.asarray(concepts["centroid"][row].as_py(), np.float32)
    if not centroid.any():  # its members cancel out: it is like nothing
        return []
    found = store.search(centroid[np.newaxis], k + 1, exact=True)
    pairs = zip(found.concept_ids[0].tolist(), found.similarities[0].tolist(), strict=True)
    return [{"concept_id": name, "similarity": cosine} for name, cosine in pairs if name != concept_id][:k]


def _became(journal: pa.Table, concept_id: int) -> int | None:
    """Return the concept that one was absorbed into, which may have been absorbed in turn, and so on."""
    absorbed = journal.filter(pc.equal(journal["kind"], pa.scalar("absorbed", journal["kind"].type))).select(
        ["concept_id", "other_ids"]
    )
    targets = {row["concept_id"]: row["other_ids"][0] for row in absorbed.to_pylist()}
    name = concept_id
    for _ in targets:  # each link once, were there a circle
        name = targets.get(name, name)
    return None if name == concept_id else name


def _strongest_bindings(store: ConceptStore, concept_id: int, limit: int) -> list[Record]:
    bindings = store.bindings()
    bindings = bindings.filter(pc.equal(bindings["concept_id"], pa.scalar(concept_id)))
    bindings = bindings.take(pc.sort_indices(bindings, [("strength", "descending"), ("episode_id", "ascending")]))
    bindings = bindings.slice(0, limit)
    episodes = store.episodes(["episode_id", "time", "importance", "evergreen", "text"])
    rows = pc.index_in(bindings["episode_id"].combine_chunks(), episodes["episode_id"].combine_chunks())
    facts = episodes.take(rows).drop_columns(["episode_id"]).to_pylist()
    bound = bindings.drop_columns(["concept_id"]).to_pylist()
    return [{**binding, **fact} for binding, fact in zip(bound, facts, strict=True)]


def _ancestors(store: ConceptStore, records: dict[int, Record], concept_id: int) -> list[Record]:
    """Return the joins above a concept: at which distance, and the largest concept of the branch that it joins."""
    nodes = store.hierarchy().to_pylist()  # from the bottom up
    largest = {name: record["n_episodes"] for name, record in records.items()}
    leader = {name: name for name in records}
    for node in nodes:
        leader[node["node_id"]] = max(
            (leader[node["left_id"]], leader[node["right_id"]]), key=lambda name: (largest[name], -name)
        )
    joins = {side: node for node in nodes for side in (node["left_id"], node["right_id"])}
    ancestors = []
    branch = concept_id
    while branch in joins:
        node = joins[branch]
        other = leader[node["left_id"] if node["right_id"] == branch else node["right_id"]]
        ancestors.append(
            {
                "node_id": node["node_id"],
                "distance": node["distance"],
                "n_episodes": node["n_episodes"],
                "joined_concept_id": other,
                "joined_title": title(records[other]),
            }
        )
        branch = node["node_id"]
    return ancestors


def title(concept: Record) -> str:
    """Return what a concept is about in a few words: the text of its first exemplar, or its id where it has none."""
    texts = concept.get("exemplar_texts") or [None]
    return str(texts[0] or concept["exemplar_ids"][0])


def read_vector_file(path: Path) -> NDArray[Any]:
    """Read one vector, of shape (d,) or (1, d), from a ``.npy`` file. Pickled objects are refused.

    Raises
    ------
    InputError
        The file cannot be read, is not ``.npy``, or holds something else.
    """
    try:
        with path.open("rb") as file:
            loaded = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a .npy file: {error}") from error
    if loaded.ndim not in {1, 2} or loaded.size != loaded.shape[-1]:
        raise InputError(f"{path}: want one vector of shape (d,) or (1, d), got shape {loaded.shape}")
    return loaded.reshape(-1)


def read_row_vector(path: str, row: int, column: str) -> NDArray[np.float64]:
    """Read the vector in a row (from 0) of a Parquet or Arrow file.

    Raises
    ------
    InputError
        There is no such file, row or vector; names them.
    """
    files = find_files(path)
    if len(files) != 1:
        raise InputError(f"{path}: names {len(files)} files; a query row needs one")
    names = inspect_file(files[0]).schema.names
    if column not in names:
        raise SchemaError(missing_column("vector", column, names, files[0].name))
    n_rows = 0
    for batch in read_batches(files[0], [column]):
        if 0 <= row - n_rows < batch.num_rows:
            return _as_vector(batch.column(0)[row - n_rows].as_py(), f"{files[0].name}: row {row}, column {column!r}")
        n_rows += batch.num_rows
    raise InputError(f"{files[0].name}: no row {row}; it has {n_rows} rows, counted from 0")


def _as_vector(value: object, where: str) -> NDArray[np.float64]:
    try:
        vector = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: not a vector: {error}") from error
    if vector.ndim != 1:
        raise InputError(f"{where}: not a vector but {type(value).__name__}")
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise InputError(f"{where}: element {bad[0]} is {vector[bad[0]]}, not a finite number")
    return vector


def episode_vector(store: ConceptStore, episode_id: str) -> NDArray[np.float32]:
    """Return the vector of an episode of the store; a number where its ids are numbers.

    Raises
    ------
    InputError
        The version has no such episode.
    """
    episodes = store.episodes(["episode_id", "vector"])
    ids = episodes["episode_id"]
    is_number = episode_id.removeprefix("-").isdecimal()
    wanted = pa.scalar(int(episode_id) if pa.types.is_integer(ids.type) and is_number else episode_id)
    row = pc.index(ids, wanted).as_py() if pa.types.is_integer(wanted.type) == pa.types.is_integer(ids.type) else -1
    if row < 0:
        raise InputError(f"no episode {episode_id!r} in version {store.version} of {store.uri}")
    return np.asarray(episodes["vector"][row].as_py(), np.float32)
