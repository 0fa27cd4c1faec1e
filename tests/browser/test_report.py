"""The report in a real browser: it opens, answers and stays alone, with many concepts and with hostile texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lifecycles import World, make_world
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from cluster_engine.report.content import report_content
from cluster_engine.report.page import render_page

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Browser

N_MANY = 10_000
MAX_ELEMENTS = 4_000  # of the page: rows in view, drawings, some tables
MAX_ROWS = 60  # of the tree that exist at once
HOSTILE = [
    "</script><script>window.broken = 1</script>",
    "<img src='http://127.0.0.1:9/x' onerror='window.broken = 1'>",
    "<style>body { display: none }</style>",
    "<!--<script>",
    "\u202eright to left\u202c \u0000 &lt;b&gt;",
]


def write(world: World, path: Path) -> tuple[Path, dict[str, Any]]:
    content = report_content(world.tables(), str(path.parent), 1, "night")
    path.write_text(render_page(content), encoding="utf-8", newline="\n")
    return path, content


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return write(make_world(30, n_topics=60), tmp_path_factory.mktemp("small") / "report.html")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    world = World(n_topics=2_000, dimension=32, cycle=1)
    for _ in range(N_MANY):
        world.bear(4)
    for _ in range(30):
        world.advance(births=9, growths=200, merges=3, splits=4, retirements=3)
    return write(world, tmp_path_factory.mktemp("many") / "report.html")


@pytest.fixture
def page(browser: Browser, small: tuple[Path, dict[str, Any]]) -> Browser:
    browser.open(small[0])
    return browser


def shown_ids(browser: Browser) -> list[str]:
    return browser.script("return [...document.querySelectorAll('#tree .branch')].map(row => row.id)")


def test_it_opens_alone_and_without_complaint(page: Browser, small: tuple[Path, dict[str, Any]]) -> None:
    page.wait(lambda: page.all("#dendrogram-figure svg") and page.all("#decay-figure svg") and page.all("#sizes svg"))
    assert page.complaints() == []
    assert page.requests() == [small[0].as_uri()]
    assert page.text("#store") == str(small[0].parent)
    facts = page.text("#facts")
    for name in ("version", "slot", "cycle"):
        assert str(small[1]["facts"][name]) in facts


def test_many_concepts_open_quickly(
    browser: Browser, many: tuple[Path, dict[str, Any]], record_property: pytest.RecordProperty
) -> None:
    n = len(many[1]["concepts"]["id"])
    assert n >= N_MANY
    browser.open(many[0])
    browser.wait(lambda: browser.all("#dendrogram-figure svg") and browser.all("#timeline svg"))
    ready_ms = float(browser.script("return document.documentElement.dataset.readyMs"))
    n_bytes = many[0].stat().st_size
    record_property("ready_ms", ready_ms)
    record_property("n_bytes", n_bytes)
    print(f"{n:,} concepts, {n_bytes / 1e6:.2f} MB: ready after {ready_ms:.0f} ms")  # noqa: T201  # a figure, not a check
    assert browser.script("return document.querySelectorAll('*').length") < MAX_ELEMENTS
    assert browser.complaints() == []
    assert browser.requests() == [many[0].as_uri()]
    browser.one("#open-all").click()
    assert len(shown_ids(browser)) < MAX_ROWS
    last = browser.script(
        "const tree = document.getElementById('tree'); tree.scrollTop = tree.scrollHeight;return tree.scrollHeight / 46"
    )
    assert last >= n
    browser.wait(
        lambda: (
            browser.script("return [...document.querySelectorAll('#tree .branch')].at(-1).dataset.place")
            == str(round(last) - 1)
        )
    )
    assert len(shown_ids(browser)) < MAX_ROWS
    assert browser.script("return document.querySelectorAll('*').length") < MAX_ELEMENTS


def test_a_search_finds_what_the_texts_say(browser: Browser, many: tuple[Path, dict[str, Any]]) -> None:
    browser.open(many[0])
    concepts = many[1]["concepts"]
    words = concepts["label"][17].split()[:2]
    haystacks = [
        "\n".join([name, label, *texts]).lower()
        for name, label, texts in zip(concepts["id"], concepts["label"], concepts["exemplars"], strict=True)
    ]
    want = [row for row, text in enumerate(haystacks) if all(word in text for word in words)]
    box = browser.one("#query")
    box.send_keys(" ".join(words).upper())
    browser.wait(lambda: browser.text("#found").startswith(f"{len(want):,} of "))
    rows = browser.texts("#tree .branch:not([aria-expanded])")
    assert rows
    assert all(any(word in row.lower() for word in words) for row in rows)
    assert {
        mark.lower() for mark in browser.script("return [...document.querySelectorAll('mark')].map(m => m.textContent)")
    } == set(words)
    box.clear()
    box.send_keys(concepts["id"][-1])
    browser.wait(lambda: browser.text("#found").startswith("1 of "))
    box.clear()
    box.send_keys("no concept has this")
    browser.wait(lambda: browser.text("#found").startswith("0 of "))
    assert "No concept is like that." in browser.text("#tree")
    assert browser.complaints() == []


def test_the_tree_obeys_the_keyboard(page: Browser) -> None:
    page.one("#close-all").click()
    closed = shown_ids(page)
    tree = page.one("#tree")
    page.script("arguments[0].focus()", tree)
    tree.send_keys(Keys.HOME)
    first = page.one("#" + closed[0])
    assert tree.get_attribute("aria-activedescendant") == closed[0]
    assert (first.get_attribute("aria-expanded"), first.get_attribute("aria-level")) == ("false", "1")
    tree.send_keys(Keys.ARROW_RIGHT)
    opened = shown_ids(page)
    assert len(opened) > len(closed)
    assert page.one("#" + closed[0]).get_attribute("aria-expanded") == "true"
    tree.send_keys(Keys.ARROW_RIGHT)
    inner = tree.get_attribute("aria-activedescendant")
    assert inner == opened[1]
    assert page.one(f"#{inner}").get_attribute("aria-level") == "2"
    tree.send_keys(Keys.ARROW_LEFT)  # it is closed: to its group
    assert tree.get_attribute("aria-activedescendant") == closed[0]
    tree.send_keys(Keys.ARROW_LEFT)
    assert shown_ids(page) == closed
    tree.send_keys(Keys.END)
    assert tree.get_attribute("aria-activedescendant") == closed[-1]


def test_a_chosen_concept_shows_its_texts_and_what_happened(page: Browser, small: tuple[Path, dict[str, Any]]) -> None:
    concepts, events = small[1]["concepts"], small[1]["events"]
    row = next(row for row, name in enumerate(concepts["id"]) if events["id"].count(name) > 1)
    page.one("#query").send_keys(concepts["id"][row])
    page.wait(lambda: page.text("#found").startswith("1 of "))
    page.one("#tree .branch:not([aria-expanded])").click()
    page.wait(lambda: concepts["id"][row] in page.text("#detail"))
    assert page.texts("#detail blockquote") == concepts["exemplars"][row]
    log = page.texts("#detail .log li")
    own = [at for at, name in enumerate(events["id"]) if name == concepts["id"][row]]
    assert len(log) >= len(own)
    for at in own:
        assert any(line.startswith(f"Cycle {events['cycle'][at]}:") and events["reason"][at] in line for line in log)
    assert page.one("#tree [aria-selected=true]")


def test_states_and_orders(page: Browser, small: tuple[Path, dict[str, Any]]) -> None:
    concepts = small[1]["concepts"]
    Select(page.one("#state")).select_by_value("retired")
    page.wait(lambda: page.text("#found").startswith(f"{concepts['state'].count(2):,} of "))
    Select(page.one("#state")).select_by_value("")
    Select(page.one("#order")).select_by_value("coherence")
    page.wait(lambda: len(page.texts("#tree .gauge")) > 5)
    numbers = [float(text) for text in page.texts("#tree .gauge")]
    assert numbers == sorted(numbers)
    assert page.one("#tree .branch").get_attribute("aria-setsize") == str(len(concepts["id"]))
    assert page.complaints() == []


def test_a_branch_of_the_dendrogram_opens_and_closes(page: Browser) -> None:
    page.wait(lambda: page.all("#dendrogram-figure .tip"))
    tips = len(page.all("#dendrogram-figure .tip"))
    assert 2 <= tips <= 36
    square = page.one("#dendrogram-figure .tip[aria-label^='Open']")
    name = square.get_attribute("aria-label")
    page.script("arguments[0].focus()", square)
    square.send_keys(Keys.ENTER)
    page.wait(lambda: len(page.all("#dendrogram-path button")) == 1)
    assert page.text("#dendrogram-path strong") in str(name)
    page.one("#dendrogram-path button").click()
    page.wait(lambda: not page.all("#dendrogram-path button"))
    assert len(page.all("#dendrogram-figure .tip")) == tips


def test_the_map_is_drawn_and_moves(page: Browser) -> None:
    picture = "return document.getElementById('map-canvas').toDataURL()"
    blank = page.script("return document.createElement('canvas').toDataURL()")
    page.wait(lambda: len(page.script(picture)) > 10 * len(blank))
    whole = page.script(picture)
    page.script("document.getElementById('map-canvas').scrollIntoView({ block: 'center' })")
    page.one("#map-in").click()
    page.one("#map-canvas").send_keys("+", Keys.ARROW_LEFT)
    assert page.script(picture) != whole
    page.one("#map-reset").click()
    assert page.script(picture) == whole
    assert len(page.all("#map-legend li")) > 1
    assert page.complaints() == []


def test_a_cycle_says_what_happened_and_why(page: Browser, small: tuple[Path, dict[str, Any]]) -> None:
    events = small[1]["events"]
    slider = page.one("#timeline-tools input")
    page.script("arguments[0].focus()", slider)
    slider.send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    page.wait(lambda: page.text("#timeline-words").startswith("cycle 2,"))
    rows = page.texts("#events tbody tr")
    want = [at for at, cycle in enumerate(events["cycle"]) if cycle == 2]
    assert len(rows) == len(want)
    for row, at in zip(rows, want, strict=True):
        assert events["reason"][at] in row


def test_hostile_texts_stay_texts(browser: Browser, tmp_path: Path) -> None:
    world = World()
    world.text = lambda number: HOSTILE[number % len(HOSTILE)]  # type: ignore[method-assign]
    for _ in range(5):
        world.advance()
    for row in world.journal:
        row["reason"] = HOSTILE[0]
    path, content = write(world, tmp_path / "report.html")
    browser.open(path)
    browser.one("#open-all").click()
    assert browser.texts("#detail blockquote")
    assert HOSTILE[0] in browser.text("#tree") + browser.text("#detail")
    assert HOSTILE[0] in browser.text("#events")
    assert browser.script("return [window.broken ?? null, document.images.length, document.scripts.length]") == [
        None,
        0,
        2,
    ]
    assert browser.script("return document.querySelectorAll('style').length") == 1
    assert browser.one("#tree").is_displayed()
    assert browser.requests() == [path.as_uri()]
    assert browser.complaints() == []
    assert content["concepts"]["exemplars"]


CONTRAST = """
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!colour.endsWith(", 0)")) return colour;
  }
};
const low = [];
for (const node of document.querySelectorAll("body *")) {
  if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
  if (!node.checkVisibility() || node.closest("script, style")) continue;
  const style = getComputedStyle(node);
  const ink = node.closest("svg") ? style.fill : style.color;
  const [a, b] = [luminance(ink), luminance(ground(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) low.push(`${node.tagName} ${node.className.baseVal ?? node.className} ${ratio.toFixed(2)}`);
}
return [...new Set(low)];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_both_schemes(page: Browser, scheme: str) -> None:
    page.prefer(scheme)
    page.wait(lambda: page.all("#dendrogram-figure svg"))
    is_dark = page.script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((c) => c < 64)")
    assert is_dark == (scheme == "dark")
    assert page.script(CONTRAST) == []  # WCAG 2.2, 1.4.3
    page.prefer("light")


def test_controls_have_names(page: Browser) -> None:
    page.wait(lambda: page.all("#dendrogram-figure svg") and page.all("#timeline svg"))
    nameless = page.script(
        "return [...document.querySelectorAll('button, input, select, [role], nav, section, aside')].filter((node) =>"
        " !(node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.labels?.length"
        "   || node.textContent.trim() || node.getAttribute('role') === 'presentation')).map((node) => node.outerHTML)"
    )
    assert nameless == []
    assert page.script("return document.documentElement.lang") == "en"
    assert len({row.get_attribute("id") for row in page.all("[id]")}) == len(page.all("[id]"))


@pytest.mark.parametrize("settings", [{"n_cycles": 0}, {"n_cycles": 1, "texts": False}])
def test_a_store_with_little_in_it_has_a_page(browser: Browser, settings: dict[str, Any], tmp_path: Path) -> None:
    path, _ = write(make_world(**settings), tmp_path / "report.html")
    browser.open(path)
    browser.wait(lambda: browser.all("#sizes svg") and browser.all("#run-tables table"))
    assert browser.complaints() == []
