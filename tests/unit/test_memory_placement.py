from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import pickle
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import native_simd
from cluster_engine.errors import PlacementError
from cluster_engine.shards.affinity import NumaPolicy
from cluster_engine.shards.memory import PlacedMemory, pack_placed
from cluster_engine.shards.migration import ROWS_A_PAGE
from cluster_engine.shards.placement import UNPLACED, Strategy, plan_memory
from cluster_engine.shards.shard import BindingShard
from cluster_engine.shards.topology import NumaNode, Topology, read_topology
from native_simd.index_memory import CONCEPT_ARRAYS, EPISODE_ARRAYS
from native_simd.placement import MemoryMode, MemoryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GIB = 1 << 30
PREFER, REQUIRE, OFF = NumaPolicy.PREFER, NumaPolicy.REQUIRE, NumaPolicy.OFF
TWO = Topology((NumaNode(0, (0, 1), GIB, (10, 21)), NumaNode(1, (2, 3), GIB, (21, 10))))
CALLS = ("place", "pages", "origins")


def write_machine(root: Path, n_nodes: int) -> Topology:
    """A ring of nodes with four CPUs each, as a sysfs tree that is then read."""
    for index in range(n_nodes):
        directory = root / f"node{index}"
        directory.mkdir()
        ring = [min(abs(index - other), n_nodes - abs(index - other)) for other in range(n_nodes)]
        (directory / "cpulist").write_text(f"{4 * index}-{4 * index + 3}\n")
        (directory / "meminfo").write_text(f"Node {index} MemTotal:       {GIB // 1024:>8} kB\n")
        (directory / "distance").write_text(" ".join(str(10 + 11 * hops) for hops in ring) + "\n")
    return read_topology(root, frozenset(range(4 * n_nodes)), frozenset(range(n_nodes)))


@pytest.mark.parametrize(("policy", "mode"), [(PREFER, MemoryMode.PREFERRED), (REQUIRE, MemoryMode.BIND)])
@pytest.mark.parametrize("n_nodes", range(2, 9))
def test_each_strategy_on_each_node_of_machines_of_several(
    tmp_path: Path, n_nodes: int, policy: NumaPolicy, mode: MemoryMode
) -> None:
    topology = write_machine(tmp_path, n_nodes)
    everywhere = MemoryPolicy(MemoryMode.INTERLEAVE, tuple(range(n_nodes)))
    for home in range(n_nodes):
        here = MemoryPolicy(mode, (home,))
        neighbour = MemoryPolicy(mode, (min((home - 1) % n_nodes, (home + 1) % n_nodes),))
        expected = {
            Strategy.LOCAL: (here, here),
            Strategy.INTERLEAVED: (everywhere, everywhere),
            Strategy.SEPARATED: (here, neighbour),
            Strategy.ADAPTIVE: (here, here),
        }
        for strategy in Strategy:
            plan = plan_memory(strategy, topology, home, policy)
            assert (plan.concepts, plan.episodes) == expected[strategy]
            assert (plan.home, plan.shortfalls) == (home, ())
            assert plan.nearest_memory == {index: index for index in range(n_nodes)}


@pytest.mark.parametrize("strategy", Strategy)
def test_one_node_has_all_memory_anyway(tmp_path: Path, strategy: Strategy) -> None:
    plan = plan_memory(strategy, write_machine(tmp_path, 1), 0, PREFER)
    assert (plan.concepts, plan.episodes) == (None, None)
    is_short = strategy in (Strategy.INTERLEAVED, Strategy.SEPARATED)
    assert [shortfall.split()[0] for shortfall in plan.shortfalls] == [strategy.value] * is_short


@pytest.mark.parametrize("strategy", Strategy)
def test_off_asks_for_nothing(strategy: Strategy) -> None:
    plan = plan_memory(strategy, TWO, 1, OFF)
    assert (plan.concepts, plan.episodes, plan.shortfalls) == (None, None, ())


def test_a_node_without_memory_takes_the_nearest() -> None:
    nodes = (
        NumaNode(0, (0,), GIB, (10, 40, 20)),
        NumaNode(1, (1,), GIB, (40, 10, 15)),
        NumaNode(2, (2,), 0, (20, 15, 10)),
    )
    plan = plan_memory(Strategy.ADAPTIVE, Topology(nodes), 2, PREFER)
    assert plan.concepts == MemoryPolicy(MemoryMode.PREFERRED, (1,))
    assert plan.shortfalls == ("node 2 has no memory that this process may use; node 1 has",)
    assert plan.nearest_memory == {0: 0, 1: 1, 2: 1}


def test_memory_only_nodes_are_interleaved_too_and_no_memory_at_all_is_no_error() -> None:
    nodes = (NumaNode(0, (0,), GIB, (10, 17)), NumaNode(4, (), GIB, (17, 10)))
    assert plan_memory(Strategy.INTERLEAVED, Topology(nodes), 0, PREFER).concepts == MemoryPolicy(
        MemoryMode.INTERLEAVE, (0, 4)
    )
    bare = plan_memory(Strategy.SEPARATED, Topology((NumaNode(0, (0,), 0, ()),)), 0, PREFER)
    assert (bare.home, bare.concepts) == (0, None)


def test_plan_travels_as_pickle_and_json() -> None:
    plan = plan_memory(Strategy.SEPARATED, TWO, 1, PREFER)
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301 - our own bytes
    fields = json.loads(json.dumps(dataclasses.asdict(plan)))
    assert (fields["strategy"], fields["episodes"]) == ("separated", {"mode": "preferred", "nodes": [0]})


# Placed memory


@dataclass
class FakeMemory:
    """Arrays of 10 pages each, as Linux would place them; `refused` says which calls fail, and how."""

    refused: dict[str, int] = field(default_factory=dict)
    lies: dict[str, dict[int, int]] = field(
        default_factory=lambda: {name: {0: 10} for name in CONCEPT_ARRAYS + EPISODE_ARRAYS}
    )
    rows: dict[int, int] = field(default_factory=dict)
    asked: list[tuple[MemoryPolicy, MemoryPolicy, bool]] = field(default_factory=list)
    late: OSError | None = None

    def refuse(self, call: str) -> None:
        if call in self.refused:
            raise OSError(self.refused[call], os.strerror(self.refused[call]))

    def place(self, concepts: MemoryPolicy, episodes: MemoryPolicy, *, move: bool) -> None:
        self.asked.append((concepts, episodes, move))
        self.refuse("place")
        for name in self.lies:
            nodes = (concepts if name in CONCEPT_ARRAYS else episodes).nodes
            if move or len(self.asked) == 1:  # nothing is written before the first call
                self.lies[name] = {node: 10 // len(nodes) for node in nodes}

    def refusal(self) -> OSError | None:
        return self.late

    def pages(self) -> Mapping[str, Mapping[int, int]]:
        self.refuse("pages")
        return self.lies

    def origins(self) -> Mapping[int, int]:
        self.refuse("origins")
        return self.rows

    def where(self, names: tuple[str, ...]) -> set[int]:
        return {node for name in names for node in self.lies[name]}


N_PAGES = 10 * len(CONCEPT_ARRAYS + EPISODE_ARRAYS)
PAY_BACK = 2 * ROWS_A_PAGE * N_PAGES


@pytest.mark.parametrize("policy", [PREFER, REQUIRE])
def test_pages_lie_where_each_strategy_says(policy: NumaPolicy) -> None:
    expected = {
        Strategy.LOCAL: ({1}, {1}),
        Strategy.INTERLEAVED: ({0, 1}, {0, 1}),
        Strategy.SEPARATED: ({1}, {0}),
        Strategy.ADAPTIVE: ({1}, {1}),
    }
    for strategy in Strategy:
        memory = FakeMemory()
        report = PlacedMemory(memory, plan_memory(strategy, TWO, 1, policy)).report()
        assert (memory.where(CONCEPT_ARRAYS), memory.where(EPISODE_ARRAYS)) == expected[strategy]
        assert (report.pages, report.errors, report.home) == (memory.lies, (), 1)


def test_nothing_is_asked_for_without_a_plan() -> None:
    memory = FakeMemory(refused={"place": errno.EPERM})
    report = PlacedMemory(memory, UNPLACED).report()
    assert (memory.asked, report.errors) == ([], ())


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.EIO])
@pytest.mark.parametrize("strategy", Strategy)
def test_a_refused_placement_is_reported_and_logged_or_an_error(
    strategy: Strategy, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    memory = FakeMemory(refused={"place": number})
    report = PlacedMemory(memory, plan_memory(strategy, TWO, 0, PREFER)).report()
    assert errno.errorcode[number] in report.errors[0]
    assert report.errors[0].startswith("mbind(")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"strategy={strategy.value}" in caplog.text
    with pytest.raises(PlacementError, match=f"{strategy.value} memory: mbind.*{errno.errorcode[number]}"):
        PlacedMemory(memory, plan_memory(strategy, TWO, 0, REQUIRE))


def test_pages_that_cannot_be_read_are_not_known() -> None:
    report = PlacedMemory(
        FakeMemory(refused={"pages": errno.EPERM}), plan_memory(Strategy.LOCAL, TWO, 0, REQUIRE)
    ).report()
    assert report.pages is None
    assert report.errors[0].startswith("move_pages: EPERM")


def test_pages_that_lie_elsewhere_are_told() -> None:
    memory = FakeMemory()
    placed = PlacedMemory(memory, plan_memory(Strategy.LOCAL, TWO, 0, PREFER))
    memory.lies["lines"] = {0: 6, 1: 4}
    memory.late = OSError(errno.ENOMEM, "Cannot allocate memory")
    errors = placed.report().errors
    assert "ENOMEM" in errors[0]
    assert errors[1] == "4 of 50 pages of concept arrays are not on preferred:0"


@pytest.mark.parametrize("strategy", [Strategy.INTERLEAVED, Strategy.SEPARATED])
def test_what_the_machine_lacks_is_a_shortfall_or_an_error(tmp_path: Path, strategy: Strategy) -> None:
    topology = write_machine(tmp_path, 1)
    assert PlacedMemory(FakeMemory(), plan_memory(strategy, topology, 0, PREFER)).report().errors == (
        f"{strategy.value} memory takes two nodes with memory, and this process may use one",
    )
    with pytest.raises(PlacementError, match="takes two nodes"):
        PlacedMemory(FakeMemory(), plan_memory(strategy, topology, 0, REQUIRE))


# Adaptive


@pytest.mark.parametrize("strategy", [strategy for strategy in Strategy if strategy is not Strategy.ADAPTIVE])
def test_other_strategies_never_move(strategy: Strategy) -> None:
    memory = FakeMemory(rows={1: 100 * PAY_BACK})
    placed = PlacedMemory(memory, plan_memory(strategy, TWO, 0, PREFER))
    assert placed.follow() is None
    assert len(memory.asked) == 1


@pytest.mark.parametrize(("policy", "mode"), [(PREFER, MemoryMode.PREFERRED), (REQUIRE, MemoryMode.BIND)])
def test_adaptive_memory_follows_its_rows_and_says_why(
    policy: NumaPolicy, mode: MemoryMode, caplog: pytest.LogCaptureFixture
) -> None:
    memory = FakeMemory()
    placed = PlacedMemory(memory, plan_memory(Strategy.ADAPTIVE, TWO, 0, policy))
    memory.rows = {0: 1000, 1: PAY_BACK + 999}
    assert placed.follow() is None
    memory.rows = {0: 1000, 1: PAY_BACK + 1000}
    with caplog.at_level(logging.INFO):
        migration = placed.follow()
    assert migration is not None
    assert dataclasses.astuple(migration) == (0, 1, N_PAGES, PAY_BACK, None)
    asked = MemoryPolicy(mode, (1,))
    assert memory.asked[-1] == (asked, asked, True)
    assert "from=0 to=1 pages=70" in caplog.text
    assert f"node 1 sent {PAY_BACK} more rows than node 0, moving costs as much as {PAY_BACK // 2}" in caplog.text
    assert (placed.report().home, placed.report().errors) == (1, ())
    assert placed.follow() is None
    memory.rows = {0: 1000 + PAY_BACK, 1: PAY_BACK + 1000}
    back = placed.follow()
    assert back is not None
    assert (back.source, back.destination) == (1, 0)


def test_pages_that_are_there_already_need_no_moving() -> None:
    memory = FakeMemory()
    placed = PlacedMemory(memory, plan_memory(Strategy.ADAPTIVE, TWO, 0, PREFER))
    for by_node in memory.lies.values():
        by_node.clear()
        by_node[1] = 10
    memory.rows = {1: 1}
    migration = placed.follow()
    assert migration is not None
    assert (migration.n_pages, migration.destination) == (0, 1)


def test_rows_from_a_node_without_memory_pull_to_the_nearest_that_has() -> None:
    nodes = (
        NumaNode(0, (0,), GIB, (10, 20, 30)),
        NumaNode(1, (), GIB, (20, 10, 15)),
        NumaNode(2, (2,), 0, (30, 15, 10)),
    )
    memory = FakeMemory()
    placed = PlacedMemory(memory, plan_memory(Strategy.ADAPTIVE, Topology(nodes), 0, PREFER))
    memory.rows = {2: PAY_BACK, 9: 10 * PAY_BACK}  # node 9 is not of this process
    migration = placed.follow()
    assert migration is not None
    assert migration.destination == 1


def test_a_refused_move_leaves_the_policy_and_waits_as_long_again(caplog: pytest.LogCaptureFixture) -> None:
    memory = FakeMemory()
    placed = PlacedMemory(memory, plan_memory(Strategy.ADAPTIVE, TWO, 0, REQUIRE))
    memory.refused["place"] = errno.EPERM
    memory.rows = {1: PAY_BACK}
    migration = placed.follow()
    assert migration is not None
    assert "EPERM" in (migration.error or "")
    assert "EPERM" in caplog.text
    home = MemoryPolicy(MemoryMode.BIND, (0,))
    assert memory.asked[-1] == (home, home, False)
    report = placed.report()
    assert report.home == 0
    assert report.errors[0].startswith("mbind(bind:1): EPERM")
    memory.rows = {1: 2 * PAY_BACK - 1}
    assert placed.follow() is None
    memory.refused.clear()
    memory.rows = {1: 2 * PAY_BACK}
    again = placed.follow()
    assert again is not None
    assert (again.error, placed.report().errors) == (None, ())


def test_a_move_that_cannot_be_priced_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    memory = FakeMemory(refused={"pages": errno.ENOSYS})
    placed = PlacedMemory(memory, plan_memory(Strategy.ADAPTIVE, TWO, 0, PREFER))
    memory.rows = {1: 100 * PAY_BACK}
    assert placed.follow() is None
    assert not placed.is_adaptive
    assert "ENOSYS" in caplog.text
    assert len(memory.asked) == 1


def test_threads_move_pages_once() -> None:
    memory = FakeMemory()
    placed = PlacedMemory(memory, plan_memory(Strategy.ADAPTIVE, TWO, 0, PREFER))
    memory.rows = {1: PAY_BACK}
    threads = [threading.Thread(target=placed.follow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(memory.asked) == 2


machines = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=8).map(
    lambda kinds: Topology(
        tuple(NumaNode(index, (index,) * cpus, GIB * memory, ()) for index, (cpus, memory) in enumerate(kinds))
    )
)


@given(
    st.tuples(st.sampled_from(Strategy), machines, st.integers(0, 9), st.sampled_from([PREFER, OFF])),
    st.dictionaries(st.sampled_from(("place", "pages")), st.sampled_from([errno.EPERM, errno.ENOSYS])).map(
        lambda refused: FakeMemory(refused=refused)
    ),
    st.lists(st.dictionaries(st.integers(0, 9), st.integers(0, 3 * PAY_BACK)), max_size=5),
)
def test_never_raises_and_the_report_is_true(
    wanted: tuple[Strategy, Topology, int, NumaPolicy], memory: FakeMemory, windows: list[dict[int, int]]
) -> None:
    strategy, topology, _, _ = wanted
    plan = plan_memory(*wanted)
    placed = PlacedMemory(memory, plan)
    for rows in windows:
        memory.rows = {node: memory.rows.get(node, 0) + n for node, n in rows.items()}
        placed.follow()
    report = placed.report()
    assert report.pages == (None if "pages" in memory.refused else memory.lies)
    memory_nodes = {node.index for node in topology.nodes if node.memory_bytes}
    asked = {node for call in memory.asked for side in call[:2] for node in side.nodes}
    assert asked <= memory_nodes
    if not report.errors and plan.concepts is not None and strategy is not Strategy.INTERLEAVED:
        assert memory.where(CONCEPT_ARRAYS) == {report.home}


# The real kernel, on whatever nodes this machine has


@pytest.mark.parametrize("policy", [PREFER, OFF])
@pytest.mark.parametrize("strategy", Strategy)
def test_a_shard_answers_the_same_under_each_strategy(strategy: Strategy, policy: NumaPolicy) -> None:
    """On this machine, and on a fake one whose nodes it lacks."""
    numbers = np.arange(40_000)
    strengths = np.random.default_rng(1).random(len(numbers), np.float32)
    plain = BindingShard(3, 1)
    plain.bind(numbers % 999, numbers, strengths, op_id=1)
    machines = [read_topology(), Topology(tuple(NumaNode(900 + i, (0,), GIB, ()) for i in range(2)))]
    for topology in machines:
        shard = BindingShard(3, 1, plan=plan_memory(strategy, topology, topology.nodes[0].index, policy))
        shard.bind(numbers % 999, numbers, strengths, op_id=1)
        for column, expected in zip(shard.bindings(), plain.bindings(), strict=True):
            np.testing.assert_array_equal(column, expected)
        report = shard.memory_report()
        if topology is machines[1]:
            assert bool(report.errors) == (policy is PREFER)
        elif strategy in (Strategy.LOCAL, Strategy.ADAPTIVE):
            assert report.errors == ()


@pytest.mark.parametrize("strategy", Strategy)
def test_vectors_are_packed_alike_wherever_they_lie(strategy: Strategy) -> None:
    vectors = np.random.default_rng(2).standard_normal((100, 24), np.float32)
    expected = native_simd.pack(vectors, unit=True)
    topology = read_topology()
    for nodes in (topology, Topology(tuple(NumaNode(900 + i, (0,), GIB, ()) for i in range(2)))):
        plan = plan_memory(strategy, nodes, nodes.nodes[0].index, PREFER)
        packed = pack_placed(vectors, plan, unit=True, threads=2)
        np.testing.assert_array_equal(packed.panels, expected.panels)
        np.testing.assert_array_equal(packed.norms, expected.norms)
    with pytest.raises(PlacementError, match="cannot place"):
        pack_placed(vectors, plan_memory(strategy, nodes, 900, REQUIRE), unit=True, threads=1)
