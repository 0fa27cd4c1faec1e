"""When memory should follow the threads that use it: the rule of the adaptive strategy, and nothing that moves.

Owns the arithmetic alone. It refuses to know whose memory it is, how rows are counted and how pages move.

A row from another node than the pages' costs more than one from theirs, and moving the pages costs as much as D such
rows. Which node will ask next is not known. So each other node keeps account of how many rows more than the pages' own
node it has sent, not below 0, and the pages move to the one whose account reaches 2 D; all accounts then begin anew.
This is the counting rule of Black and Sleator (Competitive algorithms for replication and migration problems,
CMU-CS-89-201, 1989): between two nodes it never pays more than 3 times what the best plan with knowledge of the future
would have, and it is slow to go back, since that takes 2 D rows again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Moving a page of 4 KiB takes the kernel some 3 us, a row from afar some 30 ns more than one from near: it misses two
# or three lines, several rows at a time. Chosen, not measured: no machine with two sockets was at hand.
ROWS_A_PAGE = 100
_PAY_BACK = 2  # Black and Sleator's: with it the bound is 3


@dataclass(frozen=True, slots=True)
class Accounts:
    """Where the pages are, and how much better other nodes would have been since they came there.

    Attributes
    ----------
    home : int
        Node of the pages.
    excess_rows : mapping of int to int
        By node, how many rows more than `home` it has sent, at least 0.
    """

    home: int
    excess_rows: Mapping[int, int] = field(default_factory=dict)


def add_rows(accounts: Accounts, rows: Mapping[int, int]) -> Accounts:
    """Return the accounts after some more rows.

    Parameters
    ----------
    accounts : Accounts
    rows : mapping of int to int
        By node, the rows that it has sent since.

    Examples
    --------
    >>> add_rows(Accounts(0, {1: 50}), {0: 20, 1: 100, 2: 5}).excess_rows
    {1: 130, 2: 0}
    """
    others = sorted((accounts.excess_rows.keys() | rows.keys()) - {accounts.home})
    from_home = rows.get(accounts.home, 0)
    excess = {node: max(0, accounts.excess_rows.get(node, 0) + rows.get(node, 0) - from_home) for node in others}
    return Accounts(accounts.home, excess)


def choose_destination(accounts: Accounts, cost_rows: int) -> int | None:
    """Return the node that the pages should move to, or None: they should stay.

    Parameters
    ----------
    accounts : Accounts
    cost_rows : int
        What moving costs, in rows from another node; at least 0.

    Examples
    --------
    >>> choose_destination(Accounts(0, {1: 199, 2: 30}), 100) is None
    True
    >>> choose_destination(Accounts(0, {1: 200, 2: 30}), 100)
    1
    """
    best = min(accounts.excess_rows, key=lambda node: (-accounts.excess_rows[node], node), default=None)
    if best is None or not accounts.excess_rows[best]:
        return None
    return best if accounts.excess_rows[best] >= _PAY_BACK * cost_rows else None
