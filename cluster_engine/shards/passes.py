"""The passes over a pool: which calls they consist of, and what becomes of their results.

Knows the actors' methods; how calls reach them, and what happens when one dies, is the pool's business.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import native_simd
from cluster_engine.errors import PassError
from cluster_engine.progress import Phase, Reporter
from cluster_engine.shards.actor import PairwisePass
from cluster_engine.similarity.tiles import TilePlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cluster_engine.concepts.formation import Formation, Moments
    from cluster_engine.linkage.criterion import Criterion
    from cluster_engine.shards.actor import ComputedTile, RankedTile
    from cluster_engine.shards.pool import ShardPool
    from cluster_engine.similarity.matrix import SharedMatrix
    from cluster_engine.similarity.tiles import Tile

T = TypeVar("T", bound=np.generic)

_RANKED_BLOCK_ROWS = 16_384
"""At 768 dimensions a tile is 2e11 multiplications, seconds of work to lose with an actor, for 8.7 MB of lists."""
_RANKED_TILES_PER_ACTOR = 16  # so that what an actor keeps of others' blocks is small beside its own


def fill_matrix(
    pool: ShardPool,
    matrix: SharedMatrix,
    vectors: NDArray[np.float32],
    criterion: Criterion,
    reporter: Reporter | None = None,
) -> None:
    """Compute every tile of the matrix's plan on the actors, each placed in it once.

    Each actor starts with the tiles whose row block is its own; who has none left takes from the longest queue.
    Between hosts, every block of rows travels to each host once, and every tile back to this one once.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    """
    plan = matrix.plan
    blocks = _put_blocks(pool, vectors, plan)
    shared = PairwisePass(
        token=uuid.uuid4().hex,
        kernel=criterion.kernel,
        unit=criterion.unit,
        plan=plan,
        home_blocks=-(-plan.n_blocks // len(pool)),
        address=None if pool.sends_all else matrix.address,
    )
    phase = Phase("pairwise", plan.n_tiles, reporter)

    def submit(actor: Any, tile: Tile) -> Any:  # noqa: ANN401  # Ray's handles are not typed
        return actor.compute_tile.remote(shared, tile, blocks[tile.row], blocks[tile.column])

    computed: ComputedTile
    for tile, computed in pool.run(plan.tiles(), submit, lambda tile: tile.row):
        if computed.values is not None:
            if pool.config.transport == "shared":
                raise PassError("pool.transport is 'shared', but an actor cannot map this driver's memory")
            matrix.place(tile, computed.values)
        matrix.account(tile, computed.n_cells)
        phase.advance(1)
    matrix.require_complete()
    pool.end_pass()


class NeighbourPasses:
    """Passes over all pairs that leave ranked lists of every vector, and no matrix.

    Every pair of blocks of rows meets on one actor, which returns the lists of both. A ranked list is a set, so they
    are merged as they come, and the result is that of one pass in one process.

    Parameters
    ----------
    pool : ShardPool
    vectors : ndarray of float32, shape (n, d)
        Put into the object store, where they stay as long as this object.
    kernel : str
        Metric of the native library.
    unit : bool
        Whether vectors are divided by their norms.
    n_neighbours : int
        Candidates of a list; it has one place more, the bound.

    Notes
    -----
    Between hosts, every block of rows travels to each host once: 4 n d bytes a host. Of b blocks, each comes back b
    times as lists: 8 n b (n_neighbours + 1) bytes a pass; b grows with the root of the number of actors, and beyond
    16,384 b rows with n.
    """

    def __init__(
        self,
        pool: ShardPool,
        vectors: NDArray[np.float32],
        *,
        kernel: native_simd.Metric,
        unit: bool,
        n_neighbours: int,
        reporter: Reporter | None = None,
    ) -> None:
        self._pool, self._kernel, self._unit, self._reporter = pool, kernel, unit, reporter
        self._width = n_neighbours + 1
        self._plan = TilePlan.for_workers(
            len(vectors), len(pool), max_block_rows=_RANKED_BLOCK_ROWS, tiles_per_worker=_RANKED_TILES_PER_ACTOR
        )
        self._blocks = _put_blocks(pool, vectors, self._plan)

    def __call__(self, labels: NDArray[np.int32] | None = None) -> NDArray[np.uint64]:
        """Return ranked lists, shape (n, n_neighbours + 1), of candidates of other labels."""
        plan, blocks = self._plan, self._blocks
        shared = PairwisePass(
            token=uuid.uuid4().hex,
            kernel=self._kernel,
            unit=self._unit,
            plan=plan,
            home_blocks=-(-plan.n_blocks // len(self._pool)),
            width=self._width,
        )

        def submit(actor: Any, tile: Tile) -> Any:  # noqa: ANN401  # Ray's handles are not typed
            labels_of = None if labels is None else (_rows(labels, plan, tile.row), _rows(labels, plan, tile.column))
            return actor.rank_tile.remote(shared, tile, blocks[tile.row], blocks[tile.column], labels_of)

        lists = native_simd.empty_lists(plan.n, self._width)
        phase = Phase("neighbours", plan.n_tiles, self._reporter)
        ranked: RankedTile
        # By columns: an actor packs another's block once, and its own rows meet it one after the other.
        tiles = sorted(plan.tiles(), key=lambda tile: (tile.column, tile.row))
        for tile, ranked in self._pool.run(tiles, submit, lambda tile: tile.row):
            native_simd.merge_lists(_rows(lists, plan, tile.row), ranked.row_lists)
            if ranked.column_lists is not None:
                native_simd.merge_lists(_rows(lists, plan, tile.column), ranked.column_lists)
            phase.advance(1)
        self._pool.end_pass()
        return lists


def form_concepts(
    pool: ShardPool, tasks: Sequence[Sequence[tuple[NDArray[np.float32], Moments | None]]], phase: Phase
) -> list[list[Formation]]:
    """Form concepts on the actors: for each task a list of the vectors of groups, with what each had before.

    Returns
    -------
    list of list of Formation
        In the order of the tasks.
    """

    def submit(actor: Any, task: int) -> Any:  # noqa: ANN401  # Ray's handles are not typed
        return actor.form.remote(pool.put(list(tasks[task])))

    formed: dict[int, list[Formation]] = {}
    for task, result in pool.run([i for i, parts in enumerate(tasks) if parts], submit, lambda task: task):
        formed[task] = result
        phase.advance(len(result))
    return [formed.get(i, []) for i in range(len(tasks))]


def _put_blocks(pool: ShardPool, vectors: NDArray[np.float32], plan: TilePlan) -> list[Any]:
    return [pool.put(_rows(vectors, plan, block)) for block in range(plan.n_blocks)]


def _rows(array: NDArray[T], plan: TilePlan, block: int) -> NDArray[T]:
    rows = plan.block(block)
    return array[rows.start : rows.stop]
