"""Commands about how a store came to be what it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer

from cluster_engine import change_tables, lookup, terminal
from cluster_engine.cli.app import Json, Store, Version, app, make_console, print_json
from cluster_engine.concepts.difference import diff_concepts
from cluster_engine.concepts.lineage import read_events, summarise_cycles
from cluster_engine.errors import InputError
from cluster_engine.store.snapshot import ConceptStore


@app.command()
def history(
    *,
    store: Store,
    journal: Annotated[bool, typer.Option("--journal", help="Also what each cycle changed.")] = False,
    cycle: Annotated[int | None, typer.Option(help="Every change of one cycle, and why.")] = None,
    version: Version = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show: the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the versions of a store, and what its cycles changed."""
    opened = ConceptStore.open(store, version=version)
    if cycle is not None:
        _show_cycle(opened, cycle, limit, as_json=as_json)
        return
    versions = opened.history().to_pylist()[-limit:]
    cycles = summarise_cycles(opened.journal())[-limit:] if journal else []
    if as_json:
        told = {"cycles": [asdict(each) for each in cycles]} if journal else {}
        print_json({"store": opened.uri, "versions": versions, **told})
        return
    console = make_console()
    console.print(terminal.history_table(versions))
    if journal:
        console.print()
        console.print(change_tables.cycle_table(cycles))


def _show_cycle(store: ConceptStore, cycle: int, limit: int, *, as_json: bool) -> None:
    table = store.journal()
    events = read_events(table.filter(pc.equal(table["cycle"], pa.scalar(cycle, pa.int64()))))
    if not events:
        raise InputError(f"the journal of version {store.version} of {store.uri} has no cycle {cycle} that changed it")
    if as_json:
        print_json({"store": store.uri, "version": store.version, "events": [asdict(event) for event in events]})
        return
    titles = {record["concept_id"]: lookup.title(record) for record in lookup.concept_records(store)}
    console = make_console()
    console.print(change_tables.event_table(events[:limit], titles, f"cycle {cycle}, slot {events[0].slot or '-'}"))
    if len(events) > limit:
        console.print(f"{limit:,} of {len(events):,} changes", style="dim")


@app.command()
def explain(
    concept_id: Annotated[int, typer.Argument(metavar="CONCEPT_ID", help="A concept that is, or was.")],
    *,
    store: Store,
    version: Version = None,
    k: Annotated[int, typer.Option("-k", min=0, help="How many of the nearest concepts.")] = 5,
    as_json: Json = False,
) -> None:
    """Say why a concept is there: what it was born from, what changed it since, and what it is like."""
    opened = ConceptStore.open(store, version=version)
    answer = lookup.explain_concept(opened, concept_id, k)
    if as_json:
        answer["story"] = [asdict(event) for event in answer["story"]]
        print_json({"store": opened.uri, "version": opened.version, "slot": opened.slot, **answer})
    else:
        make_console().print(change_tables.explanation(answer))


@app.command()
def diff(
    before: Annotated[int, typer.Argument(metavar="A", help="A version.")],
    after: Annotated[int, typer.Argument(metavar="B", help="The version to compare it with.")],
    *,
    store: Store,
    limit: Annotated[int, typer.Option(min=1, help="Changes to show.")] = 50,
    as_json: Json = False,
) -> None:
    """Compare the concepts of two versions: born, gone, absorbed, split, grown and shrunk, and episodes that moved."""
    first, second = (ConceptStore.open(store, version=version) for version in (before, after))
    found = diff_concepts(_compared(first), _compared(second))
    titles = {
        record["concept_id"]: lookup.title(record)
        for opened in (first, second)
        for record in lookup.concept_records(opened)
    }
    if as_json:
        changes = [asdict(change) | {"about": titles[change.concept_id]} for change in found.changes]
        print_json({"store": second.uri, "versions": [before, after], **asdict(found), "changes": changes})
        return
    console = make_console()
    for part in change_tables.difference_tables(found, titles, limit):
        console.print(part)


def _compared(store: ConceptStore) -> dict[str, pa.Table]:
    return {
        "concepts": store.concepts(),
        "bindings": store.bindings(),
        "episodes": store.episodes(["episode_id"]),
    }
