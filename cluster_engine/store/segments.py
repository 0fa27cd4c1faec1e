"""The log of a service as a directory of segments: which there are, and which to replay after a version of the store.

Owns names, headers and the choice. Refuses to know what the mutations mean.

Every actor of every start of the service, a *life*, has a chain of segments: ``<life>-<actor>-<number>.log``. The
first record of a segment is its header. Where the state at its beginning was, or was to be, committed as a version, the
header names that version and the batch (slot) that commits it. So a version that was published needs the segments from
the last such header on, and a version that was not, those of the version before: no mutation is lost, and none applied
twice, wherever a writer died.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cluster_engine.errors import StoreCorruptError
from cluster_engine.store import files
from cluster_engine.store.log import LogFile, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

LOG_DIRECTORY = "log"
"""Where the segments are, relative to the store."""
HEADER = "segment"
_NAME = re.compile(r"([0-9]{6,})-([0-9]{4,})-([0-9]{6,})\.log")
_PENDING = ".pending-"


class Committed(NamedTuple):
    """A version of the store and the batch that committed it."""

    version: int
    slot: str | None


class Place(NamedTuple):
    """Where a segment stands: its life, its number in the chain of its actor, and the actor."""

    life: int
    number: int
    actor: int

    @property
    def chain(self) -> tuple[int, int]:
        """The life and the actor."""
        return self.life, self.actor

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.life:06d}-{self.actor:04d}-{self.number:06d}.log"

    @property
    def pending_name(self) -> str:
        """The file's name until it is whole."""
        return f"{_PENDING}{self.name}"


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the log and its header.

    Attributes
    ----------
    path : Path
    place : Place
    slots : int
        Set of the slots whose mutations it has.
    follows : Committed or None
        What its beginning is the state of; None if it goes on from the segments before.
    before : mapping of str to int
        Names and lengths of the segments that were replayed before its first record was written.
    """

    path: Path
    place: Place
    slots: int
    follows: Committed | None
    before: Mapping[str, int]

    def header(self) -> Record:
        """Return the first record of the file."""
        return Record(
            HEADER,
            {
                "follows": None if self.follows is None else list(self.follows),
                "slots": f"{self.slots:x}",
                "before": dict(self.before),
            },
        )


def list_segments(directory: Path) -> list[Segment]:
    """Return the segments of a log, by life, then number.

    Raises
    ------
    StoreCorruptError
        A header is damaged.
    StoreFormatError
        A newer format.
    """
    matches = [match for path in directory.iterdir() if (match := _NAME.fullmatch(path.name))]
    places = sorted(Place(int(life), int(number), int(actor)) for life, actor, number in (m.groups() for m in matches))
    found = (_read_header(directory / place.name, place) for place in places)
    return [segment for segment in found if segment is not None]


def _read_header(path: Path, place: Place) -> Segment | None:
    """Return the segment, or None if it was removed meanwhile: it was needed no more."""
    try:
        with LogFile(path) as log:
            offset, record = next(log.records(), (0, None))
            if record is None or record.kind != HEADER:
                raise log.corrupt(offset, "the header of the segment is damaged")
            try:
                follows = record.fields["follows"]
                return Segment(
                    path,
                    place,
                    int(record.fields["slots"], 16),
                    None if follows is None else Committed(*follows),
                    record.fields["before"],
                )
            except (KeyError, TypeError, ValueError) as error:
                raise log.corrupt(offset, f"the header of the segment makes no sense ({error!r})") from error
    except FileNotFoundError:
        return None


def plan_replay(
    segments: Sequence[Segment], slots: int, committed: Committed | None
) -> tuple[list[tuple[Segment, int]], int]:
    """Choose what to replay of some slots after a version.

    Parameters
    ----------
    segments : sequence of Segment
        As `list_segments` returns them.
    slots : int
        Set of slots.
    committed : Committed or None
        The version; None matches nothing.

    Returns
    -------
    list of (Segment, int)
        In order, each with the set of slots to replay of it.
    int
        Set of the slots that have segments, but none that follows the version.
    """
    planned: list[tuple[Segment, int]] = []
    wanted = slots
    for segment in reversed(segments):
        if not segment.slots & wanted:
            continue
        planned.append((segment, segment.slots & wanted))
        if committed is not None and segment.follows == committed:
            wanted &= ~segment.slots
    unmatched = 0
    for _, held in planned:
        unmatched |= held & wanted
    return planned[::-1], unmatched


def require_whole(planned: Sequence[tuple[Segment, int]], lengths: Mapping[str, int]) -> None:
    """Refuse a log of which a part is missing that a later segment was written after.

    Parameters
    ----------
    planned : sequence of (Segment, int)
    lengths : mapping of str to int
        How much of each planned segment is valid.

    Raises
    ------
    StoreCorruptError
        Naming the file and the offset.
    """
    last_numbers: dict[tuple[int, int], int] = {}
    for segment, _ in planned:
        for name, n_bytes in segment.before.items():
            if lengths.get(name, n_bytes) < n_bytes:
                raise StoreCorruptError(
                    f"{segment.path.with_name(name)}, offset {lengths[name]}: the log ends here, and "
                    f"{segment.path.name} was begun when it had {n_bytes} bytes; restore the file from a copy"
                )
        chain = segment.place.chain
        if last_numbers.setdefault(chain, segment.place.number - 1) != segment.place.number - 1:
            raise StoreCorruptError(f"{segment.path}: the segment before it is missing; restore it from a copy")
        last_numbers[chain] = segment.place.number


def remove_segments(directory: Path, obsolete: Iterable[Segment]) -> None:
    """Remove segments that no version needs."""
    for segment in obsolete:
        files.remove_file(segment.path)
    files.sync_directory(directory)
