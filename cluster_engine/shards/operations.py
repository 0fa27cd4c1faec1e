"""The operations that have been applied, and to which slots: what makes a repetition harmless.

Owns how many are remembered. Refuses to know what they did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cluster_engine.shards.slots import N_SLOTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

REMEMBERED = 1 << 18
"""So many of the last operations are remembered at least, and twice as many at most: chosen, some 50 MB."""
_WORDS = N_SLOTS // 64


class OperationMemory:
    """Sets of slots by operation id, the latest at least.

    Two dictionaries: when the younger is full, it becomes the older, and the older is forgotten.

    Parameters
    ----------
    n_remembered : int
    """

    def __init__(self, n_remembered: int = REMEMBERED) -> None:
        self._n_remembered = n_remembered
        self._older: dict[int, int] = {}
        self._younger: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._older.keys() | self._younger.keys())

    def slots(self, op_id: int) -> int:
        """Return the set of slots that an operation has been applied to."""
        return self._younger.get(op_id, 0) | self._older.get(op_id, 0)

    def add(self, op_id: int, slots: int) -> None:
        """Remember that an operation has been applied to these slots too."""
        self._younger[op_id] = self.slots(op_id) | slots
        if len(self._younger) >= self._n_remembered:
            self._older, self._younger = self._younger, {}

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the operations, the latest last: ``op_ids`` and ``slots``, int64 (n,) and uint64 (n, 4)."""
        known = {**self._older, **self._younger}
        words = b"".join(slots.to_bytes(N_SLOTS // 8, "little") for slots in known.values())
        return {
            "op_ids": np.fromiter(known, np.int64, len(known)),
            "slots": np.frombuffer(words, "<u8").reshape(len(known), _WORDS),
        }

    def restore(self, columns: Mapping[str, NDArray[Any]], held: int) -> None:
        """Add what another memory had of some slots, as `columns` returned it, in any shape."""
        words = np.ascontiguousarray(columns["slots"], "<u8").tobytes()
        n_bytes = N_SLOTS // 8
        for i, op_id in enumerate(columns["op_ids"].tolist()):
            slots = int.from_bytes(words[i * n_bytes : (i + 1) * n_bytes], "little") & held
            if slots:
                self.add(op_id, slots)
