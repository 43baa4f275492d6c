"""Losses at the end or the start of a stream: ids that a checkpoint counts and the recording lacks.

No later (or earlier) message shows such a loss. It has its own line in the ledger, marked `at_end` or
`at_start`. If the stream sends another message later, the line of the same `last_good_id` replaces `at_end`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from capture_pipeline.binance.streams.names import event_us
from capture_pipeline.recorder.ordering.gap_tracker import GapBounds, MessageTime, gap_between
from capture_pipeline.recorder.ordering.merger import Message
from capture_pipeline.sessions.continuity import Track
from capture_pipeline.sessions.models import Cause, Checkpoint, Gap, TrackMark

_NO_ROOM_AT_START = "the disk stored no earlier message of the stream"
_NO_ROOM = "the disk stored no further message before the recorder ended"
_DETAIL = "damaged in or missing from the recording, or never written; no later message of the stream exists"
_NOT_ASKED = {"recoverable": False, "refill": None}
_AT_START = "missing from the recording; no earlier message of the stream is left"


def find_lost_ends(
    checkpoint: Checkpoint, tracks: Mapping[str, Track], last_times: Mapping[str, MessageTime]
) -> list[Gap]:
    """Return a gap for each stream whose last ids are in a checkpoint and not in the recording.

    Args:
        checkpoint: Last checkpoint of a recorder, or its final one.
        tracks: Ids in the recording, by stream.
        last_times: Time of the last message in the recording, by stream.
    """
    found = []
    for stream, counted in checkpoint.tracks.items():
        end = MessageTime(counted.last_ns, counted.last_event_us or None)
        start, track = last_times.get(stream), tracks.get(stream)
        last = counted.first - 1 if track is None else track.last
        # A later message with lower ids shows that the exchange restarted its count: nothing was lost.
        if (
            counted.first < 0
            or counted.last <= last
            or (start is not None and start.capture_ns >= end.capture_ns)
        ):
            continue
        edge = GapBounds(stream, last, counted.last + 1, start or end, end)
        found.append(gap_between(edge, Cause.DISK, _DETAIL).model_copy(update={"at_end": True, **_NOT_ASKED}))
    return found


def find_lost_starts(checkpoint: Checkpoint, tracks: Mapping[str, Track], first_ns: int) -> list[Gap]:
    """Return a gap for each stream whose first ids are in a checkpoint and not in the recording.

    Args:
        checkpoint: Last checkpoint of a recorder, or its final one.
        tracks: Ids in the recording, by stream.
        first_ns: Capture time of the first line in the recording.
    """
    found = []
    for stream, counted in checkpoint.tracks.items():
        track = tracks.get(stream)
        if track is not None and 0 <= counted.first < track.first:
            edge = GapBounds(
                stream,
                counted.first - 1,
                track.first,
                MessageTime(min(checkpoint.first_ns, first_ns)),
                MessageTime(first_ns),
            )
            found.append(
                gap_between(edge, Cause.DISK, _AT_START).model_copy(update={"at_start": True, **_NOT_ASKED})
            )
    return found


class UnwrittenMessages:
    """Messages that the writer had no room for, and whose loss no later message of their stream shows yet."""

    def __init__(self) -> None:
        """Start without losses."""
        self._lost: dict[str, tuple[Message, Message]] = {}

    def add(self, messages: Iterable[Message]) -> None:
        """Remember the first and the last lost message of each stream."""
        for message in messages:
            first, _ = self._lost.get(message.stream, (message, message))
            self._lost[message.stream] = (message if message.is_reset else first, message)

    def recover(self, messages: Iterable[Message], tracks: Mapping[str, Track]) -> list[Gap]:
        """Forget the streams of messages that are about to be written: the ledger detects those gaps.

        Args:
            messages: Messages to write. If the message that marked a reset of ids was lost, the mark moves to
                the first message after it.
            tracks: Ids of the messages written before, by stream.

        Returns:
            Gaps before the first message of a stream or of a new count, which the ledger cannot detect.
        """
        found = []
        for message in messages if self._lost else ():
            first, _ = self._lost.pop(message.stream, (None, None))
            track = tracks.get(message.stream)
            if first is None or (track is not None and track.first >= 0 and not first.is_reset):
                continue
            message.is_reset = message.is_reset or first.is_reset
            start, end = (MessageTime(one.capture_ns, event_us(one.event_time)) for one in (first, message))
            if first.first < message.first:
                gap = gap_between(
                    GapBounds(message.stream, first.first - 1, message.first, start, end),
                    Cause.DISK,
                    _NO_ROOM_AT_START,
                )
                found.append(gap.model_copy(update={"at_start": True, **_NOT_ASKED}))
        return found

    def gaps(self, tracks: Mapping[str, Track], last_times: Mapping[str, MessageTime]) -> list[Gap]:
        """Return a gap for each stream that ends with lost messages.

        Args:
            tracks: Written ids by stream.
            last_times: Time of the last written message by stream.
        """
        found = []
        for stream, (first, last) in self._lost.items():
            track, end = tracks.get(stream), MessageTime(last.capture_ns, event_us(last.event_time))
            is_behind = track is not None and 0 <= track.last < last.last and not first.is_reset
            before, start = (
                (track.last, last_times[stream])
                if track is not None and is_behind
                else (first.first - 1, end)
            )
            gap = gap_between(GapBounds(stream, before, last.last + 1, start, end), Cause.DISK, _NO_ROOM)
            found.append(gap.model_copy(update={"at_end": True, **_NOT_ASKED}))
        return found

    def add_to_tracks(self, tracks: dict[str, TrackMark]) -> dict[str, TrackMark]:
        """Return the tracks of a checkpoint that also count the lost messages."""
        for stream, (first, last) in self._lost.items():
            known = tracks.get(stream) or TrackMark(**asdict(Track()), last_ns=0, last_event_us=0)
            tracks[stream] = known.model_copy(
                update={
                    "first": first.first if first.is_reset or known.first < 0 else known.first,
                    "last": last.last,
                    "last_ns": last.capture_ns,
                    "last_event_us": event_us(last.event_time),
                }
            )
        return tracks
