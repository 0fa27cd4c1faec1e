"""How changes are shown to people: versions and cycles, the story of a concept, two versions side by side.

Owns the rendering. Refuses to know stores.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cluster_engine.concepts.journal import CHANGE_KINDS
from cluster_engine.terminal import day, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cluster_engine.concepts.difference import Change, Difference
    from cluster_engine.concepts.lineage import Cycle, Event
    from cluster_engine.lookup import Record

_VERBS = {
    "born": "was born",
    "split": "was split off from",
    "revived": "was revived",
    "promoted": "was promoted",
    "grew": "grew",
    "shrank": "shrank",
    "merged": "took in",
    "absorbed": "was absorbed by",
    "retired": "was retired",
    "dissolved": "was dissolved",
}
_STYLES = {"born": "green", "split": "green", "grown": "green", "gone": "red", "absorbed": "red", "shrunk": "yellow"}


def _table(*columns: str, title: str | None = None, numbers: frozenset[str] = frozenset()) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", expand=True)
    for name in columns:
        if name in {"about", "why", "what"}:
            table.add_column(name, ratio=1, overflow="fold" if name in {"why", "what"} else "ellipsis")
        else:
            table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    return table


def cycle_table(cycles: Sequence[Cycle]) -> Table:
    """Return what each cycle changed: concepts by kind of change, and episodes."""
    kinds = [kind for kind in CHANGE_KINDS if any(kind in cycle.counts for cycle in cycles)]
    numbers = frozenset({"cycle", "episodes", *kinds})
    table = _table("cycle", "as of", "slot", *kinds, "episodes", title="what each cycle changed", numbers=numbers)
    table.expand = False
    for cycle in cycles:
        lost = f" -{cycle.n_lost:,}" if cycle.n_lost else ""
        table.add_row(
            str(cycle.cycle),
            day(cycle.as_of),
            Text(shorten(cycle.slot or "-", 40)),
            *(f"{cycle.counts[kind]:,}" if kind in cycle.counts else "" for kind in kinds),
            f"+{cycle.n_gained:,}{lost}",
        )
    return table


def event_table(events: Sequence[Event], titles: Mapping[int, str], title: str, own: int | None = None) -> Table:
    """Return rows of the journal as sentences with their reasons; in the story of one concept, others are set in."""
    table = _table("cycle", "as of", "what", "why", title=title, numbers=frozenset({"cycle"}))
    for event in events:
        table.add_row(
            str(event.cycle),
            day(event.as_of),
            Text(("  " * event.depth) + _sentence(event, titles, own), style="dim" if event.depth else ""),
            Text(shorten(event.reason, 200), style="dim" if event.depth else ""),
        )
    return table


def _sentence(event: Event, titles: Mapping[int, str], own: int | None) -> str:
    subject, *names = ("it" if name == own else _named(name, titles) for name in (event.concept_id, *event.other_ids))
    others = ", ".join(names)
    link = " from" if others and event.kind == "born" else ""
    size = f" ({event.n_episodes:+,})" if event.n_episodes else ""
    return f"{subject} {_VERBS[event.kind]}{link} {others}".rstrip() + size


def _named(name: int, titles: Mapping[int, str]) -> str:
    return f"{name} [{shorten(titles[name], 40)}]" if name in titles else str(name)


def explanation(answer: Record) -> Group:
    """Return why a concept is there: its state, exemplars, story and neighbours."""
    concept, titles, events = answer["concept"], answer["titles"], answer["story"]
    if concept is None:
        became = answer["became"]
        where = f"it is now part of {_named(became, titles)}" if became is not None else "it is no more"
        return Group(
            Text(f"concept {answer['concept_id']}: {where}\n", style="bold"),
            event_table(events, titles, "its story", answer["concept_id"]),
        )
    words = " ".join(concept["label"]) or shorten(str(concept["exemplar_ids"][0]), 60)
    facts = (
        f"{concept['state']}: strength {concept['strength_ppm'] / 1e6:.3f}, {concept['n_replays']:,} replays, "
        f"idle for {concept['idle_cycles']:,} cycles; {concept['n_episodes']:,} episodes, "
        f"coherence {concept['coherence']:.3f}, joined at distance {concept['distance']:.3f}; "
        f"born in cycle {concept['born_cycle']:,} ({day(concept['born_time'])}), "
        f"last replay {day(concept['replay_time'])}, episodes from {day(concept['first_time'])} "
        f"to {day(concept['last_time'])}"
    )
    exemplars = _table("episode", "what", title="exemplars")
    texts = concept.get("exemplar_texts") or [None] * len(concept["exemplar_ids"])
    for name, text in zip(concept["exemplar_ids"], texts, strict=True):
        exemplars.add_row(Text(shorten(str(name), 50)), Text(shorten(text or "", 300)))
    nearest = _table("similarity", "concept", "about", title="nearest concepts", numbers=frozenset({"similarity"}))
    for row in answer["nearest"]:
        nearest.add_row(f"{row['similarity']:.3f}", str(row["concept_id"]), Text(titles[row["concept_id"]]))
    heading = Text.assemble((f"concept {answer['concept_id']}: {words}\n", "bold"), facts, "\n")
    story = event_table(events, titles, "its story", answer["concept_id"])
    return Group(heading, exemplars, Text(), story, Text(), nearest)


def difference_tables(difference: Difference, titles: Mapping[int, str], limit: int) -> Iterator[Table | Text]:
    """Yield the counts of two versions side by side, and the concepts that changed, the greatest change first.

    Parameters
    ----------
    difference : Difference
    titles : mapping of int to str
        What each concept is about.
    limit : int
        Rows of changes.
    """
    counts = _table("", "before", "after", "change", numbers=frozenset({"before", "after", "change"}))
    counts.expand = False
    for name in sorted({*difference.before, *difference.after}, key=lambda name: (name in _SUMS, name)):
        before, after = difference.before.get(name, 0), difference.after.get(name, 0)
        counts.add_row(
            name if name in _SUMS else f"{name} concepts", f"{before:,}", f"{after:,}", f"{after - before:+,}"
        )
    yield counts
    yield Text(
        f"\n{difference.n_bound:,} episodes bound, {difference.n_unbound:,} unbound, {difference.n_moved:,} moved; "
        f"{len(difference.changes):,} concepts changed, {difference.n_kept:,} did not\n" + _kinds(difference)
    )
    if not difference.changes:
        return
    numbers = frozenset({"before", "after", "gained", "lost"})
    table = _table("change", "concept", "before", "after", "gained", "lost", "state", "about", numbers=numbers)
    for change in difference.changes[:limit]:
        table.add_row(
            Text(_what(change), style=_STYLES.get(change.kind, "")),
            str(change.concept_id),
            *(f"{n:,}" for n in (change.n_before, change.n_after, change.n_gained, change.n_lost)),
            _states(change),
            Text(shorten(titles[change.concept_id], 100)),
        )
    yield table
    if len(difference.changes) > limit:
        yield Text(f"{limit:,} of {len(difference.changes):,} changes", style="dim")


def _kinds(difference: Difference) -> str:
    counts = Counter(change.kind for change in difference.changes if change.kind != "kept")
    return ", ".join(f"{n:,} {kind}" for kind, n in sorted(counts.items())) + "\n" if counts else ""


_SUMS = ("bindings", "episodes")


def _what(change: Change) -> str:
    if change.other_id is None:
        return change.kind
    return f"{change.kind} {'into' if change.kind == 'absorbed' else 'from'} {change.other_id}"


def _states(change: Change) -> str:
    if change.is_restated:
        return f"{change.state_before} -> {change.state_after}"
    return change.state_after or change.state_before or ""
