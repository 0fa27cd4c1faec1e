"""Concepts from twenty batches beside concepts from all episodes at once, on real texts.

``python -m benchmarks.incremental WORDNET FORTUNES PACKAGES`` prints the table of ``docs/quality.md``, which says where
the arguments come from. The changelog entries of the demo come in the order of their times, the other texts in an order
that a hash gives, so that every batch is about everything.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from sklearn.metrics import adjusted_rand_score, v_measure_score

import cluster_engine as ce
from benchmarks.cut_data import Dataset, demo
from benchmarks.labelled_texts import add_files, labelled_texts
from benchmarks.quality import codes, with_singles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Labels = NDArray[np.int64]

N_BATCHES = 20
SHARE_ADDED = 0.05
ROW = "| {:52} | {:>8} | {:>8} | {:>6} | {:>6} | {:>6} | {:>6} | {:>6} | {:>6} | {:>7} | {:>7} | {:>7} |"
HEADINGS = (
    *("concepts, 20 batches", "at once", "v of each other", "ARI of each other", "v, 20 batches", "at once"),
    *("ARI, 20 batches", "at once", "ids kept by a batch", "by a rerun", "by 5 % more"),
)


class Outcome(NamedTuple):
    """What two ways to the same episodes come to.

    Attributes
    ----------
    n_concepts : tuple of int
        From batches, and at once.
    partitions : tuple of ndarray of int64, shape (n,)
        The concept of each episode, -1 for none.
    kept : tuple of float
        Of the concepts there were, the share whose ids are still there: the least after any of the later batches, after
        a rerun of all episodes in a new slot, and after 5 % of new episodes.
    """

    n_concepts: tuple[int, int]
    partitions: tuple[Labels, Labels]
    kept: tuple[float, float, float]


def compare(data: Dataset, folder: Path) -> Outcome:
    assert data.ids is not None
    n = len(data.ids)
    parts = np.array_split(np.arange(n), N_BATCHES)
    files = [write(data, rows, folder / f"{number:02}.parquet") for number, rows in enumerate(parts)]
    batches, at_once = str(folder / "batches"), str(folder / "at-once")
    ids: list[set[int]] = []
    for number, file in enumerate(files):
        ce.consolidate(file, batches, slot=f"batch {number}")
        ids.append(concept_ids(batches))
    partition = bound(batches, data.ids)
    ce.consolidate(files, batches, slot="again")
    again = concept_ids(batches)
    n_first = round(n / (1 + SHARE_ADDED))
    first, rest = (
        write(data, np.arange(n_first), folder / "a.parquet"),
        write(data, np.arange(n_first, n), folder / "b.parquet"),
    )
    ce.consolidate(first, folder / "grown", slot="first")
    before = concept_ids(folder / "grown")
    ce.consolidate(rest, folder / "grown", slot="more")
    ce.consolidate(files, at_once)
    kept = (
        min(share_kept(old, new) for old, new in pairwise(ids)),
        share_kept(ids[-1], again),
        share_kept(before, concept_ids(folder / "grown")),
    )
    return Outcome((len(ids[-1]), len(concept_ids(at_once))), (partition, bound(at_once, data.ids)), kept)


def write(data: Dataset, rows: NDArray[np.int64], path: Path) -> str:
    assert data.ids is not None
    columns = {"id": [data.ids[row] for row in rows], "vector": list(data.vectors[rows])}
    if data.texts is not None:
        columns["text"] = [data.texts[row] for row in rows]
    pq.write_table(pa.table(columns), path)
    return str(path)


def concept_ids(store: str | Path) -> set[int]:
    return set(ce.ConceptStore.open(store).concepts()["concept_id"].to_numpy().tolist())


def share_kept(old: set[int], new: set[int]) -> float:
    return len(old & new) / len(old) if old else 1.0


def bound(store: str | Path, ids: Sequence[str]) -> Labels:
    """Return the concept of each episode, numbered from 0; -1 for an episode that no concept has bound."""
    bindings = ce.ConceptStore.open(store).bindings()
    owner = dict(zip(bindings["episode_id"].to_pylist(), bindings["concept_id"].to_numpy().tolist(), strict=True))
    numbers = {concept: number for number, concept in enumerate(sorted(set(owner.values())))}
    return np.array([numbers[owner[name]] if name in owner else -1 for name in ids], np.int64)


def shuffled(data: Dataset) -> Dataset:
    """Return the data in the order of their ids, which are hashes."""
    assert data.ids is not None
    assert data.labels is not None
    assert data.texts is not None
    order = np.argsort(data.ids)
    ids, texts = ([names[row] for row in order] for names in (data.ids, data.texts))
    return data._replace(vectors=data.vectors[order], labels=data.labels[order], ids=ids, texts=texts)


def datasets(arguments: argparse.Namespace) -> Iterator[Dataset]:
    entries = demo()  # sorted by time
    assert entries.ids is not None
    yield entries._replace(
        name="Changelog entries, by package", labels=codes([name.partition("/")[0] for name in entries.ids])
    )
    for data in labelled_texts(arguments.wordnet, arguments.fortunes, arguments.packages):
        yield shuffled(data)


def shown(data: Dataset, outcome: Outcome) -> str:
    assert data.labels is not None
    whole = [with_singles(labels) for labels in outcome.partitions]
    each_other = v_measure_score(*whole), adjusted_rand_score(*whole)
    v = [v_measure_score(data.labels, labels) for labels in whole]
    ari = [adjusted_rand_score(data.labels, labels) for labels in whole]
    cells = [f"{value:.3f}" for value in (*each_other, *v, *ari)] + [f"{share:.1%}" for share in outcome.kept]
    return ROW.format(data.name, *outcome.n_concepts, *cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_files(parser)
    parser.add_argument("--only", default="", help="data whose name holds this")
    arguments = parser.parse_args()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    print(ROW.format("", *HEADINGS))
    print("|---" * (len(HEADINGS) + 1) + "|", flush=True)
    for data in datasets(arguments):
        if arguments.only in data.name:
            with tempfile.TemporaryDirectory() as folder:
                print(shown(data, compare(data, Path(folder))), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
