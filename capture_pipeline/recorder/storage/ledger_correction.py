"""Correction of a gap ledger after a scan of the recording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from capture_pipeline.recorder.ordering.gap_tracker import MessageTime
from capture_pipeline.recorder.storage.tail_losses import find_lost_ends, find_lost_starts
from capture_pipeline.sessions.account import Alteration
from capture_pipeline.sessions.continuity import Track
from capture_pipeline.sessions.models import Cause, Checkpoint, Gap

_Key = tuple[str, int]


@dataclass(frozen=True)
class ScanEvidence:
    """Result of a scan, and the counts of earlier recorders.

    Attributes:
        tracks: Ids by stream.
        last_times: Time of the last message by stream.
        gaps: Gaps in the scanned lines.
        first_ns: Capture time of the first line.
        marks: Checkpoints that count the expected messages.
        altered: Parts that another program removed or altered.
        is_damaged: Whether damaged bytes were removed.
    """

    tracks: Mapping[str, Track]
    last_times: Mapping[str, MessageTime]
    gaps: list[Gap]
    first_ns: int
    marks: list[Checkpoint] = field(default_factory=list)
    altered: list[Alteration] = field(default_factory=list)
    is_damaged: bool = False


def reconcile_gaps(gaps: list[Gap], evidence: ScanEvidence) -> list[Gap]:
    """Return the ledger that agrees with the recording.

    A gap is removed if the message after it was never written: the next message of its stream shows the
    actual gap. A gap that the ledger lacks is added, for instance after damage. Ids that the checkpoints
    count outside the remaining messages of a stream are added too.
    """
    ledger = {(gap.stream, gap.last_good_id): gap for gap in gaps if _is_in_data(gap, evidence.tracks)}
    for gap in evidence.gaps:
        existing = ledger.get((gap.stream, gap.last_good_id))
        if existing is None or existing.first_good_id != gap.first_good_id:
            ledger[gap.stream, gap.last_good_id] = _with_cause(
                gap, evidence, Cause.DISK if evidence.is_damaged else Cause.UNKNOWN
            )
    for mark in evidence.marks:
        for gap in (
            *find_lost_ends(mark, evidence.tracks, evidence.last_times),
            *find_lost_starts(mark, evidence.tracks, evidence.first_ns),
        ):
            existing = ledger.get((gap.stream, gap.last_good_id))
            if existing is None or existing.first_good_id < gap.first_good_id:
                ledger[gap.stream, gap.last_good_id] = _with_cause(gap, evidence, gap.cause)
    if evidence.altered or evidence.is_damaged:
        ledger = _without_contained(ledger)
    return sorted(ledger.values(), key=lambda gap: (gap.end_ns, gap.stream))


def _is_in_data(gap: Gap, tracks: Mapping[str, Track]) -> bool:
    track = tracks.get(gap.stream, Track())
    return gap.is_beyond(track.first, track.last) if gap.is_outside else gap.first_good_id <= track.last


def _with_cause(gap: Gap, evidence: ScanEvidence, otherwise: Cause) -> Gap:
    """Return the gap with the cause of an alteration at its time, or with the given cause."""
    for one in reversed(evidence.altered):
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
    """Remove gaps within a wider gap, because the messages around them are lost too."""
    return {key: gap for key, gap in gaps.items() if not _is_contained(gap, gaps.values())}


def _is_contained(gap: Gap, gaps: Iterable[Gap]) -> bool:
    return any(
        wide is not gap
        and wide.stream == gap.stream
        and wide.last_good_id <= gap.last_good_id
        and gap.first_good_id <= wide.first_good_id
        for wide in gaps
    )
