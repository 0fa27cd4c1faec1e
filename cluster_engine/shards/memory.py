"""The memory of a shard, kept where a plan says, and a true report of where it lies.

Owns what to do when the kernel refuses a placement, and the moves of the adaptive strategy. It refuses to know what the
arrays hold, which node an actor lives on, and when a move pays.

Binding the process (:mod:`cluster_engine.shards.affinity`) places what is written from then on; this places the large
arrays, one by one, whoever writes them.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import native_simd
from cluster_engine.errors import PlacementError
from cluster_engine.shards.affinity import NumaPolicy, explain_refusal, format_policy
from cluster_engine.shards.migration import ROWS_A_PAGE, Accounts, add_rows, choose_destination
from cluster_engine.shards.placement import Strategy
from native_simd.index_memory import CONCEPT_ARRAYS
from native_simd.placement import MemoryMode, MemoryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cluster_engine.shards.placement import MemoryPlan

    Pages = Mapping[str, Mapping[int, int]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What was asked for a shard's arrays and, apart from it, what took effect.

    Attributes
    ----------
    plan : MemoryPlan
    home : int
        Node of the pages by now; another than the plan's after a migration.
    pages : mapping of str to mapping of int to int, or None
        By array and node, pages that lie there, as read back; None when that cannot be read. Arrays below 64 KiB lie on
        the heap and are not counted.
    errors : tuple of str
        Why what took effect is not what was asked, or is not known. Empty when all went well.
    """

    plan: MemoryPlan
    home: int
    pages: Pages | None
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Migration:
    """A move of a shard's pages to another node.

    Attributes
    ----------
    source, destination : int
    n_pages : int
        Pages that were not on the destination.
    excess_rows : int
        How many rows more the destination had sent than the source since the pages came there.
    error : str or None
        Why some or all pages are still where they were.
    """

    source: int
    destination: int
    n_pages: int
    excess_rows: int
    error: str | None


class ArrayMemory(Protocol):
    """The arrays of an index, as far as placing needs them: :class:`native_simd.index_memory.IndexMemory`."""

    def place(self, concepts: MemoryPolicy, episodes: MemoryPolicy, *, move: bool) -> None:
        """Give the two sides memory policies; :class:`OSError` when the kernel refuses."""

    def refusal(self) -> OSError | None:
        """Return why an array that came to be later was not placed."""

    def pages(self) -> Pages:
        """Count pages by array and node; :class:`OSError` when the kernel refuses."""

    def origins(self) -> Mapping[int, int]:
        """Count rows by the node that they came from."""


def require_plan(plan: MemoryPlan) -> None:
    """Log why a plan is not what its strategy says.

    Raises
    ------
    PlacementError
        Only under REQUIRE: it is not.
    """
    for shortfall in plan.shortfalls:
        _act_on(plan, shortfall)


def pack_placed(
    vectors: NDArray[np.float32], plan: MemoryPlan, *, unit: bool, threads: int
) -> native_simd.PackedVectors:
    """Pack vectors into memory placed as arrays found by concept are.

    Raises
    ------
    PlacementError
        Only under REQUIRE: the kernel refuses.
    """
    if plan.concepts is not None:
        try:
            return native_simd.pack(vectors, unit=unit, threads=threads, memory=plan.concepts)
        except OSError as error:
            _act_on(plan, explain_refusal(f"mbind({format_policy(plan.concepts)})", error))
    return native_simd.pack(vectors, unit=unit, threads=threads)


class PlacedMemory:
    """The arrays of one index, kept where a plan says; any number of threads may call.

    Parameters
    ----------
    memory : ArrayMemory
    plan : MemoryPlan

    Raises
    ------
    PlacementError
        Only under REQUIRE: the machine has not what the strategy takes, or the kernel refuses.
    """

    def __init__(self, memory: ArrayMemory, plan: MemoryPlan) -> None:
        self._memory, self._plan = memory, plan
        self._asked = (plan.concepts, plan.episodes)
        self._accounts = Accounts(plan.home)
        self._seen: Mapping[int, int] = {}
        self._cost_rows = 0
        self._looking = threading.Lock()
        if plan.policy is NumaPolicy.REQUIRE:
            require_plan(plan)
        self._refused = self._place(*self._asked, move=False)
        if self._refused is not None:
            _act_on(plan, self._refused)
        self.is_adaptive = plan.strategy is Strategy.ADAPTIVE and plan.concepts is not None

    def follow(self) -> Migration | None:
        """Under the adaptive strategy, move the pages to the node that the rows come from, if that pays.

        Returns
        -------
        Migration or None
            What was moved, and logged; None as a rule, or while another thread looks.
        """
        if not self.is_adaptive or not self._looking.acquire(blocking=False):
            return None
        try:
            return self._look()
        finally:
            self._looking.release()

    def report(self) -> MemoryReport:
        """Read back where the arrays lie; O(pages)."""
        errors = [*self._plan.shortfalls, *([self._refused] if self._refused else [])]
        refusal = self._memory.refusal()
        if refusal is not None:
            errors.append(explain_refusal("placing an array that grew", refusal))
        try:
            pages = self._memory.pages()
        except OSError as error:
            pages = None
            errors.append(explain_refusal("move_pages", error))
        if pages is not None:
            errors += self._strays(pages)
        return MemoryReport(self._plan, self._accounts.home, pages, tuple(errors))

    def _look(self) -> Migration | None:
        origins = self._memory.origins()
        rows: dict[int, int] = {}
        for node, n in origins.items():
            near = self._plan.nearest_memory.get(node)
            if near is not None:
                rows[near] = rows.get(near, 0) + n - self._seen.get(node, 0)
        self._seen = dict(origins)
        self._accounts = add_rows(self._accounts, rows)
        destination = choose_destination(self._accounts, self._cost_rows)
        if destination is None:
            return None
        try:
            pages = self._memory.pages()
        except OSError as error:
            self.is_adaptive = False  # a move that cannot be priced is not made
            self._refused = explain_refusal("move_pages, so that nothing moves any more", error)
            _log_refusal(self._plan, self._refused)
            return None
        n_pages = sum(n for by_node in pages.values() for node, n in by_node.items() if node != destination)
        self._cost_rows = ROWS_A_PAGE * n_pages  # what it was at the last look is out of date
        return None if choose_destination(self._accounts, self._cost_rows) is None else self._move(destination, n_pages)

    def _move(self, destination: int, n_pages: int) -> Migration:
        source, excess_rows, before = self._accounts.home, self._accounts.excess_rows[destination], self._asked
        policy = MemoryPolicy(
            MemoryMode.BIND if self._plan.policy is NumaPolicy.REQUIRE else MemoryMode.PREFERRED, (destination,)
        )
        self._refused = self._place(policy, policy, move=True)
        if self._refused is None:
            self._asked = (policy, policy)
        else:
            self._place(*before, move=False)  # of what comes; the refusal is known
        sent = f"node {destination} sent {excess_rows} more rows than node {source}"
        reason = f"{sent}, moving costs as much as {self._cost_rows}"
        # Also after a refusal: the next try is as far off as a move back would be.
        self._accounts = Accounts(destination if self._refused is None else source)
        logger.log(
            logging.INFO if self._refused is None else logging.WARNING,
            "memory migration from=%d to=%d pages=%d reason=%r error=%s",
            source,
            destination,
            n_pages,
            reason,
            self._refused,
        )
        return Migration(source, destination, n_pages, excess_rows, self._refused)

    def _place(self, concepts: MemoryPolicy | None, episodes: MemoryPolicy | None, *, move: bool) -> str | None:
        if concepts is None or episodes is None:
            return None
        try:
            self._memory.place(concepts, episodes, move=move)
        except OSError as error:
            asked = dict.fromkeys((format_policy(concepts), format_policy(episodes)))
            return explain_refusal(f"mbind({', '.join(asked)})", error)
        return None

    def _strays(self, pages: Pages) -> list[str]:
        """Say which pages lie on other nodes than were asked for."""
        errors = []
        for side, asked in zip(("concept", "episode"), self._asked, strict=True):
            counts = [
                (node, n)
                for name, by_node in pages.items()
                if (name in CONCEPT_ARRAYS) == (side == "concept")
                for node, n in by_node.items()
            ]
            n_strays = sum(n for node, n in counts if asked is not None and node not in asked.nodes)
            if n_strays:
                n_pages = sum(n for _, n in counts)
                errors.append(f"{n_strays} of {n_pages} pages of {side} arrays are not on {format_policy(asked)}")
        return errors


def _act_on(plan: MemoryPlan, error: str) -> None:
    if plan.policy is NumaPolicy.REQUIRE:
        raise PlacementError(f"cannot place {plan.strategy.value} memory: {error}")
    _log_refusal(plan, error)


def _log_refusal(plan: MemoryPlan, error: str) -> None:
    logger.warning("placement policy=%s strategy=%s error=%s", plan.policy.value, plan.strategy.value, error)
