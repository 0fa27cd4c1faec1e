"""What a batch will take, before it starts: points, memory, time, and whether it fits.

Reads row counts of files and the manifest of the store; no row of either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster_engine.concepts.clustering import EPISODES, MEANS
from cluster_engine.concepts.known import LastCycle
from cluster_engine.config import Config
from cluster_engine.cycle import due_reason
from cluster_engine.data.files import find_files, fingerprint
from cluster_engine.data.formats import inspect_file
from cluster_engine.data.schema import resolve_columns
from cluster_engine.errors import CapacityError, InputError
from cluster_engine.linkage.plan import choose_path, expected_s, path_bytes
from cluster_engine.shards.linkage import POOL_COPIES
from cluster_engine.similarity.capacity import available_bytes, count_threads, format_bytes
from cluster_engine.store.catalog import current_version
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from cluster_engine.data.files import EpisodeInput
    from cluster_engine.store.location import StoreUri

_EPISODE_BYTES = 250  # of each episode of store and input: id, time, flags and binding, in tables and as columns
_BUFFER_BYTES = 48 << 20  # that Arrow and Ray keep, of rows and messages; measured: 40 to 60 MB
_READ_B_PER_S = 150e6  # of vectors read, checked, written, synced; chosen from measurements, within a factor of 2
_START_S = 5.0  # of a local Ray and its actors, on two cores; the same


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How a batch would run.

    Attributes
    ----------
    n_stored, n_input : int
        Episodes of the store, and rows of the input: as many episodes, if all are new and good.
    n_concepts : int
        In the store.
    n_points : int
        What would be clustered, at most: all episodes in a rebuild, else concepts and unbound episodes.
    dimension : int
    is_rebuild : bool
    reason : str
        Why all are clustered from scratch, or not.
    memory_bytes : int
        Peak on this host beyond what the processes take when they start: of the driver, its actors here and the object
        store.
    seconds : float
        Expected, with the start of a local Ray; within a factor of about 2.
    """

    n_stored: int
    n_input: int
    n_concepts: int
    n_points: int
    dimension: int
    is_rebuild: bool
    reason: str
    memory_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.n_input:,} rows into {self.n_stored:,} episodes and {self.n_concepts:,} concepts: at most "
            f"{self.n_points:,} points of {self.dimension} dimensions, {format_bytes(self.memory_bytes)}, "
            f"about {self.seconds:.3g} s; {self.reason}"
        )


def plan_batch(
    input: EpisodeInput,  # noqa: A002  # as in consolidate
    store: StoreUri,
    config: Config | None = None,
    *,
    rebuild: bool = False,
) -> BatchPlan:
    """Tell what `cluster_engine.consolidate` would do with these arguments. Changes nothing, starts nothing.

    Parameters
    ----------
    input, store, config
        As of `consolidate`.
    rebuild : bool
        As of `consolidate`.

    Raises
    ------
    CapacityError
        It will not fit; names the bytes.
    InputError
        No file matches, or neither the input nor the store nor the configuration tells the dimension.
    StoreError
        The store cannot be read.
    """
    settings = config or Config()
    stored = None if current_version(store) is None else ConceptStore.open(store)
    last, n_stored, n_concepts, n_bound = LastCycle(), 0, 0, 0
    if stored is not None:
        last = LastCycle.of(stored.cycle())
        n_stored, n_concepts, n_bound = (stored.n_rows(name) for name in ("episodes", "concepts", "bindings"))
    n_input, dimension = _count_input(input, stored, settings)
    n = n_stored + n_input
    due = "a rebuild was asked for" if rebuild else due_reason(n_concepts, n, last, settings.rebuild)
    n_points = n if due else n_concepts + n - min(n_bound, n_stored)
    limit = settings.memory_limit_bytes or available_bytes()
    criterion = EPISODES if due else MEANS
    path, _ = choose_path(n_points, dimension, criterion, limit, n_copies=POOL_COPIES)
    vectors_bytes = 4 * dimension * (n_input + 2 * n_points + 6 * n_concepts)  # read; taken, as points; sums, centroids
    n_copies = 1 + settings.pool.actors_per_numa_node  # in the object store, packed by actors
    clustering_bytes = path_bytes(path, n_points, dimension, criterion, n_copies=n_copies)
    memory_bytes = clustering_bytes + vectors_bytes + _EPISODE_BYTES * n + _BUFFER_BYTES
    if memory_bytes > limit:
        raise CapacityError(
            f"a batch of {n_points:,} points of {dimension} dimensions needs {format_bytes(memory_bytes)}, but only "
            f"{format_bytes(limit)} may be used"
        )
    threads = count_threads()
    moved_s = 4 * dimension * (n_stored + 2 * n_input) / _READ_B_PER_S
    seconds = _START_S + moved_s + expected_s(path, n_points, dimension, criterion, threads)
    reason = due or "folded into the concepts there are"
    return BatchPlan(n_stored, n_input, n_concepts, n_points, dimension, due is not None, reason, memory_bytes, seconds)


def _count_input(
    input: EpisodeInput,  # noqa: A002  # as in consolidate
    stored: ConceptStore | None,
    settings: Config,
) -> tuple[int, int]:
    """Return the rows of the input, and the dimension; of files that do not say, as many rows as fit into them."""
    files = find_files(input)
    contents = [inspect_file(file) for file in files]
    columns = [resolve_columns(c.schema, settings.input.columns, f.name) for f, c in zip(files, contents, strict=True)]
    told = [settings.input.dimension, *(column.dimension for column in columns)]
    if stored is not None:
        told.append(stored.dimension)
    dimension = next((number for number in told if number is not None), None)
    if dimension is None:
        raise InputError("nothing tells the dimension of the vectors: give it as input.dimension, or --dimension")
    n_rows = 0
    for (_, n_bytes, _), content in zip(fingerprint(files), contents, strict=True):
        n_rows += content.n_rows if content.n_rows is not None else n_bytes // (4 * dimension)
    return n_rows, dimension
