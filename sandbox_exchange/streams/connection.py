"""WebSocket protocol of one stream connection: handshake, pings, requests and closes."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from enum import StrEnum
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from capture_pipeline.binance.urls import Market
from sandbox_exchange.constants import MAX_STREAMS, MESSAGES_A_SECOND, StreamRoute, route_of
from sandbox_exchange.http.protocol import LINGER_0
from sandbox_exchange.streams.handshake import HandshakeRefusal, replace_target
from sandbox_exchange.streams.messages import CLOSE, StreamKey, frame, shutdown_frame
from sandbox_exchange.streams.subscriptions import answer

_CLOSE_WITHIN_S = 10.0
MAX_REQUEST_BYTES = 128 << 10
"""Maximum bytes of a request in all its frames; 1,024 names of streams need less."""
_TOO_MANY_STREAMS = b'{"error":{"code":4,"msg":"Too many streams"},"id":null}'
_PARTIAL_FRAME = frame(b'{"stream":"' + b" " * 200)[:60]


class ConnectionState(StrEnum):
    """State of a connection."""

    OPENING = "opening"
    OPEN = "open"
    SILENT = "silent"
    """Control frames are sent, data are not."""
    HALF_OPEN = "half-open"
    """Nothing is sent, and received bytes are ignored."""
    CLOSING = "closing"
    GONE = "gone"


class ConnectionOwner(Protocol):
    """Interface of the hub for the connections that it accepts.

    Attributes:
        ping_every_s: Seconds between two pings of a market.
        pong_within_s: Seconds within which a ping must be answered, by market.
    """

    ping_every_s: dict[Market, float]
    pong_within_s: dict[Market, float]

    def now_us(self) -> int: ...

    def admit(self, connection: StreamConnection, query: str) -> HandshakeRefusal | None: ...

    def register(self, connection: StreamConnection) -> None: ...

    def unregister(self, connection: StreamConnection) -> None: ...

    def report_subscription(self) -> None: ...


class StreamConnection(asyncio.Protocol):
    """WebSocket protocol of one connection; uvicorn creates it when an HTTP connection is upgraded.

    Attributes:
        number: Number in order of opening, from 1; 0 before the handshake.
        target: Path and query as received.
        path: Decoded path.
        query: Query parameters.
        streams: Subscribed names, in order.
        market: Market whose streams the path serves.
        route: Endpoint of the futures host; None if the endpoint serves all streams.
        keys: Subscribed streams that the endpoint serves, with their unit of time.
        micro: Whether times are in microseconds.
        wrapped: Whether messages have the envelope of the combined stream.
        opened_us: Sandbox time of the handshake.
        sent: Number of data messages sent.
        sent_bytes: Bytes of the data messages sent.
        faults: Kinds of the injected faults.
        state: State of the connection.
        close_code: Close code that this side sent.
        close_at_us: Market time of an announced close, with code `close_with`.
        lag_us: Delay of the data, microseconds of market time.
    """

    def __init__(self, hub: ConnectionOwner, *, server_state: Any, **_uvicorn: Any) -> None:
        """Create a connection; uvicorn passes `server_state`, in which it counts connections."""
        self._hub = hub
        self._server_state = server_state
        self._protocol = ServerProtocol(max_size=MAX_REQUEST_BYTES)
        self._transport: asyncio.Transport
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._inbound: deque[float] = deque(maxlen=max(MESSAGES_A_SECOND.values()) + 1)
        self._late: deque[tuple[int, bytes, int]] = deque()
        self._parts: list[bytes] = []
        self.target = ""
        self.number = 0
        self.path = ""
        self.query: dict[str, str] = {}
        self.streams: dict[str, None] = {}
        self.market = Market.SPOT
        self.route: StreamRoute | None = None
        self.keys: frozenset[StreamKey] = frozenset()
        self.micro = False
        self.wrapped = True
        self.opened_us = 0
        self.sent = self.sent_bytes = 0
        self.faults: list[str] = []
        self.state = ConnectionState.OPENING
        self.close_code: int | None = None
        self.close_at_us: int | None = None
        self.close_with = 1001
        self.lag_us = 0

    @property
    def is_receiving(self) -> bool:
        """True if data are sent to the client."""
        return self.state is ConnectionState.OPEN

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client or, with a lag, for their time."""
        late = sum(len(payload) for _, payload, _ in self._late)
        return late + (0 if self.state is ConnectionState.GONE else self._transport.get_write_buffer_size())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport and register the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._server_state.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Process a handshake, requests, pongs and close frames."""
        if self.state in {ConnectionState.HALF_OPEN, ConnectionState.GONE}:
            return
        if self.state is ConnectionState.OPENING and not self.target:
            self.target, data = replace_target(data)
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame) and self._is_within_rate():
                self._process_frame(event)
        self._flush()

    def eof_received(self) -> None:
        """Process the end of the data from the client."""
        if self.state is not ConnectionState.HALF_OPEN:
            self._protocol.receive_eof()
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers and unregister the connection."""
        del exc
        self.state = ConnectionState.GONE
        self._late.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._server_state.connections.discard(self)
        self._hub.unregister(self)

    def shutdown(self) -> None:
        """Announce the shutdown and close; uvicorn calls this method when the server stops."""
        if self.state is ConnectionState.HALF_OPEN:
            self.reset()
        elif self.state in {ConnectionState.OPEN, ConnectionState.SILENT}:
            self.announce(self._hub.now_us())
            self.close(1001)
            self._schedule("close", 0.05, self._transport.abort)
        else:
            self._transport.abort()

    def announce(self, now_us: int) -> None:
        """Send the message that announces a close by the exchange."""
        self._transport.write(shutdown_frame(now_us, wrapped=self.wrapped, micro=self.micro))

    def write(self, payload: bytes, messages: int, due_us: int) -> None:
        """Send frames, or store them until market time `due_us + lag_us`."""
        if self.lag_us:
            self._late.append((due_us + self.lag_us, payload, messages))
        elif payload:
            self._transport.write(payload)
            self.sent += messages
            self.sent_bytes += len(payload)

    def send_late(self, now_us: int) -> None:
        """Send the stored frames that are due."""
        while self._late and self.is_receiving and self._late[0][0] <= now_us:
            _, payload, messages = self._late.popleft()
            self._transport.write(payload)
            self.sent += messages
            self.sent_bytes += len(payload)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; end the connection if the client does not answer within `_CLOSE_WITHIN_S`."""
        if self._protocol.state is OPEN:
            self.state, self.close_code = ConnectionState.CLOSING, code
            self._protocol.send_close(code, reason)
            self._flush()
            self._schedule("close", _CLOSE_WITHIN_S, self._transport.abort)

    def close_half(self, code: int) -> None:
        """Send a close frame, and keep the TCP connection open even if the client answers."""
        self._transport.write(frame(code.to_bytes(2, "big"), CLOSE))
        self.state, self.close_code = ConnectionState.HALF_OPEN, code

    def cut(self, partial: bytes = b"") -> None:
        """End the TCP connection in the middle of a frame."""
        self.state = ConnectionState.CLOSING
        self._transport.write(partial or _PARTIAL_FRAME)
        self._transport.close()

    def reset(self) -> None:
        self.state = ConnectionState.CLOSING
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        self._transport.abort()

    def _open(self, request: Request) -> None:
        split = urlsplit(self.target)
        self.path, self.query = unquote(split.path), dict(parse_qsl(split.query, keep_blank_values=True))
        refusal = self._hub.admit(self, split.query)
        self.micro = self.market is Market.SPOT and self.query.get("timeUnit", "").upper() == "MICROSECOND"
        response = self._protocol.accept(request) if refusal is None else refusal.build_response()
        self._protocol.send_response(response)
        if self._protocol.state is OPEN:
            self.state = ConnectionState.OPEN
            self._hub.register(self)
            if len(self.streams) > MAX_STREAMS:
                self._flush()
                self._transport.write(frame(_TOO_MANY_STREAMS))
                self.close(1008, "Invalid request")
                return
            self._update_keys()
            self._schedule("ping", self._hub.ping_every_s[self.market], self._ping)

    def _update_keys(self) -> None:
        served = [name for name in self.streams if self.route in {None, route_of(name)}]
        self.keys = frozenset(StreamKey(name, self.micro, self.market) for name in served)
        if self.keys:
            self._hub.report_subscription()

    def _is_within_rate(self) -> bool:
        """Count a frame of the client; above the rate limit close the connection and return False."""
        now, limit = asyncio.get_running_loop().time(), MESSAGES_A_SECOND[self.market]
        self._inbound.append(now)
        if len(self._inbound) > limit and now - self._inbound[-limit - 1] < 1:
            self.close(1008, "Too many requests")
            return False
        return True

    def _process_frame(self, event: Frame) -> None:
        if event.opcode is Opcode.PONG and "pong" in self._timers:
            self._timers.pop("pong").cancel()
        elif event.opcode is Opcode.BINARY:
            self.close(CloseCode.UNSUPPORTED_DATA, "Requests are text")
        elif event.opcode in {Opcode.TEXT, Opcode.CONT} and self.state in {
            ConnectionState.OPEN,
            ConnectionState.SILENT,
        }:
            # The library closes a connection if a message is too long or its frames are in a wrong order.
            self._parts.append(bytes(event.data))
            if event.fin:
                text, self._parts = b"".join(self._parts), []
                self._answer(text)

    def _answer(self, text: bytes) -> None:
        try:
            text.decode()
        except UnicodeDecodeError:
            self.close(CloseCode.INVALID_DATA, "Requests are UTF-8")
            return
        self._transport.write(frame(answer(self, text)))
        self._update_keys()

    def _ping(self) -> None:
        if self.state in {ConnectionState.OPEN, ConnectionState.SILENT}:
            self._protocol.send_ping(str(self._hub.now_us() // 1000).encode())
            self._flush()
            if "pong" not in self._timers:
                self._schedule("pong", self._hub.pong_within_s[self.market], self._close_after_pong_timeout)
            self._schedule("ping", self._hub.ping_every_s[self.market], self._ping)

    def _close_after_pong_timeout(self) -> None:
        if self.state is not ConnectionState.HALF_OPEN:
            self.close(1008, "Pong timeout")

    def _schedule(self, name: str, seconds: float, call: Any) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, call)

    def _flush(self) -> None:
        """Write the pending bytes of the protocol; an empty item means the end of the connection."""
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self.state = ConnectionState.CLOSING
                self._end()

    def _end(self) -> None:
        """End the connection.

        After a protocol error the client may still send; a reset would then discard the close code.
        """
        if isinstance(self._protocol.parser_exc, ProtocolError | PayloadTooBig):
            self._transport.write_eof()
            self._schedule("close", _CLOSE_WITHIN_S, self._transport.abort)
        else:
            self._transport.close()
