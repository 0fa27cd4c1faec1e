"""The episodes of an input or of a store, as columns.

The type that every later part trusts: whoever builds one has checked what the attributes promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Episodes:
    """Episodes in the order of their ids.

    Attributes
    ----------
    ids : pyarrow.Array
        int64 or large_string, unique, no null, ascending (integer order, or UTF-8 byte order).
    vectors : numpy.ndarray
        ``(n, d)`` float32, C-contiguous, finite, not normalised; the squared norm is a normal float32.
    times : pyarrow.TimestampArray
        ``timestamp("us", "UTC")``, nullable, within the years 1 to 9999.
    importances : numpy.ndarray
        ``(n,)`` float32 in [0, 1].
    evergreen : numpy.ndarray
        ``(n,)`` bool: whether bindings of the episode never fade.
    texts : pyarrow.Array or None
        large_string, nullable; None when no input has a text column.
    """

    ids: pa.Array[Any]
    vectors: npt.NDArray[np.float32]
    times: pa.Array[Any]
    importances: npt.NDArray[np.float32]
    evergreen: npt.NDArray[np.bool_]
    texts: pa.Array[Any] | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimension(self) -> int:
        """Length of every vector; 0 when there is no episode to tell it from."""
        return int(self.vectors.shape[1])

    def take(self, rows: npt.NDArray[np.int64]) -> Episodes:
        """Return some of them; `rows` ascends."""
        return Episodes(
            ids=self.ids.take(rows),
            vectors=self.vectors[rows],
            times=self.times.take(rows),
            importances=self.importances[rows],
            evergreen=self.evergreen[rows],
            texts=None if self.texts is None else self.texts.take(rows),
        )
