"""Several connections merged into one stream of messages: each once, in the order of its ids. Sans-I/O: no socket and no clock.

Every connection carries the same streams and delivers each in order, so a message that is missing can still come from a connection
that has not yet got so far. A message behind a hole is held back until the hole is filled, or until no live connection can fill it;
then it is let through, and whoever reads the ids behind this sees the gap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Final

from capture_pipeline.binance.streams.names import event_us
from capture_pipeline.recorder.ordering import id_resets
from capture_pipeline.recorder.ordering.stream_buffer import NEVER, MergeCounts, Message, StreamBuffer

_NONE: Final[Sequence[Message]] = ()
MILLISECOND = 1_000_000


class Merger:
    """The core; all times are given from outside."""

    def __init__(
        self,
        *,
        grace_ms: int = 200,
        unseen_ms: int = 2000,
        most_ms: int = 30_000,
        most_bytes: int = 64 << 20,
        on_stray: Callable[[Message], None] = lambda _: None,
    ) -> None:
        """Set the bounds of patience.

        Args:
            grace_ms: A hole that no connection can fill is still given this long, for messages out of order.
            unseen_ms: A connection that has not brought a stream yet is waited for this long.
            most_ms: No message is held back longer.
            most_bytes: Nor more than this in all.
            on_stray: Takes each message that cannot be placed in its stream.
        """
        self.counts = MergeCounts()
        self._grace, self._unseen, self._most = (
            grace_ms * MILLISECOND,
            unseen_ms * MILLISECOND,
            most_ms * MILLISECOND,
        )
        self._most_bytes = most_bytes
        self._lanes: dict[str, StreamBuffer] = {}
        self._live: set[int] = set()
        self._holding: set[str] = set()
        self._doubting: set[str] = set()
        self._on_stray = on_stray
        self._held_bytes = 0
        self._given_up: dict[str, list[tuple[int, int]]] = {}

    def resume(self, stream: str, last_id: int, newest_us: int | None = None, first_id: int = -1) -> None:
        """Go on after what an earlier process recorded, so that nothing is recorded twice."""
        lane = self._lanes.setdefault(stream, StreamBuffer())
        lane.next_id, lane.newest, lane.first_id = last_id + 1, newest_us or NEVER, first_id

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
        held = sum(len(self._lanes[stream].held) for stream in self._holding)
        return held + sum(len(self._lanes[stream].doubted) for stream in self._doubting)

    def offer(self, message: Message) -> Sequence[Message]:
        """Take a message.

        Returns:
            The messages that are let through by it, in order; often itself alone.
        """
        lane = self._lanes.get(message.stream)
        if lane is None:
            lane = self._lanes[message.stream] = StreamBuffer()
        seen = lane.seen
        if message.last > seen.get(message.connection, -1):
            seen[message.connection] = message.last
        if message.first == lane.next_id or lane.next_id < 0:
            if lane.next_id < 0:
                lane.first_id = message.first
            lane.next_id = message.last + 1
            lane.newest = message.event_time
            self.counts.passed += 1
            if lane.doubted:
                self._drop_strays(id_resets.disproved(lane.doubted, message.event_time))
            return (
                (message, *self._drain(message.stream, lane, message.received_ns))
                if lane.held
                else (message,)
            )
        if message.last < lane.next_id:
            return self._look_back(lane, message)
        if lane.before is not None and event_us(message.event_time) < lane.before[1]:
            self._count_straggler(lane.before[0], message)
            return _NONE
        self._hold(lane, message)
        return self._drain(message.stream, lane, message.received_ns)

    def _look_back(self, lane: StreamBuffer, message: Message) -> Sequence[Message]:
        """Judge a message of lower ids: of a later time it may begin a new count; else it was recorded, was lost, or came too early."""
        if event_us(message.event_time) > event_us(lane.newest) + id_resets.LATER_US:
            return self._doubt(lane, message)
        if message.first < lane.first_id:
            self.counts.early += 1
        elif self._was_given_up(message):
            self.counts.late += 1
        else:
            self.counts.duplicates += 1
        return _NONE

    def _count_straggler(self, old_next_id: int, message: Message) -> None:
        """Count a message of the count before: a slow connection brings it after the exchange began anew."""
        if message.last < old_next_id:
            self.counts.duplicates += 1
        else:
            self._drop_strays([message])

    def _doubt(self, lane: StreamBuffer, message: Message) -> Sequence[Message]:
        """Lower ids of a later time: once some of them follow each other the exchange counts anew, and so does the lane."""
        if not id_resets.add(lane.doubted, message):
            self.counts.duplicates += 1
            return _NONE
        self._doubting.add(message.stream)
        self._drop_strays(id_resets.outdated(lane.doubted, event_us(message.event_time)))
        return (
            self._restart(message.stream, lane, message.received_ns)
            if id_resets.is_new_count(lane.doubted)
            else _NONE
        )

    def _restart(self, stream: str, lane: StreamBuffer, now_ns: int) -> Sequence[Message]:
        """Let through what is held of the old count, then the beginning of the new one."""
        out = self._drain(stream, lane, now_ns, force=True)
        new, lane.doubted = lane.doubted, []
        self._doubting.discard(stream)
        self._given_up.pop(stream, None)
        lane.before = (lane.next_id, min(event_us(one.event_time) for one in new))
        lane.first_id, lane.next_id, lane.newest = new[0].first, new[-1].last + 1, new[-1].event_time
        lane.seen = dict.fromkeys(lane.seen, -1)
        new[0].is_reset = True
        self.counts.resets += 1
        self.counts.passed += len(new)
        return [*out, *new]

    def _drop_strays(self, strays: Sequence[Message]) -> None:
        for message in strays:
            self.counts.stray += 1
            self._on_stray(message)
            if not self._lanes[message.stream].doubted:
                self._doubting.discard(message.stream)

    def repeated(self, message: Message, connection: int) -> None:
        """A message that was let through came once more, byte for byte: what `offer` would do with it, without its parts taken again."""
        seen = self._lanes[message.stream].seen
        if message.last > seen.get(connection, -1):
            seen[connection] = message.last
        self.counts.duplicates += 1

    def tick(self, now_ns: int) -> Sequence[Message]:
        """Let through what has waited long enough; to be called several times a second."""
        for stream in list(self._doubting):
            doubted = self._lanes[stream].doubted
            waited_us = (now_ns - min(one.received_ns for one in doubted)) // 1000
            self._drop_strays(
                id_resets.outdated(doubted, min(event_us(one.event_time) for one in doubted) + waited_us)
            )
        if not self._holding:
            return _NONE
        return [
            message
            for stream in list(self._holding)
            for message in self._drain(stream, self._lanes[stream], now_ns)
        ]

    def finish(self, now_ns: int) -> Sequence[Message]:
        """Let everything through that is still held, the beginning of a new count too: nothing more will come."""
        self._live.clear()
        out = list(self.tick(now_ns))
        out += [
            message
            for stream in list(self._holding)
            for message in self._drain(stream, self._lanes[stream], now_ns, force=True)
        ]
        for stream in list(self._doubting):
            out += self._restart(stream, self._lanes[stream], now_ns)
        return out

    def _hold(self, lane: StreamBuffer, message: Message) -> None:
        place = bisect_left(lane.held, message)
        if (
            place < len(lane.held)
            and lane.held[place].first == message.first
            and lane.held[place].last == message.last
        ):
            self.counts.duplicates += 1
            return
        lane.held.insert(place, message)
        self._held_bytes += len(message.raw)
        self._holding.add(message.stream)
        self.counts.held += 1

    def _drain(self, stream: str, lane: StreamBuffer, now_ns: int, *, force: bool = False) -> list[Message]:
        """Everything of a lane that may go now, or all of it (`force`)."""
        out: list[Message] = []
        while lane.held:
            place = _exact(lane)
            if place is None:
                if lane.held[0].last < lane.next_id:
                    self._drop(lane)
                    continue
                if not force and not self._is_hopeless(lane, lane.held[0], now_ns):
                    break
                place = 0
                if lane.held[0].first > lane.next_id:
                    self._given_up.setdefault(stream, []).append((lane.next_id, lane.held[0].first - 1))
            out.append(self._let_through(lane, place, now_ns))
        if not lane.held:
            self._holding.discard(stream)
        return out

    def _is_hopeless(self, lane: StreamBuffer, message: Message, now_ns: int) -> bool:
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

    def _let_through(self, lane: StreamBuffer, place: int, now_ns: int) -> Message:
        message = lane.held.pop(place)
        self._held_bytes -= len(message.raw)
        waited = max(0, now_ns - message.received_ns)
        counts = self.counts
        counts.held_ns += waited
        counts.longest_ns = max(counts.longest_ns, waited)
        counts.passed += 1
        lane.next_id, lane.newest = message.last + 1, message.event_time
        lane.first_id = min(lane.first_id, message.first)
        if lane.doubted:
            self._drop_strays(id_resets.disproved(lane.doubted, message.event_time))
        return message

    def _drop(self, lane: StreamBuffer) -> None:
        self._held_bytes -= len(lane.held.pop(0).raw)
        self.counts.duplicates += 1

    def _was_given_up(self, message: Message) -> bool:
        holes = self._given_up.get(message.stream)
        if not holes:
            return False
        place = bisect_right(holes, (message.last, 1 << 62)) - 1
        return place >= 0 and message.first <= holes[place][1]


def _exact(lane: StreamBuffer) -> int | None:
    """Place of the held message that continues the lane."""
    for place, message in enumerate(lane.held):
        if message.first >= lane.next_id:
            return place if message.first == lane.next_id else None
    return None


__all__ = ["MILLISECOND", "MergeCounts", "Merger", "Message"]
