"""One WebSocket connection: it passes each message on at once and reports its end with the cause.

Proxy and trusted certificates are chosen by `binance.http.network`, as for REST. The websockets library does
the handshake, control frames and the close. Messages are cut out of the bytes before the library sees them,
which takes a fraction of its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidProxyStatus, InvalidStatus, WebSocketException
from websockets.protocol import State

from capture_pipeline.binance.http.network import Egress, Proxy, egress_of
from capture_pipeline.binance.http.pauses import Limits, Pause
from capture_pipeline.errors import CaptureError
from capture_pipeline.recorder.connections.admission import HandshakeRefusal, count_attempt, record_refusal
from capture_pipeline.recorder.connections.frame_parser import CLOSE, PING, FrameError, FrameParser
from capture_pipeline.sessions.models import Cause

OPEN_S, CLOSE_S = 10.0, 1.0
MAX_MESSAGE_BYTES = 2 << 20
"""Bytes of a message. The largest message of the exchange has 5000 levels per side and 0.3 MB."""
USER_AGENT = "capture-pipeline"
_END_OF_HEAD = b"\r\n\r\n"
_MAX_HEAD = 64 << 10
_MAX_PINGS = 100
# A host name that cannot be encoded is a UnicodeError.
_FAILURES = (OSError, TimeoutError, WebSocketException, EOFError, UnicodeError)
OnMessage = Callable[[int, bytes], None]
T = TypeVar("T")


@dataclass
class Connection:
    """One connection from its opening to its end.

    Attributes:
        number: Number of the connection in the session, from 1.
        slot: Index of the slot that the connection occupies.
        opened_s: Monotonic time of the opening; None before.
        last_s: Monotonic time of the last message; before the first one, the time of the opening.
        last_bytes_s: Monotonic time of the last received bytes; at first, the time of the opening.
        pinged_s: Monotonic time of the last sent ping; None before.
        messages: Count of received messages.
        alive: Set by the first message.
        leaving: Set when the connection is to be replaced, for its age or an announced close.
        cause: Reason for the end of the connection.
        detail: Close code or error.
        failure: Exception of the code that processes messages; raised by `run`.
        answer: Status and headers of the answer to the handshake; None before.
        pings_s: Monotonic times of the last received pings.
        limits: Limits to check before the handshake and to update after a refusal; None without limits.
        wait_s: Seconds to wait before the next attempt, from the exchange or the limit of attempts.
    """

    number: int
    slot: int
    on_message: OnMessage
    opened_s: float | None = None
    last_s: float = 0.0
    last_bytes_s: float = 0.0
    pinged_s: float | None = None
    messages: int = 0
    alive: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    cause: Cause | None = None
    detail: str = ""
    failure: Exception | None = None
    answer: tuple[int, dict[str, str]] | None = None
    pings_s: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_PINGS))
    limits: Limits | None = None
    wait_s: float = 0.0
    _refusal: HandshakeRefusal | None = None
    _socket: _Socket | None = None

    async def run(self, url: str, on_open: Callable[[Connection], None]) -> None:
        """Receive messages until the connection ends, and set `cause` and `detail`.

        Errors of the network and of its settings do not raise.
        """
        proxy: Proxy | None = None
        try:
            egress = egress_of(url)
            proxy = egress.proxy
            self._end_for_pause(await count_attempt(self.limits))
            if self.cause is None:
                await self._receive_messages(url, egress, on_open)
        except InvalidStatus as error:
            response = error.response
            headers = dict(response.headers.raw_items())
            self.answer = response.status_code, headers
            lower = {name.lower(): value for name, value in headers.items()}
            self._refusal = HandshakeRefusal(response.status_code, lower, bytes(response.body or b""))
        except InvalidProxyStatus as error:
            self._set_end(proxy.refusal(error.response.status_code) if proxy else str(error))
        except CaptureError as error:
            self._set_end(str(error))
        except _FAILURES as error:
            self._set_end(self._failure_text(error, proxy))
        finally:
            self._release_socket()
        if self._refusal is not None:
            self._end_for_pause(await record_refusal(self.limits, self._refusal))
            self._set_end(f"refused with HTTP {self._refusal.status}")
        self._raise_failure()

    def _end_for_pause(self, pause: Pause | None) -> None:
        """End with the pause as the reason, if there is one: no request may be sent for some time."""
        if pause is not None:
            self.wait_s = max(0.0, pause.left_s(time.time()))
            self._set_end(pause.text)

    async def _receive_messages(
        self, url: str, egress: Egress, on_open: Callable[[Connection], None]
    ) -> None:
        """Open the connection and receive until it ends."""
        try:
            async with _Connect(
                url,
                create_connection=_Socket,
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                ping_interval=None,
                user_agent_header=USER_AGENT,
                **_egress_arguments(url, egress),
            ) as socket:
                if not isinstance(socket, _Socket):
                    raise TypeError(type(socket))
                self._socket = socket
                if socket.response is not None:
                    self.answer = socket.response.status_code, dict(socket.response.headers.raw_items())
                self._mark_open(on_open)
                socket.begin(partial(self.on_message, self.number), self._guard, self._note_ping)
                await socket.wait_closed()
                await socket.wait_until_parsed()
                self._set_end(_close_text(socket.protocol.close_exc))
        except ConnectionClosed as error:
            self._set_end(_close_text(error))

    def _failure_text(self, error: Exception, proxy: Proxy | None) -> str:
        """Describe why the connection failed, with the proxy if it failed on the way through one."""
        text = f"{type(error).__name__}: {error}"[:200]
        return f"through the proxy {proxy}: {text}" if proxy is not None and self.opened_s is None else text

    def _release_socket(self) -> None:
        if self._socket is not None:
            self._socket.end()
        self._socket = None

    def _mark_open(self, on_open: Callable[[Connection], None]) -> None:
        self.opened_s = self.last_s = self.last_bytes_s = time.monotonic()
        on_open(self)

    def _note_ping(self) -> None:
        self.pings_s.append(time.monotonic())

    def _guard(self, feed: Callable[[T], int], data: T) -> None:
        """Pass bytes to the frame parser and count the messages in them."""
        try:
            count = feed(data)
        except FrameError as error:
            self._fail(error)
            return
        except Exception as error:  # noqa: BLE001 - `run` raises it; an event loop would only log it
            self.failure = error
            self.abort(Cause.CLOSED, "a bug in the recorder")
            return
        self.last_bytes_s = time.monotonic()
        if count:
            self.last_s = self.last_bytes_s
            if not self.messages:
                self.alive.set()
            self.messages += count

    def _fail(self, error: FrameError) -> None:
        """End at once after a protocol violation; the peer receives the close code."""
        if self._socket is not None:
            self._socket.protocol.fail(error.code, error.reason)
            self._socket.send_data()
        self.abort(Cause.PROTOCOL, str(error))

    def _set_end(self, detail: str, cause: Cause = Cause.CLOSED) -> None:
        if self.cause is None:
            self.cause, self.detail = cause, detail

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    @property
    def is_alive(self) -> bool:
        """Whether the peer has sent bytes since the opening."""
        return self.opened_s is not None and self.last_bytes_s > self.opened_s

    def ping(self) -> None:
        """Send a ping, unless the peer has not read the earlier data yet."""
        self.pinged_s = time.monotonic()
        self._send_ping()

    def _send_ping(self) -> None:
        if (
            self._socket is not None
            and not self._socket.transport.get_write_buffer_size()
            and self._socket.protocol.state is State.OPEN
        ):
            self._socket.protocol.send_ping(b"")
            self._socket.send_data()

    def retire(self, cause: Cause, detail: str) -> None:
        """Request a successor; this connection continues until the successor delivers messages."""
        if not self.leaving.is_set():
            self.cause, self.detail = cause, detail
            self.leaving.set()

    def abort(self, cause: Cause, detail: str) -> None:
        """End at once, without a closing handshake that a dead peer would not answer."""
        if self.cause is None:
            self.cause, self.detail = cause, detail
        if self._socket is not None:
            self._socket.end()
            self._socket.transport.abort()

    async def close(self) -> None:
        """End with the closing handshake."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                await self._socket.close()


class _Connect(connect):
    """Connection attempt without redirects: recorded data come only from the configured host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the error, which ends the attempt."""
        return exc


class _Socket(ClientConnection):
    """Connection of websockets that sees the handshake and control frames; messages wait until `begin`."""

    _head = _early_bytes = b""
    _is_open = False
    _parser: FrameParser | None = None
    _guard: Callable[[Callable[[bytes], int], bytes], None]
    _on_ping: Callable[[], None]

    def begin(
        self,
        on_message: Callable[[bytes], None],
        guard: Callable[[Callable[[bytes], int], bytes], None],
        on_ping: Callable[[], None],
    ) -> None:
        """Start to pass on messages, beginning with those that arrived earlier.

        Args:
            on_message: Receives each message.
            guard: Receives the parser's `feed` and the bytes for it, on each arrival of bytes.
            on_ping: Called on each ping.
        """
        self._parser, self._guard, self._on_ping = (
            FrameParser(on_message, self._control, MAX_MESSAGE_BYTES),
            guard,
            on_ping,
        )
        early_bytes, self._early_bytes = self._early_bytes, b""
        self._feed_parser(early_bytes)

    async def wait_until_parsed(self) -> None:
        """Wait until all frames that arrived before the end are processed."""
        while self._parser is not None and self._parser.is_behind:  # noqa: ASYNC110 - callbacks do the work
            await asyncio.sleep(0)

    def end(self) -> None:
        """Discard all further frames."""
        self._parser = None

    def _feed_parser(self, data: bytes = b"") -> None:
        """Process frames; if many are left, pause reading and continue in the next iteration of the loop."""
        parser = self._parser
        if parser is None:
            return
        self._guard(parser.feed, data)
        if parser.is_behind:
            self.loop.call_soon(self._feed_parser)
        if self.transport.is_closing():
            return  # a closed TLS transport cannot pause
        if parser.is_behind:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _control(self, frame: bytes) -> None:
        """Pass a close or a ping to the library, which answers it.

        Raises:
            FrameError: The close frame violates the protocol.
        """
        if frame[0] == PING:
            self._on_ping()
        if frame[0] == PING and self.transport.get_write_buffer_size():
            return  # the peer does not read the answers to earlier pings
        super().data_received(frame)
        if frame[0] == CLOSE:
            self.transport.close()  # a peer may leave TCP open; the answer is still sent
        if self.protocol.parser_exc is not None and (sent := self.protocol.close_sent) is not None:
            raise FrameError(sent.code, sent.reason)

    def data_received(self, data: bytes) -> None:
        """Pass the answer to the handshake to the library, and everything after it to the frame parser."""
        if self._parser is not None:
            self._feed_parser(data)
        elif self._is_open:
            self._early_bytes += data
        else:
            self._receive_head(data)

    def _receive_head(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        if end < len(_END_OF_HEAD) and len(self._head) <= _MAX_HEAD:
            return
        head, self._head = self._head, b""
        super().data_received(head[:end])
        self._is_open = self.protocol.state is State.OPEN
        if head[end:]:
            self.data_received(head[end:]) if self._is_open else super().data_received(head[end:])


def _egress_arguments(url: str, egress: Egress) -> dict[str, Any]:
    """Return the arguments for websockets, which would otherwise read the environment by its own rules."""
    arguments: dict[str, Any] = {"proxy": egress.proxy.url if egress.proxy else None}
    if urlsplit(url).scheme == "wss":
        arguments["ssl"] = egress.tls
    if egress.proxy is not None and egress.proxy.is_tls:
        arguments["proxy_ssl"] = egress.tls
    return arguments


def _close_text(error: ConnectionClosed) -> str:
    """Format the received close code; 1006 if the connection broke without one."""
    if error.rcvd is not None:
        return f"{error.rcvd.code} {error.rcvd.reason}".strip()
    if error.sent is not None:
        return f"1006, we sent {error.sent.code} {error.sent.reason}".strip()
    return "1006"
