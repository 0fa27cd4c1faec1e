"""Where this process's memory lies: typed calls over the kernel's NUMA memory policies.

Owns the meaning of a memory policy and of a page's node, and turns the kernel's error numbers into
:class:`OSError`. It refuses to know the machine's topology, which node is wanted and what to do when the
kernel says no: those are the caller's.

A memory policy belongs to one thread, and threads it starts later inherit it. It decides where a page is
placed when it is first written; pages written before keep their place unless :func:`bind_memory` moves them.
See ``set_mempolicy(2)``, ``mbind(2)`` and ``move_pages(2)``.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from native_simd.arguments import require_flag
from native_simd.arrays import alignment_of
from native_simd.isa import ffi, lib

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)
_BITS_PER_WORD = 64
# Linux has at most 1024 nodes (MAX_NUMNODES), and refuses to write a policy into a smaller mask than it uses.
_READ_WORDS = 1024 // _BITS_PER_WORD
_MASK_BITS = 8 * 4096  # it reads a mask of a page at most
# Bits 13 to 15 of the mode are MPOL_F_* flags, not part of its number.
_MODE_NUMBER = (1 << 13) - 1


class MemoryMode(str, Enum):
    """How a policy chooses the node of a new page. The order is the kernel's numbering (``MPOL_*``)."""

    DEFAULT = "default"
    """The node of the CPU that writes the page first; a nearby one when it is full."""
    PREFERRED = "preferred"
    """The given node; a nearby one when it is full."""
    BIND = "bind"
    """The given nodes and no other: the process is killed when they are full."""
    INTERLEAVE = "interleave"
    """The given nodes in turn, page by page."""
    LOCAL = "local"
    """As DEFAULT, whatever the process's own default is."""
    PREFERRED_MANY = "preferred_many"
    """Any of the given nodes; another when all are full (Linux 5.15)."""
    WEIGHTED_INTERLEAVE = "weighted_interleave"
    """The given nodes in turn, in proportion to the weights in sysfs (Linux 6.9)."""


_MODES = tuple(MemoryMode)


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """A mode and the nodes it speaks of.

    Attributes
    ----------
    mode : MemoryMode
        How the node of a new page is chosen.
    nodes : tuple of int
        Node indices, ascending; empty for DEFAULT and LOCAL.
    """

    mode: MemoryMode
    nodes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.mode, MemoryMode):
            raise TypeError(f"mode must be a MemoryMode, got {self.mode!r}")
        if not isinstance(self.nodes, tuple) or not all(isinstance(node, int) for node in self.nodes):
            raise TypeError(f"nodes must be a tuple of int, got {self.nodes!r}")
        if self.nodes != tuple(sorted(set(self.nodes))) or min(self.nodes, default=0) < 0:
            raise ValueError(f"nodes must be ascending, distinct and not negative, got {self.nodes}")
        if max(self.nodes, default=0) >= _MASK_BITS:
            raise ValueError(f"nodes must be below {_MASK_BITS}, got {self.nodes}")


class CpuNode(NamedTuple):
    """The CPU that the calling thread is on, and that CPU's node."""

    cpu: int
    node: int


def set_memory_policy(policy: MemoryPolicy) -> None:
    """Give the calling thread, and threads it starts from now on, a memory policy.

    Parameters
    ----------
    policy : MemoryPolicy
        Replaces the thread's policy.

    Raises
    ------
    OSError
        EINVAL when no node of the policy has memory that this process's cpuset allows, EPERM when a seccomp
        filter forbids the call, ENOSYS when the kernel is built without NUMA.
    """
    mode, words, n_words = encode_policy(policy)
    check_code(lib.ns_mempolicy_set(mode, words, n_words), "set_mempolicy")


def get_memory_policy() -> MemoryPolicy:
    """Read the memory policy of the calling thread.

    Raises
    ------
    OSError
        EPERM or ENOSYS as for :func:`set_memory_policy`; ENOTSUP for a mode that this code does not know.
    """
    mode = ffi.new("int32_t *")
    words = ffi.new("uint64_t[]", _READ_WORDS)
    check_code(lib.ns_mempolicy_get(mode, words, _READ_WORDS), "get_mempolicy")
    number = mode[0] & _MODE_NUMBER
    if number >= len(_MODES):
        raise OSError(errno.ENOTSUP, f"get_mempolicy: memory policy mode {number} is not known")
    nodes = tuple(
        word * _BITS_PER_WORD + bit
        for word in range(_READ_WORDS)
        for bit in range(_BITS_PER_WORD)
        if words[word] >> bit & 1
    )
    return MemoryPolicy(_MODES[number], nodes)


def bind_memory(array: NDArray[Any], policy: MemoryPolicy, *, move: bool) -> None:
    """Give the pages of an array a policy of their own, whichever thread writes them.

    Parameters
    ----------
    array : ndarray
        Any dtype and shape, contiguous. Its first and last page are treated whole: what shares them shares
        their policy, so give arrays of many pages.
    policy : MemoryPolicy
        Policy of these pages.
    move : bool
        Also move the pages that were written before. O(bytes moved).

    Raises
    ------
    OSError
        EIO when a page could not be moved, EPERM or EINVAL as for :func:`set_memory_policy`.
    ValueError
        When the array is not contiguous.
    """
    mode, words, n_words = encode_policy(policy)
    move = require_flag(move, "move")
    address = ffi.cast("void *", _address(array))
    code = lib.ns_memory_bind(address, array.nbytes, mode, words, n_words, int(move))
    check_code(code, "mbind")


def empty_placed(shape: tuple[int, ...], dtype: type[_Scalar], policy: MemoryPolicy) -> NDArray[_Scalar]:
    """Return an uninitialised array on pages of its own, which are placed as they are first written.

    It begins on a page; from 2 MiB on on a huge one, where Linux grants them. Its memory goes back, policy and all,
    with the last view of it.

    Raises
    ------
    OSError
        EPERM, EINVAL or ENOSYS as for :func:`bind_memory`.
    MemoryError
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    alignment = max(alignment_of(n_bytes), mmap.PAGESIZE)
    try:
        pages = mmap.mmap(-1, n_bytes + alignment, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as short:
        raise MemoryError(f"no memory for an array of {n_bytes} bytes") from short
    if alignment > mmap.PAGESIZE:
        with contextlib.suppress(OSError):  # a hint: a kernel without huge pages refuses it
            pages.madvise(mmap.MADV_HUGEPAGE)
    buffer = np.frombuffer(pages, np.uint8)
    start = -buffer.ctypes.data % alignment
    array = buffer[start : start + n_bytes]
    bind_memory(array, policy, move=False)
    return array.view(dtype).reshape(shape)


def page_nodes(array: NDArray[Any]) -> NDArray[np.int32]:
    """Find the node that each page of an array lies on.

    Parameters
    ----------
    array : ndarray
        Any dtype and shape, contiguous.

    Returns
    -------
    ndarray of int32, shape (n_pages,)
        The node of every page that holds a byte of the array, in address order. A page that was never
        written lies nowhere: its entry is negative, ``-errno.ENOENT`` or ``-errno.EFAULT``.

    Raises
    ------
    OSError
        EPERM or ENOSYS as for :func:`set_memory_policy`.
    ValueError
        When the array is not contiguous.

    Notes
    -----
    O(pages): one ``move_pages`` call per 512.
    """
    begin = _address(array)
    page_bytes = mmap.PAGESIZE
    first = begin // page_bytes
    n_pages = -(-(begin + array.nbytes) // page_bytes) - first if array.nbytes else 0
    nodes = np.empty(n_pages, dtype=np.int32)
    code = lib.ns_page_nodes(ffi.cast("void *", begin), array.nbytes, ffi.cast("int32_t *", nodes.ctypes.data), n_pages)
    check_code(code, "move_pages")
    return nodes


def current_cpu_node() -> CpuNode:
    """Say which CPU runs the calling thread, and its node. It may be out of date on return.

    Raises
    ------
    OSError
        ENOSYS when the platform has no ``getcpu``.
    """
    cpu, node = ffi.new("int32_t *"), ffi.new("int32_t *")
    check_code(lib.ns_cpu_node(cpu, node), "getcpu")
    return CpuNode(cpu[0], node[0])


def encode_policy(policy: MemoryPolicy, name: str = "policy") -> tuple[int, Any, int]:
    """Return a policy as the library takes it: mode, words of the mask, and their number."""
    if not isinstance(policy, MemoryPolicy):
        raise TypeError(f"{name} must be a MemoryPolicy, got {policy!r}")
    n_words = max(policy.nodes, default=-1) // _BITS_PER_WORD + 1
    words = ffi.new("uint64_t[]", n_words)
    for node in policy.nodes:
        words[node // _BITS_PER_WORD] |= 1 << node % _BITS_PER_WORD
    return _MODES.index(policy.mode), words, n_words


def _address(array: NDArray[Any]) -> int:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"array must be a numpy array, got {type(array).__name__}")
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        raise ValueError(f"the pages of a strided array are not its own; pass a contiguous one, got {array.strides=}")
    return int(array.ctypes.data)


def check_code(code: int, call: str) -> None:
    """Raise what a status of the library means where it is 0 or ``-errno`` of a system call."""
    if code < 0:
        raise OSError(-code, f"{call}: {os.strerror(-code)}")
