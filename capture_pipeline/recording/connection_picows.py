"""The same connection by picows, which does all of a WebSocket in compiled code. Its package is an extra: `capture-pipeline[fast]`."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from picows import WSCloseCode, WSError, WSFrame, WSHandshakeError, WSInvalidStatusError, WSListener, WSMsgType, WSTransport, ws_connect
from python_socks import ProxyError

from capture_pipeline.binance.network import Egress
from capture_pipeline.recording.connection import CLOSE_S, MOST_FRAME, OPEN_S, USER_AGENT, Connection
from capture_pipeline.recording.models import Cause
from capture_pipeline.terminal import logger

if TYPE_CHECKING:
    from picows.picows import WSCloseHandshake

_LOG = logger("capture_pipeline.picows")
_LOG.setLevel(logging.CRITICAL)
_PROXY_STATUS = re.compile(r"status (\d{3})$")
_TEXT, _CLOSE = WSMsgType.TEXT, WSMsgType.CLOSE
_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION})


class PicowsConnection(Connection):
    """One connection from its opening to its end."""

    _transport: WSTransport | None = None

    async def _receive(self, url: str, egress: Egress, on_open: Callable[[Connection], None]) -> None:
        """Open the connection and receive until it ends."""

        def opened(transport: WSTransport) -> None:
            self._transport = transport
            self._opened(on_open)

        listener = _Listener(opened, self._one, self._guard)
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
                    max_frame_size=MOST_FRAME,
                    max_redirects=0,
                    extra_headers={"User-Agent": USER_AGENT},
                    logger_name=_LOG,
                )
            try:
                await transport.wait_disconnected()
            finally:
                transport.disconnect(graceful=False)
            self._ended(_close_text(transport))
        except WSInvalidStatusError as error:
            self._ended(f"refused with HTTP {error.response.status if error.response else '?'}")
        except (WSHandshakeError, WSError, ProxyError, ValueError) as error:
            status = _PROXY_STATUS.search(str(error))
            refused = proxy.refusal(int(status[1])) if proxy and isinstance(error, ProxyError) and status else None
            self._ended(refused or self._failure_text(error, proxy))

    def _let_go(self) -> None:
        self._transport = None

    def _one(self, message: bytes) -> int:
        self.on_message(self.number, message)
        return 1

    def abort(self, cause: Cause, detail: str) -> None:
        """End it at once, without a farewell that a dead peer would not answer."""
        super().abort(cause, detail)
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
    """Puts messages together, and answers a close."""

    def __init__(
        self,
        on_open: Callable[[WSTransport], None],
        on_message: Callable[[bytes], int],
        guard: Callable[[Callable[[bytes], int], bytes], None],
    ) -> None:
        self._on_open, self._on_message, self._guard = on_open, on_message, guard
        self._pieces: list[bytes] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        """It is open."""
        self._on_open(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame came; pings are answered before."""
        kind = frame.msg_type
        if kind is _TEXT and frame.fin and not self._pieces:
            self._guard(self._on_message, frame.get_payload_as_bytes())
        elif kind in _DATA:
            self._piece(transport, frame)
        elif kind is _CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def _piece(self, transport: WSTransport, frame: WSFrame) -> None:
        self._pieces.append(frame.get_payload_as_bytes())
        if sum(map(len, self._pieces)) > MOST_FRAME:
            transport.send_close(WSCloseCode.MESSAGE_TOO_BIG)
            transport.disconnect()
        elif frame.fin:
            whole, self._pieces = b"".join(self._pieces), []
            self._guard(self._on_message, whole)


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
