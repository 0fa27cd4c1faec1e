"""The steps of a batch: each timed, and each done once, however often the batch is started again.

Knows that a step makes tables. Refuses to know what they mean, and where finished ones are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cluster_engine.progress import Spent, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa


class Shelf(Protocol):
    """Where the tables of finished steps are kept; :class:`cluster_engine.store.work.Work` is one."""

    def load(self, phase: str) -> dict[str, pa.Table] | None:
        """Return the tables of a step, or None where it has not been finished."""

    def save(self, phase: str, tables: Mapping[str, pa.Table]) -> None:
        """Keep the tables of a step, all or none."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Runs steps.

    Attributes
    ----------
    shelf : Shelf or None
        Where finished steps are kept; None to keep nothing.
    spent : dict of str to Spent
        What each step took, by its name.
    resumed : list of str
        The steps that were found finished.
    """

    shelf: Shelf | None = None
    spent: dict[str, Spent] = field(default_factory=dict)
    resumed: list[str] = field(default_factory=list)

    def run(self, name: str, compute: Callable[[], dict[str, pa.Table]]) -> dict[str, pa.Table]:
        """Return the tables of a step: as they were kept, or computed now and kept."""
        with measured(name, self.spent):
            found = self.shelf.load(name) if self.shelf is not None else None
            if found is not None:
                self.resumed.append(name)
                return found
            made = compute()
            if self.shelf is not None:
                self.shelf.save(name, made)
            return made
