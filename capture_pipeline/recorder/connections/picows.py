"""The same connection by picows, which does all of a WebSocket in compiled code. Its package is an extra: `capture-pipeline[fast]`."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSInvalidStatusError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
)
from python_socks import ProxyError

from capture_pipeline.binance.http.network import Egress
from capture_pipeline.recorder.connections.admission import HandshakeRefusal
from capture_pipeline.recorder.connections.connection import CLOSE_S, MOST_FRAME, OPEN_S, USER_AGENT, Connection
from capture_pipeline.recorder.connections.frame_parser import MAX_FRAMES, PROTOCOL_ERROR, Fragments, FrameError, check_text
from capture_pipeline.sessions.models import Cause
from capture_pipeline.terminal import logger

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer
    from picows.picows import WSCloseHandshake
    from picows.url import WSParsedURL

_LOG = logger("capture_pipeline.picows")
_LOG.setLevel(logging.CRITICAL)
_PROXY_STATUS = re.compile(r"status (\d{3})$")
_TEXT, _CLOSE, _PING = WSMsgType.TEXT, WSMsgType.CLOSE, WSMsgType.PING
_MAX_READ = 64 << 10
_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION})


class PicowsConnection(Connection):
    """One connection from its opening to its end."""

    _transport: WSTransport | None = None
    _listener: _Listener | None = None

    async def _receive(self, url: str, egress: Egress, on_open: Callable[[Connection], None]) -> None:
        """Open the connection and receive until it ends."""

        def opened(transport: WSTransport) -> None:
            self._transport = transport
            self.answer = int(transport.response.status), dict(transport.response.headers.items())
            self._opened(on_open)

        listener = self._listener = _Listener(opened, self._one, self._guard, self._note_ping)
        proxy = egress.proxy
        try:
            async with asyncio.timeout(OPEN_S):  # its own time-out begins after the TCP connection and the proxy's answer
                transport, _ = await ws_connect(
                    lambda: listener,
                    url,
                    ssl_context=egress.tls,
                    proxy=proxy.url if proxy else None,
                    proxy_ssl_context=egress.tls if proxy and proxy.is_tls else None,
                    websocket_handshake_timeout=OPEN_S,
                    enable_auto_pong=False,
                    max_frame_size=MOST_FRAME,
                    max_redirects=0,
                    socket_factory=_connected_socket,
                    use_aiofastnet=False,  # it reads as much as the buffer of picows takes, without end
                    extra_headers={"User-Agent": USER_AGENT},
                    logger_name=_LOG,
                )
            try:
                await _wait_disconnected(transport)
                await listener.wait_taken()
            finally:
                transport.disconnect(graceful=False)
            self._ended(_close_text(transport))
        except WSInvalidStatusError as error:
            if error.response is not None:
                self.answer = int(error.response.status), dict(error.response.headers.items())
                self._refusal = HandshakeRefusal(self.answer[0], error.response.headers, error.raw_body or b"")
            else:
                self._ended("refused")
        except WSProtocolError as error:
            self._ended(f"{int(error.code)} {error.args[1]}", Cause.PROTOCOL)
        except (WSHandshakeError, WSError, ProxyError, ValueError) as error:
            status = _PROXY_STATUS.search(str(error))
            refused = proxy.refusal(int(status[1])) if proxy and isinstance(error, ProxyError) and status else None
            self._ended(refused or self._failure_text(error, proxy))

    def _let_go(self) -> None:
        if self._listener is not None:
            self._listener.end()
        self._transport = self._listener = None

    def _one(self, message: bytes) -> int:
        self.on_message(self.number, message)
        return 1

    def _fail(self, error: FrameError) -> None:
        """End it at once for a violation of the protocol; the peer is sent the close code, and no answer is waited for."""
        if self._transport is not None:
            self._transport.send_close(WSCloseCode(error.code), error.reason)
        self.abort(Cause.PROTOCOL, str(error))

    def _send_ping(self) -> None:
        if self._transport is not None and not self._transport.underlying_transport.get_write_buffer_size():
            self._transport.send_ping(b"")

    def abort(self, cause: Cause, detail: str) -> None:
        """End it at once, without a farewell that a dead peer would not answer."""
        super().abort(cause, detail)
        if self._listener is not None:
            self._listener.end()
        if self._transport is not None:
            self._transport.underlying_transport.abort()

    async def close(self) -> None:
        """End it with the closing handshake."""
        transport = self._transport
        if transport is None:
            return
        transport.send_close(WSCloseCode.OK)
        try:
            await asyncio.wait_for(transport.wait_disconnected(), CLOSE_S)
        except (TimeoutError, WSError, OSError):
            transport.disconnect(graceful=False)


class _Listener(WSListener):
    """Puts messages together, and answers pings and a close.

    Of the frames that one read brought, `MAX_FRAMES` are taken at once; the rest waits, so that the event loop serves signals and timers.
    """

    def __init__(
        self,
        on_open: Callable[[WSTransport], None],
        on_message: Callable[[bytes], int],
        guard: Callable[[Callable[[Any], int], Any], None],
        on_ping: Callable[[], None],
    ) -> None:
        self._on_open, self._on_message, self._guard, self._on_ping = on_open, on_message, guard, on_ping
        self._fragments = Fragments(MOST_FRAME)
        self._waiting: deque[bytes] = deque()
        self._left = MAX_FRAMES
        self._ping: bytes | None = None
        self._is_over = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        """It is open."""
        if "Sec-WebSocket-Extensions" in transport.response.headers:
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, "the server uses an extension that was not offered")
        self._on_open(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame came."""
        if self._is_over:
            return
        kind, is_sound = frame.msg_type, not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        if kind is _TEXT and is_sound and frame.fin and self._left > 0 and not self._waiting and not self._fragments.is_open:
            self._left -= 1
            self._guard(self._text, frame.get_payload_as_bytes())
        elif kind is _PING and is_sound:
            self._on_ping()
            self._guard(self._keep_ping, frame.get_payload_as_bytes())
        else:
            self._guard(partial(self._other, transport), frame)
        if frame.last_in_buffer:
            self._left = MAX_FRAMES
            if self._ping is not None:
                self._answer_ping(transport, self._ping)
                self._ping = None

    async def wait_taken(self) -> None:
        """Wait until the messages that came before the end are taken."""
        while self._waiting:  # noqa: ASYNC110 - they are taken by callbacks of the loop
            await asyncio.sleep(0)

    def end(self) -> None:
        """Take no more frames."""
        self._is_over = True
        self._waiting.clear()

    def _keep_ping(self, payload: bytes) -> int:
        self._ping = payload
        return 0

    def _text(self, message: bytes) -> int:
        check_text(message)
        return self._on_message(message)

    def _other(self, transport: WSTransport, frame: WSFrame) -> int:
        """Take a frame that is no whole text message, or for which a read has brought too many before it."""
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise FrameError(PROTOCOL_ERROR, "a frame has a reserved bit, and no extension was agreed")
        if kind in _DATA:
            message = self._fragments.add((0x80 if frame.fin else 0) | kind.value, frame.get_payload_as_bytes())
            if message is not None:
                return self._take(transport, message)
        elif kind is _CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        return 0

    def _take(self, transport: WSTransport, message: bytes) -> int:
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return self._on_message(message)
        if not self._waiting:
            transport.underlying_transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._take_waiting, transport)
        self._waiting.append(message)
        return 0

    def _take_waiting(self, transport: WSTransport) -> None:
        for _ in range(min(MAX_FRAMES, len(self._waiting))):
            if self._is_over:
                return
            self._guard(self._on_message, self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._take_waiting, transport)
        else:
            transport.underlying_transport.resume_reading()

    @staticmethod
    def _answer_ping(transport: WSTransport, payload: bytes) -> None:
        """Answer the last ping of a read, as RFC 6455, 5.5.3, allows; none of a peer that does not read the answers."""
        if not transport.underlying_transport.get_write_buffer_size():
            transport.send_pong(payload)


class _Socket(socket.socket):
    """A socket of which one read has a limited size.

    picows takes all frames of a read before the event loop goes on, and its buffer doubles with each read that fills it.
    """

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Read at most `_MAX_READ` bytes."""
        return super().recv_into(buffer, min(nbytes or memoryview(buffer).nbytes, _MAX_READ), flags)


async def _connected_socket(url: WSParsedURL) -> socket.socket:
    """Connect to the first address of a host that answers.

    Raises:
        OSError: None does.
    """
    loop = asyncio.get_running_loop()
    failure = OSError(f"{url.host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM):
        one = _Socket(family, kind, protocol)
        try:
            one.setblocking(False)  # noqa: FBT003 - the name of the parameter is not public
            await loop.sock_connect(one, address)
        except OSError as error:
            one.close()
            failure = error
        except BaseException:
            one.close()
            raise
        else:
            return one
    raise failure


async def _wait_disconnected(transport: WSTransport) -> None:
    """Wait for the end; a peer that does not read what it was sent last cannot put the end off."""
    ended = asyncio.ensure_future(transport.wait_disconnected())
    try:
        while not (await asyncio.wait({ended}, timeout=CLOSE_S))[0]:
            if transport.underlying_transport.is_closing():
                transport.disconnect(graceful=False)
        ended.result()
    finally:
        ended.cancel()


def _close_text(transport: WSTransport) -> str:
    """The close code that came, or 1006 where the connection broke without one."""
    # None where the handshake never came to an end, whatever its types say.
    close = cast("WSCloseHandshake | None", transport.close_handshake)
    if close is None:
        return "1006"
    if close.recv is not None:
        return f"{int(close.recv.code.value)} {close.recv.reason or ''}".strip()
    if close.sent is not None:
        return f"1006, we sent {int(close.sent.code.value)}"
    return "1006"
