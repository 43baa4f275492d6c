"""The pump: gives stream connections the market's messages as sandbox time goes by, each rendered once, in order of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.streams.connection import State, StreamConnection
from sandbox_exchange.streams.connection_faults import apply_fault
from sandbox_exchange.streams.faults import Held, StreamFaults, applied, in_turn
from sandbox_exchange.streams.messages import Feed, Item, Key, frames_of

_TICK_S = 0.01
_CHUNK_US = 20_000_000
_BEHIND_S = 2.0
_PATIENCE_S = 5.0


@dataclass
class Sent:
    """What went out on a stream: ids of the first and of the last message, and how many messages."""

    first_id: int
    last_id: int
    count: int = 0


class Dispatcher:
    """Moves messages from a feed to connections.

    Attributes:
        position_us: Market time up to which messages have gone out.
        sent: By stream, what went out to at least one connection.
    """

    def __init__(
        self, feed: Feed, clock: SandboxClock, faults: StreamFaults, *, life_s: float, buffer_bytes: int
    ) -> None:
        """Keep the parts.

        Args:
            feed: Messages.
            clock: Market time.
            faults: Rules about streams.
            life_s: Age in sandbox seconds at which a connection is closed.
            buffer_bytes: A connection with more unsent bytes is closed as too slow.
        """
        self._feed = feed
        self._clock = clock
        self._faults = faults
        self._life_us = round(life_s * 1e6)
        self._buffer_bytes = buffer_bytes
        self._held: dict[int, Held] = {}
        self._blocked_since: float | None = None
        self._ended = False
        self.position_us = clock.now_us()
        self.sent: dict[Key, Sent] = {}

    async def run(self, connections: dict[int, StreamConnection]) -> None:
        """Send messages as long as there are connections, or the feed goes on without them."""
        self.position_us = self._clock.now_us()
        while connections or self._feed.goes_on:
            until_us = min(self._clock.now_us(), self.position_us + _CHUNK_US)
            await self._render(connections, until_us)
            behind = self._step(list(connections.values()), until_us)
            self._held = {number: held for number, held in self._held.items() if number in connections}
            await asyncio.sleep(0 if behind else _TICK_S)

    async def _render(self, connections: dict[int, StreamConnection], until_us: int) -> None:
        """Render what `_step` sends, and let the server work in between; also for connections that open meanwhile."""
        rendered = frozenset[Key]()
        while not rendered >= (keys := _keys(one for one in connections.values() if one.receives)):
            rendered = keys
            for _ in self._feed.render(keys, self.position_us, until_us):
                await asyncio.sleep(0)

    def _step(self, connections: list[StreamConnection], until_us: int) -> bool:
        """Send what came up to a time; whether there is more by now."""
        now = self._clock.now_us()
        receiving = [one for one in connections if one.receives]
        if self._must_wait(receiving, now):
            return False
        keys = _keys(receiving)
        # If the clock was set back, the window is empty and ends there.
        messages, reached = self._feed.window(keys, self.position_us, until_us)
        self.position_us = reached
        items = self._faults.on_streams(messages)
        self._count(items)
        self._deliver(items, receiving)
        self._look_after(connections)
        return reached < now

    def _must_wait(self, receiving: list[StreamConnection], now: int) -> bool:
        """Whether a jump of the clock is being made up for and clients lag; they get some seconds to catch up."""
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
            lines = self._faults.lines_of(one, messages)
            held = self._held.setdefault(one.number, {})
            if lines or held:
                self._deliver_alone(one, items, held)
            elif items:
                group = one.keys, one.wrapped
                if group not in payloads:
                    parts = [
                        frames_of(item, wrapped=one.wrapped) for item in items if item.message.key in one.keys
                    ]
                    payloads[group] = b"".join(parts), len(parts)
                one.write(*payloads[group], self.position_us)

    def _deliver_alone(self, one: StreamConnection, items: Sequence[Item], held: Held) -> None:
        """To a connection with faults of its own."""
        rest = [item for item in items if item.message.key in one.keys]
        lines = self._faults.lines_of(one, [item.message for item in rest])
        while one.receives:
            out, hit = applied(lines, rest, one.number, held)
            one.write(
                b"".join([frames_of(item, wrapped=one.wrapped) for item in out]), len(out), self.position_us
            )
            if hit is None:
                break
            following = frames_of(rest[hit.at], wrapped=one.wrapped)
            apply_fault(one, hit.rule, rest[hit.at].message.time_us, following)
            if one.receives:
                one.write(following, 1, self.position_us)
            rest = rest[hit.at + 1 :]

    def _take_turns(self, connections: list[StreamConnection]) -> None:
        for line in self._faults.periodic():
            one = in_turn(line, [one for one in connections if one.receives and one.sent], self.position_us)
            if isinstance(one, StreamConnection):
                apply_fault(one, line.rule, self.position_us)

    def _look_after(self, connections: list[StreamConnection]) -> None:
        """What comes with time: late data, periodic faults, and the ends of announced, slow and old connections and of the feed."""
        now = self.position_us
        self._take_turns(connections)
        for one in connections:
            one.send_late(now)
            if one.close_at_us is not None and now >= one.close_at_us:
                one.close(one.close_with)
            elif one.buffered > self._buffer_bytes and one.receives:
                one.close(1008, "Slow consumer")
            elif now - one.opened_us >= self._life_us and one.state in {State.OPEN, State.SILENT}:
                one.close(1001, "Connection life is over")
        if self._feed.ended and not self._ended:
            # Who comes later stays connected and gets nothing.
            self._ended = True
            for one in connections:
                one.close(1000)


def _keys(connections: Iterable[StreamConnection]) -> frozenset[Key]:
    return frozenset[Key]().union(*(one.keys for one in connections))
