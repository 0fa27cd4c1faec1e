"""The Ray actor of a batch: a process bound to one NUMA node that packs rows, computes tiles and forms concepts.

A thin face: similarities come from :mod:`native_simd`, concepts from :mod:`cluster_engine.concepts.formation`. It keeps
nothing that a caller could not send again, so a restarted actor goes on where the dead one stopped.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.concepts.formation import Formation, Moments, form_concept
from cluster_engine.errors import PlacementError
from cluster_engine.shards.affinity import NumaPolicy, PlacementReport, bind_to_node, threads_for
from cluster_engine.shards.columns import HeldShare, Share, WholeShare
from cluster_engine.shards.memory import pack_placed, require_plan
from cluster_engine.shards.placement import UNPLACED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cluster_engine.shards.placement import MemoryPlan
    from cluster_engine.shards.rescans import ShareRescan
    from cluster_engine.shards.topology import NumaNode
    from cluster_engine.similarity.matrix import MatrixAddress
    from cluster_engine.similarity.tiles import Tile, TilePlan

_FOREIGN_BLOCKS = 2  # packed blocks an actor keeps beyond its own: one in use, one for the tile after


@dataclass(frozen=True, slots=True)
class PairwisePass:
    """What all tiles of one pass share.

    Attributes
    ----------
    token : str
        Names the pass; packed blocks of another pass are dropped.
    kernel : str
        Metric of the native library.
    unit : bool
        Whether vectors are divided by their norms when packed.
    plan : TilePlan
    home_blocks : int
        Packed blocks that an actor keeps, as its share of the batch.
    address : MatrixAddress or None
        The shared matrix; None to send tiles as arrays.
    width : int
        Places of a ranked list, where lists are made.
    """

    token: str
    kernel: native_simd.Metric
    unit: bool
    plan: TilePlan
    home_blocks: int
    address: MatrixAddress | None = None
    width: int = 0


@dataclass(frozen=True, slots=True)
class ComputedTile:
    """Receipt for a tile; `values` is None if the tile was written to the shared matrix."""

    n_cells: int
    values: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class RankedTile:
    """Ranked lists of the rows of a tile's two blocks, shapes (r, width) and (c, width); of one block, of its rows."""

    row_lists: NDArray[np.uint64]
    column_lists: NDArray[np.uint64] | None


@dataclass(frozen=True, slots=True)
class ActorReport:
    """Which process an actor is, and where it runs."""

    process_id: int
    isa: str
    threads: int
    placement: PlacementReport


class ShardActor:
    """Owns a share of the batch, on one NUMA node.

    Parameters
    ----------
    node : NumaNode or None
        Where to bind; None binds nothing.
    policy : NumaPolicy
    threads : int or None
        Threads of the native library; default, one for each CPU that the binding left.
    plan : MemoryPlan
        Where packed vectors go.
    """

    def __init__(
        self, node: NumaNode | None, policy: NumaPolicy, threads: int | None, plan: MemoryPlan = UNPLACED
    ) -> None:
        self._refusal: PlacementError | None = None
        try:
            # First of all: memory allocated before the binding may lie on any node.
            self._placement = bind_to_node(node, policy)
            require_plan(plan)
        except PlacementError as refusal:  # raised by report(): Ray would hide its type if it left a constructor
            self._refusal = refusal
            return
        self._threads = threads or threads_for(self._placement)
        self._plan = plan
        self._token = ""
        self._packed: OrderedDict[int, native_simd.PackedVectors] = OrderedDict()
        self._lists: dict[int, NDArray[np.uint64]] = {}
        self._matrix: NDArray[np.float32] | None = None
        self._shares: dict[Share, HeldShare] = {}

    def report(self) -> ActorReport:
        """Return the identity and the placement that took effect; the first call to make.

        Raises
        ------
        PlacementError
            Policy "require" could not be met.
        """
        if self._refusal is not None:
            raise self._refusal
        return ActorReport(os.getpid(), native_simd.active_isa(), self._threads, self._placement)

    def compute_tile(
        self, shared: PairwisePass, tile: Tile, rows: NDArray[np.float32], columns: NDArray[np.float32]
    ) -> ComputedTile:
        """Compute one tile and put it into the shared matrix, or return it.

        Parameters
        ----------
        rows, columns : ndarray of float32, shapes (r, d) and (c, d)
            The vectors of the two blocks of the tile; packed into this node's memory on first use.
        """
        self._begin(shared.token)
        if self._matrix is None and shared.address is not None:
            self._matrix = shared.address.attach()
        a = self._pack(shared, tile.row, rows)
        b = self._pack(shared, tile.column, columns)
        n_cells = shared.plan.n_cells(tile)
        if self._matrix is None:
            values = np.empty((a.n, b.n), np.float32)
            native_simd.pairwise(a, b, metric=shared.kernel, out=values, threads=self._threads)
            return ComputedTile(n_cells, values)
        i, j = shared.plan.block(tile.row), shared.plan.block(tile.column)
        out = self._matrix[i.start : i.stop, j.start : j.stop]
        if tile.row == tile.column:
            native_simd.pairwise_symmetric(a, metric=shared.kernel, out=out, threads=self._threads)
        else:
            mirror = self._matrix[j.start : j.stop, i.start : i.stop]
            native_simd.pairwise(a, b, metric=shared.kernel, out=out, mirror=mirror, threads=self._threads)
        return ComputedTile(n_cells, None)

    def rank_tile(
        self,
        shared: PairwisePass,
        tile: Tile,
        rows: NDArray[np.float32],
        columns: NDArray[np.float32],
        labels: tuple[NDArray[np.int32], NDArray[np.int32]] | None,
    ) -> RankedTile:
        """Let two blocks meet; return of each of their rows the best others that this actor has seen in the pass.

        Lists go on from one tile to the next, so that ever fewer candidates enter them.

        Parameters
        ----------
        rows, columns : ndarray of float32, shapes (r, d) and (c, d)
        labels : (ndarray of int32, ndarray of int32), optional
            Of the rows and of the columns; rows of one label are no candidates of each other.
        """
        self._begin(shared.token)
        a = self._ranked(shared, tile.row, rows, labels and labels[0])
        b = a if tile.row == tile.column else self._ranked(shared, tile.column, columns, labels and labels[1])
        native_simd.rank_blocks(a, b, shared.kernel, self._threads)
        return RankedTile(a.lists, None if b is a else b.lists)

    def rank_columns(self, rescan: ShareRescan, queries: native_simd.ClusterPanels) -> NDArray[np.uint64] | None:
        """Compare queries with a share of the columns, brought up to date; None if it is not here to be updated."""
        self._begin(rescan.token)
        if isinstance(rescan.update, WholeShare):
            self._shares[rescan.share] = HeldShare(rescan.share, rescan.update, rescan.version)
        elif rescan.share in self._shares and self._shares[rescan.share].version == rescan.version - 1:
            self._shares[rescan.share].change(rescan.update)
        else:
            return None
        return self._shares[rescan.share].rank(
            queries,
            rescan.n_columns,
            rescan.width,
            method=rescan.method,
            metric=rescan.metric,
            threads=self._threads,
        )

    def end_pass(self) -> None:
        """Give the memory of the pass back."""
        self._token, self._matrix = "", None
        self._packed.clear()
        self._lists.clear()
        self._shares.clear()

    def form(self, parts: Sequence[tuple[NDArray[np.float32], Moments | None]]) -> list[Formation]:
        """Form concepts, each from the vectors of its episodes and what it had before."""
        return [form_concept(vectors, before) for vectors, before in parts]

    def _begin(self, token: str) -> None:
        if token != self._token:
            self.end_pass()
            self._token = token

    def _ranked(
        self,
        shared: PairwisePass,
        block: int,
        vectors: NDArray[np.float32],
        labels: NDArray[np.int32] | None,
    ) -> native_simd.RankedBlock:
        packed = self._pack(shared, block, vectors)
        lists = self._lists.setdefault(block, native_simd.empty_lists(packed.n, shared.width))
        return native_simd.RankedBlock(packed, shared.plan.block(block).start, lists, labels)

    def _pack(self, shared: PairwisePass, block: int, vectors: NDArray[np.float32]) -> native_simd.PackedVectors:
        if block not in self._packed:
            self._packed[block] = pack_placed(vectors, self._plan, unit=shared.unit, threads=self._threads)
            if len(self._packed) > shared.home_blocks + _FOREIGN_BLOCKS:
                self._packed.popitem(last=False)
        self._packed.move_to_end(block)
        return self._packed[block]
