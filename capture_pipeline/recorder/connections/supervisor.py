"""Keeps all connections open: replaces a connection before a planned end, and at once after an unplanned one.

Each slot has one connection. If the exchange divides the streams among endpoints, each endpoint has its own
slots. A successor is opened while the old connection still delivers (for its age, or after `serverShutdown`).
The old one is closed when the successor delivers. A silent connection is replaced in the same way, see
`silence`. The first lifetimes differ, so that the slots do not expire together.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator

from capture_pipeline.binance.http.pauses import Limits
from capture_pipeline.binance.streams.names import split_by_route
from capture_pipeline.recorder.connections.connection import Connection, OnMessage
from capture_pipeline.recorder.connections.silence import Silence
from capture_pipeline.sessions.models import Cause

_SUCCESSOR_S = 20.0
"""Seconds after which a successor that answers pings replaces the old one in a quiet market."""
_FIRST_WAIT_S, _MAX_WAIT_S = 0.1, 30.0


class Supervisor:
    """Opens, watches and replaces connections.

    Attributes:
        live: Open connections by number.
    """

    def __init__(
        self,
        url: str,
        *,
        slots: int,
        silence_s: float,
        renew_s: float,
        steady_s: float,
        limits: Limits | None = None,
        on_message: OnMessage,
        on_open: Callable[[Connection], None],
        on_end: Callable[[Connection], None],
    ) -> None:
        """Configure the connections without opening them.

        Args:
            url: Address of the combined stream, possibly of several endpoints (see `split_by_route`).
            slots: Count of simultaneous connections to each endpoint.
            silence_s: Longest time without received bytes before a connection is replaced.
            renew_s: Age at which a connection is replaced.
            steady_s: Lifetime of a connection after which the waits before new ones are reset.
            limits: Limits of the address; None without limits.
            on_message: Receives the number of the connection and the message.
            on_open: Receives each connection that was opened.
            on_end: Receives each connection that ended or could not be opened.
        """
        self.live: dict[int, Connection] = {}
        self._urls, self._limits = split_by_route(url), limits
        self._slots = slots * len(self._urls)
        self._silence_s, self._renew_s, self._steady_s = silence_s, renew_s, steady_s
        self._silences = [Silence(silence_s) for _ in self._urls]
        self._on_message, self._on_open, self._on_end = on_message, on_open, on_end
        self._numbers = iter(range(1, 1 << 62))
        self._stopping = False

    @property
    def is_whole(self) -> bool:
        """Whether every slot has a connection that delivers, or that answers pings in a quiet market."""
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

    def handle_shutdown_notice(self, number: int) -> None:
        """Replace a connection that the exchange is about to close."""
        if number in self.live:
            self.live[number].retire(Cause.SHUTDOWN, "announced by the exchange")

    async def stop(self) -> None:
        """Close all connections."""
        self._stopping = True
        await asyncio.gather(*(connection.close() for connection in list(self.live.values())))

    async def _maintain_slot(self, slot: int) -> None:
        waits = _waits()
        running: tuple[Connection, asyncio.Task[None]] | None = None
        is_first = True
        while not self._stopping:
            if running is None:
                renew_s = self._renew_s * (slot + 1) / self._slots if is_first else self._renew_s
                running, is_first = self._start(slot, renew_s), False
            connection, task = running
            leaving = asyncio.create_task(connection.leaving.wait())
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if task.done():
                task.result()
                if (
                    connection.opened_s is not None
                    and time.monotonic() - connection.opened_s > self._steady_s
                ):
                    waits = _waits()
                running = None
                await asyncio.sleep(next(waits) + connection.wait_s)
            else:
                running = await self._replace(connection, task, slot)

    async def _replace(
        self, old: Connection, task: asyncio.Task[None], slot: int
    ) -> tuple[Connection, asyncio.Task[None]] | None:
        """Replace a connection that still delivers; return None if it ended before its replacement."""
        waits = _waits()
        while not task.done():
            new, new_task = self._start(slot, self._renew_s)
            alive = asyncio.create_task(new.alive.wait())
            await asyncio.wait({alive, new_task}, timeout=_SUCCESSOR_S, return_when=asyncio.FIRST_COMPLETED)
            is_delivering = alive.done()
            alive.cancel()
            is_quiet = new.is_alive and new.cause is not Cause.SILENCE and not new_task.done()
            if is_delivering or is_quiet or task.done():
                await old.close()
                await task
                return new, new_task
            new.abort(Cause.SILENCE, "brought nothing")
            await new_task
            await asyncio.sleep(next(waits) + new.wait_s)
        return None

    def _start(self, slot: int, renew_s: float) -> tuple[Connection, asyncio.Task[None]]:
        connection = Connection(next(self._numbers), slot, self._on_message, limits=self._limits)
        return connection, asyncio.create_task(self._run_connection(connection, renew_s))

    async def _run_connection(self, connection: Connection, renew_s: float) -> None:
        timer: asyncio.TimerHandle | None = None

        def opened(one: Connection) -> None:
            nonlocal timer
            self.live[one.number] = one
            timer = asyncio.get_running_loop().call_later(
                renew_s, one.retire, Cause.LIFE, f"after {renew_s / 3600:.4g} h"
            )
            self._on_open(one)

        try:
            await connection.run(self._urls[connection.slot % len(self._urls)], opened)
        finally:
            if timer is not None:
                timer.cancel()
            self.live.pop(connection.number, None)
            self._on_end(connection)

    async def _check_silence(self) -> None:
        """Ping or replace silent connections; each stays open until its successor can replace it."""
        while True:
            await asyncio.sleep(min(1.0, self._silence_s / 8))
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


def _waits() -> Iterator[float]:
    """Yield the waits before the next attempts: doubling, with jitter so that not all reconnect at once."""
    wait = _FIRST_WAIT_S
    while True:
        yield wait * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        wait = min(wait * 2, _MAX_WAIT_S)
