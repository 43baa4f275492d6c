"""A ledger brought in line with what a scan of the recording found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from capture_pipeline.recorder.ordering.gap_tracker import MessageTime
from capture_pipeline.recorder.storage.tail_losses import is_outside, lost_ends, lost_starts
from capture_pipeline.sessions.account import Alteration
from capture_pipeline.sessions.continuity import Track
from capture_pipeline.sessions.models import Cause, Checkpoint, Gap

_Key = tuple[str, int]


@dataclass(frozen=True)
class Evidence:
    """What a scan found, and what recorders had counted.

    Attributes:
        tracks: Ids by stream.
        last_times: When the last message of each stream came.
        gaps: Gaps in the lines that were scanned.
        first_ns: Capture time of the first line.
        marks: Checkpoints that count what should be there.
        altered: Parts that somebody removed or altered.
        is_damaged: Whether bytes had to be taken out.
    """

    tracks: Mapping[str, Track]
    last_times: Mapping[str, MessageTime]
    gaps: list[Gap]
    first_ns: int
    marks: list[Checkpoint] = field(default_factory=list)
    altered: list[Alteration] = field(default_factory=list)
    is_damaged: bool = False


def reconciled(gaps: list[Gap], found: Evidence) -> list[Gap]:
    """The ledger that agrees with the data.

    A gap whose later edge never reached the disk is removed, for the next message of that stream shows the true one. A gap that the ledger
    does not know, behind damage for instance, is added; so is what the marks count outside the messages that are left of a stream.
    """
    kept = {(gap.stream, gap.last_good_id): gap for gap in gaps if _is_in_data(gap, found.tracks)}
    for gap in found.gaps:
        known = kept.get((gap.stream, gap.last_good_id))
        if known is None or known.first_good_id != gap.first_good_id:
            kept[gap.stream, gap.last_good_id] = _with_cause(
                gap, found, Cause.DISK if found.is_damaged else Cause.UNKNOWN
            )
    for mark in found.marks:
        for gap in (
            *lost_ends(mark, found.tracks, found.last_times),
            *lost_starts(mark, found.tracks, found.first_ns),
        ):
            known = kept.get((gap.stream, gap.last_good_id))
            if known is None or known.first_good_id < gap.first_good_id:
                kept[gap.stream, gap.last_good_id] = _with_cause(gap, found, gap.cause)
    if found.altered or found.is_damaged:
        kept = _without_contained(kept)
    return sorted(kept.values(), key=lambda gap: (gap.end_ns, gap.stream))


def _is_in_data(gap: Gap, tracks: Mapping[str, Track]) -> bool:
    track = tracks.get(gap.stream, Track())
    return is_outside(gap, track.first, track.last) if gap.is_outside else gap.first_good_id <= track.last


def _with_cause(gap: Gap, found: Evidence, otherwise: Cause) -> Gap:
    """The gap with the cause of what was done to the recording at its time."""
    for one in reversed(found.altered):
        if gap.start_ns <= one.to_ns and gap.end_ns >= one.from_ns:
            return gap.model_copy(
                update={
                    "cause": one.cause,
                    "detail": f"{one.segment}: {one.detail}",
                    "recoverable": False,
                    "refill": None,
                }
            )
    return gap.model_copy(update={"cause": otherwise})


def _without_contained(gaps: Mapping[_Key, Gap]) -> dict[_Key, Gap]:
    """Gaps that do not lie within a wider one: what surrounded them is gone too."""
    return {key: gap for key, gap in gaps.items() if not _is_contained(gap, gaps.values())}


def _is_contained(gap: Gap, gaps: Iterable[Gap]) -> bool:
    return any(
        wide is not gap
        and wide.stream == gap.stream
        and wide.last_good_id <= gap.last_good_id
        and gap.first_good_id <= wide.first_good_id
        for wide in gaps
    )
