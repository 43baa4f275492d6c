"""Both sockets of a connection against a real server: messages, ends and signs of life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from capture_pipeline.recorder.connections import sockets
from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.recorder.connections.sockets import LibrarySocket, ParsingSocket, socket_class
from capture_pipeline.sessions.models import Cause
from capture_pipeline_tests.support.waits import wait_for

Handler = Callable[[ServerConnection], Awaitable[None]]
MESSAGES = [b"{}", b"x" * 126, "\u20ac".encode() * 400, b"y" * 70_000]


@pytest.fixture(params=[ParsingSocket, LibrarySocket], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """Return the socket class of the connections."""
    chosen: type = request.param
    if chosen is LibrarySocket:
        monkeypatch.setattr(sockets, "TESTED_VERSIONS", frozenset({"1.0"}))
    assert socket_class() is chosen
    return chosen


async def run_connection(
    handler: Handler, act: Callable[[Connection], Awaitable[None]] | None = None
) -> tuple[Connection, list[bytes]]:
    """Run a connection to a server until its end; `act` runs once it is open."""
    received: list[bytes] = []
    opened = asyncio.Event()
    connection = Connection(1, 0, lambda _, message: received.append(message))
    async with serve(handler, "127.0.0.1", 0, ping_interval=None, close_timeout=1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        running = asyncio.ensure_future(connection.run(f"ws://127.0.0.1:{port}/", lambda _: opened.set()))
        await asyncio.wait(
            {running, asyncio.ensure_future(opened.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        if act is not None:
            await act(connection)
        await asyncio.wait_for(running, 20)
    return connection, received


def test_messages_arrive_in_order_with_the_close_code() -> None:
    """Messages in the same packet as the answer to the handshake are not lost."""

    async def handler(peer: ServerConnection) -> None:
        for message in MESSAGES:
            await peer.send(message.decode())
        await peer.close(1001, "going away")

    connection, received = asyncio.run(run_connection(handler))
    assert received == MESSAGES
    assert (connection.messages, connection.cause, connection.detail) == (4, Cause.CLOSED, "1001 going away")


def test_a_connection_that_breaks_has_code_1006() -> None:
    async def handler(peer: ServerConnection) -> None:
        await peer.send("last")
        await asyncio.sleep(0.2)
        peer.transport.abort()

    connection, received = asyncio.run(run_connection(handler))
    assert (received, connection.detail) == ([b"last"], "1006")


def test_an_answered_ping_is_a_sign_of_life() -> None:
    """No message arrives in this test."""

    async def handler(peer: ServerConnection) -> None:
        await peer.wait_closed()

    async def act(connection: Connection) -> None:
        before = connection.last_bytes_s
        connection.ping()
        await asyncio.to_thread(wait_for, lambda: connection.last_bytes_s > before)
        assert connection.messages == 0
        await connection.close()

    connection, _ = asyncio.run(run_connection(handler, act))
    assert connection.is_alive


def test_an_aborted_connection_ends_at_once_with_its_cause() -> None:
    """The peer reads nothing and answers nothing."""

    async def handler(peer: ServerConnection) -> None:
        peer.transport.pause_reading()
        await asyncio.sleep(5)
        ends.append("peer")

    async def act(connection: Connection) -> None:
        connection.abort(Cause.SILENCE, "silent for 60 s")
        while connection._socket is not None:  # noqa: ASYNC110 - there is no event of it
            await asyncio.sleep(0.01)
        ends.append("connection")

    ends: list[str] = []
    connection, received = asyncio.run(run_connection(handler, act))
    assert ends == ["connection", "peer"]
    assert (received, connection.cause, connection.detail) == ([], Cause.SILENCE, "silent for 60 s")


def test_text_that_is_not_utf8_ends_the_connection() -> None:
    """The message before is passed on, the message after is not."""

    async def handler(peer: ServerConnection) -> None:
        await peer.send("good")
        for payload in (b"\xff" * 200, b"never"):
            peer.transport.write(Frame(Opcode.TEXT, payload).serialize(mask=False))
        await peer.wait_closed()

    connection, received = asyncio.run(run_connection(handler))
    assert received == [b"good"]
    assert connection.cause is Cause.PROTOCOL
    assert "1007" in connection.detail


def test_a_bug_of_the_receiver_is_raised() -> None:
    async def handler(peer: ServerConnection) -> None:
        await peer.send("message")
        await peer.wait_closed()

    async def run() -> None:
        def fail(_number: int, _message: bytes) -> None:
            raise KeyError("a bug")

        async with serve(handler, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            await Connection(1, 0, fail).run(f"ws://127.0.0.1:{port}/", lambda _: None)

    with pytest.raises(KeyError, match="a bug"):
        asyncio.run(run())


def test_an_untested_version_of_the_library_is_reported(kind: type, caplog: pytest.LogCaptureFixture) -> None:
    sockets._report_untested.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            socket_class()
    assert caplog.text.count("was not tested with the frame parser") == (kind is LibrarySocket)
