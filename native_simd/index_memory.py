"""Where the arrays of a :class:`~native_simd.BindingIndex` lie, and which nodes its calls come from.

Owns the arrays' memory policies and the account of what took effect. It refuses to know the machine's topology, and
which node an index should be on: those are the caller's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from native_simd.arguments import require_flag
from native_simd.isa import ffi, lib
from native_simd.placement import check_code, encode_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from native_simd.placement import MemoryPolicy


CONCEPT_ARRAYS = ("concept table", "lines", "strengths", "episodes", "marks")
EPISODE_ARRAYS = ("episode table", "records")
_ARRAYS = CONCEPT_ARRAYS + EPISODE_ARRAYS  # in the library's order


class IndexMemory:
    """The arrays of one index: placed, moved and looked at while any thread uses the index.

    Notes
    -----
    Arrays of less than 64 KiB, and the places of an episode beyond its eighth binding, lie on the heap: wherever the
    memory policy of the thread that wrote them says. They are neither placed nor counted.
    """

    def __init__(self, handle: Any) -> None:  # noqa: ANN401 - a cffi pointer
        self._handle = handle

    def place(self, concepts: MemoryPolicy, episodes: MemoryPolicy, *, move: bool) -> None:
        """Give the arrays, and all that come to be as the index grows, memory policies of their own.

        Parameters
        ----------
        concepts, episodes : MemoryPolicy
            Of :data:`CONCEPT_ARRAYS` and of :data:`EPISODE_ARRAYS`; DEFAULT leaves them to who writes first.
        move : bool
            Also move the pages that were written before, shard by shard. Writers of that shard wait meanwhile, and
            readers that come after them. O(bytes moved).

        Raises
        ------
        OSError
            For at least one array: EIO when a page could not be moved, EPERM when a seccomp filter forbids the call,
            EINVAL when no node of the policy has memory that this process may use, ENOSYS without NUMA in the kernel.
            All others have been placed, and arrays to come will be tried.
        """
        move = require_flag(move, "move")
        encoded = [
            (lib.NS_BY_CONCEPT, *encode_policy(concepts, "concepts")),
            (lib.NS_BY_EPISODE, *encode_policy(episodes, "episodes")),
        ]
        codes = [
            lib.ns_index_place(self._handle, side, mode, words, n_words, int(move))
            for side, mode, words, n_words in encoded
        ]
        check_code(next((code for code in codes if code), 0), "mbind")

    def refusal(self) -> OSError | None:
        """Return why an array was not placed as the index grew, since it was last told where; None if all were."""
        code = int(lib.ns_index_refusal(self._handle))
        return OSError(-code, f"mbind: {os.strerror(-code)}") if code else None

    def pages(self) -> dict[str, dict[int, int]]:
        """Ask the kernel where the arrays lie.

        Returns
        -------
        dict of str to dict of int to int
            By array, and by node that any of it lies on: the number of pages, of all logical shards.

        Raises
        ------
        OSError
            EPERM or ENOSYS as for :meth:`place`.

        Notes
        -----
        O(pages), some 0.1 us each; writers of a shard wait while it is looked at.
        """
        counts = np.empty((len(_ARRAYS), lib.NS_MOST_NODES), np.int64)
        check_code(lib.ns_index_pages(self._handle, lib.NS_MOST_NODES, _address(counts)), "move_pages")
        return {name: dict(_nonzero(row)) for name, row in zip(_ARRAYS, counts, strict=True)}

    def origins(self) -> dict[int, int]:
        """Count the rows of batches and the names looked up so far, by the node that the calling thread was on.

        Sweeps over all bindings (decay, forget, export) do not count. A kernel without ``getcpu`` counts none.
        """
        rows = np.empty(lib.NS_MOST_NODES, np.int64)
        lib.ns_index_origins(self._handle, len(rows), _address(rows))
        return dict(_nonzero(rows))


def _nonzero(counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    return ((int(node), int(counts[node])) for node in np.flatnonzero(counts))


def _address(array: NDArray[np.int64]) -> object:
    return ffi.from_buffer("int64_t[]", array)
