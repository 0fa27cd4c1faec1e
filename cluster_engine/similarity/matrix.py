"""The similarity matrix: its size, its layout, and, for a distributed pass, its memory and the account of its tiles.

The memory that processes of one host share is an anonymous file (memfd). Other processes of the host open it through
``/proc``; it vanishes with its last user, so a killed driver leaks nothing, and ``/dev/shm`` may be small.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import native_simd
from cluster_engine.errors import PassError
from native_simd.arrays import aligned_bytes

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

    from cluster_engine.similarity.tiles import Tile, TilePlan


_STATE_BYTES = 320  # for each point: the chain's state, the merges, Z and the lists it is built from


def row_stride(n: int) -> int:
    """Return elements a row: whole cache lines, and an odd number of them, so that columns spread over cache sets."""
    lines = -(-n // native_simd.LANES)
    return (lines | 1) * native_simd.LANES


def linkage_bytes(n: int, d: int, *, n_copies: int, with_sums: bool) -> int:
    """Return the bytes that clustering n points through a matrix takes at its peak, beside the points themselves.

    Parameters
    ----------
    n_copies : int
        Copies of the vectors made on the way (packed panels, the object store).
    with_sums : bool
        Whether float64 sums of the clusters are kept.
    """
    copies = n_copies * aligned_bytes(4 * n * d) + with_sums * aligned_bytes(8 * n * d)
    return aligned_bytes(4 * n * row_stride(n)) + copies + _STATE_BYTES * n


def _host_token() -> str:
    """Return what is the same for two processes if and only if they see the same process ids of the same boot."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"


@dataclass(frozen=True, slots=True)
class MatrixAddress:
    """Where another process of the same host finds the matrix."""

    host: str
    path: str
    inode: int
    n: int
    stride: int

    def attach(self) -> NDArray[np.float32] | None:
        """Map the matrix, shape (n, n) float32; None if this process is on another host or may not open it."""
        if self.host != _host_token():
            return None
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if os.fstat(descriptor).st_ino != self.inode:
                return None
            return _map(descriptor, self.n, self.stride)
        finally:
            os.close(descriptor)


def _map(descriptor: int, n: int, stride: int) -> NDArray[np.float32]:
    memory = mmap.mmap(descriptor, 4 * n * stride)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float32).reshape(n, stride)[:, :n]


class SharedMatrix:
    """An (n, n) float32 matrix in shared memory, with an account of the tiles that arrived.

    Parameters
    ----------
    plan : TilePlan
        The tiles that fill it.

    Notes
    -----
    A context manager: at its end the memory is given back, and `values` is gone.
    """

    def __init__(self, plan: TilePlan) -> None:
        stride = row_stride(plan.n)
        self.plan = plan
        self._missing = set(plan.tiles())
        self._n_cells = 0
        self._descriptor = os.memfd_create("cluster-engine-matrix", os.MFD_CLOEXEC)
        os.ftruncate(self._descriptor, 4 * plan.n * stride)
        self.values = _map(self._descriptor, plan.n, stride)
        self.address = MatrixAddress(
            _host_token(),
            f"/proc/{os.getpid()}/fd/{self._descriptor}",
            os.fstat(self._descriptor).st_ino,
            plan.n,
            stride,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self.values
        os.close(self._descriptor)

    def place(self, tile: Tile, values: NDArray[np.float32]) -> None:
        """Write a tile that travelled as an array, and its mirror."""
        rows, columns = self.plan.block(tile.row), self.plan.block(tile.column)
        self.values[rows.start : rows.stop, columns.start : columns.stop] = values
        if tile.row != tile.column:
            self.values[columns.start : columns.stop, rows.start : rows.stop] = values.T

    def account(self, tile: Tile, n_cells: int) -> None:
        """Note that a tile is in place.

        Raises
        ------
        PassError
            It was not planned, came twice, or filled another number of cells than planned.
        """
        if tile not in self._missing:
            raise PassError(f"{tile} arrived but is not missing")
        if n_cells != self.plan.n_cells(tile):
            raise PassError(f"{tile} filled {n_cells} cells, planned {self.plan.n_cells(tile)}")
        self._missing.remove(tile)
        self._n_cells += n_cells

    def require_complete(self) -> None:
        """Raise `PassError` unless every planned tile is in place and every cell was filled."""
        n = self.plan.n
        if self._missing or self._n_cells != n * n:
            raise PassError(f"{len(self._missing)} tiles are missing; {self._n_cells:,} of {n * n:,} cells are filled")
