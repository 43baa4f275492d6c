"""Dispatcher: send the messages of a feed to the stream connections as sandbox time passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.streams.connection import ConnectionState, StreamConnection
from sandbox_exchange.streams.connection_faults import apply_fault
from sandbox_exchange.streams.faults import (
    DelayedMessages,
    StreamFaults,
    apply_message_faults,
    select_periodic_target,
)
from sandbox_exchange.streams.messages import Feed, OutgoingMessage, StreamKey, encode_frames

_TICK_S = 0.01
_MAX_STEP_US = 20_000_000
_MIN_JUMP_S = 2.0
_MAX_WAIT_S = 5.0


@dataclass
class SentMessages:
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
        self._delayed: dict[int, DelayedMessages] = {}
        self._blocked_since: float | None = None
        self._is_finished = False
        self.position_us = clock.now_us()
        self.sent: dict[StreamKey, SentMessages] = {}

    async def run(self, connections: dict[int, StreamConnection]) -> None:
        """Send messages while a connection is open or the feed runs without listeners."""
        self.position_us = self._clock.now_us()
        while connections or self._feed.runs_without_listeners:
            now_us = self._clock.now_us()
            until_us = min(now_us, self.position_us + _MAX_STEP_US)
            await self._render(connections, until_us)
            has_more = self._step(list(connections.values()), until_us, now_us)
            self._delayed = {
                number: delayed for number, delayed in self._delayed.items() if number in connections
            }
            await asyncio.sleep(0 if has_more else _TICK_S)

    async def _render(self, connections: dict[int, StreamConnection], until_us: int) -> None:
        """Render the messages that `_step` sends, in pieces, so that the server can answer pings.

        Connections that open during the rendering are included.
        """
        rendered = frozenset[StreamKey]()
        while not rendered >= (
            keys := _subscribed_keys(
                connection for connection in connections.values() if connection.is_receiving
            )
        ):
            rendered = keys
            for _ in self._feed.render(keys, self.position_us, until_us):
                await asyncio.sleep(0)

    def _step(self, connections: list[StreamConnection], until_us: int, now_us: int) -> bool:
        """Send the messages up to a time.

        Return whether more messages were due when the step began, at `now_us`.
        """
        receiving = [connection for connection in connections if connection.is_receiving]
        if self._must_wait(receiving, now_us):
            return False
        keys = _subscribed_keys(receiving)
        # If the clock was set back, the window is empty and ends there.
        messages, end_us = self._feed.window(keys, self.position_us, until_us)
        self.position_us = end_us
        items = self._faults.apply_to_all(messages)
        self._count(items)
        self._deliver(items, receiving)
        self._apply_time(connections)
        return end_us < now_us

    def _must_wait(self, receiving: list[StreamConnection], now: int) -> bool:
        """Return whether to wait for slow clients after a jump of the clock, for at most `_MAX_WAIT_S`."""
        is_jump = now - self.position_us > _MIN_JUMP_S * 1e6 * max(1.0, self._clock.speed)
        if not is_jump or all(connection.buffered * 2 < self._buffer_bytes for connection in receiving):
            self._blocked_since = None
            return False
        self._blocked_since = self._blocked_since or time.monotonic()
        return time.monotonic() - self._blocked_since < _MAX_WAIT_S

    def _count(self, items: Sequence[OutgoingMessage]) -> None:
        for message, _ in items:
            sent = self.sent.get(message.key)
            if sent is None:
                sent = self.sent[message.key] = SentMessages(message.first_id, message.last_id)
            sent.last_id = message.last_id
            sent.count += 1

    def _deliver(self, items: Sequence[OutgoingMessage], receiving: list[StreamConnection]) -> None:
        messages = [item.message for item in items]
        payloads: dict[tuple[frozenset[StreamKey], bool], tuple[bytes, int]] = {}
        for connection in receiving:
            states = self._faults.rules_for(connection, messages)
            delayed = self._delayed.setdefault(connection.number, {})
            if states or delayed:
                self._deliver_with_faults(connection, items, delayed)
            elif items:
                group = connection.keys, connection.wrapped
                if group not in payloads:
                    parts = [
                        encode_frames(item, wrapped=connection.wrapped)
                        for item in items
                        if item.message.key in connection.keys
                    ]
                    payloads[group] = b"".join(parts), len(parts)
                connection.write(*payloads[group], self.position_us)

    def _deliver_with_faults(
        self, connection: StreamConnection, items: Sequence[OutgoingMessage], delayed: DelayedMessages
    ) -> None:
        """Send items to a connection that has rules of its own."""
        rest = [item for item in items if item.message.key in connection.keys]
        states = self._faults.rules_for(connection, [item.message for item in rest])
        while connection.is_receiving:
            out, fault = apply_message_faults(states, rest, connection.number, delayed)
            connection.write(
                b"".join([encode_frames(item, wrapped=connection.wrapped) for item in out]),
                len(out),
                self.position_us,
            )
            if fault is None:
                break
            item = rest[fault.position]
            next_frame = encode_frames(item, wrapped=connection.wrapped)
            apply_fault(connection, fault.rule, item.message.time_us, next_frame)
            if connection.is_receiving:
                connection.write(next_frame, 1, self.position_us)
            rest = rest[fault.position + 1 :]

    def _apply_periodic_faults(self, connections: list[StreamConnection]) -> None:
        for state in self._faults.periodic_rules():
            receiving = [
                connection for connection in connections if connection.is_receiving and connection.sent
            ]
            target = select_periodic_target(state, receiving, self.position_us)
            if isinstance(target, StreamConnection):
                apply_fault(target, state.rule, self.position_us)

    def _apply_time(self, connections: list[StreamConnection]) -> None:
        """Send late data, apply periodic faults, and close announced, slow and old connections.

        All connections are closed when the feed ends.
        """
        now = self.position_us
        self._apply_periodic_faults(connections)
        for connection in connections:
            connection.send_late(now)
            if connection.close_at_us is not None and now >= connection.close_at_us:
                connection.close(connection.close_with)
            elif connection.buffered > self._buffer_bytes and connection.is_receiving:
                connection.close(1008, "Slow consumer")
            elif now - connection.opened_us >= self._life_us and connection.state in {
                ConnectionState.OPEN,
                ConnectionState.SILENT,
            }:
                connection.close(1001, "Connection life is over")
        if self._feed.is_finished and not self._is_finished:
            # Connections that open later stay open and receive nothing.
            self._is_finished = True
            for connection in connections:
                connection.close(1000)


def _subscribed_keys(connections: Iterable[StreamConnection]) -> frozenset[StreamKey]:
    return frozenset[StreamKey]().union(*(connection.keys for connection in connections))
