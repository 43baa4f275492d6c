"""Dispatcher: send the messages of a feed to the stream connections as sandbox time passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.streams.connection import State, StreamConnection
from sandbox_exchange.streams.connection_faults import apply_fault
from sandbox_exchange.streams.faults import (
    DelayedItems,
    StreamFaults,
    apply_message_faults,
    select_periodic_target,
)
from sandbox_exchange.streams.messages import Feed, Item, Key, encode_frames

_TICK_S = 0.01
_CHUNK_US = 20_000_000
_BEHIND_S = 2.0
_PATIENCE_S = 5.0


@dataclass
class Sent:
    """Ids of the first and the last message sent on a stream, and the number of messages."""

    first_id: int
    last_id: int
    count: int = 0


class Dispatcher:
    """Sender of the messages of a feed to all connections.

    Attributes:
        position_us: Market time up to which messages were sent.
        sent: By stream, the messages that were sent to at least one connection.
    """

    def __init__(
        self, feed: Feed, clock: SandboxClock, faults: StreamFaults, *, life_s: float, buffer_bytes: int
    ) -> None:
        """Create a dispatcher that starts at the present time of the clock.

        Args:
            feed: Source of the messages.
            clock: Market time.
            faults: Stream rules of the fault script.
            life_s: Age in sandbox seconds at which a connection is closed.
            buffer_bytes: Unsent bytes above which a connection is closed as too slow.
        """
        self._feed = feed
        self._clock = clock
        self._faults = faults
        self._life_us = round(life_s * 1e6)
        self._buffer_bytes = buffer_bytes
        self._delayed: dict[int, DelayedItems] = {}
        self._blocked_since: float | None = None
        self._is_finished = False
        self.position_us = clock.now_us()
        self.sent: dict[Key, Sent] = {}

    async def run(self, connections: dict[int, StreamConnection]) -> None:
        """Send messages while a connection is open or the feed runs without listeners."""
        self.position_us = self._clock.now_us()
        while connections or self._feed.runs_without_listeners:
            until_us = min(self._clock.now_us(), self.position_us + _CHUNK_US)
            await self._render(connections, until_us)
            has_more = self._step(list(connections.values()), until_us)
            self._delayed = {
                number: delayed for number, delayed in self._delayed.items() if number in connections
            }
            await asyncio.sleep(0 if has_more else _TICK_S)

    async def _render(self, connections: dict[int, StreamConnection], until_us: int) -> None:
        """Render the messages that `_step` sends, in pieces, so that the server can answer pings.

        Connections that open during the rendering are included.
        """
        rendered = frozenset[Key]()
        while not rendered >= (keys := _subscribed_keys(one for one in connections.values() if one.receives)):
            rendered = keys
            for _ in self._feed.render(keys, self.position_us, until_us):
                await asyncio.sleep(0)

    def _step(self, connections: list[StreamConnection], until_us: int) -> bool:
        """Send the messages up to a time; return whether more messages are due."""
        now = self._clock.now_us()
        receiving = [one for one in connections if one.receives]
        if self._must_wait(receiving, now):
            return False
        keys = _subscribed_keys(receiving)
        # If the clock was set back, the window is empty and ends there.
        messages, end_us = self._feed.window(keys, self.position_us, until_us)
        self.position_us = end_us
        items = self._faults.apply_to_all(messages)
        self._count(items)
        self._deliver(items, receiving)
        self._apply_time(connections)
        return end_us < now

    def _must_wait(self, receiving: list[StreamConnection], now: int) -> bool:
        """Return whether to wait for slow clients after a jump of the clock, for at most `_PATIENCE_S`."""
        is_jump = now - self.position_us > _BEHIND_S * 1e6 * max(1.0, self._clock.speed)
        if not is_jump or all(one.buffered * 2 < self._buffer_bytes for one in receiving):
            self._blocked_since = None
            return False
        self._blocked_since = self._blocked_since or time.monotonic()
        return time.monotonic() - self._blocked_since < _PATIENCE_S

    def _count(self, items: Sequence[Item]) -> None:
        for message, _ in items:
            sent = self.sent.get(message.key)
            if sent is None:
                sent = self.sent[message.key] = Sent(message.first_id, message.last_id)
            sent.last_id = message.last_id
            sent.count += 1

    def _deliver(self, items: Sequence[Item], receiving: list[StreamConnection]) -> None:
        messages = [item.message for item in items]
        payloads: dict[tuple[frozenset[Key], bool], tuple[bytes, int]] = {}
        for one in receiving:
            states = self._faults.rules_for(one, messages)
            delayed = self._delayed.setdefault(one.number, {})
            if states or delayed:
                self._deliver_with_faults(one, items, delayed)
            elif items:
                group = one.keys, one.wrapped
                if group not in payloads:
                    parts = [
                        encode_frames(item, wrapped=one.wrapped)
                        for item in items
                        if item.message.key in one.keys
                    ]
                    payloads[group] = b"".join(parts), len(parts)
                one.write(*payloads[group], self.position_us)

    def _deliver_with_faults(
        self, one: StreamConnection, items: Sequence[Item], delayed: DelayedItems
    ) -> None:
        """Send items to a connection that has rules of its own."""
        rest = [item for item in items if item.message.key in one.keys]
        states = self._faults.rules_for(one, [item.message for item in rest])
        while one.receives:
            out, fault = apply_message_faults(states, rest, one.number, delayed)
            one.write(
                b"".join([encode_frames(item, wrapped=one.wrapped) for item in out]),
                len(out),
                self.position_us,
            )
            if fault is None:
                break
            item = rest[fault.position]
            next_frame = encode_frames(item, wrapped=one.wrapped)
            apply_fault(one, fault.rule, item.message.time_us, next_frame)
            if one.receives:
                one.write(next_frame, 1, self.position_us)
            rest = rest[fault.position + 1 :]

    def _apply_periodic_faults(self, connections: list[StreamConnection]) -> None:
        for state in self._faults.periodic_rules():
            receiving = [one for one in connections if one.receives and one.sent]
            target = select_periodic_target(state, receiving, self.position_us)
            if isinstance(target, StreamConnection):
                apply_fault(target, state.rule, self.position_us)

    def _apply_time(self, connections: list[StreamConnection]) -> None:
        """Send late data, apply periodic faults, and close announced, slow and old connections.

        All connections are closed when the feed ends.
        """
        now = self.position_us
        self._apply_periodic_faults(connections)
        for one in connections:
            one.send_late(now)
            if one.close_at_us is not None and now >= one.close_at_us:
                one.close(one.close_with)
            elif one.buffered > self._buffer_bytes and one.receives:
                one.close(1008, "Slow consumer")
            elif now - one.opened_us >= self._life_us and one.state in {State.OPEN, State.SILENT}:
                one.close(1001, "Connection life is over")
        if self._feed.is_finished and not self._is_finished:
            # Connections that open later stay open and receive nothing.
            self._is_finished = True
            for one in connections:
                one.close(1000)


def _subscribed_keys(connections: Iterable[StreamConnection]) -> frozenset[Key]:
    return frozenset[Key]().union(*(one.keys for one in connections))
