"""Continuity of ids: trades by id, depth diffs by their range `U..u`. One `Track` per stream.

A diff covers a range, so the next one has `U == previous u + 1`. The recorder, the recovery and the
validation count with this module. It uses no file and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class IdRange(NamedTuple):
    """Ids `first..last`, both included."""

    first: int
    last: int


class CaptureRange(NamedTuple):
    """Capture times from the first to the last of several lines, nanoseconds UTC."""

    start_ns: int
    end_ns: int


@dataclass(slots=True)
class Track:
    """Ids of one stream in the order of its messages.

    Attributes:
        first: First id; -1 before the first message.
        last: Last id; -1 before the first message.
        messages: Count of all messages.
        gaps: Count of places at which ids are missing.
        lost: Count of missing ids.
        duplicates: Count of messages whose ids all occurred before.
        overlaps: Count of messages some of whose ids occurred before; they are not a loss.
    """

    first: int = -1
    last: int = -1
    messages: int = 0
    gaps: int = 0
    lost: int = 0
    duplicates: int = 0
    overlaps: int = 0

    def count(self, first: int, last: int) -> int:
        """Count the message with the ids `first..last`.

        Returns:
            Count of ids missing before the message; 0 if it continues the stream, overlaps or is a duplicate.
        """
        self.messages += 1
        missing = first - self.last - 1
        if not missing:
            if self.first < 0:
                self.first = first
            self.last = last
            return 0
        if self.first < 0:
            self.first, self.last = first, last
            return 0
        if missing > 0:
            self.gaps += 1
            self.lost += missing
            self.last = last
            return missing
        if last <= self.last:
            self.duplicates += 1
            return 0
        self.overlaps += 1
        self.last = last
        return 0

    def restart(self) -> None:
        """Forget the ids and keep the counts; the next message starts a new count of ids."""
        self.first = self.last = -1

    @property
    def ids(self) -> int:
        """Count of ids between first and last, missing ones included."""
        return self.last - self.first + 1 if self.first >= 0 else 0


@dataclass(frozen=True, slots=True)
class GapRatios:
    """Three definitions of a gap ratio, which differ by orders of magnitude.

    Attributes:
        lost_ids: Lost ids as a share of all ids between first and last.
        lost_events: Lost events as a share of the expected ones; the lost events of ranges are estimated.
        discontinuities: Places with missing ids per message.
    """

    lost_ids: float
    lost_events: float
    discontinuities: float


def compute_gap_ratios(tracks: list[Track]) -> GapRatios:
    """Compute the ratios over several streams together; all are 0 without messages."""
    ids, lost = sum(track.ids for track in tracks), sum(track.lost for track in tracks)
    messages, gaps = sum(track.messages for track in tracks), sum(track.gaps for track in tracks)
    events = sum(estimate_lost_events(track) for track in tracks)
    return GapRatios(
        lost_ids=lost / ids if ids else 0.0,
        lost_events=events / (messages + events) if messages else 0.0,
        discontinuities=gaps / messages if messages else 0.0,
    )


def estimate_lost_events(track: Track) -> float:
    """Estimate the events that the lost ids of a stream belong to, by the mean count of ids per event."""
    received_ids = track.ids - track.lost
    return track.lost * track.messages / received_ids if received_ids > 0 else 0.0
