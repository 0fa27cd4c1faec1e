"""What every call checks of its arrays before it hands pointers to C, and how large ones are allocated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from native_simd.isa import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike, NDArray

    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]

_Scalar = TypeVar("_Scalar", bound=np.generic)
_CACHE_LINE_BYTES, _HUGE_PAGE_BYTES = 64, 2 << 20


def first_row(array: Float32Array) -> object:
    """Return the address of a matrix whose rows may lie apart, where ``ffi.from_buffer`` wants contiguous memory."""
    return ffi.from_buffer("float[]", array if array.flags.c_contiguous else array[:1])


def check_status(status: int) -> None:
    """Raise what a status of the library means; refused arguments are a defect of this layer."""
    if status == lib.NS_E_MEMORY:
        raise MemoryError("the native library could not start a thread or allocate its scratch memory")
    if status != lib.NS_OK:
        raise AssertionError(f"native call refused its arguments (status {status}): the typed layer let them through")


def kind_of(value: object) -> str:
    """Say what was given in place of an array."""
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def require_vectors(x: object, name: str) -> Float32Array:
    """Return (n, d) float32 with contiguous rows, copied only if they are not; of a masked one, all that it holds."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim != 2:
        raise TypeError(f"{name} must be a float32 array of shape (n, d), got {kind_of(x)}")
    if x.shape[1] < 1:
        raise ValueError(f"{name} must have at least one dimension, got shape {x.shape}")
    return np.asarray(x) if rows_are_contiguous(x) else np.array(x, order="C")


def rows_are_contiguous(x: NDArray[np.generic]) -> bool:
    """Whether rows are contiguous and lie one after the other: what a pointer and one stride can say."""
    flags, item_bytes = x.flags, x.itemsize
    if not flags.aligned or flags.c_contiguous:
        return flags.aligned
    row_bytes, (pitch, step) = item_bytes * x.shape[1], x.strides
    return step == item_bytes and pitch >= row_bytes and pitch % item_bytes == 0


def require_contiguous(array: object, dtype: DTypeLike, name: str) -> NDArray[Any]:
    """Return an array of shape (n,) that the library reads or writes as it lies; of a masked one, all that it holds."""
    wanted = np.dtype(dtype)
    if not isinstance(array, np.ndarray) or array.dtype != wanted or array.ndim != 1:
        raise TypeError(f"{name} must be a {wanted} array of shape (n,), got {kind_of(array)}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name} must be contiguous and aligned: pass numpy.ascontiguousarray({name})")
    return np.asarray(array)


def require_apart(out: NDArray[np.generic], name: str, others: Mapping[str, NDArray[np.generic] | None]) -> None:
    """Check that what a call writes overlaps nothing else that it reads or writes; interleaved rows are apart."""
    for other_name, other in others.items():
        if other is not None and np.shares_memory(out, other):
            raise ValueError(f"{name} and {other_name} must not share memory")


def require_output(out: object, shape: tuple[int, int], name: str) -> Float32Array:
    """Return an array that the library can write to: float32, this shape, contiguous rows one after the other."""
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.shape != shape:
        raise TypeError(f"{name} must be a float32 array of shape {shape}, got {kind_of(out)}")
    if not (out.flags.writeable and rows_are_contiguous(out)):
        raise ValueError(f"{name} must be writeable and aligned, with contiguous rows one after the other")
    return out


def row_stride(array: Float32Array) -> int:
    """Return elements from one row to the next."""
    return array.strides[0] // array.itemsize if len(array) > 1 else array.shape[1]


def aligned_bytes(n_bytes: int) -> int:
    """Return what an array of so many bytes takes if it is of :func:`empty_aligned`."""
    return n_bytes + alignment_of(n_bytes)


def alignment_of(n_bytes: int) -> int:
    """Return what an array of so many bytes begins on: a huge page if it is large, else a cache line."""
    return _HUGE_PAGE_BYTES if n_bytes >= _HUGE_PAGE_BYTES else _CACHE_LINE_BYTES


def empty_aligned(shape: tuple[int, ...], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """Return an uninitialised array that begins on a cache line or, from 2 MiB on, on a huge page.

    NumPy asks for huge pages from 4 MiB on, which the page that is added here makes of all from 2 MiB on. Where Linux
    grants them, 2 MiB take one page fault instead of 512: of 1,000 vectors of 768 dimensions, linkage spent a quarter
    of its time in page faults (Zen 5, virtual machine).
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(aligned_bytes(n_bytes), np.uint8)
    start = -int(ffi.cast("uintptr_t", ffi.from_buffer(buffer))) % alignment_of(n_bytes)
    return buffer[start : start + n_bytes].view(dtype).reshape(shape)
