"""Sockets of a connection: one parses frames itself, one uses the public interface of websockets.

The first needs a quarter of the CPU time per message (`make bench`, `transport`). It overrides methods that
the library does not document, so it is used only with the versions of the library that the tests ran with.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Callable
from functools import cache, partial

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.version import version

from capture_pipeline.recorder.connections.frame_parser import (
    CLOSE,
    PING,
    FrameError,
    FrameParser,
    check_text,
)
from capture_pipeline.terminal import logger

MAX_MESSAGE_BYTES = 2 << 20
"""Bytes of a message. The largest message of the exchange has 5000 levels per side and 0.3 MB."""
TESTED_VERSIONS = frozenset({"17.4"})
"""Versions of websockets with which `ParsingSocket` was tested."""
_END_OF_HEAD = b"\r\n\r\n"
_MAX_HEAD = 64 << 10
_log = logger(__name__)
OnMessage = Callable[[bytes], None]
Guard = Callable[[Callable[[bytes], int], bytes], None]


class Connect(connect):
    """Connection attempt without redirects: recorded data come only from the configured host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the error, which ends the attempt."""
        return exc


class MessageSocket(ClientConnection):
    """A connection of websockets that passes messages on; messages wait until `begin`."""

    @abstractmethod
    def begin(self, on_message: OnMessage, guard: Guard, on_ping: Callable[[], None]) -> None:
        """Start to pass on messages, beginning with those that arrived earlier.

        Args:
            on_message: Receives each message.
            guard: Receives a function and the bytes for it, on each arrival of bytes; the function passes
                messages on and returns their number.
            on_ping: Called on each ping, if the socket sees pings.
        """

    @abstractmethod
    async def wait_end(self) -> ConnectionClosed:
        """Wait until the connection is closed and every message that arrived before is passed on."""

    @abstractmethod
    def end(self) -> None:
        """Discard all further messages."""

    @abstractmethod
    def send_ping(self) -> None:
        """Send a ping; its answer is reported to the guard as bytes without a message."""

    @abstractmethod
    def fail(self, error: FrameError) -> None:
        """Send the close code of a protocol violation."""


def socket_class() -> type[MessageSocket]:
    """Return `ParsingSocket` for a tested version of websockets, otherwise `LibrarySocket`."""
    if version in TESTED_VERSIONS:
        return ParsingSocket
    _report_untested()
    return LibrarySocket


@cache
def _report_untested() -> None:
    """Log once per process that the slower path is used."""
    tested = " or ".join(sorted(TESTED_VERSIONS))
    _log.warning(
        "websockets %s was not tested with the frame parser; its public interface is used, which needs four "
        "times the CPU time per message; install websockets %s",
        version,
        tested,
    )


class ParsingSocket(MessageSocket):
    """Socket whose messages are parsed here: the library sees the handshake and control frames only."""

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
        self._parser, self._guard, self._on_ping = (
            FrameParser(on_message, self._control, MAX_MESSAGE_BYTES),
            guard,
            on_ping,
        )
        early_bytes, self._early_bytes = self._early_bytes, b""
        self._feed_parser(early_bytes)

    async def wait_end(self) -> ConnectionClosed:
        await self.wait_closed()
        while self._parser is not None and self._parser.is_behind:  # noqa: ASYNC110 - callbacks do the work
            await asyncio.sleep(0)
        return self.protocol.close_exc

    def send_ping(self) -> None:
        if self.protocol.state is State.OPEN:
            self.protocol.send_ping(b"")
            self.send_data()

    def fail(self, error: FrameError) -> None:
        self.protocol.fail(error.code, error.reason)
        self.send_data()

    def end(self) -> None:
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


class LibrarySocket(MessageSocket):
    """Socket that uses the public interface of websockets. It does not see pings of the peer."""

    _reader: asyncio.Task[ConnectionClosed] | None = None
    _is_ended = False
    _guard: Guard
    _pongs: set[asyncio.Task[None]]

    def begin(self, on_message: OnMessage, guard: Guard, on_ping: Callable[[], None]) -> None:
        del on_ping
        self._guard, self._pongs = guard, set()
        self._reader = asyncio.ensure_future(self._receive(on_message))

    async def _receive(self, on_message: OnMessage) -> ConnectionClosed:
        pass_on = partial(_count_message, on_message)
        try:
            while True:
                message = await self.recv(decode=False)
                if not self._is_ended:
                    self._guard(pass_on, message)
        except ConnectionClosed as error:
            return error

    async def wait_end(self) -> ConnectionClosed:
        if self._reader is None:
            raise RuntimeError("wait_end was called before begin")
        await asyncio.wait({self._reader})
        await self.wait_closed()
        return ConnectionClosed(None, None) if self._reader.cancelled() else self._reader.result()

    def end(self) -> None:
        self._is_ended = True
        for task in (self._reader, *getattr(self, "_pongs", ())):
            if task is not None:
                task.cancel()

    def send_ping(self) -> None:
        task = asyncio.ensure_future(self._wait_pong())
        self._pongs.add(task)
        task.add_done_callback(self._pongs.discard)

    async def _wait_pong(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            await (await self.ping())
            self._guard(lambda _: 0, b"")

    def fail(self, error: FrameError) -> None:
        """Do nothing: this interface cannot send a close code without a wait for the answer."""


def _count_message(on_message: OnMessage, message: bytes) -> int:
    check_text(message)  # the library checks the encoding only of messages that it decodes
    on_message(message)
    return 1
