"""Arrays between two pages that fault: a read or write one byte outside ends the process."""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

PAGE_BYTES = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0


def _forbid(address: int) -> None:
    if _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE_BYTES), _PROT_NONE):
        raise OSError(ctypes.get_errno(), "mprotect")


def guarded(shape: int | tuple[int, ...], dtype: DTypeLike = np.float32, *, at: str = "end") -> NDArray[Any]:
    """Return a zeroed array whose last byte (or first, with ``at="start"``) touches a page that faults."""
    n_elements = int(np.prod(shape))
    n_bytes = n_elements * np.dtype(dtype).itemsize
    inner_bytes = -(-max(n_bytes, 1) // PAGE_BYTES) * PAGE_BYTES
    memory = mmap.mmap(-1, inner_bytes + 2 * PAGE_BYTES)
    base = np.frombuffer(memory, np.uint8).ctypes.data
    _forbid(base)
    _forbid(base + PAGE_BYTES + inner_bytes)
    offset = PAGE_BYTES + (inner_bytes - n_bytes if at == "end" else 0)
    return np.frombuffer(memory, dtype, n_elements, offset).reshape(shape)


def guarded_copy(values: NDArray[Any], *, at: str = "end") -> NDArray[Any]:
    """Return a copy between guard pages."""
    placed = guarded(values.shape, values.dtype, at=at)
    placed[...] = values
    return placed
