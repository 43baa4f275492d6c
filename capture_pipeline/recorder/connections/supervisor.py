"""Keeps all connections open: replaces a connection before a planned end, and at once after an unplanned one.

Each slot has one connection. If the exchange divides the streams among endpoints, each endpoint has its own
slots. A successor is opened while the old connection still delivers (for its age, or after `serverShutdown`).
The old one is closed when the successor delivers. A silent connection is replaced in the same way, see
`silence`. The first lifetimes differ, so that the slots do not expire together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

import stamina

from capture_pipeline.binance.http.pauses import Limits
from capture_pipeline.binance.streams.names import split_by_route
from capture_pipeline.recorder.connections.connection import Connection, OnMessage
from capture_pipeline.recorder.connections.silence import Silence
from capture_pipeline.recorder.events import (
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    EventBus,
    ShutdownAnnounced,
)
from capture_pipeline.sessions.models import Cause

_SUCCESSOR_S = 20.0
"""Seconds after which a successor that answers pings replaces the old one in a quiet market."""
_FIRST_WAIT_S, _MAX_WAIT_S = 0.1, 30.0


class _ConnectionEndedError(Exception):
    """End of a connection after less than `steady_s`; the next attempt waits longer."""


@dataclass(frozen=True)
class SlotRules:
    """Rules for the connections to each endpoint.

    Attributes:
        count: Simultaneous connections to each endpoint.
        silence_s: Longest time without received bytes before a connection is replaced.
        renew_s: Age at which a connection is replaced.
        steady_s: Lifetime of a connection after which the waits before new ones are reset.
        limits: Limits of the address; None without limits.
    """

    count: int
    silence_s: float
    renew_s: float
    steady_s: float
    limits: Limits | None = None


class _RunningConnection(NamedTuple):
    connection: Connection
    task: asyncio.Task[None]


class Supervisor:
    """Opens, watches and replaces connections.

    Attributes:
        live: Open connections by number.
    """

    def __init__(self, url: str, rules: SlotRules, on_message: OnMessage, events: EventBus) -> None:
        """Configure the connections without opening them.

        Args:
            url: Address of the combined stream, possibly of several endpoints (see `split_by_route`).
            rules: Number and lifetimes of the connections.
            on_message: Receives the number of the connection and the message.
            events: Receives openings and ends; a connection whose close is announced is replaced.
        """
        self.live: dict[int, Connection] = {}
        self._urls, self._rules = split_by_route(url), rules
        self._slots = rules.count * len(self._urls)
        self._silences = [Silence(rules.silence_s) for _ in self._urls]
        self._on_message, self._events = on_message, events
        events.subscribe(ShutdownAnnounced, self._replace_announced)
        self._numbers = iter(range(1, 1 << 62))
        self._stopping = False

    @property
    def is_whole(self) -> bool:
        """True if every slot has a connection that delivers, or that answers pings in a quiet market."""
        delivering = {
            one.slot for one in self.live.values() if one.is_alive and one.cause is not Cause.SILENCE
        }
        return len(delivering) == self._slots

    async def run(self) -> None:
        """Keep all slots connected until cancelled."""
        async with asyncio.TaskGroup() as group:
            for slot in range(self._slots):
                group.create_task(self._maintain_slot(slot))
            group.create_task(self._check_silence())

    async def stop(self) -> None:
        """Close all connections."""
        self._stopping = True
        await asyncio.gather(*(connection.close() for connection in list(self.live.values())))

    def _replace_announced(self, event: ShutdownAnnounced) -> None:
        if event.connection in self.live:
            self.live[event.connection].retire(Cause.SHUTDOWN, "announced by the exchange")

    async def _maintain_slot(self, slot: int) -> None:
        renew_s = self._rules.renew_s * (slot + 1) / self._slots
        while not self._stopping:
            # A steady connection ends a series of attempts, so the waits of the next series are short again.
            async for attempt in _attempts():
                with attempt:
                    await self._run_slot(slot, renew_s)
            renew_s = self._rules.renew_s

    async def _run_slot(self, slot: int, renew_s: float) -> None:
        """Keep a slot connected until a connection ends unplanned.

        Raises:
            _ConnectionEndedError: The connection was open for less than `steady_s`.
        """
        if self._stopping:
            return
        running = self._start(slot, renew_s)
        while not running.task.done():
            leaving = asyncio.create_task(running.connection.leaving.wait())
            await asyncio.wait({running.task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not running.task.done():
                running = await self._replace(running, slot)
        running.task.result()
        connection = running.connection
        await asyncio.sleep(connection.wait_s)
        opened_s = connection.opened_s
        if opened_s is None or time.monotonic() - opened_s <= self._rules.steady_s:
            raise _ConnectionEndedError(connection.detail)
        await asyncio.sleep(_FIRST_WAIT_S)

    async def _replace(self, old: _RunningConnection, slot: int) -> _RunningConnection:
        """Replace a connection that still delivers.

        Return it unchanged if it ended before its replacement.
        """
        async for attempt in _attempts():
            with attempt:
                if old.task.done():
                    return old
                successor = self._start(slot, self._rules.renew_s)
                new, new_task = successor
                alive = asyncio.create_task(new.alive.wait())
                await asyncio.wait(
                    {alive, new_task}, timeout=_SUCCESSOR_S, return_when=asyncio.FIRST_COMPLETED
                )
                is_delivering = alive.done()
                alive.cancel()
                is_quiet = new.is_alive and new.cause is not Cause.SILENCE and not new_task.done()
                if is_delivering or is_quiet or old.task.done():
                    await old.connection.close()
                    await old.task
                    return successor
                new.abort(Cause.SILENCE, "brought nothing")
                await new_task
                await asyncio.sleep(new.wait_s)
                raise _ConnectionEndedError(new.detail)
        raise AssertionError("stamina ends by returning or raising")

    def _start(self, slot: int, renew_s: float) -> _RunningConnection:
        connection = Connection(next(self._numbers), slot, self._on_message, limits=self._rules.limits)
        task = asyncio.create_task(self._run_connection(connection, renew_s))
        return _RunningConnection(connection, task)

    async def _run_connection(self, connection: Connection, renew_s: float) -> None:
        timer: asyncio.TimerHandle | None = None

        def opened(one: Connection) -> None:
            nonlocal timer
            self.live[one.number] = one
            timer = asyncio.get_running_loop().call_later(
                renew_s, one.retire, Cause.LIFE, f"after {renew_s / 3600:.4g} h"
            )
            self._events.publish(ConnectionOpened(one.number, one.slot))

        try:
            await connection.run(self._urls[connection.slot % len(self._urls)], opened)
        finally:
            if timer is not None:
                timer.cancel()
            self.live.pop(connection.number, None)
            kind = ConnectionRefused if connection.opened_s is None else ConnectionClosed
            cause = connection.cause or Cause.CLOSED
            self._events.publish(kind(connection.number, cause, connection.detail, connection.messages))

    async def _check_silence(self) -> None:
        """Ping or replace silent connections; each stays open until its successor can replace it."""
        while True:
            await asyncio.sleep(min(1.0, self._rules.silence_s / 8))
            for address, silence in enumerate(self._silences):
                lines = [
                    one
                    for one in self.live.values()
                    if one.slot % len(self._urls) == address and not one.leaving.is_set()
                ]
                for connection, reason in silence.check(lines, time.monotonic()):
                    if reason:
                        connection.retire(Cause.SILENCE, reason)
                    else:
                        connection.ping()


def _attempts() -> AsyncIterator[stamina.Attempt]:
    """Yield attempts without end; the waits before them double, with jitter so that slots differ."""
    return aiter(
        stamina.retry_context(
            on=_ConnectionEndedError,
            attempts=None,
            timeout=None,
            wait_initial=_FIRST_WAIT_S,
            wait_max=_MAX_WAIT_S,
            wait_jitter=_FIRST_WAIT_S,
        )
    )
