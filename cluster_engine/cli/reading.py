"""Commands that read a store."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from cluster_engine import lookup, terminal
from cluster_engine.cli.app import Json, Store, Version, app, make_console, print_json
from cluster_engine.concepts.hierarchy import HierarchyNode
from cluster_engine.dendrogram import Dendrogram
from cluster_engine.errors import ConfigError, InputError
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cluster_engine.lookup import Record


@app.command()
def search(
    *,
    store: Store,
    vector_file: Annotated[Path | None, typer.Option(help="File with one vector.", metavar="FILE.npy")] = None,
    query_row: Annotated[
        tuple[str, int] | None, typer.Option(help="File of episodes, and a row of it, from 0.", metavar="FILE ROW")
    ] = None,
    like: Annotated[str | None, typer.Option(help="An episode of the store.", metavar="EPISODE_ID")] = None,
    vector_column: Annotated[str, typer.Option(help="Column of vectors, for --query-row.")] = "vector",
    k: Annotated[int, typer.Option("-k", min=1, help="How many concepts.")] = 10,
    version: Version = None,
    as_json: Json = False,
) -> None:
    """Find the concepts nearest to a vector, by cosine."""
    if [vector_file, query_row, like].count(None) != 2:
        raise ConfigError("give one of --vector-file, --query-row and --like")
    opened = ConceptStore.open(store, version=version)
    vector: NDArray[Any]
    if vector_file is not None:
        vector = lookup.read_vector_file(vector_file)
    elif query_row is not None:
        vector = lookup.read_row_vector(*query_row, vector_column)
    else:
        vector = lookup.episode_vector(opened, str(like))
    found = lookup.nearest_concepts(opened, vector, k)
    if as_json:
        print_json({"store": opened.uri, "version": opened.version, "concepts": found})
    else:
        make_console().print(terminal.concept_table(found))


@app.command()
def show(
    *,
    store: Store,
    concept_id: Annotated[int | None, typer.Argument(metavar="[CONCEPT_ID]", help="One concept.")] = None,
    version: Version = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
    dendrogram: Annotated[
        Path | None, typer.Option(help="Draw the hierarchy of the largest concepts.", metavar="FILE.png|svg|pdf")
    ] = None,
    newick: Annotated[
        Path | None, typer.Option(help="Write the tree of the concepts as Newick text.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the concepts of a store, or one concept with its episodes."""
    if concept_id is not None and (dendrogram or newick) is not None:
        raise ConfigError("--dendrogram and --newick do not go with CONCEPT_ID")
    opened = ConceptStore.open(store, version=version)
    facts = {"store": opened.uri, "version": opened.version, "slot": opened.slot}
    if concept_id is not None:
        detail = lookup.concept_detail(opened, concept_id, limit)
        _show_concept(lookup.add_labels(opened, [detail])[0], facts, as_json=as_json)
    else:
        if dendrogram is not None:
            facts |= {"dendrogram": str(dendrogram), "n_drawn": _draw(opened, dendrogram)}
        if newick is not None:
            facts |= {"newick": str(newick), "n_leaves": _write_newick(opened, newick)}
        _show_concepts(opened, limit, facts, as_json=as_json)


def _show_concept(concept: Record, facts: Record, *, as_json: bool) -> None:
    if as_json:
        print_json(facts | {"concept": concept})
        return
    console = make_console()
    console.print(terminal.concept_table([concept]))
    for table in terminal.detail_tables(concept):
        console.print()
        console.print(table)


def _show_concepts(store: ConceptStore, limit: int, facts: Record, *, as_json: bool) -> None:
    concepts = lookup.add_labels(store, lookup.concept_records(store, limit))
    if as_json:
        print_json(facts | {"n_concepts": store.manifest.n_rows("concepts"), "concepts": concepts})
        return
    console = make_console()
    console.print(terminal.concept_table(concepts))
    n_concepts, n_episodes = (store.manifest.n_rows(name) for name in ("concepts", "episodes"))
    console.print(f"{len(concepts):,} of {n_concepts:,} concepts, {n_episodes:,} episodes", style="dim")
    if "dendrogram" in facts:
        console.print(f"dendrogram of {facts['n_drawn']:,} concepts: {facts['dendrogram']}", markup=False)
    if "newick" in facts:
        console.print(f"tree of {facts['n_leaves']:,} concepts: {facts['newick']}", markup=False)


def _draw(store: ConceptStore, path: Path) -> int:
    """Draw the hierarchy and return the number of concepts drawn."""
    try:
        from cluster_engine import plot  # noqa: PLC0415  # needs an extra, which this command alone asks for
    except ModuleNotFoundError as missing:
        raise ConfigError(f"drawing needs the plot extra: pip install 'cluster-engine[plot]' ({missing})") from missing
    if path.suffix not in plot.FORMATS:
        raise ConfigError(f"--dendrogram {path}: the name must end with one of {', '.join(plot.FORMATS)}")
    concepts = lookup.concept_records(store)
    if len(concepts) < 2:
        raise InputError(f"a dendrogram needs two concepts, and version {store.version} has {len(concepts)}")
    nodes = [HierarchyNode(**row) for row in store.hierarchy().to_pylist()]
    heading = f"{len(concepts):,} concepts of {store.manifest.n_rows('episodes'):,} episodes"
    try:
        return plot.draw_hierarchy(path, concepts, nodes, heading)
    except OSError as error:
        raise ConfigError(f"--dendrogram {path}: cannot be written: {error.strerror}") from error


def _write_newick(store: ConceptStore, path: Path) -> int:
    """Write the tree of the concepts, by their ids, and return their number."""
    tree = _concept_tree(store)
    try:
        with path.open("w", encoding="utf-8") as file:
            tree.to_newick(file)
    except OSError as error:
        raise ConfigError(f"--newick {path}: cannot be written: {error.strerror}") from error
    return tree.n


def _concept_tree(store: ConceptStore) -> Dendrogram:
    """Return the hierarchy as a dendrogram, or a forest, whose leaves are concepts; those retired only if joined."""
    nodes = [HierarchyNode(**row) for row in store.hierarchy().to_pylist()]
    states = {record["concept_id"]: record["state"] for record in lookup.concept_records(store)}
    joined = {side for node in nodes for side in (node.left_id, node.right_id)}
    concepts = [name for name in sorted(states) if name in joined or states[name] != "retired"]
    numbers = {name: number for number, name in enumerate([*concepts, *(node.node_id for node in nodes)])}
    n_leaves = [1] * len(concepts)
    rows = []
    for node in nodes:
        sides = sorted((numbers[node.left_id], numbers[node.right_id]))
        n_leaves.append(n_leaves[sides[0]] + n_leaves[sides[1]])
        rows.append([*sides, node.distance, n_leaves[-1]])
    return Dendrogram(np.array(rows, np.float64).reshape(-1, 4), concepts, n=len(concepts))


@app.command()
def report(
    *,
    store: Store,
    output: Annotated[Path, typer.Option(help="File to write.", metavar="FILE.html")],
    version: Version = None,
    as_json: Json = False,
) -> None:
    """Write a store as one HTML page: its concepts, how they came about, and how long the run took."""
    from cluster_engine.report.content import store_content  # noqa: PLC0415  # scikit-learn takes a second to import,
    from cluster_engine.report.page import render_page  # noqa: PLC0415  # which no other command needs

    opened = ConceptStore.open(store, version=version)
    page = render_page(store_content(opened))
    try:
        output.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from error
    n_bytes, n_concepts = output.stat().st_size, opened.manifest.n_rows("concepts")
    if as_json:
        facts = {"store": opened.uri, "version": opened.version, "slot": opened.slot}
        print_json(facts | {"report": str(output), "n_concepts": n_concepts, "n_bytes": n_bytes})
    else:
        words = f"{n_concepts:,} concepts of version {opened.version}: {output} ({n_bytes / 1e6:.1f} MB)"
        make_console().print(words, markup=False, highlight=False)
