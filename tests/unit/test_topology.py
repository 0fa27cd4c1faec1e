from __future__ import annotations

import doctest
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_engine.shards import topology
from cluster_engine.shards.topology import (
    NumaNode,
    format_cpu_list,
    parse_cpu_list,
    parse_distances,
    parse_mem_total,
    read_mems_allowed,
    read_topology,
)

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30
EVERY_NODE = frozenset(range(64))


def cpus(n_cpus: int) -> frozenset[int]:
    return frozenset(range(n_cpus))


def write_node(root: Path, index: int, cpulist: str, memory_gib: int, distance: str) -> Path:
    """The three files of a node, as Linux writes them."""
    directory = root / f"node{index}"
    directory.mkdir(parents=True)
    (directory / "cpulist").write_text(f"{cpulist}\n")
    kib = memory_gib * GIB // 1024
    (directory / "meminfo").write_text(
        f"Node {index} MemTotal:       {kib:>8} kB\nNode {index} MemFree:        {kib // 2:>8} kB\n"
    )
    (directory / "distance").write_text(f"{distance}\n")
    return directory


@pytest.fixture
def two_nodes(tmp_path: Path) -> Path:
    write_node(tmp_path, 0, "0-3", 62, "10 21")
    write_node(tmp_path, 1, "4-7", 63, "21 10")
    return tmp_path


def test_two_nodes(two_nodes: Path) -> None:
    (two_nodes / "online").write_text("0-1\n")
    (two_nodes / "has_cpu").write_text("0-1\n")
    (two_nodes / "power").mkdir()
    found = read_topology(two_nodes, cpus(8), EVERY_NODE)
    assert found.problems == ()
    assert found.nodes == (
        NumaNode(0, (0, 1, 2, 3), 62 * GIB, (10, 21)),
        NumaNode(1, (4, 5, 6, 7), 63 * GIB, (21, 10)),
    )


@pytest.mark.parametrize("n_nodes", range(1, 9))
def test_any_number_of_nodes_with_interleaved_cpus(tmp_path: Path, n_nodes: int) -> None:
    for index in range(n_nodes):
        row = " ".join("10" if index == other else str(20 + abs(index - other)) for other in range(n_nodes))
        write_node(tmp_path, index, ",".join(str(cpu) for cpu in range(index, 4 * n_nodes, n_nodes)), 16, row)
    found = read_topology(tmp_path, cpus(4 * n_nodes), EVERY_NODE)
    assert found.problems == ()
    assert [node.index for node in found.nodes] == list(range(n_nodes))
    for node in found.nodes:
        assert node.cpus == tuple(node.index + n_nodes * i for i in range(4))
        assert [node.distances.index(10), len(node.distances)] == [node.index, n_nodes]


def test_nodes_sort_by_number_and_may_have_holes(tmp_path: Path) -> None:
    write_node(tmp_path, 16, "8-11", 4, "40 22 10")
    write_node(tmp_path, 0, "0-3", 4, "10 20 40")
    write_node(tmp_path, 8, "4-7", 4, "20 10 22")
    found = read_topology(tmp_path, cpus(12), EVERY_NODE)
    assert found.problems == ()
    assert [(node.index, node.distances) for node in found.nodes] == [
        (0, (10, 20, 40)),
        (8, (20, 10, 22)),
        (16, (40, 22, 10)),
    ]


def test_memory_only_and_cpu_only_nodes_are_kept(tmp_path: Path) -> None:
    write_node(tmp_path, 0, "0-1", 8, "10 17 28")
    write_node(tmp_path, 1, "", 256, "17 10 28")
    write_node(tmp_path, 2, "2-3", 0, "28 28 10")
    found = read_topology(tmp_path, cpus(4), EVERY_NODE)
    assert found.problems == ()
    assert [(node.cpus, node.memory_bytes) for node in found.nodes] == [
        ((0, 1), 8 * GIB),
        ((), 256 * GIB),
        ((2, 3), 0),
    ]


def test_cpuset_narrows_cpus(two_nodes: Path) -> None:
    found = read_topology(two_nodes, frozenset({1, 2, 6}), EVERY_NODE)
    assert [node.cpus for node in found.nodes] == [(1, 2), (6,)]
    assert found.problems == ()


def test_cpuset_without_a_nodes_cpus_leaves_its_memory(two_nodes: Path) -> None:
    found = read_topology(two_nodes, frozenset({0, 1}), EVERY_NODE)
    assert [(node.cpus, node.memory_bytes) for node in found.nodes] == [((0, 1), 62 * GIB), ((), 63 * GIB)]


def test_cpuset_without_a_nodes_memory_leaves_its_cpus(two_nodes: Path) -> None:
    found = read_topology(two_nodes, cpus(8), frozenset({1}))
    assert [(node.index, node.memory_bytes) for node in found.nodes] == [(0, 0), (1, 63 * GIB)]
    assert found.nodes[0].cpus == (0, 1, 2, 3)


def test_a_node_the_cpuset_excludes_is_dropped_with_its_distance(tmp_path: Path) -> None:
    write_node(tmp_path, 0, "0-1", 8, "10 20 40")
    write_node(tmp_path, 1, "2-3", 8, "20 10 22")
    write_node(tmp_path, 2, "4-5", 8, "40 22 10")
    found = read_topology(tmp_path, frozenset({0, 1, 4, 5}), frozenset({0, 2}))
    assert found.problems == ()
    assert [(node.index, node.distances) for node in found.nodes] == [(0, (10, 40)), (2, (40, 10))]


def test_no_sysfs_is_one_node(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    found = read_topology(missing, frozenset({3, 1}), EVERY_NODE)
    (node,) = found.nodes
    assert (node.index, node.cpus, node.distances) == (0, (1, 3), ())
    assert node.memory_bytes > 0
    assert str(missing) in found.problems[0]


def test_no_sysfs_takes_a_node_whose_memory_is_allowed(tmp_path: Path) -> None:
    (node,) = read_topology(tmp_path, frozenset({0}), frozenset({1, 3})).nodes
    assert node.index == 1


def test_root_that_is_a_file_is_one_node(tmp_path: Path) -> None:
    root = tmp_path / "node"
    root.write_text("0-3\n")
    found = read_topology(root, frozenset({0}), EVERY_NODE)
    assert [node.cpus for node in found.nodes] == [(0,)]
    assert "Not a directory" in found.problems[0]


@pytest.mark.parametrize("garbage", [b"", b"\n", b"\xff\xfe\x00", b"0-4000000000", b"3-1", b"many", b"0-3\x00"])
@pytest.mark.parametrize("name", ["cpulist", "meminfo", "distance"])
def test_one_bad_file_spoils_one_field_of_one_node(two_nodes: Path, name: str, garbage: bytes) -> None:
    (two_nodes / "node1" / name).write_bytes(garbage)
    found = read_topology(two_nodes, cpus(8), EVERY_NODE)
    good = {"cpulist": (4, 5, 6, 7), "meminfo": 63 * GIB, "distance": (21, 10)}
    empty = {"cpulist": (), "meminfo": 0, "distance": ()}
    expected = good | {name: empty[name]}
    second = found.nodes[1]
    assert found.nodes[0] == NumaNode(0, (0, 1, 2, 3), 62 * GIB, (10, 21))
    assert {"cpulist": second.cpus, "meminfo": second.memory_bytes, "distance": second.distances} == expected
    an_empty_list_is_no_garbage = name != "meminfo" and not garbage.strip()
    if not an_empty_list_is_no_garbage:
        assert any(str(two_nodes / "node1" / name) in problem for problem in found.problems)


@pytest.mark.parametrize("name", ["cpulist", "meminfo", "distance"])
def test_missing_file_is_a_problem_that_names_it(two_nodes: Path, name: str) -> None:
    (two_nodes / "node0" / name).unlink()
    found = read_topology(two_nodes, cpus(8), EVERY_NODE)
    assert len(found.nodes) == 2
    assert any(f"node0/{name}: No such file" in problem for problem in found.problems)


def test_distance_row_of_the_wrong_length_is_not_believed(two_nodes: Path) -> None:
    (two_nodes / "node0" / "distance").write_text("10 21 31\n")
    found = read_topology(two_nodes, cpus(8), EVERY_NODE)
    assert [node.distances for node in found.nodes] == [(), (21, 10)]
    assert "3 numbers for 2 nodes" in "".join(found.problems)


def test_when_every_cpulist_is_garbage_all_cpus_are_one_node(two_nodes: Path) -> None:
    for index in range(2):
        (two_nodes / f"node{index}" / "cpulist").write_text("?\n")
    found = read_topology(two_nodes, cpus(8), EVERY_NODE)
    assert [node.cpus for node in found.nodes] == [tuple(range(8))]
    assert "taking all CPUs as one node" in found.problems[-1]


def test_cpus_on_no_node_are_told(two_nodes: Path) -> None:
    found = read_topology(two_nodes, frozenset({0, 4, 8, 9, 10}), EVERY_NODE)
    assert [node.cpus for node in found.nodes] == [(0,), (4,)]
    assert "CPUs 8-10 are on no node" in found.problems[-1]


def test_directories_that_only_look_like_nodes_are_ignored(two_nodes: Path) -> None:
    for name in ("node", "nodeX", "node1x", "node99999999999999999999", "node70000"):
        (two_nodes / name).mkdir()
    found = read_topology(two_nodes, cpus(8), EVERY_NODE)
    assert [node.index for node in found.nodes] == [0, 1]
    assert found.problems == ()


def test_this_machine_has_this_processs_cpus() -> None:
    found = read_topology()
    cpus = [cpu for node in found.nodes for cpu in node.cpus]
    assert sorted(cpus) == sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Mems_allowed_list:\t0-1,4\n", frozenset({0, 1, 4})),
        ("Mems_allowed_list:\tnone\n", None),
        ("Cpus_allowed_list:\t0-1\n", None),
    ],
)
def test_mems_allowed(tmp_path: Path, line: str, expected: frozenset[int] | None) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tpython\nMems_allowed:\t00000000,00000013\n{line}voluntary_ctxt_switches:\t1\n")
    assert read_mems_allowed(status) == expected


def test_mems_allowed_without_proc(tmp_path: Path) -> None:
    assert read_mems_allowed(tmp_path / "status") is None


def expand_slowly(text: str) -> set[int]:
    """The list format, one number at a time."""
    members = set()
    for piece in filter(None, text.strip().split(",")):
        first, _, last = piece.partition("-")
        number = int(first)
        while number <= int(last or first):
            members.add(number)
            number += 1
    return members


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 40)), max_size=12), st.sampled_from(["", "\n", " \n"]))
def test_parse_agrees_with_a_slow_reading(spans: list[tuple[int, int]], tail: str) -> None:
    text = ",".join(str(first) if not extra else f"{first}-{first + extra}" for first, extra in spans) + tail
    assert parse_cpu_list(text) == expand_slowly(text)


@given(st.sets(st.integers(0, 300), max_size=60))
def test_format_round_trips_and_is_shortest(members: set[int]) -> None:
    text = format_cpu_list(members)
    assert parse_cpu_list(text) == members
    runs = [member for member in members if member - 1 not in members]
    assert len(text.split(",") if text else []) == len(runs)


@given(st.text(alphabet="0123456789,- \n٣x", max_size=12))
def test_parse_refuses_or_reads_as_the_slow_reading(text: str) -> None:
    try:
        parsed = parse_cpu_list(text)
    except ValueError:
        return
    assert parsed == expand_slowly(text)


@pytest.mark.parametrize(
    "text", ["3-1", "0-", "-3", "1,,2", "1,", "0x3", "1 2", "0-7:2/4", "0-65536", "9" * 5000, "1_0"]
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither a number nor a range|runs backwards or past"):
        parse_cpu_list(text)


@pytest.mark.parametrize("text", ["10 x", "10 -21", "1_0", "10,21"])
def test_distances_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="not a row of numbers"):
        parse_distances(text)


@pytest.mark.parametrize("text", ["", "Node 0 MemTotal: lots kB", "MemTotal: 5 kB", "Node 0 MemTotal: 5 MB"])
def test_mem_total_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="no line such as"):
        parse_mem_total(text)


def test_examples_in_docstrings() -> None:
    results = doctest.testmod(topology)
    assert results.attempted > 0
    assert results.failed == 0
