"""Commands that go back to a version, or let versions and episodes go."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path  # noqa: TC003  # Typer reads the annotations
from typing import Annotated, Any

import typer

from cluster_engine import terminal
from cluster_engine.cli.app import Json, Store, app, make_console, print_json
from cluster_engine.cli.batch import DryRun, parse_time, run_told, show_preview
from cluster_engine.config import Config, load_config
from cluster_engine.driver import preview
from cluster_engine.driver import retain as run_retention
from cluster_engine.errors import ConfigError
from cluster_engine.store.retention import remove_versions
from cluster_engine.store.snapshot import ConceptStore
from cluster_engine.undo import undo as go_back


@app.command()
def undo(
    *,
    store: Store,
    to: Annotated[int | None, typer.Option(help="Version to go back to; by default before the last change.")] = None,
    as_json: Json = False,
) -> None:
    """Make the version before the last change the current one again. What was undone stays a version."""
    version = go_back(store, to=to)
    restored = ConceptStore.open(store, version=version)
    digest = restored.manifest.content_sha256
    if as_json:
        print_json({"store": restored.uri, "version": version, "content_sha256": digest})
    else:
        make_console().print(f"version {version} of {restored.uri}: content sha256 {digest[:12]}", markup=False)


@app.command()
def retain(
    *,
    store: Store,
    since: Annotated[
        str | None, typer.Option(help="Delete the episodes from before this time, ISO 8601; evergreen ones stay.")
    ] = None,
    versions: Annotated[int | None, typer.Option(min=1, help="Remove all but so many of the newest versions.")] = None,
    slot: Annotated[str | None, typer.Option(help="Name of the batch that deletes episodes.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file.")] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete old episodes, or remove old versions: the only way that either goes.

    Versions before the one that this makes still have the episodes; remove them with --versions.
    """
    if since is None and (versions is None or dry_run):
        raise ConfigError("give --since, --versions, or both; --dry-run goes with --since")
    facts: dict[str, Any] = {}
    if since is not None:
        time, settings = parse_time(since, "--since"), load_config(config) if config is not None else Config()
        if dry_run:
            found = run_told(store, partial(preview, [], store, settings, slot=slot, since=time))
            show_preview(found, store, as_json=as_json)
            return
        report = run_told(store, partial(run_retention, store, time, settings, slot=slot))
        facts |= asdict(report)
        if not as_json:
            make_console().print(terminal.batch_summary(report, store))
    if versions is not None:
        facts["removed_versions"] = remove_versions(store, versions)
        if not as_json:
            make_console().print(f"{len(facts['removed_versions'])} versions were removed", markup=False)
    if as_json:
        print_json(facts)
