"""The gap ledger: every id that is missing between written messages, with its cause.

Gaps are detected when batches go to the writer, so that data and ledger agree for every cause of a loss: the
exchange, the connections, this process or the disk. This module uses no file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from capture_pipeline.binance.streams.names import StreamKind, event_us, kind_of
from capture_pipeline.recorder.ordering.merger import Message
from capture_pipeline.sessions.continuity import Track
from capture_pipeline.sessions.models import Cause, Gap, RefillState


@dataclass(slots=True)
class Outage:
    """A period in which messages could be lost.

    Attributes:
        cause: Cause of the outage.
        detail: Close code or error.
        start_ns: Start, capture clock.
        end_ns: End; None while the outage lasts.
        total: Whether no message could be received; otherwise other connections were open.
    """

    cause: Cause
    detail: str
    start_ns: int
    end_ns: int | None = None
    total: bool = True


class MessageTime(NamedTuple):
    """Time of a message: capture time, and the exchange's event time (None if unknown)."""

    capture_ns: int
    event_us: int | None = None


@dataclass(frozen=True, slots=True)
class GapBounds:
    """Messages on both sides of a gap: last good and first good id, with their capture and event times."""

    stream: str
    last_good_id: int
    first_good_id: int
    start: MessageTime
    end: MessageTime


def gap_between(edge: GapBounds, cause: Cause, detail: str) -> Gap:
    """Create the ledger's line for a gap."""
    recoverable = kind_of(edge.stream) in {StreamKind.TRADE, StreamKind.AGG_TRADE}
    return Gap(
        stream=edge.stream,
        last_good_id=edge.last_good_id,
        first_good_id=edge.first_good_id,
        ids_lost=edge.first_good_id - edge.last_good_id - 1,
        start_ns=edge.start.capture_ns,
        end_ns=edge.end.capture_ns,
        start_event_us=edge.start.event_us,
        end_event_us=edge.end.event_us,
        cause=cause,
        detail=detail,
        recoverable=recoverable,
        refill=RefillState.PENDING if recoverable else None,
    )


class _Reason(NamedTuple):
    cause: Cause
    detail: str


class Ledger:
    """Counts ids and detects gaps.

    Attributes:
        tracks: Ids and counts by stream.
    """

    def __init__(self) -> None:
        """Start without messages."""
        self.tracks: dict[str, Track] = {}
        self._last_times: dict[str, MessageTime] = {}
        self._newest: dict[str, Message] = {}
        self._outages: list[Outage] = []

    def resume(self, stream: str, track: Track, last: MessageTime) -> None:
        """Continue after the messages that an earlier process wrote."""
        self.tracks[stream], self._last_times[stream] = track, last

    @property
    def last_times(self) -> dict[str, MessageTime]:
        """Time of the last message by stream."""
        return self._last_times | {stream: _time_of(message) for stream, message in self._newest.items()}

    def begin(self, outage: Outage) -> Outage:
        """Add an outage; the caller sets `end_ns` when it is over."""
        self._outages.append(outage)
        if len(self._outages) > _REMEMBERED:
            del self._outages[0]
        return outage

    def count_messages(self, messages: Iterable[Message]) -> list[Gap]:
        """Count messages that are about to be written.

        Returns:
            The gaps before these messages.
        """
        gaps, tracks, newest = [], self.tracks, self._newest
        for message in messages:
            track = tracks.get(message.stream)
            if (
                track is not None
                and message.first == track.last + 1
                and track.first >= 0
                and not message.is_reset
            ):
                track.messages += 1
                track.last = message.last
                newest[message.stream] = message
                continue
            if track is not None and message.is_reset:
                # The count before the reset is finished; its ids say nothing about the following ones.
                track.restart()
            gap = self.count_message(message.stream, message.first, message.last, _time_of(message))
            if gap is not None:
                gaps.append(gap)
        return gaps

    def count_message(self, stream: str, first: int, last: int, time: MessageTime) -> Gap | None:
        """Count one message.

        Returns:
            The gap before the message, or None.
        """
        track = self.tracks.get(stream)
        if track is None:
            track = self.tracks[stream] = Track()
        newest = self._newest.pop(stream, None)
        before, before_at = (
            track.last,
            self._last_times.get(stream, time) if newest is None else _time_of(newest),
        )
        self._last_times[stream] = time
        if not track.count(first, last):
            return None
        cause, detail = self._find_reason(before_at.capture_ns, time.capture_ns)
        return gap_between(GapBounds(stream, before, first, before_at, time), cause, detail)

    def _find_reason(self, start_ns: int, end_ns: int) -> _Reason:
        """Find the reason of a loss in this period: a total outage first, then the latest one."""
        during = [
            one
            for one in self._outages
            if one.start_ns <= end_ns and (one.end_ns is None or one.end_ns >= start_ns)
        ]
        if not during:
            return _Reason(Cause.EXCHANGE, "live connections continued without them")
        worst = max(during, key=lambda one: (one.total, one.start_ns))
        return _Reason(worst.cause, worst.detail)


_REMEMBERED = 1000


def _time_of(message: Message) -> MessageTime:
    return MessageTime(message.capture_ns, event_us(message.event_time))
