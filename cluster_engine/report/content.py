"""What the page shows, as JSON: columns of numbers and texts, counted and shortened.

Ids of concepts are text, since JavaScript's numbers do not hold them; elsewhere concepts are their row in "concepts".

Owns the choice and the counting. Refuses to know how anything is drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster_engine.concepts.hierarchy import HierarchyNode
from cluster_engine.concepts.journal import CHANGE_KINDS
from cluster_engine.concepts.labels import label_concepts
from cluster_engine.concepts.lineage import summarise_cycles
from cluster_engine.report.outline import LONE, outline_tree
from cluster_engine.report.projection import place_points
from cluster_engine.terminal import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cluster_engine.report.outline import Branch
    from cluster_engine.store.snapshot import ConceptStore

Content: TypeAlias = "dict[str, Any]"
"""What a JSON document may hold."""

# All chosen, not measured: what a reader looks at, and a page of a few megabytes.
_TEXT_CHARACTERS = 280
_MAX_EXEMPLARS = 4
_MAX_EVENTS = 5_000
_MAX_REFUSED_OF_A_REASON = 50
_MAX_AGES = 30
_QUIET_KINDS = ("grew", "shrank")  # of these the timeline has counts alone: every cycle has many
_STATES = ("active", "proto", "retired")


def store_content(store: ConceptStore) -> Content:
    """Return what the page of a version shows; see `report_content`."""
    names = ("bindings", "concepts", "cycle", "hierarchy", "journal", "quarantine", "report")
    tables = {name: getattr(store, name)() for name in names}
    tables["episodes"] = store.episodes(["episode_id", "text"])
    return report_content(tables, store.uri, store.version, store.slot)


def report_content(tables: Mapping[str, pa.Table], store: str, version: int, slot: str | None) -> Content:
    """Return what the page of a version shows.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table
        All tables of the version, as in ``docs/store.md``; of the episodes, "episode_id" and "text" are read.
    store, version, slot
        For the header.
    """
    concepts = tables["concepts"]
    ids = np.asarray(concepts["concept_id"]).tolist()
    sizes, distances = (
        dict(zip(ids, np.asarray(concepts[name]).tolist(), strict=True)) for name in ("n_episodes", "distance")
    )
    labels = label_concepts(tables["bindings"], tables["episodes"])
    nodes = [HierarchyNode(**row) for row in tables["hierarchy"].to_pylist()]
    cycle = tables["cycle"].to_pylist()[0]
    rows = {name: row for row, name in enumerate(ids)}
    return {
        "facts": _facts(tables, cycle) | {"store": store, "version": version, "slot": slot},
        "concepts": _concepts(concepts, labels),
        "tree": _tree(nodes, sizes, labels, distances, rows),
        "hierarchy": _hierarchy(nodes, rows),
        "sizes": _size_bins(concepts["n_episodes"]),
        "coherences": _coherence_bins(concepts["coherence"]),
        "cycles": _cycles(tables["journal"]),
        "events": _events(tables["journal"], rows),
        "decay": _decay(tables["bindings"], cycle["as_of"]),
        "quarantine": _quarantine(tables["quarantine"]),
        "run": _run(tables["report"].to_pylist()[0]),
    }


def _facts(tables: Mapping[str, pa.Table], cycle: Mapping[str, Any]) -> Content:
    states = Counter(tables["concepts"]["state"].to_pylist())
    return {
        "as_of": _iso(cycle["as_of"]),
        "cycle": cycle["cycle"],
        "cut_distance": _round(cycle["cut_distance"]),
        "n_episodes": tables["episodes"].num_rows,
        "n_bindings": tables["bindings"].num_rows,
        "n_bound": len(pc.unique(tables["bindings"]["episode_id"])),
        "n_concepts": {state: states[state] for state in _STATES if states[state]},
        "n_quarantined": tables["quarantine"].num_rows,
    }


def _concepts(concepts: pa.Table, labels: Mapping[int, tuple[str, ...]]) -> Content:
    ids = np.asarray(concepts["concept_id"]).tolist()
    flat = np.asarray(pc.list_flatten(concepts["centroid"].combine_chunks()), np.float32)
    places = place_points(flat.reshape(len(ids), -1)) if ids else np.empty((0, 2))
    exemplar_ids = concepts["exemplar_ids"].to_pylist()
    texts = concepts["exemplar_texts"].to_pylist() if "exemplar_texts" in concepts.column_names else exemplar_ids
    columns = ("n_episodes", "strength_ppm", "n_replays", "idle_cycles", "born_cycle")
    return {
        "id": [str(name) for name in ids],
        "label": [" ".join(labels.get(name, ())) for name in ids],
        "exemplars": [
            _shortened(given or ()) or _shortened(named or ()) for given, named in zip(texts, exemplar_ids, strict=True)
        ],
        "state": [_STATES.index(state) for state in concepts["state"].to_pylist()],
        "coherence": [_round(value) for value in concepts["coherence"].to_pylist()],
        "distance": [_round(value) for value in concepts["distance"].to_pylist()],
        "first": [_day(time) for time in concepts["first_time"].to_pylist()],
        "last": [_day(time) for time in concepts["last_time"].to_pylist()],
        "x": np.round(places[:, 0], 4).tolist(),
        "y": np.round(places[:, 1], 4).tolist(),
        **{name: concepts[name].to_pylist() for name in columns},
    }


def _shortened(texts: Sequence[Any]) -> list[str]:
    """Return the first exemplars, each text once."""
    given = [shorten(str(text), _TEXT_CHARACTERS) for text in texts if text is not None]
    return list(dict.fromkeys(text for text in given if text))[:_MAX_EXEMPLARS]


def _tree(
    nodes: Sequence[HierarchyNode],
    sizes: Mapping[int, int],
    labels: Mapping[int, tuple[str, ...]],
    distances: Mapping[int, float],
    rows: Mapping[int, int],
) -> Content:
    branches = outline_tree(nodes, sizes, labels, distances)
    is_whole = sum(branch.depth == 0 for branch in branches) == 1 and branches[0].is_group
    branches = branches[is_whole:]  # one group of everything says nothing
    return {
        "depth": [branch.depth - is_whole for branch in branches],
        "concept": [rows.get(branch.name, -1) for branch in branches],
        "label": [_group_label(branch) for branch in branches],
        "n_concepts": [branch.n_concepts for branch in branches],
        "n_episodes": [branch.n_episodes for branch in branches],
        "distance": [_round(branch.distance) for branch in branches],
    }


def _group_label(branch: Branch) -> str:
    """Return the words of a group; a concept has its own."""
    if branch.name == LONE:
        return "concepts that join no other"
    return " ".join(branch.terms) if branch.is_group else ""


def _hierarchy(nodes: Sequence[HierarchyNode], rows: Mapping[int, int]) -> Content:
    """Return the joins, from the bottom up; a side below the number of concepts is a concept, others are joins."""
    places = {**rows, **{node.node_id: len(rows) + place for place, node in enumerate(nodes)}}
    return {
        "left": [places[node.left_id] for node in nodes],
        "right": [places[node.right_id] for node in nodes],
        "distance": [_round(node.distance) for node in nodes],
    }


def _size_bins(sizes: pa.ChunkedArray[Any]) -> Content:
    """Count concepts by size, in bins that double."""
    values = np.asarray(sizes, np.int64)
    top = int(values.max(initial=1)).bit_length()
    edges = 2 ** np.arange(top + 1)
    counts, _ = np.histogram(values, np.append(edges[:-1], edges[-1] + 1) if top else edges)
    skipped = int(np.argmax(counts > 0)) if counts.any() else 0
    return {"edges": edges[skipped:].tolist(), "counts": counts[skipped:].tolist(), "quartiles": _quartiles(values)}


def _coherence_bins(coherences: pa.ChunkedArray[Any]) -> Content:
    """Count concepts by coherence, in bins of 0.05."""
    values = np.asarray(coherences.drop_null(), np.float64)
    values = values[np.isfinite(values)]
    first = min(19, int(np.floor(values.min(initial=1.0) * 20)))
    edges = np.arange(first, 21) / 20
    counts, _ = np.histogram(values, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "quartiles": _quartiles(values)}


def _quartiles(values: NDArray[Any]) -> list[float]:
    return np.round(np.quantile(values, [0.25, 0.5, 0.75]), 4).tolist() if len(values) else []


def _cycles(journal: pa.Table) -> Content:
    cycles = summarise_cycles(journal)
    return {
        "kinds": CHANGE_KINDS,
        "cycle": [cycle.cycle for cycle in cycles],
        "as_of": [_iso(cycle.as_of) for cycle in cycles],
        "slot": [cycle.slot for cycle in cycles],
        "counts": [[cycle.counts.get(kind, 0) for cycle in cycles] for kind in CHANGE_KINDS],
    }


def _events(journal: pa.Table, rows: Mapping[int, int]) -> Content:
    """Return the newest changes of concepts that came, went or turned into others; growth is only counted."""
    loud = journal.filter(pc.invert(pc.is_in(journal["kind"], pa.array(_QUIET_KINDS, journal["kind"].type))))
    shown = loud.slice(max(0, loud.num_rows - _MAX_EVENTS)).to_pylist()
    return {
        "n_left_out": loud.num_rows - len(shown),
        "cycle": [row["cycle"] for row in shown],
        "id": [str(row["concept_id"]) for row in shown],
        "concept": [rows.get(row["concept_id"], -1) for row in shown],
        "kind": [CHANGE_KINDS.index(row["kind"]) for row in shown],
        "others": [[str(other) for other in row["other_ids"] or ()] for row in shown],
        "n": [row["n_episodes"] for row in shown],
        "reason": [shorten(row["reason"] or "", _TEXT_CHARACTERS) for row in shown],
    }


def _decay(bindings: pa.Table, as_of: datetime) -> Content:
    """Return what is left of the strength of bindings, by how long ago they were touched."""
    touched = np.asarray(bindings["touched"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()), np.int64)
    now = pa.scalar(as_of, pa.timestamp("us", "UTC")).cast(pa.int64()).as_py()
    initial, strength = (np.asarray(bindings[name], np.float64) for name in ("initial", "strength"))
    usable = initial > 0
    ages = np.maximum(0, now - touched[usable]) / 86_400e6
    shares = strength[usable] / initial[usable]
    width = max(1.0, np.ceil(ages.max(initial=0.0) / _MAX_AGES))  # whole days
    bins = (ages // width).astype(np.int64)
    order = np.lexsort((shares, bins))
    found, starts = np.unique(bins[order], return_index=True)
    parts = np.split(shares[order], starts[1:]) if len(found) else []
    return {
        "width_days": float(width),
        "age_days": (found * width).tolist(),
        "n": [len(part) for part in parts],
        "left": [np.round(np.quantile(part, [0.1, 0.5, 0.9]), 4).tolist() for part in parts],
    }


def _quarantine(refused: pa.Table) -> Content:
    counts = Counter(refused["reason"].to_pylist())
    shown: Counter[str] = Counter()
    rows = []
    for record in refused.to_pylist():
        shown[record["reason"]] += 1
        if shown[record["reason"]] <= _MAX_REFUSED_OF_A_REASON:
            texts = {
                name: shorten(record[name], _TEXT_CHARACTERS) if record[name] is not None else None
                for name in ("file", "episode_id", "detail")
            }
            rows.append({"reason": record["reason"], "row_number": record["row_number"], **texts})
    return {"counts": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))), "rows": rows}


def _run(report: Mapping[str, Any]) -> Content:
    """Return the phases of the run, "NAME_s" and where there is one "NAME_bytes", and its other facts."""
    names = [name.removesuffix("_s") for name in report if name.endswith("_s") and report[name] is not None]
    phases = [
        {"name": name, "seconds": round(report[f"{name}_s"], 4), "bytes": report.get(f"{name}_bytes")} for name in names
    ]
    taken = {f"{name}{end}" for name in names for end in ("_s", "_bytes")} | {f"n_{kind}" for kind in CHANGE_KINDS}
    facts = {
        name: _iso(value) if isinstance(value, datetime) else value
        for name, value in report.items()
        if name not in taken and value is not None
    }
    return {"phases": phases, "facts": facts}


def _round(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 4)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _day(time: datetime | None) -> str | None:
    return None if time is None else time.date().isoformat()
