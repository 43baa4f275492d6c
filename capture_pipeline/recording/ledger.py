"""The gap ledger: every id that is missing between what was written, with its cause.

Gaps are seen where batches are handed to the disk, so that data and ledger agree whatever lost the ids: the exchange, both
connections, this process or the disk. Holds no file.
"""

from __future__ import annotations

from dataclasses import dataclass

from capture_pipeline.binance.streams import StreamKind, kind_of
from capture_pipeline.quality.continuity import Track
from capture_pipeline.recording.models import Cause, Gap


@dataclass(slots=True)
class Outage:
    """A time in which something was wrong.

    Attributes:
        cause: What.
        detail: Close code, error.
        start_ns: When it began, capture clock.
        end_ns: When it was over; None while it lasts.
        total: Whether nothing at all could come in; otherwise one connection of several was gone.
    """

    cause: Cause
    detail: str
    start_ns: int
    end_ns: int | None = None
    total: bool = True


@dataclass(frozen=True, slots=True)
class Edge:
    """The two messages on either side of a gap: last good and first good id, and their capture times."""

    stream: str
    last_good_id: int
    first_good_id: int
    start_ns: int
    end_ns: int


def gap_between(edge: Edge, cause: Cause, detail: str) -> Gap:
    """The ledger's line for a gap."""
    return Gap(
        stream=edge.stream,
        last_good_id=edge.last_good_id,
        first_good_id=edge.first_good_id,
        ids_lost=edge.first_good_id - edge.last_good_id - 1,
        start_ns=edge.start_ns,
        end_ns=edge.end_ns,
        cause=cause,
        detail=detail,
        recoverable=kind_of(edge.stream) in {StreamKind.TRADE, StreamKind.AGG_TRADE},
    )


class Ledger:
    """Counts ids and tells gaps.

    Attributes:
        tracks: Ids and counts by stream.
        last_of: Last capture time by stream.
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.tracks: dict[str, Track] = {}
        self.last_of: dict[str, int] = {}
        self._outages: list[Outage] = []

    def resume(self, stream: str, track: Track, last_ns: int) -> None:
        """Go on after what an earlier process wrote."""
        self.tracks[stream], self.last_of[stream] = track, last_ns

    def begin(self, outage: Outage) -> Outage:
        """Note that something went wrong; `end_ns` is set on it when it is over."""
        self._outages.append(outage)
        if len(self._outages) > _REMEMBERED:
            del self._outages[0]
        return outage

    def see(self, stream: str, first: int, last: int, capture_ns: int) -> Gap | None:
        """Count a message that is about to be written.

        Returns:
            The gap before it, if there is one.
        """
        track = self.tracks.get(stream)
        if track is None:
            track = self.tracks[stream] = Track()
        before, before_ns = track.last, self.last_of.get(stream, capture_ns)
        self.last_of[stream] = capture_ns
        lost = track.see(first, last)
        if not lost:
            return None
        return gap_between(Edge(stream, before, first, before_ns, capture_ns), *self._cause(before_ns, capture_ns))

    def _cause(self, start_ns: int, end_ns: int) -> tuple[Cause, str]:
        """The outage in that time: a total one before one of a single connection, the latest of several."""
        during = [one for one in self._outages if one.start_ns <= end_ns and (one.end_ns is None or one.end_ns >= start_ns)]
        if not during:
            return Cause.EXCHANGE, "live connections went on without them"
        worst = max(during, key=lambda one: (one.total, one.start_ns))
        return worst.cause, worst.detail


_REMEMBERED = 1000
