"""Registry of all stream connections: admission, faults by hand and the state for the control endpoint."""

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
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.constants import FUTURES_HOST, MAX_STREAMS, MAX_TARGET_LENGTH, StreamRoute
from sandbox_exchange.faults.matcher import FaultInjector, RequestInfo
from sandbox_exchange.faults.rules import FaultRule, FaultStage
from sandbox_exchange.http.request_log import RequestLog, log_fault
from sandbox_exchange.rest.rate_limiter import AddressLimiter, HostGroup
from sandbox_exchange.streams.connection import ConnectionState, StreamConnection
from sandbox_exchange.streams.connection_faults import apply_fault
from sandbox_exchange.streams.dispatcher import Dispatcher
from sandbox_exchange.streams.faults import StreamFaults
from sandbox_exchange.streams.messages import Feed, StreamKey

_MAX_PAST = 500
RefusalResponse = tuple[int, dict[str, str], bytes]
"""Status, headers and body of a response."""


class StreamHub:
    """Stream connections of connection exchange.

    All methods but the constructor run in the event loop of the server.

    Attributes:
        ping_every_s: Real seconds between pings by market.
        pong_within_s: Real seconds within which a client must answer a ping, by market.
        on_first_subscription: Called once, at the first subscription of any connection.
    """

    def __init__(
        self,
        feed: Feed | None,
        clock: SandboxClock,
        faults: FaultInjector,
        log: RequestLog,
        limits: AddressLimiter,
        config: SandboxConfig,
    ) -> None:
        """Create a hub without connections.

        Args:
            feed: Source of the messages; None if no streams are served.
            clock: Sandbox time.
            faults: Fault script.
            log: Log to which handshakes are added.
            limits: Limits of the client's address.
            config: Limits of connections.
        """
        self._clock = clock
        self._faults = faults
        self._log, self._limits = log, limits
        self.on_first_subscription: Callable[[], None] | None = None
        self._connections: dict[int, StreamConnection] = {}
        self._past: deque[dict[str, Any]] = deque(maxlen=_MAX_PAST)
        self._opened = 0
        self._task: asyncio.Task[None] | None = None
        self._dispatcher: Dispatcher | None = None
        if feed is not None:
            life_s, buffer_bytes = config.connection_life_s, config.stream_buffer_bytes
            self._dispatcher = Dispatcher(
                feed, clock, StreamFaults(faults), life_s=life_s, buffer_bytes=buffer_bytes
            )
        self.ping_every_s = {Market.SPOT: config.ping_every_s, Market.UM: config.um_ping_every_s}
        self.pong_within_s = {Market.SPOT: config.pong_within_s, Market.UM: config.um_pong_within_s}

    def create_connection(self, **uvicorn: Any) -> StreamConnection:
        """Create the protocol of an upgraded connection; uvicorn calls this method."""
        return StreamConnection(self, **uvicorn)

    def now_us(self) -> int:
        return self._clock.now_us()

    def admit(self, connection: StreamConnection, query: str) -> RefusalResponse | None:
        """Configure a connection from its path and query; return a response if it is refused."""
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

    def _refusal(self, connection: StreamConnection, scope: dict[str, Any]) -> RefusalResponse | None:
        if (refusal := self._limits.count_request(HostGroup.STREAMS, time.time())) is not None:
            return refusal.status, refusal.headers, refusal.body
        rule = self._faults.select(FaultStage.UPGRADE, RequestInfo("GET", connection.path, connection.query))
        log_fault(scope, rule)
        if rule is not None:
            status = int(rule.number("status", 503))
            headers = {"Retry-After": str(int(rule.number("retry_after", 1)))} if status in {418, 429} else {}
            return _build_refusal(status, "Connection refused.", headers)
        if len(connection.target) > MAX_TARGET_LENGTH:
            return _build_refusal(414, "Request-URI Too Large")
        connection.market, connection.route, path = _split_path(connection.path)
        head, _, names = path.partition("/")
        if self._dispatcher is None or head not in {"stream", "ws"} or (head == "stream" and names):
            return _build_refusal(404, "No such stream endpoint.")
        connection.wrapped = head == "stream"
        names = connection.query.get("streams", "") if connection.wrapped else names
        connection.streams = dict.fromkeys(name for name in names.split("/") if name)
        if len(connection.streams) > MAX_STREAMS and connection.market is Market.SPOT:
            return _build_refusal(400, f"A connection may listen to at most {MAX_STREAMS} streams.")
        return None

    def register(self, connection: StreamConnection) -> None:
        """Add an open connection and start the dispatcher."""
        self._opened += 1
        connection.number, connection.opened_us = self._opened, self.now_us()
        self._connections[connection.number] = connection
        self._start_dispatcher()

    def report_subscription(self) -> None:
        """Call `on_first_subscription` at the first subscription of any connection."""
        if self.on_first_subscription is not None:
            self.on_first_subscription()
            self.on_first_subscription = None

    def unregister(self, connection: StreamConnection) -> None:
        """Move a connection to the list of past connections."""
        if self._connections.pop(connection.number, None) is not None:
            self._past.append(self._describe(connection))

    def inject(self, which: int | Literal["all"], rule: FaultRule) -> list[int]:
        """Inject a fault without the script; return the numbers of the changed connections."""
        targets = [
            connection
            for connection in self._connections.values()
            if which in {"all", connection.number}
            and connection.state in {ConnectionState.OPEN, ConnectionState.SILENT}
        ]
        for connection in targets:
            apply_fault(connection, rule, self.now_us())
            self._faults.record_manual_fault(rule.fault)
        return [connection.number for connection in targets]

    def state(self) -> dict[str, Any]:
        """Return connections and sent messages for the control endpoint."""
        sent = self._dispatcher.sent if self._dispatcher else {}
        return {
            "position": iso(self._dispatcher.position_us) if self._dispatcher else None,
            "connections": [self._describe(connection) for connection in self._connections.values()],
            "gone": list(self._past),
            "streams": {_describe_key(key): asdict(counts) for key, counts in sorted(sent.items())},
            "by_hand": self._faults.manual_counts,
        }

    def _start_dispatcher(self) -> None:
        if self._dispatcher is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._dispatcher.run(self._connections))

    def _describe(self, connection: StreamConnection) -> dict[str, Any]:
        return {
            "number": connection.number,
            "path": connection.path,
            "streams": list(connection.streams),
            "state": str(connection.state),
            "messages": connection.sent,
            "bytes": connection.sent_bytes,
            "buffered": connection.buffered,
            "age_s": (self.now_us() - connection.opened_us) / 1e6,
            "close_code": connection.close_code,
            "faults": connection.faults,
        }


def _build_refusal(status: int, text: str, headers: dict[str, str] | None = None) -> RefusalResponse:
    body = json.dumps({"code": -1003 if headers else 0, "msg": text}).encode()
    return status, {"Content-Type": "application/json", **(headers or {})}, body


def _split_path(path: str) -> tuple[Market, StreamRoute | None, str]:
    """Split a path into market, route and the rest; a futures path without a route has the public route."""
    head, _, rest = path.removeprefix("/").partition("/")
    if head != FUTURES_HOST:
        return Market.SPOT, None, path.removeprefix("/")
    route, _, inner = rest.partition("/")
    return (
        (Market.UM, StreamRoute(route), inner)
        if route in set(StreamRoute)
        else (Market.UM, StreamRoute.PUBLIC, rest)
    )


def _describe_key(key: StreamKey) -> str:
    unit = "?timeUnit=MICROSECOND" if key.micro else ""
    return key.stream + unit if key.market is Market.SPOT else f"{FUTURES_HOST}/{key.stream}"
