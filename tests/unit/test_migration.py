from __future__ import annotations

import doctest
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.shards import migration
from cluster_engine.shards.migration import Accounts, add_rows, choose_destination

if TYPE_CHECKING:
    from collections.abc import Sequence

counts = st.integers(0, 1000)
nodes = st.integers(0, 7)
windows = st.lists(st.dictionaries(nodes, counts, max_size=8), max_size=30)


def run(windows: Sequence[dict[int, int]], cost_rows: int, home: int = 0) -> list[int]:
    """Return where the pages are after each window."""
    accounts, places = Accounts(home), []
    for rows in windows:
        accounts = add_rows(accounts, rows)
        destination = choose_destination(accounts, cost_rows)
        if destination is not None:
            accounts = Accounts(destination)
        places.append(accounts.home)
    return places


def online_cost(requests: Sequence[int], cost_rows: int) -> int:
    """What the rule pays for rows that come one by one: 1 for each from elsewhere, and the moves."""
    accounts, paid = Accounts(0), 0
    for node in requests:
        paid += node != accounts.home
        accounts = add_rows(accounts, {node: 1})
        destination = choose_destination(accounts, cost_rows)
        if destination is not None:
            accounts = Accounts(destination)
            paid += cost_rows
    return paid


def least_cost(requests: Sequence[int], cost_rows: int) -> int:
    """What a plan with knowledge of all requests pays at least: dynamic programming over the place of the pages."""
    paid = [0, cost_rows]
    for node in requests:
        served = [cost + (node != place) for place, cost in enumerate(paid)]
        paid = [min(served[place], served[1 - place] + cost_rows) for place in (0, 1)]
    return min(paid)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 40)), max_size=25), st.integers(1, 30))
def test_never_more_than_three_times_the_best_plan(runs: list[tuple[int, int]], cost_rows: int) -> None:
    requests = [node for node, n in runs for _ in range(n)]
    assert online_cost(requests, cost_rows) <= 3 * least_cost(requests, cost_rows)


@given(windows, st.integers(1, 2000))
def test_moves_only_to_who_sent_twice_the_cost_more(windows: list[dict[int, int]], cost_rows: int) -> None:
    """Since the last move: what a node sent in all its windows bounds what it can have sent more."""
    before, since = 0, 0
    for at, place in enumerate(run(windows, cost_rows)):
        if place == before:
            continue
        sent = sum(rows.get(place, 0) for rows in windows[since : at + 1])
        assert sent >= 2 * cost_rows
        before, since = place, at + 1


@given(st.integers(1, 100), st.integers(1, 50), st.integers(2, 60))
def test_rows_that_alternate_within_twice_the_cost_move_nothing(n_rows: int, extra: int, n_windows: int) -> None:
    """Two nodes that take turns, neither ahead by twice the cost: no ping-pong."""
    turns = [{at % 2: n_rows} for at in range(n_windows)]
    assert set(run(turns, (n_rows + extra + 1) // 2)) == {0}


@given(windows, counts)
def test_pages_stay_while_their_own_node_sends_most(windows: list[dict[int, int]], cost_rows: int) -> None:
    most = [rows | {0: max(rows.values(), default=0)} for rows in windows]
    assert set(run(most, cost_rows)) <= {0}


@given(nodes.filter(bool), st.integers(1, 500), st.integers(0, 5000))
def test_a_steady_stream_from_elsewhere_is_followed_in_time(node: int, n_rows: int, cost_rows: int) -> None:
    n_windows = max(1, -(-2 * cost_rows // n_rows))
    places = run([{node: n_rows}] * (n_windows + 3), cost_rows)
    assert places == [0] * (n_windows - 1) + [node] * 4


def test_of_two_nodes_alike_the_first_gets_the_pages() -> None:
    assert choose_destination(Accounts(0, {3: 10, 2: 10}), 5) == 2


def test_nothing_moves_without_rows() -> None:
    assert choose_destination(Accounts(0), 0) is None
    assert choose_destination(add_rows(Accounts(0), {0: 5, 1: 5}), 0) is None


def test_examples_in_docstrings() -> None:
    results = doctest.testmod(migration)
    assert results.attempted > 0
    assert results.failed == 0
