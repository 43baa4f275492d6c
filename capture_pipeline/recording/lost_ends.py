"""Losses behind the last message of a stream: ids that a checkpoint knows to have been on the disk and that sound members hold no more.

No later message shows them, so that they get a line of the ledger of their own, marked `at_end`. The stream's next message, if one ever
comes, writes the line of the same `last_good_id` that supersedes it.
"""

from __future__ import annotations

from collections.abc import Mapping

from capture_pipeline.quality.continuity import Track
from capture_pipeline.recording.ledger import Edge, Moment, gap_between
from capture_pipeline.recording.models import Cause, Checkpoint, Gap

_DETAIL = "damaged or gone from the recording; nothing of the stream came after it"


def lost_ends(checkpoint: Checkpoint, tracks: Mapping[str, Track], last_of: Mapping[str, Moment]) -> list[Gap]:
    """The ledger's lines for what a checkpoint counted and a scan of the whole recording did not find, a line a stream.

    Args:
        checkpoint: The last one; what it counts had been fsynced.
        tracks: What the scan found, by stream.
        last_of: When the last message of each stream came, likewise.
    """
    found = []
    for stream, counted in checkpoint.tracks.items():
        end = Moment(counted["last_ns"], counted["last_event_us"] or None)
        start, track = last_of.get(stream), tracks.get(stream)
        last = counted["first"] - 1 if track is None else track.last
        # A later message with lower ids is of an exchange that began to count anew: nothing was lost behind it.
        if counted["first"] < 0 or counted["last"] <= last or (start is not None and start.capture_ns >= end.capture_ns):
            continue
        edge = Edge(stream, last, counted["last"] + 1, start or end, end)
        found.append(gap_between(edge, Cause.DISK, _DETAIL).model_copy(update={"at_end": True, "recoverable": False}))
    return found


def is_outside(gap: Gap, first: int, last: int) -> bool:
    """Whether none of a gap's ids lies among a stream's `first..last`; both are -1 where nothing of it is there."""
    return first < 0 or last <= gap.last_good_id or first >= gap.first_good_id
