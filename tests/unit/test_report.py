"""The report: what is counted against the tables, and a page that no text can break out of."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifecycles import World, make_world
from store_tables import version_tables

import cluster_engine.report
from cluster_engine.concepts.journal import CHANGE_KINDS
from cluster_engine.concepts.labels import label_concepts
from cluster_engine.report import content as content_module
from cluster_engine.report.content import report_content, store_content
from cluster_engine.report.page import render_page
from cluster_engine.store.commit import commit_version
from cluster_engine.store.snapshot import ConceptStore

SOURCES = Path(cluster_engine.report.__file__).parent
HOSTILE = [
    "</script><script>window.broken = 1</script>",
    "<img src=x onerror='window.broken = 1'>",
    "<!--<script>",
    "]]> & &amp; &lt; \u2028 \u2029 \\u003c \" '",
    "javascript:alert(1)",
    "${content} $title {{x}}",
    "\x00\x07\x1b[31m\ud7ff\U0010ffff",
]


class Page(HTMLParser):
    """Elements of a page, and the texts of those that hold raw text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self._inside: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in {"script", "style"}:
            self._inside = dict(attrs).get("type") or tag

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.raw[self._inside] = self.raw.get(self._inside, "") + data

    @property
    def policy(self) -> str:
        (found,) = [a["content"] for tag, a in self.tags if a.get("http-equiv") == "Content-Security-Policy"]
        return found or ""


def made(world: World | None = None, **replaced: pa.Table) -> dict[str, Any]:
    tables = (world or make_world()).tables() | replaced
    return report_content(tables, "memory/", 3, "2026-11-22T02:00Z")


def hostile_world() -> World:
    world = World(texts=True)
    world.text = lambda number: HOSTILE[number % len(HOSTILE)]  # type: ignore[method-assign]
    write = world.write
    world.write = lambda name, kind, n, reason, others=(): write(name, kind, n, HOSTILE[0] + reason, others)  # type: ignore[method-assign,misc]
    for _ in range(6):
        world.advance()
    return world


def test_columns_of_concepts_are_those_of_the_table() -> None:
    world = make_world()
    found, tables = made(world), world.tables()
    rows, shown = tables["concepts"].to_pylist(), found["concepts"]
    labels = label_concepts(tables["bindings"], tables["episodes"])
    assert shown["id"] == [str(row["concept_id"]) for row in rows]
    assert shown["label"] == [" ".join(labels[row["concept_id"]]) for row in rows]
    assert shown["exemplars"] == [list(dict.fromkeys(row["exemplar_texts"])) for row in rows]
    assert [("active", "proto", "retired")[state] for state in shown["state"]] == [row["state"] for row in rows]
    for name in ("n_episodes", "strength_ppm", "n_replays", "idle_cycles", "born_cycle"):
        assert shown[name] == [row[name] for row in rows]
    assert shown["coherence"] == pytest.approx([row["coherence"] for row in rows], abs=1e-4)
    assert {len(column) for column in shown.values()} == {len(rows)}
    facts = found["facts"]
    assert facts["n_concepts"] == Counter(row["state"] for row in rows)
    assert (facts["n_episodes"], facts["n_bound"]) == (len(world.times), len(world.times))
    assert (facts["as_of"], facts["cycle"]) == ("2026-01-13T00:00:00+00:00", 12)


def test_bins_hold_every_concept() -> None:
    world = make_world(20)
    found, rows = made(world), world.tables()["concepts"].to_pylist()
    edges = found["sizes"]["edges"]
    assert found["sizes"]["counts"] == [
        sum(low <= row["n_episodes"] < 2 * low for row in rows) for low in edges[: len(found["sizes"]["counts"])]
    ]
    assert sum(found["sizes"]["counts"]) == len(rows)
    lows = np.array(found["coherences"]["edges"])
    owners = [int(np.searchsorted(lows, row["coherence"], "right")) - 1 for row in rows]
    assert found["coherences"]["counts"] == [owners.count(place) for place in range(len(lows) - 1)]
    sizes = [row["n_episodes"] for row in rows]
    assert found["sizes"]["quartiles"] == pytest.approx(np.percentile(sizes, [25, 50, 75]).tolist())


@given(st.lists(st.integers(1, 70), min_size=1, max_size=40))
def test_sizes_are_binned_by_powers_of_two(sizes: list[int]) -> None:
    found = content_module._size_bins(pa.chunked_array([pa.array(sizes, pa.int64())]))
    bins = dict(zip(found["edges"], found["counts"], strict=False))
    assert {low: n for low, n in bins.items() if n} == Counter(2 ** (size.bit_length() - 1) for size in sizes)


def test_the_hierarchy_refers_to_concepts_by_their_row() -> None:
    world = make_world()
    tables, found = world.tables(), made(world)
    n = tables["concepts"].num_rows
    names = tables["concepts"]["concept_id"].to_pylist() + tables["hierarchy"]["node_id"].to_pylist()
    for row, node in enumerate(tables["hierarchy"].to_pylist()):
        shown = found["hierarchy"]
        assert (names[shown["left"][row]], names[shown["right"][row]]) == (node["left_id"], node["right_id"])
        assert max(shown["left"][row], shown["right"][row]) < n + row
    assert sorted(place for place in found["tree"]["concept"] if place >= 0) == list(range(n))


def test_lineage_has_every_count_and_the_newest_events(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    monkeypatch.setattr(content_module, "_MAX_EVENTS", 20)
    found = made(world)
    loud = [row for row in world.journal if row["kind"] not in {"grew", "shrank"}]
    events = found["events"]
    assert events["n_left_out"] == len(loud) - 20
    assert events["id"] == [str(row["concept_id"]) for row in loud[-20:]]
    assert [CHANGE_KINDS[kind] for kind in events["kind"]] == [row["kind"] for row in loud[-20:]]
    assert events["others"] == [[str(other) for other in row["other_ids"]] for row in loud[-20:]]
    names = found["concepts"]["id"]
    assert [names[row] if row >= 0 else None for row in events["concept"]] == [
        name if name in names else None for name in events["id"]
    ]
    for kind, counts in zip(found["cycles"]["kinds"], found["cycles"]["counts"], strict=True):
        assert sum(counts) == sum(row["kind"] == kind for row in world.journal)


def test_decay_is_what_is_left_of_the_strength_by_age() -> None:
    world = make_world(50)
    decay, bindings = made(world)["decay"], world.tables()["bindings"].to_pylist()
    now = world.tables()["cycle"]["as_of"][0].as_py()
    for at, age in enumerate(decay["age_days"]):
        shares = [
            row["strength"] / row["initial"]
            for row in bindings
            if age <= (now - row["touched"]).total_seconds() / 86_400 < age + decay["width_days"]
        ]
        assert decay["n"][at] == len(shares)
        assert decay["left"][at] == pytest.approx(np.quantile(shares, [0.1, 0.5, 0.9]).tolist(), abs=1e-4)
    assert sum(decay["n"]) == len(bindings)
    assert len(decay["n"]) <= 30


def test_what_was_refused_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_module, "_MAX_REFUSED_OF_A_REASON", 2)
    reasons = ["zero_vector"] * 3 + ["null_id"] * 5
    columns = {"file": ["a"] * 8, "row_number": list(range(8)), "episode_id": [None] * 8, "reason": reasons}
    found = made(quarantine=pa.table(columns | {"detail": ["why"] * 8}))["quarantine"]
    assert list(found["counts"].items()) == [("null_id", 5), ("zero_vector", 3)]
    assert [(row["reason"], row["row_number"]) for row in found["rows"]] == [
        ("zero_vector", 0),
        ("zero_vector", 1),
        ("null_id", 3),
        ("null_id", 4),
    ]


def test_phases_have_their_time_and_memory() -> None:
    report = pa.table(
        {"isa": ["avx2"], "read_s": [1.5], "read_bytes": [7], "commit_s": [0.5], "peak_memory_bytes": [9]}
    )
    run = made(report=report)["run"]
    assert run["phases"] == [
        {"name": "read", "seconds": 1.5, "bytes": 7},
        {"name": "commit", "seconds": 0.5, "bytes": None},
    ]
    assert run["facts"] == {"isa": "avx2", "peak_memory_bytes": 9}


@pytest.mark.parametrize("settings", [{"n_cycles": 0}, {"n_cycles": 1}, {"texts": False}, {"string_ids": False}])
def test_any_store_has_a_page(settings: dict[str, Any]) -> None:
    page = Page(render_page(made(make_world(**settings))))
    assert json.loads(page.raw["application/json"])["facts"]["version"] == 3


def test_the_page_of_a_store_is_that_of_its_tables(tmp_path: Path) -> None:
    world = make_world()
    commit_version(tmp_path, {"moments": version_tables()["moments"], **world.tables()}, slot="night")
    store = ConceptStore.open(tmp_path)
    assert store_content(store) == report_content(world.tables(), store.uri, 1, "night")


def test_equal_stores_have_equal_pages() -> None:
    assert render_page(made()) == render_page(made())


def test_no_text_can_break_out_of_the_page() -> None:
    hostile = hostile_world()
    content = report_content(hostile.tables(), f"s3://{HOSTILE[0]}", 3, HOSTILE[1])
    text = render_page(content)
    page, plain = Page(text), Page(render_page(made()))
    assert page.tags[1:] == plain.tags[1:] or [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert json.loads(page.raw["application/json"]) == json.loads(json.dumps(content))
    assert not re.search(r"[<>&\u2028\u2029]", page.raw["application/json"])
    assert page.raw["script"] == plain.raw["script"]


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(), max_size=40), st.text(st.characters(), max_size=40))
def test_any_text_comes_back_as_it_was(store: str, slot: str) -> None:
    content = CONTENT | {"facts": CONTENT["facts"] | {"store": store, "slot": slot}}
    page = Page(render_page(content))
    facts = json.loads(page.raw["application/json"])["facts"]
    assert (facts["store"], facts["slot"]) == (store, slot)


CONTENT = made(make_world(3))


def test_the_policy_lets_this_script_and_style_run_and_nothing_be_fetched() -> None:
    page = Page(render_page(made()))
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules["default-src"] == "'none'"
    for rule, name in (("script-src", "script"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(page.raw[name].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    addresses = [value for _, attrs in page.tags for key, value in attrs.items() if key in {"src", "href", "action"}]
    assert all(value is not None and value.startswith("#") for value in addresses)
    targets = {attrs.get("id") for _, attrs in page.tags}
    assert {(value or "")[1:] for value in addresses} <= targets
    assert not any(key.startswith("on") or key == "style" for _, attrs in page.tags for key in attrs)


def test_the_scripts_never_parse_markup_and_never_fetch() -> None:
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.js")))
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in scripts
    for word in (
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "WebSocket",
        "EventSource",
        "sendBeacon",
        "new Worker",
        "Image(",
    ):
        assert word not in scripts
    addresses = re.findall(r"https?://[^\"'`]*", scripts)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    style = (SOURCES / "page.css").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import", style)


def test_every_script_is_part_of_the_page() -> None:
    page = Page(render_page(made()))
    for path in SOURCES.glob("*.js"):
        assert path.read_text(encoding="utf-8") in page.raw["script"]
