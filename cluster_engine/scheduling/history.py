"""What a store says of past slots: the only memory that a scheduler has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster_engine.scheduling.slots import slot_time
from cluster_engine.store.catalog import find_slot, read_history
from cluster_engine.store.location import locate

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class StoreHistory:
    """The slots of a store. Each call reads them anew, for other hosts may have run some.

    Attributes
    ----------
    uri : str
        A directory or a URI, which need not exist yet.
    """

    uri: str

    def newest(self) -> datetime | None:
        """Return when the newest slot came due, or None if no version of the store has a slot that is a time.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        times = (slot_time(slot) for slot in read_history(locate(self.uri))["slot"].to_pylist())
        return max((time for time in times if time is not None), default=None)

    def has(self, slot: str) -> bool:
        """Return whether the slot was committed, be it by a version that is gone.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        return find_slot(self.uri, slot) is not None
