"""All stream connections: who may open one, what they listen to, and what control sees of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

from capture_pipeline.binance.periods import iso
from capture_pipeline.binance.urls import Market
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.config import SandboxConfig
from sandbox_exchange.constants import FUTURES_HOST, MOST_STREAMS, MOST_TARGET, Route
from sandbox_exchange.faults.matcher import FaultBook, RequestInfo
from sandbox_exchange.faults.rules import FaultRule, Stage
from sandbox_exchange.http.request_log import RequestLog, note_fault
from sandbox_exchange.rest.rate_limiter import AddressLimiter, Part
from sandbox_exchange.streams.connection import State, StreamConnection
from sandbox_exchange.streams.connection_faults import apply_fault
from sandbox_exchange.streams.dispatcher import Dispatcher
from sandbox_exchange.streams.faults import StreamFaults
from sandbox_exchange.streams.messages import Feed, Key

_REMEMBERED = 500
Refusal = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


class StreamHub:
    """The streams of one exchange; everything but its making happens in the server's event loop.

    Attributes:
        ping_every_s: Real seconds between pings, by market.
        pong_within_s: Real seconds that a pong may take, by market.
        on_first: Called once, when a connection listens to a stream for the first time.
    """

    def __init__(
        self,
        feed: Feed | None,
        clock: SandboxClock,
        faults: FaultBook,
        log: RequestLog,
        limits: AddressLimiter,
        config: SandboxConfig,
    ) -> None:
        """Keep the parts.

        Args:
            feed: Messages; None where there are no streams.
            clock: Sandbox time.
            faults: Fault script.
            log: Upgrades are noted there.
            limits: What the address may do.
            config: Limits of connections.
        """
        self._clock = clock
        self._faults = faults
        self._log, self._limits = log, limits
        self.on_first: Callable[[], None] | None = None
        self._connections: dict[int, StreamConnection] = {}
        self._gone: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)
        self._opened = 0
        self._task: asyncio.Task[None] | None = None
        self._pump: Dispatcher | None = None
        if feed is not None:
            life_s, most = config.connection_life_s, config.stream_buffer_bytes
            self._pump = Dispatcher(feed, clock, StreamFaults(faults), life_s=life_s, buffer_bytes=most)
        self.ping_every_s = {Market.SPOT: config.ping_every_s, Market.UM: config.um_ping_every_s}
        self.pong_within_s = {Market.SPOT: config.pong_within_s, Market.UM: config.um_pong_within_s}

    def connection(self, **uvicorn: Any) -> StreamConnection:
        """What uvicorn hands an upgraded connection to."""
        return StreamConnection(self, **uvicorn)

    def now_us(self) -> int:
        """Sandbox time."""
        return self._clock.now_us()

    def admit(self, connection: StreamConnection, query: str) -> Refusal | None:
        """Read path and query of an upgrade; a status, headers and a body where it is refused."""
        scope: dict[str, Any] = {
            "headers": [],
            "method": "GET",
            "path": connection.path,
            "query_string": query.encode(),
        }
        entry = self._log.add(scope, self.now_us())
        refusal = self._refusal(connection, scope)
        entry.status = refusal[0] if refusal else 101
        return refusal

    def _refusal(self, connection: StreamConnection, scope: dict[str, Any]) -> Refusal | None:
        if (refusal := self._limits.refuse(Part.STREAMS, time.time())) is not None:
            return refusal.status, refusal.headers, refusal.body
        rule = self._faults.take(Stage.UPGRADE, RequestInfo("GET", connection.path, connection.query))
        note_fault(scope, rule)
        if rule is not None:
            status = int(rule.number("status", 503))
            waiting = {"Retry-After": str(int(rule.number("retry_after", 1)))} if status in {418, 429} else {}
            return _refusal(status, "Connection refused.", waiting)
        if len(connection.target) > MOST_TARGET:
            return _refusal(414, "Request-URI Too Large")
        connection.market, connection.route, path = _endpoint(connection.path)
        head, _, names = path.partition("/")
        if self._pump is None or head not in {"stream", "ws"} or (head == "stream" and names):
            return _refusal(404, "No such stream endpoint.")
        connection.wrapped = head == "stream"
        names = connection.query.get("streams", "") if connection.wrapped else names
        connection.streams = dict.fromkeys(name for name in names.split("/") if name)
        if len(connection.streams) > MOST_STREAMS and connection.market is Market.SPOT:
            return _refusal(400, f"A connection may listen to at most {MOST_STREAMS} streams.")
        return None

    def joined(self, connection: StreamConnection) -> None:
        """A connection is open."""
        self._opened += 1
        connection.number, connection.opened_us = self._opened, self.now_us()
        self._connections[connection.number] = connection
        self._start()

    def heard(self) -> None:
        """Somebody listens to a stream."""
        if self.on_first is not None:
            self.on_first()
            self.on_first = None

    def left(self, connection: StreamConnection) -> None:
        """A connection is over."""
        if self._connections.pop(connection.number, None) is not None:
            self._gone.append(self._shown(connection))

    def kick(self, which: int | Literal["all"], rule: FaultRule) -> list[int]:
        """Inject a fault of a connection by hand; the numbers of those it hit."""
        meant = [
            one
            for one in self._connections.values()
            if which in {"all", one.number} and one.state in {State.OPEN, State.SILENT}
        ]
        for one in meant:
            apply_fault(one, rule, self.now_us())
            self._faults.note(rule.fault)
        return [one.number for one in meant]

    def state(self) -> dict[str, Any]:
        """What control shows: connections, living and past, and what was sent."""
        sent = self._pump.sent if self._pump else {}
        return {
            "position": iso(self._pump.position_us) if self._pump else None,
            "connections": [self._shown(one) for one in self._connections.values()],
            "gone": list(self._gone),
            "streams": {_name(key): asdict(what) for key, what in sorted(sent.items())},
            "by_hand": self._faults.by_hand,
        }

    def _start(self) -> None:
        if self._pump is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._pump.run(self._connections))

    def _shown(self, one: StreamConnection) -> dict[str, Any]:
        return {
            "number": one.number,
            "path": one.path,
            "streams": list(one.streams),
            "state": str(one.state),
            "messages": one.sent,
            "bytes": one.sent_bytes,
            "buffered": one.buffered,
            "age_s": (self.now_us() - one.opened_us) / 1e6,
            "close_code": one.close_code,
            "faults": one.faults,
        }


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Refusal:
    body = json.dumps({"code": -1003 if headers else 0, "msg": text}).encode()
    return status, {"Content-Type": "application/json", **(headers or {})}, body


def _endpoint(path: str) -> tuple[Market, Route | None, str]:
    """Market and route of an address, and what is left of its path; futures without a route get what is public, as of old."""
    head, _, rest = path.removeprefix("/").partition("/")
    if head != FUTURES_HOST:
        return Market.SPOT, None, path.removeprefix("/")
    route, _, inner = rest.partition("/")
    return (Market.UM, Route(route), inner) if route in set(Route) else (Market.UM, Route.PUBLIC, rest)


def _name(key: Key) -> str:
    """How control names a stream."""
    unit = "?timeUnit=MICROSECOND" if key.micro else ""
    return key.stream + unit if key.market is Market.SPOT else f"{FUTURES_HOST}/{key.stream}"
