"""A sample of rows by a hash of their ids: the same rows whatever their order, and a larger sample holds a smaller one.

Knows ids. Refuses to know what else a row holds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

_LAST = np.iinfo(np.uint64).max


@dataclass(slots=True)
class IdSample:
    """The rows with the smallest hashes of their ids, of batches that come one after another.

    Attributes
    ----------
    n_rows : int
        Rows to sample, at least 1.
    """

    n_rows: int
    _smallest: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    def admit(self, ids: pa.Array[Any]) -> npt.NDArray[np.int64]:
        """Return the rows of a batch that may be in the sample of all batches so far.

        Of N rows in any order, some ``n_rows * ln(N / n_rows)`` are admitted in all; `choose_rows` of these is the
        sample of all.
        """
        hashes = hash_ids(ids)
        bound = _LAST if len(self._smallest) < self.n_rows else self._smallest[-1]
        rows = np.flatnonzero(hashes <= bound)
        self._smallest = np.sort(np.concatenate((self._smallest, hashes[rows])))[: self.n_rows]
        return rows


def choose_rows(ids: pa.Array[Any], n_rows: int) -> npt.NDArray[np.int64]:
    """Return, ascending, the rows of the `n_rows` smallest hashes; all rows if they are fewer. O(n log n)."""
    return np.sort(np.argsort(hash_ids(ids), kind="stable")[:n_rows])


def hash_ids(ids: pa.Array[Any]) -> npt.NDArray[np.uint64]:
    """Return 64 bits of BLAKE2b of each id as text; null, which no row of a sample may be, hashes to the largest."""
    digests = (
        b"\xff" * 8 if name is None else hashlib.blake2b(str(name).encode(), digest_size=8).digest()
        for name in ids.to_pylist()
    )
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)
