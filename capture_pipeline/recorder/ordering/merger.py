"""Merges the messages of several connections: each message once, in the order of ids. Sans-I/O.

Every connection carries the same streams and delivers each stream in order. So a missing message can still
come from a connection that is behind. A message after a hole is held back until the hole is filled, or until
no live connection can fill it. Then the message is emitted, and the ledger detects the gap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Final

from capture_pipeline.binance.streams.names import event_us
from capture_pipeline.recorder.ordering import id_resets
from capture_pipeline.recorder.ordering.stream_buffer import NEVER, EarlierCount, Message, StreamBuffer
from capture_pipeline.sessions.continuity import IdRange
from capture_pipeline.sessions.counts import MergeCounts

_NONE: Final[Sequence[Message]] = ()
MILLISECOND = 1_000_000


class Merger:
    """Merger of all streams; the caller supplies all times."""

    def __init__(
        self,
        *,
        grace_ms: int = 200,
        unseen_ms: int = 2000,
        max_ms: int = 30_000,
        max_bytes: int = 64 << 20,
        counts: MergeCounts | None = None,
        on_stray: Callable[[Message], None] = lambda _: None,
    ) -> None:
        """Set the limits for held messages.

        Args:
            grace_ms: Wait for a hole that no connection can fill, because messages may be out of order.
            unseen_ms: Wait for a connection that has not delivered any message of the stream yet.
            max_ms: Longest time for which a message is held back.
            max_bytes: Limit of the bytes of all held messages.
            counts: Counts to continue; by default they start at 0.
            on_stray: Receives each message that has no place in its stream.
        """
        self.counts = MergeCounts() if counts is None else counts
        self._grace, self._unseen, self._max_wait = (
            grace_ms * MILLISECOND,
            unseen_ms * MILLISECOND,
            max_ms * MILLISECOND,
        )
        self._max_bytes = max_bytes
        self._buffers: dict[str, StreamBuffer] = {}
        self._live: set[int] = set()
        self._streams_with_held: set[str] = set()
        self._streams_with_candidates: set[str] = set()
        self._on_stray = on_stray
        self._held_bytes = 0
        self._skipped_ranges: dict[str, list[IdRange]] = {}

    def resume(self, stream: str, last_id: int, newest_us: int | None = None, first_id: int = -1) -> None:
        """Continue after the last recorded id of an earlier process, so that nothing is recorded twice."""
        buffer = self._buffers.setdefault(stream, StreamBuffer())
        buffer.next_id, buffer.newest, buffer.first_id = last_id + 1, newest_us or NEVER, first_id

    def add_connection(self, connection: int) -> None:
        """Add an open connection; it may deliver any message from now on."""
        self._live.add(connection)

    def remove_connection(self, connection: int) -> None:
        """Remove a connection; `flush_expired` emits the messages that waited only for it."""
        self._live.discard(connection)
        for buffer in self._buffers.values():
            buffer.last_ids.pop(connection, None)

    @property
    def has_connections(self) -> bool:
        """True if a connection is open."""
        return bool(self._live)

    @property
    def held(self) -> int:
        """Count of messages that are held back now."""
        held_count = sum(len(self._buffers[stream].held) for stream in self._streams_with_held)
        return held_count + sum(
            len(self._buffers[stream].reset_candidates) for stream in self._streams_with_candidates
        )

    def push(self, message: Message) -> Sequence[Message]:
        """Process a message.

        Returns:
            The messages that can be emitted now, in order; often only the given one.
        """
        buffer = self._buffers.get(message.stream)
        if buffer is None:
            buffer = self._buffers[message.stream] = StreamBuffer()
        last_ids = buffer.last_ids
        if message.last > last_ids.get(message.connection, -1):
            last_ids[message.connection] = message.last
        if message.first == buffer.next_id or buffer.next_id < 0:
            if buffer.next_id < 0:
                buffer.first_id = message.first
            buffer.next_id = message.last + 1
            buffer.newest = message.event_time
            self.counts.passed += 1
            if buffer.reset_candidates:
                self._drop_strays(id_resets.remove_disproved(buffer.reset_candidates, message.event_time))
            return (
                (message, *self._drain(message.stream, buffer, message.received_ns))
                if buffer.held
                else (message,)
            )
        if message.last < buffer.next_id:
            return self._handle_lower_ids(buffer, message)
        if buffer.before is not None and event_us(message.event_time) < buffer.before.reset_us:
            self._count_straggler(buffer.before.next_id, message)
            return _NONE
        self._insert_held(buffer, message)
        return self._drain(message.stream, buffer, message.received_ns)

    def _handle_lower_ids(self, buffer: StreamBuffer, message: Message) -> Sequence[Message]:
        """Handle a message whose ids are below the next one.

        With a later time it may begin a new count of ids. Otherwise it is a duplicate, or it comes after its
        place was skipped, or it is older than the first message.
        """
        if event_us(message.event_time) > event_us(buffer.newest) + id_resets.LATER_US:
            return self._add_reset_candidate(buffer, message)
        if message.first < buffer.first_id:
            self.counts.early += 1
        elif self._was_skipped(message):
            self.counts.late += 1
        else:
            self.counts.duplicates += 1
        return _NONE

    def _count_straggler(self, old_next_id: int, message: Message) -> None:
        """Count a message of the old ids that a slow connection delivers after a reset."""
        if message.last < old_next_id:
            self.counts.duplicates += 1
        else:
            self._drop_strays([message])

    def _add_reset_candidate(self, buffer: StreamBuffer, message: Message) -> Sequence[Message]:
        """Add a message with lower ids and a later time; enough consecutive ones prove a reset of ids."""
        if not id_resets.add(buffer.reset_candidates, message):
            self.counts.duplicates += 1
            return _NONE
        self._streams_with_candidates.add(message.stream)
        self._drop_strays(id_resets.remove_outdated(buffer.reset_candidates, event_us(message.event_time)))
        return (
            self._restart(message.stream, buffer, message.received_ns)
            if id_resets.is_new_count(buffer.reset_candidates)
            else _NONE
        )

    def _restart(self, stream: str, buffer: StreamBuffer, now_ns: int) -> Sequence[Message]:
        """Emit the held messages of the old count, then the first ones of the new count."""
        out = self._drain(stream, buffer, now_ns, force=True)
        new, buffer.reset_candidates = buffer.reset_candidates, []
        self._streams_with_candidates.discard(stream)
        self._skipped_ranges.pop(stream, None)
        buffer.before = EarlierCount(buffer.next_id, min(event_us(one.event_time) for one in new))
        buffer.first_id, buffer.next_id, buffer.newest = new[0].first, new[-1].last + 1, new[-1].event_time
        buffer.last_ids = dict.fromkeys(buffer.last_ids, -1)
        new[0].is_reset = True
        self.counts.resets += 1
        self.counts.passed += len(new)
        return [*out, *new]

    def _drop_strays(self, strays: Sequence[Message]) -> None:
        for message in strays:
            self.counts.stray += 1
            self._on_stray(message)
            if not self._buffers[message.stream].reset_candidates:
                self._streams_with_candidates.discard(message.stream)

    def count_repeat(self, message: Message, connection: int) -> None:
        """Count a byte-for-byte copy of an emitted message: the effect of `push` without parsing it again."""
        last_ids = self._buffers[message.stream].last_ids
        if message.last > last_ids.get(connection, -1):
            last_ids[connection] = message.last
        self.counts.duplicates += 1

    def flush_expired(self, now_ns: int) -> Sequence[Message]:
        """Return the messages that waited long enough; call this method several times a second."""
        for stream in list(self._streams_with_candidates):
            reset_candidates = self._buffers[stream].reset_candidates
            waited_us = (now_ns - min(one.received_ns for one in reset_candidates)) // 1000
            self._drop_strays(
                id_resets.remove_outdated(
                    reset_candidates, min(event_us(one.event_time) for one in reset_candidates) + waited_us
                )
            )
        if not self._streams_with_held:
            return _NONE
        return [
            message
            for stream in list(self._streams_with_held)
            for message in self._drain(stream, self._buffers[stream], now_ns)
        ]

    def finish(self, now_ns: int) -> Sequence[Message]:
        """Return all held messages, also those of a possible new count; no further message will come."""
        self._live.clear()
        out = list(self.flush_expired(now_ns))
        out += [
            message
            for stream in list(self._streams_with_held)
            for message in self._drain(stream, self._buffers[stream], now_ns, force=True)
        ]
        for stream in list(self._streams_with_candidates):
            out += self._restart(stream, self._buffers[stream], now_ns)
        return out

    def _insert_held(self, buffer: StreamBuffer, message: Message) -> None:
        place = bisect_left(buffer.held, message)
        if (
            place < len(buffer.held)
            and buffer.held[place].first == message.first
            and buffer.held[place].last == message.last
        ):
            self.counts.duplicates += 1
            return
        buffer.held.insert(place, message)
        self._held_bytes += len(message.raw)
        self._streams_with_held.add(message.stream)
        self.counts.held += 1

    def _drain(self, stream: str, buffer: StreamBuffer, now_ns: int, *, force: bool = False) -> list[Message]:
        """Remove and return the messages of a buffer that can be emitted now, or all of them (`force`)."""
        out: list[Message] = []
        while buffer.held:
            place = _find_successor(buffer)
            if place is None:
                if buffer.held[0].last < buffer.next_id:
                    self._drop(buffer)
                    continue
                if not force and not self._cannot_be_filled(buffer, buffer.held[0], now_ns):
                    break
                place = 0
                if buffer.held[0].first > buffer.next_id:
                    skipped = IdRange(buffer.next_id, buffer.held[0].first - 1)
                    self._skipped_ranges.setdefault(stream, []).append(skipped)
            out.append(self._release(buffer, place, now_ns))
        if not buffer.held:
            self._streams_with_held.discard(stream)
        return out

    def _cannot_be_filled(self, buffer: StreamBuffer, message: Message, now_ns: int) -> bool:
        """Return whether no live connection can fill the hole before this message any more."""
        waited = now_ns - message.received_ns
        if waited >= self._max_wait or self._held_bytes > self._max_bytes:
            self.counts.forced += waited < self._max_wait
            return True
        if waited < self._grace:
            return False
        for connection in self._live:
            last = buffer.last_ids.get(connection)
            if (last is None and waited < self._unseen) or (last is not None and last < buffer.next_id):
                return False
        return True

    def _release(self, buffer: StreamBuffer, place: int, now_ns: int) -> Message:
        message = buffer.held.pop(place)
        self._held_bytes -= len(message.raw)
        waited = max(0, now_ns - message.received_ns)
        counts = self.counts
        counts.held_ns += waited
        counts.longest_ns = max(counts.longest_ns, waited)
        counts.passed += 1
        buffer.next_id, buffer.newest = message.last + 1, message.event_time
        buffer.first_id = min(buffer.first_id, message.first)
        if buffer.reset_candidates:
            self._drop_strays(id_resets.remove_disproved(buffer.reset_candidates, message.event_time))
        return message

    def _drop(self, buffer: StreamBuffer) -> None:
        self._held_bytes -= len(buffer.held.pop(0).raw)
        self.counts.duplicates += 1

    def _was_skipped(self, message: Message) -> bool:
        holes = self._skipped_ranges.get(message.stream)
        if not holes:
            return False
        place = bisect_right(holes, IdRange(message.last, 1 << 62)) - 1
        return place >= 0 and message.first <= holes[place].last


def _find_successor(buffer: StreamBuffer) -> int | None:
    """Return the index of the held message that continues the stream."""
    for place, message in enumerate(buffer.held):
        if message.first >= buffer.next_id:
            return place if message.first == buffer.next_id else None
    return None


__all__ = ["MILLISECOND", "Merger", "Message"]
