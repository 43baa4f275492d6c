"""Whether ids continue: trades by id, depth diffs by their range `U..u`. Pure counting, one `Track` a stream.

A diff covers a range, so the next one has `U == previous u + 1`. Knows no file and no clock; the recorder, the resume scan and the
validation all count with it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Track:
    """Ids of one stream in the order in which they stand.

    Attributes:
        first: First id of all; -1 before any.
        last: Last id so far; -1 before any.
        messages: Messages seen, whatever they were.
        gaps: Places at which ids are missing.
        lost: How many ids are missing there in all.
        duplicates: Messages all of whose ids were there before.
        overlaps: Messages some of whose ids were there before; they bring no loss.
    """

    first: int = -1
    last: int = -1
    messages: int = 0
    gaps: int = 0
    lost: int = 0
    duplicates: int = 0
    overlaps: int = 0

    def count(self, first: int, last: int) -> int:
        """Count the message of ids `first..last`.

        Returns:
            How many ids are missing between its predecessor and it; 0 if it continues, overlaps or is a duplicate.
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
        """Forget the ids, not the counts: they are counted anew from the next message on."""
        self.first = self.last = -1

    @property
    def ids(self) -> int:
        """How many ids lie between first and last, missing ones included."""
        return self.last - self.first + 1 if self.first >= 0 else 0


@dataclass(frozen=True, slots=True)
class GapRatios:
    """The three definitions of a gap ratio; they differ by orders of magnitude, so that each is stated by its name.

    Attributes:
        lost_ids: Ids lost against all ids between first and last.
        lost_events: Events lost against all expected; of ranges the lost events are estimated by the mean ids an event.
        discontinuities: Places at which ids are missing, against messages.
    """

    lost_ids: float
    lost_events: float
    discontinuities: float


def compute_gap_ratios(tracks: list[Track]) -> GapRatios:
    """The ratios over some streams together; all 0 where nothing was seen."""
    ids, lost = sum(track.ids for track in tracks), sum(track.lost for track in tracks)
    messages, gaps = sum(track.messages for track in tracks), sum(track.gaps for track in tracks)
    events = sum(estimate_lost_events(track) for track in tracks)
    return GapRatios(
        lost_ids=lost / ids if ids else 0.0,
        lost_events=events / (messages + events) if messages else 0.0,
        discontinuities=gaps / messages if messages else 0.0,
    )


def estimate_lost_events(track: Track) -> float:
    """How many events the lost ids of a stream stood for, by the mean number of ids of those that came."""
    came = track.ids - track.lost
    return track.lost * track.messages / came if came > 0 else 0.0
