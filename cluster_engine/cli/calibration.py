"""The command that measures an embedding model."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from cluster_engine import terminal
from cluster_engine.cli.app import Json, app, make_console, print_json
from cluster_engine.data.columns import as_matrix
from cluster_engine.data.reading import sample_episodes
from cluster_engine.data.sampling import choose_rows
from cluster_engine.data.schema import ColumnNames
from cluster_engine.errors import ConfigError, InputError
from cluster_engine.linkage.calibration import MAX_SAMPLE, Calibration, Gate, Linked, calibrate
from cluster_engine.progress import Phase
from cluster_engine.store.snapshot import ConceptStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

_SAMPLE = 4_096
_HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """Vectors and times of some episodes, and how many there are in all."""

    vectors: NDArray[Any]
    times: pa.Array[Any]
    n_episodes: int


@app.command("calibrate")
def calibrate_model(
    *,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="PATH", help="File, directory, glob or URI; repeatable.")
    ] = None,
    store: Annotated[str | None, typer.Option(help="Episodes of a store instead.", metavar="DIR")] = None,
    sample: Annotated[int, typer.Option(min=3, max=MAX_SAMPLE, help="Episodes to compare, all with all.")] = _SAMPLE,
    distance: Annotated[float | None, typer.Option(help="A distance in use, to be judged.")] = None,
    half_life_h: Annotated[
        float | None, typer.Option("--half-life", help="Hours apart in which a similarity halves.", metavar="HOURS")
    ] = None,
    gate: Annotated[
        float | None, typer.Option(help="A threshold in use on the sigmoid of a similarity, to be judged.")
    ] = None,
    gate_slope: Annotated[float, typer.Option(help="Slope of that sigmoid.")] = 10.0,
    gate_midpoint: Annotated[float, typer.Option(help="Similarity at which it is one half.")] = 0.5,
    id_column: Annotated[str, typer.Option(help="Column of ids.")] = "id",
    vector_column: Annotated[str, typer.Option(help="Column of vectors.")] = "vector",
    time_column: Annotated[str, typer.Option(help="Column of times.")] = "time",
    as_json: Json = False,
) -> None:
    """Propose where to cut for the embedding model at hand, from the similarities of a sample."""
    if (inputs is None) == (store is None):
        raise ConfigError("give --input or --store")
    try:
        asked = None if gate is None else Gate(gate, gate_slope, gate_midpoint)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if half_life_h is not None and not half_life_h > 0:
        raise ConfigError(f"--half-life must be above 0, got {half_life_h!r}")
    columns = ColumnNames(id=id_column, vector=vector_column, time=time_column)
    found = _from_store(str(store), sample) if inputs is None else _from_files(inputs, columns, sample)
    has_times = half_life_h is not None and found.times.null_count < len(found.times)
    if has_times and found.times.null_count:
        raise InputError(f"decay needs times, and {found.times.null_count:,} of the sampled episodes have none")
    calibration = calibrate(
        found.vectors,
        times_us=found.times.to_numpy(zero_copy_only=False).astype(np.int64) if has_times else None,
        half_life_s=None if half_life_h is None else half_life_h * _HOUR_S,
        gate=asked,
        distance=distance,
    )
    if as_json:
        print_json({"n_episodes": found.n_episodes, **_record(calibration)})
        return
    console = make_console()
    for part in _report(calibration, found.n_episodes):
        console.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


def _from_files(inputs: list[str], columns: ColumnNames, n_rows: int) -> _Sample:
    with terminal.shown_progress(sys.stderr) as reporter:
        phase = Phase("read", 0, reporter)
        episodes, n_read = sample_episodes(inputs, n_rows, columns=columns, progress=phase.advance_to)
    return _Sample(episodes.vectors, episodes.times, n_read)


def _from_store(uri: str, n_rows: int) -> _Sample:
    table = ConceptStore.open(uri).episodes(["episode_id", "time", "vector"])
    chosen = table.take(choose_rows(table["episode_id"].combine_chunks(), n_rows))
    return _Sample(as_matrix(chosen["vector"]), chosen["time"].combine_chunks(), table.num_rows)


def _record(calibration: Calibration) -> dict[str, Any]:
    """Return what is told as JSON: quantiles by percent, no age that is infinite."""
    record = asdict(calibration)
    record["quantiles"] = {f"{100 * share:g}": value for share, value in calibration.quantiles.items()}
    for threshold in record["thresholds"]:
        age_s = threshold["longest_age_s"]
        threshold["longest_age_s"] = None if age_s is None or math.isinf(age_s) else age_s
    return {**record, "proposal": _proposal(calibration)}


def _proposal(calibration: Calibration) -> dict[str, dict[str, float]]:
    """Return the proposed sections of a configuration."""
    return {"cut": {"distance": round(calibration.thresholds[0].distance, 4)}}


def _report(calibration: Calibration, n_episodes: int) -> Iterator[str | Table]:
    yield (
        f"{calibration.n_sampled:,} of {n_episodes:,} episodes, all with all: mean similarity "
        f"{calibration.mean_similarity:.3f}\n"
    )
    yield _quantile_table(calibration)
    yield ""
    yield _threshold_table(calibration)
    if any(threshold.longest_age_s is not None for threshold in calibration.thresholds):
        yield "identical until: further apart in time, not even identical episodes are as similar as that"
    for warning in calibration.warnings:
        yield f"warning: {warning}"
    yield f"\n# {calibration.thresholds[0].rule}; for a configuration file (--config)"
    for section, values in _proposal(calibration).items():
        yield f"{section}:"
        yield from (f"  {name}: {value}" for name, value in values.items())


def _quantile_table(calibration: Calibration) -> Table:
    table = Table(title="similarity of pairs", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for share in calibration.quantiles:
        table.add_column(f"{100 * share:g} %", justify="right")
    table.add_row(*(f"{value:.3f}" for value in calibration.quantiles.values()))
    return table


def _threshold_table(calibration: Calibration) -> Table:
    table = Table(title="thresholds", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("rule")
    columns = ["distance", "cosine", "pairs linked", "with a neighbour"]
    has_ages = any(threshold.longest_age_s is not None for threshold in calibration.thresholds)
    is_timed = any(threshold.linked_in_time is not None for threshold in calibration.thresholds)
    columns += ["identical until"] * has_ages + ["pairs linked, decayed", "with a neighbour, decayed"] * is_timed
    for name in columns:
        table.add_column(name, justify="right")
    for threshold in calibration.thresholds:
        cells = [f"{threshold.distance:.3f}", f"{threshold.similarity:.3f}", *_shares(threshold.linked)]
        cells += [_age(threshold.longest_age_s)] * has_ages
        cells += _shares(threshold.linked_in_time) if is_timed else []
        table.add_row(threshold.rule, *cells)
    return table


def _shares(linked: Linked | None) -> list[str]:
    return ["", ""] if linked is None else [f"{linked.pairs:.3%}", f"{linked.neighbours:.1%}"]


def _age(age_s: float | None) -> str:
    if age_s is None:
        return ""
    return "always" if math.isinf(age_s) else f"{age_s / _HOUR_S:,.1f} h"
