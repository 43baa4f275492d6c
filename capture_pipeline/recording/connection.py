"""One WebSocket connection: what comes in is handed on at once, and its end is told with its cause. Decides nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from capture_pipeline.recording.models import Cause

_OPEN_S, _CLOSE_S = 10.0, 1.0
_MOST_FRAME = 16 << 20
_QUEUE = 512
OnMessage = Callable[[int, bytes], None]


@dataclass
class Connection:
    """One connection from its opening to its end.

    Attributes:
        number: Counted from the session's first one.
        slot: Which of the connections side by side it is.
        opened_s: When it was opened, monotonic seconds; None before.
        last_s: When the last message came, monotonic seconds.
        messages: How many came.
        alive: Set by the first message.
        leaving: Set when it is to be replaced: its age, or the exchange is about to close it.
        cause: Why it ended, or is being ended.
        detail: Close code, error.
    """

    number: int
    slot: int
    on_message: OnMessage
    opened_s: float | None = None
    last_s: float = 0.0
    messages: int = 0
    alive: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    cause: Cause | None = None
    detail: str = ""
    _socket: ClientConnection | None = None

    async def run(self, url: str, on_open: Callable[[Connection], None]) -> None:
        """Receive until the end; `cause` and `detail` then say why. Raises nothing that a network can cause."""
        try:
            async with connect(
                url,
                compression=None,
                max_size=_MOST_FRAME,
                max_queue=_QUEUE,
                open_timeout=_OPEN_S,
                close_timeout=_CLOSE_S,
                ping_interval=None,
                user_agent_header="capture-pipeline",
            ) as socket:
                self._socket = socket
                self.opened_s = self.last_s = time.monotonic()
                on_open(self)
                await self._receive(socket)
        except ConnectionClosed as error:
            self._ended(_close_text(error))
        except InvalidStatus as error:
            self._ended(f"refused with HTTP {error.response.status_code}")
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, EOFError) as error:
            self._ended(f"{type(error).__name__}: {error}"[:200])
        finally:
            self._socket = None

    async def _receive(self, socket: ClientConnection) -> None:
        receive, on_message, number = socket.recv, self.on_message, self.number
        first = await receive(decode=False)
        self.alive.set()
        while True:
            self.messages += 1
            self.last_s = time.monotonic()
            on_message(number, first)
            first = await receive(decode=False)

    def _ended(self, detail: str) -> None:
        if self.cause is None:
            self.cause, self.detail = Cause.CLOSED, detail

    def retire(self, cause: Cause, detail: str) -> None:
        """Ask for a successor; this one goes on until that one delivers."""
        if not self.leaving.is_set():
            self.cause, self.detail = cause, detail
            self.leaving.set()

    def abort(self, cause: Cause, detail: str) -> None:
        """End it at once, without a farewell that a dead peer would not answer."""
        if self.cause is None:
            self.cause, self.detail = cause, detail
        if self._socket is not None:
            self._socket.transport.abort()

    async def close(self) -> None:
        """End it with the closing handshake."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                await self._socket.close()


def _close_text(error: ConnectionClosed) -> str:
    """The close code that came, or 1006 where the connection broke without one."""
    if error.rcvd is not None:
        return f"{error.rcvd.code} {error.rcvd.reason}".strip()
    if error.sent is not None:
        return f"1006, we sent {error.sent.code} {error.sent.reason}".strip()
    return "1006"
