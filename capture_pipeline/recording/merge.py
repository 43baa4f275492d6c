"""Several connections merged into one stream of messages: each once, in the order of its ids. Sans-I/O: no socket and no clock.

Every connection carries the same streams and delivers each in order, so a message that is missing can still come from a connection
that has not yet got so far. A message behind a hole is held back until the hole is filled, or until no live connection can fill it;
then it is let through, and whoever reads the ids behind this sees the gap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from capture_pipeline.binance.messages import WireDiff
from capture_pipeline.binance.streams import event_us

_NONE: Final[Sequence[Message]] = ()
MILLISECOND = 1_000_000
_NEVER: Final = 1 << 62
"""An event time after which none comes."""
_ASTRAY: Final = 3
_ASTRAY_US: Final = 1_000_000


class Message(msgspec.Struct, gc=False):
    """One message on its way.

    Attributes:
        first: First id it covers: `U` of a diff, `t` of a trade.
        last: Last id it covers.
        stream: The exchange's name.
        raw: The whole message as it came.
        received_ns: When it came, on the recorder's clock.
        connection: Which connection brought it.
        event_time: The exchange's time of it, as sent.
        diff: Its levels, if it is a diff.
        is_reset: Whether with it the exchange began to count ids anew.
        capture_ns: When it was let through; set by whoever stamps it.
    """

    first: int
    last: int
    stream: str
    raw: bytes
    received_ns: int
    connection: int
    event_time: int = 0
    diff: WireDiff | None = None
    is_reset: bool = False
    capture_ns: int = 0

    def __lt__(self, other: Message) -> bool:
        """In the order of ids; of two that start together the shorter one first."""
        return (self.first, self.last) < (other.first, other.last)


@dataclass(slots=True)
class Lane:
    """One stream.

    Attributes:
        next_id: Id after the last one let through; -1 before any.
        seen: Last id that each live connection has brought.
        held: Messages behind a hole, in order.
        newest: Event time of the last message let through, as sent.
        astray: Messages of lower ids and a later time: if more of them come, the exchange counts anew.
    """

    next_id: int = -1
    seen: dict[int, int] = field(default_factory=dict)
    held: list[Message] = field(default_factory=list)
    newest: int = _NEVER
    astray: list[Message] = field(default_factory=list)


@dataclass(slots=True)
class MergeCounts:
    """What the merge had to do.

    Attributes:
        passed: Messages let through.
        duplicates: Messages that another connection had brought before.
        held: Messages that were held back.
        held_ns: For how long in all, nanoseconds.
        longest_ns: The longest of them.
        late: Messages that came after their place had been given up; they are lost, and stand in a gap.
        forced: Messages let through because too much was held.
        resets: How often the exchange began to count ids anew.
    """

    passed: int = 0
    duplicates: int = 0
    held: int = 0
    held_ns: int = 0
    longest_ns: int = 0
    late: int = 0
    forced: int = 0
    resets: int = 0


class Merge:
    """The core; all times are given from outside."""

    def __init__(self, *, grace_ms: int = 200, unseen_ms: int = 2000, most_ms: int = 30_000, most_bytes: int = 64 << 20) -> None:
        """Set the bounds of patience.

        Args:
            grace_ms: A hole that no connection can fill is still given this long, for messages out of order.
            unseen_ms: A connection that has not brought a stream yet is waited for this long.
            most_ms: No message is held back longer.
            most_bytes: Nor more than this in all.
        """
        self.counts = MergeCounts()
        self._grace, self._unseen, self._most = grace_ms * MILLISECOND, unseen_ms * MILLISECOND, most_ms * MILLISECOND
        self._most_bytes = most_bytes
        self._lanes: dict[str, Lane] = {}
        self._live: set[int] = set()
        self._holding: set[str] = set()
        self._held_bytes = 0
        self._given_up: dict[str, list[tuple[int, int]]] = {}

    def resume(self, stream: str, last_id: int, newest_us: int | None = None) -> None:
        """Go on after what an earlier process recorded, so that nothing is recorded twice."""
        lane = self._lanes.setdefault(stream, Lane())
        lane.next_id, lane.newest = last_id + 1, newest_us or _NEVER

    def opened(self, connection: int) -> None:
        """A connection is open; it may bring anything from now on."""
        self._live.add(connection)

    def closed(self, connection: int) -> None:
        """A connection is gone; what waited for it alone is let through by the next `tick`."""
        self._live.discard(connection)
        for lane in self._lanes.values():
            lane.seen.pop(connection, None)

    @property
    def held(self) -> int:
        """How many messages are held back now."""
        return sum(len(self._lanes[stream].held) for stream in self._holding)

    def offer(self, message: Message) -> Sequence[Message]:
        """Take a message.

        Returns:
            The messages that are let through by it, in order; often itself alone.
        """
        lane = self._lanes.get(message.stream)
        if lane is None:
            lane = self._lanes[message.stream] = Lane()
        seen = lane.seen
        if message.last > seen.get(message.connection, -1):
            seen[message.connection] = message.last
        if message.first == lane.next_id or lane.next_id < 0:
            lane.next_id = message.last + 1
            lane.newest = message.event_time
            self.counts.passed += 1
            return (message, *self._drain(message.stream, lane, message.received_ns)) if lane.held else (message,)
        if message.last < lane.next_id:
            if event_us(message.event_time) > event_us(lane.newest) + _ASTRAY_US:
                return self._astray(lane, message)
            if self._was_given_up(message):
                self.counts.late += 1
            else:
                self.counts.duplicates += 1
            return _NONE
        self._hold(lane, message)
        return self._drain(message.stream, lane, message.received_ns)

    def _astray(self, lane: Lane, message: Message) -> Sequence[Message]:
        """Lower ids of a later time: after a few of them the exchange has begun to count anew, and so does the lane."""
        if all(message.first != one.first for one in lane.astray):
            insort(lane.astray, message)
        if len(lane.astray) < _ASTRAY:
            return _NONE
        out, lane.astray = lane.astray, []
        for held in lane.held:
            self._held_bytes -= len(held.raw)
        lane.held = []
        lane.next_id, lane.newest = out[-1].last + 1, out[-1].event_time
        lane.seen = dict.fromkeys(lane.seen, -1)
        out[0].is_reset = True
        self.counts.resets += 1
        self.counts.passed += len(out)
        return out

    def repeated(self, message: Message, connection: int) -> None:
        """A message that was let through came once more, byte for byte: what `offer` would do with it, without its parts taken again."""
        seen = self._lanes[message.stream].seen
        if message.last > seen.get(connection, -1):
            seen[connection] = message.last
        self.counts.duplicates += 1

    def tick(self, now_ns: int) -> Sequence[Message]:
        """Let through what has waited long enough; to be called several times a second."""
        if not self._holding:
            return _NONE
        return [message for stream in list(self._holding) for message in self._drain(stream, self._lanes[stream], now_ns)]

    def finish(self, now_ns: int) -> Sequence[Message]:
        """Let everything through that is still held: nothing more will come."""
        self._live.clear()
        return self.tick(now_ns + self._most)

    def _hold(self, lane: Lane, message: Message) -> None:
        place = bisect_left(lane.held, message)
        if place < len(lane.held) and lane.held[place].first == message.first and lane.held[place].last == message.last:
            self.counts.duplicates += 1
            return
        lane.held.insert(place, message)
        self._held_bytes += len(message.raw)
        self._holding.add(message.stream)
        self.counts.held += 1

    def _drain(self, stream: str, lane: Lane, now_ns: int) -> list[Message]:
        """Everything of a lane that may go now."""
        out: list[Message] = []
        while lane.held:
            place = _exact(lane)
            if place is None:
                if lane.held[0].last < lane.next_id:
                    self._drop(lane)
                    continue
                if not self._is_hopeless(lane, lane.held[0], now_ns):
                    break
                place = 0
                if lane.held[0].first > lane.next_id:
                    self._given_up.setdefault(stream, []).append((lane.next_id, lane.held[0].first - 1))
            out.append(self._let_through(lane, place, now_ns))
        if not lane.held:
            self._holding.discard(stream)
        return out

    def _is_hopeless(self, lane: Lane, message: Message, now_ns: int) -> bool:
        """Whether nothing can bring the id before this message any more."""
        waited = now_ns - message.received_ns
        if waited >= self._most or self._held_bytes > self._most_bytes:
            self.counts.forced += waited < self._most
            return True
        if waited < self._grace:
            return False
        for connection in self._live:
            last = lane.seen.get(connection)
            if (last is None and waited < self._unseen) or (last is not None and last < lane.next_id):
                return False
        return True

    def _let_through(self, lane: Lane, place: int, now_ns: int) -> Message:
        message = lane.held.pop(place)
        self._held_bytes -= len(message.raw)
        waited = max(0, now_ns - message.received_ns)
        counts = self.counts
        counts.held_ns += waited
        counts.longest_ns = max(counts.longest_ns, waited)
        counts.passed += 1
        lane.next_id, lane.newest = message.last + 1, message.event_time
        return message

    def _drop(self, lane: Lane) -> None:
        self._held_bytes -= len(lane.held.pop(0).raw)
        self.counts.duplicates += 1

    def _was_given_up(self, message: Message) -> bool:
        holes = self._given_up.get(message.stream)
        if not holes:
            return False
        place = bisect_right(holes, (message.first, 1 << 62)) - 1
        return place >= 0 and message.first <= holes[place][1]


def _exact(lane: Lane) -> int | None:
    """Place of the held message that continues the lane."""
    for place, message in enumerate(lane.held):
        if message.first >= lane.next_id:
            return place if message.first == lane.next_id else None
    return None
