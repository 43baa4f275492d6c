"""One WebSocket connection: it passes each message on at once and reports its end with the cause.

Proxy and trusted certificates are chosen by `binance.http.network`, as for REST. `sockets` receives the
messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidProxyStatus, InvalidStatus, WebSocketException

from capture_pipeline.binance.http.network import Egress, Proxy, egress_of
from capture_pipeline.binance.http.pauses import Limits, Pause
from capture_pipeline.errors import CaptureError
from capture_pipeline.recorder.connections.admission import HandshakeRefusal, count_attempt, record_refusal
from capture_pipeline.recorder.connections.frame_parser import FrameError
from capture_pipeline.recorder.connections.sockets import (
    MAX_MESSAGE_BYTES,
    Connect,
    MessageSocket,
    socket_class,
)
from capture_pipeline.sessions.models import Cause

OPEN_S, CLOSE_S = 10.0, 1.0
USER_AGENT = "capture-pipeline"
_MAX_PINGS = 100
# A host name that cannot be encoded is a UnicodeError.
_FAILURES = (OSError, TimeoutError, WebSocketException, EOFError, UnicodeError)
OnMessage = Callable[[int, bytes], None]
T = TypeVar("T")


class HandshakeAnswer(NamedTuple):
    """Status and headers of the answer to a handshake."""

    status: int
    headers: dict[str, str]


@dataclass
class Connection:
    """One connection from its opening to its end.

    Attributes:
        number: Number of the connection in the session, from 1.
        slot: Index of the slot that the connection occupies.
        opened_s: Monotonic time of the opening; None before the opening.
        last_s: Monotonic time of the last message; before the first one, the time of the opening.
        last_bytes_s: Monotonic time of the last received bytes; at first, the time of the opening.
        pinged_s: Monotonic time of the last sent ping; None before the first one.
        messages: Count of received messages.
        alive: Set by the first message.
        leaving: Set when the connection is to be replaced, for its age or an announced close.
        cause: Reason for the end of the connection.
        detail: Close code or error.
        failure: Exception of the code that processes messages; raised by `run`.
        answer: Answer to the handshake; None before the answer.
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
    answer: HandshakeAnswer | None = None
    pings_s: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_PINGS))
    limits: Limits | None = None
    wait_s: float = 0.0
    _refusal: HandshakeRefusal | None = None
    _socket: MessageSocket | None = None

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
            self.answer = HandshakeAnswer(response.status_code, headers)
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
            async with Connect(
                url,
                create_connection=socket_class(),
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                ping_interval=None,
                user_agent_header=USER_AGENT,
                **_egress_arguments(url, egress),
            ) as socket:
                if not isinstance(socket, MessageSocket):
                    raise TypeError(type(socket))
                self._socket = socket
                if socket.response is not None:
                    headers = dict(socket.response.headers.raw_items())
                    self.answer = HandshakeAnswer(socket.response.status_code, headers)
                self._mark_open(on_open)
                socket.begin(partial(self.on_message, self.number), self._guard, self._note_ping)
                self._set_end(_close_text(await socket.wait_end()))
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
            self._socket.fail(error)
        self.abort(Cause.PROTOCOL, str(error))

    def _set_end(self, detail: str, cause: Cause = Cause.CLOSED) -> None:
        if self.cause is None:
            self.cause, self.detail = cause, detail

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    @property
    def is_alive(self) -> bool:
        """True if the peer has sent bytes since the opening."""
        return self.opened_s is not None and self.last_bytes_s > self.opened_s

    def ping(self) -> None:
        """Send a ping, unless the peer has not read the earlier data yet."""
        self.pinged_s = time.monotonic()
        self._send_ping()

    def _send_ping(self) -> None:
        if self._socket is not None and not self._socket.transport.get_write_buffer_size():
            self._socket.send_ping()

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


def _egress_arguments(url: str, egress: Egress) -> dict[str, Any]:
    """Return the arguments for websockets, which would otherwise read the environment by its own rules."""
    arguments: dict[str, Any] = {"proxy": egress.proxy.url if egress.proxy else None}
    if urlsplit(url).scheme == "wss":
        arguments["ssl"] = egress.tls
    if egress.proxy is not None and egress.proxy.is_tls:
        arguments["proxy_ssl"] = egress.tls
    return arguments


def _close_text(error: ConnectionClosed) -> str:
    """Format the received close code; 1006 if the connection ended without a close code."""
    if error.rcvd is not None:
        return f"{error.rcvd.code} {error.rcvd.reason}".strip()
    if error.sent is not None:
        return f"1006, the recorder sent {error.sent.code} {error.sent.reason}".strip()
    return "1006"
