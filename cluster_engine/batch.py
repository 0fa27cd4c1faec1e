"""What a batch is, by which it is known when it is started again, and what it reports."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta, timezone
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

import pyarrow as pa

import native_simd
from cluster_engine.concepts.journal import CHANGE_KINDS
from cluster_engine.data.files import EXTENSIONS, find_files, fingerprint
from cluster_engine.progress import Spent, peak_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cluster_engine.concepts.known import Known
    from cluster_engine.config import Config
    from cluster_engine.cycle import CycleResult, Moment
    from cluster_engine.data.files import EpisodeFile, EpisodeInput
    from cluster_engine.data.quarantine import Quarantine
    from cluster_engine.shards.actor import ActorReport
    from cluster_engine.store.snapshot import ConceptStore

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_WHERE_ONLY = {"pool", "lease", "memory_limit_bytes", "keep_versions"}  # settings that change no result


@dataclass(frozen=True, slots=True)
class Batch:
    """What identifies a batch.

    Attributes
    ----------
    input : path or sequence of paths
    store : path or URI
    settings : Config
    slot : str or None
    as_of : datetime or None
    is_rebuild : bool
    since : datetime or None
        Of a batch that brings nothing, but deletes the episodes from before.
    """

    input: EpisodeInput
    store: str | Path
    settings: Config
    slot: str | None
    as_of: datetime | None = None
    is_rebuild: bool = False
    since: datetime | None = None

    def key(self, base: ConceptStore | None) -> str:
        """Return a name that is the same for the same batch on the same version, while no input file is written to."""
        facts = {
            "base": None if base is None else [base.version, base.manifest.content_sha256],
            "input": str(self.since) if self.since is not None else fingerprint(self._files()),
            "settings": self.settings.model_dump(mode="json", exclude=_WHERE_ONLY),
            "batch": [self.slot, str(self.as_of), self.is_rebuild, installed_version("cluster-engine")],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    def _files(self) -> list[EpisodeFile]:
        any_extension = ("",)
        return find_files(self.input, extensions=any_extension if self.settings.input.has_texts else EXTENSIONS)

    def as_of_us(self, known: Known) -> int:
        """Return the time of the cycle: as given, the slot's, or the newest episode's; never before the last cycle's.

        In microseconds since 1970.
        """
        time = self.as_of if self.as_of is not None else slot_time(self.slot)
        if time is not None:
            wanted_us = (time - _EPOCH) // _MICROSECOND
        else:
            times_us, is_known = known.roster.times_us()
            wanted_us = int(times_us[is_known].max(initial=known.last.as_of_us))
        return max(known.last.as_of_us, wanted_us)


def slot_time(slot: str | None) -> datetime | None:
    """Return the time that a slot's name is, in ISO 8601 with a zone; None if it is none."""
    if slot is None:
        return None
    try:
        time = datetime.fromisoformat(slot.replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch did.

    Attributes
    ----------
    version : int
        Version of the store that holds the result; 0 of a dry run.
    slot : str or None
    repeated : bool
        The slot had been committed before; nothing was changed, and the numbers below are those of the version.
    cycle : int
    as_of : datetime
        Time of the cycle.
    is_rebuild : bool
        All episodes were clustered from scratch.
    n_episodes, n_new_episodes, n_quarantined : int
        Episodes in the store now, those that were not there before, and rows refused in this batch.
    n_concepts, n_bindings : int
    changes : dict of str to int
        Entries of the journal by kind (born, grew, merged, absorbed, split, promoted, retired, ...).
    cut_distance : float
        Distance up to which episodes and concepts were joined.
    content_sha256 : str
        Digest of all tables but the report: equal results, equal digests. Empty for a dry run.
    resumed : list of str
        Steps that an earlier start of this batch had finished.
    spent : dict of str to Spent
        What each step took, in time and memory of the driver.
    """

    version: int
    slot: str | None
    repeated: bool
    cycle: int
    as_of: datetime
    is_rebuild: bool
    n_episodes: int
    n_new_episodes: int
    n_quarantined: int
    n_concepts: int
    n_bindings: int
    changes: dict[str, int]
    cut_distance: float
    content_sha256: str = ""
    resumed: list[str] = field(default_factory=list)
    spent: dict[str, Spent] = field(default_factory=dict)


def report_cycle(
    result: CycleResult,
    moment: Moment,
    known: Known,
    quarantine: Quarantine,
    *,
    spent: dict[str, Spent],
    resumed: list[str],
) -> BatchReport:
    """Return the report of a cycle that is not committed yet."""
    kinds = result.added["journal"]["kind"].to_pylist()
    return BatchReport(
        version=0,
        slot=moment.slot,
        repeated=False,
        cycle=moment.number,
        as_of=_EPOCH + moment.as_of_us * _MICROSECOND,
        is_rebuild=result.is_rebuild,
        n_episodes=len(known.roster),
        n_new_episodes=len(known.fresh),
        n_quarantined=len(quarantine),
        n_concepts=result.tables["concepts"].num_rows,
        n_bindings=result.tables["bindings"].num_rows,
        changes={kind: kinds.count(kind) for kind in CHANGE_KINDS if kind in kinds},
        cut_distance=result.cut_distance,
        resumed=resumed,
        spent=spent,
    )


_COPIED = tuple(
    fact.name
    for fact in fields(BatchReport)
    if fact.name not in {"version", "slot", "repeated", "changes", "content_sha256", "resumed", "spent"}
)


def report_table(report: BatchReport, actors: Sequence[ActorReport]) -> pa.Table:
    """Return the one table that may differ between equal runs."""
    row: dict[str, Any] = {
        "engine_version": installed_version("cluster-engine"),
        "isa": native_simd.active_isa(),
        "n_actors": len(actors),
        "n_threads": sum(actor.threads for actor in actors),
        **{name: getattr(report, name) for name in _COPIED},
        **{f"n_{kind}": report.changes.get(kind, 0) for kind in CHANGE_KINDS},
        "peak_memory_bytes": peak_bytes(),
        **{f"{step}_s": spent.seconds for step, spent in report.spent.items()},
        **{f"{step}_bytes": spent.peak_bytes for step, spent in report.spent.items()},
    }
    table = pa.table({name: [value] for name, value in row.items()})
    at = table.column_names.index("as_of")
    return table.set_column(at, "as_of", pa.array([report.as_of], pa.timestamp("us", "UTC")))


def repeated_report(version: ConceptStore) -> BatchReport:
    """Return the report of a batch that was committed before."""
    row = version.report().to_pylist()[0]
    return BatchReport(
        version=version.version,
        slot=version.slot,
        repeated=True,
        **{name: row[name] for name in _COPIED},
        changes={kind: row[f"n_{kind}"] for kind in CHANGE_KINDS if row[f"n_{kind}"]},
        content_sha256=version.manifest.content_sha256,
        spent={
            step: Spent(row[f"{step}_s"], row[f"{step}_bytes"])
            for step in (name.removesuffix("_s") for name in row if name.endswith("_s"))
            if f"{step}_bytes" in row
        },
    )
