"""All stream connections: who may open one, what they listen to, and what control sees of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

from capture_pipeline.binance.periods import iso
from capture_pipeline.binance.streams import MOST_STREAMS, Route
from capture_pipeline.binance.urls import Market
from capture_pipeline.sandbox.clock import SandboxClock
from capture_pipeline.sandbox.fault_script import FaultRule, Stage
from capture_pipeline.sandbox.faults import Ask, FaultBook
from capture_pipeline.sandbox.log import RequestLog, note_fault
from capture_pipeline.sandbox.settings import SandboxConfig
from capture_pipeline.sandbox.stream_connection import State, StreamConnection
from capture_pipeline.sandbox.stream_faults import StreamFaults
from capture_pipeline.sandbox.stream_messages import Feed, Key
from capture_pipeline.sandbox.stream_pump import Pump
from capture_pipeline.sandbox.stream_strike import strike

_REMEMBERED = 500
MAX_TARGET = 8000
"""Characters of path and query when a connection is opened. Not documented; 8,004 of a whole URL were measured at the exchange."""
_FUTURES = "fstream"
"""First folder of the futures' streams, which are a host of their own at the exchange."""
Refusal = tuple[int, dict[str, str], dict[str, Any]]


class StreamHub:
    """The streams of one exchange; everything but its making happens in the server's event loop.

    Attributes:
        pings: By market, real seconds between pings and real seconds that a pong may take.
        on_first: Called once, when a connection listens to a stream for the first time.
        attempts: Requests to open a connection, refused ones included.
        refused: Refused ones.
    """

    def __init__(self, feed: Feed | None, clock: SandboxClock, faults: FaultBook, log: RequestLog, config: SandboxConfig) -> None:
        """Keep the parts.

        Args:
            feed: Messages; None where there are no streams.
            clock: Sandbox time.
            faults: Fault script.
            log: Upgrades are noted there.
            config: Limits of connections.
        """
        self._clock = clock
        self._faults = faults
        self._log = log
        self.on_first: Callable[[], None] | None = None
        self._connections: dict[int, StreamConnection] = {}
        self._gone: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)
        self._opened = 0
        self._task: asyncio.Task[None] | None = None
        self._pump: Pump | None = None
        if feed is not None:
            life_s, most = config.connection_life_s, config.stream_buffer_bytes
            self._pump = Pump(feed, clock, StreamFaults(faults), life_s=life_s, buffer_bytes=most)
        self.attempts = self.refused = 0
        self.pings = {
            Market.SPOT: (config.ping_every_s, config.pong_within_s),
            Market.UM: (config.um_ping_every_s, config.um_pong_within_s),
        }

    def connection(self, **uvicorn: Any) -> StreamConnection:
        """What uvicorn hands an upgraded connection to."""
        return StreamConnection(self, **uvicorn)

    def now_us(self) -> int:
        """Sandbox time."""
        return self._clock.now_us()

    def admit(self, connection: StreamConnection, query: str) -> Refusal | None:
        """Read path and query of an upgrade; a status, headers and a body where it is refused."""
        scope: dict[str, Any] = {"headers": [], "method": "GET", "path": connection.path, "query_string": query.encode()}
        entry = self._log.add(scope, self.now_us())
        refusal = self._refusal(connection, scope)
        self.attempts += 1
        self.refused += refusal is not None
        entry.status = refusal[0] if refusal else 101
        return refusal

    def _refusal(self, connection: StreamConnection, scope: dict[str, Any]) -> Refusal | None:
        rule = self._faults.take(Stage.UPGRADE, Ask("GET", connection.path, connection.query))
        note_fault(scope, rule)
        if rule is not None:
            status = int(rule.number("status", 503))
            waiting = {"Retry-After": str(int(rule.number("retry_after", 1)))} if status in {418, 429} else {}
            return status, waiting, {"code": -1003 if waiting else 0, "msg": "Connection refused."}
        if len(connection.target) > MAX_TARGET:
            return 414, {}, {"code": 0, "msg": "Request-URI Too Large"}
        connection.market, connection.route, path = _endpoint(connection.path)
        head, _, names = path.partition("/")
        if self._pump is None or head not in {"stream", "ws"} or (head == "stream" and names):
            return 404, {}, {"code": 0, "msg": "No such stream endpoint."}
        connection.wrapped = head == "stream"
        names = connection.query.get("streams", "") if connection.wrapped else names
        connection.streams = dict.fromkeys(name for name in names.split("/") if name)
        if len(connection.streams) > MOST_STREAMS and connection.market is Market.SPOT:
            return 400, {}, {"code": 0, "msg": f"A connection may listen to at most {MOST_STREAMS} streams."}
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
        meant = [one for one in self._connections.values() if which in {"all", one.number} and one.state in {State.OPEN, State.SILENT}]
        for one in meant:
            strike(one, rule, self.now_us())
            self._faults.note(rule.fault)
        return [one.number for one in meant]

    def state(self) -> dict[str, Any]:
        """What control shows: connections, living and past, and what was sent."""
        sent = self._pump.sent if self._pump else {}
        return {
            "position": iso(self._pump.position_us) if self._pump else None,
            "attempts": self.attempts,
            "refused": self.refused,
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


def _endpoint(path: str) -> tuple[Market, Route | None, str]:
    """Market and route of an address, and what is left of its path; futures without a route get what is public, as of old."""
    head, _, rest = path.removeprefix("/").partition("/")
    if head != _FUTURES:
        return Market.SPOT, None, path.removeprefix("/")
    route, _, inner = rest.partition("/")
    return (Market.UM, Route(route), inner) if route in set(Route) else (Market.UM, Route.PUBLIC, rest)


def _name(key: Key) -> str:
    """How control names a stream."""
    unit = "?timeUnit=MICROSECOND" if key.micro else ""
    return key.stream + unit if key.market is Market.SPOT else f"{_FUTURES}/{key.stream}"
