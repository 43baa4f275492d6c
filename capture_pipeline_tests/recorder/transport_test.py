"""Frames parsed from bytes, and reasons for the end of a connection."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.recorder.connections.frame_parser import (
    MAX_FRAGMENTS,
    MAX_FRAMES,
    FrameError,
    FrameParser,
)
from capture_pipeline.sessions.models import Cause

MOST = 70_000


def build_frame(opcode: Opcode, payload: bytes, *, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(opcode, payload, fin=fin).serialize(mask=mask)


def parse_pieces(data: bytes, sizes: list[int]) -> tuple[list[bytes], list[bytes], FrameError | None]:
    """Feed the bytes in pieces of these sizes; return messages, passed frames and the violation."""
    messages: list[bytes] = []
    passed: list[bytes] = []
    cutter = FrameParser(messages.append, passed.append, MOST)
    try:
        for wish in itertools.cycle(sizes):
            size = max(wish, len(data) // 100)
            before = len(messages)
            count = cutter.feed(data[:size])
            while cutter.is_behind:
                count += cutter.feed()
            assert count == len(messages) - before
            data = data[size:]
            if not data:
                break
    except FrameError as error:
        return messages, passed, error
    return messages, passed, None


payloads = st.one_of(
    st.text(max_size=300).map(str.encode), st.integers(65_500, 65_600).map(lambda size: b"x" * size)
)


@given(
    st.lists(st.tuples(payloads, st.integers(1, 4), st.booleans()), max_size=6),
    st.lists(st.integers(1, 70_000), min_size=1, max_size=5),
)
def test_messages_come_out_as_they_went_in_however_the_bytes_come(
    sent: list[tuple[bytes, int, bool]], sizes: list[int]
) -> None:
    """In one frame or several, with pings between fragments; the last ping is passed on."""
    data, pings = b"", 0
    for payload, pieces, pinged in sent:
        step = max(1, -(-len(payload) // pieces))
        parts = [payload[at : at + step] for at in range(0, len(payload), step)] or [b""]
        for number, part in enumerate(parts):
            data += build_frame(Opcode.CONT if number else Opcode.TEXT, part, fin=number == len(parts) - 1)
            if pinged:
                pings += 1
                data += build_frame(Opcode.PING, b"beat %d" % pings) + build_frame(Opcode.PONG, b"")
    messages, passed, violation = parse_pieces(data, sizes)
    assert (messages, violation) == ([payload for payload, _, _ in sent], None)
    assert passed[-1:] == ([build_frame(Opcode.PING, b"beat %d" % pings)] if pings else [])
    assert len(passed) <= pings


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (build_frame(Opcode.TEXT, b"masked", mask=True), 1002),
        (build_frame(Opcode.CONT, b"continues nothing"), 1002),
        (build_frame(Opcode.TEXT, b"x" * (MOST + 1)), 1009),
        (b"\xc1\x02ab", 1002),
        (b"\x83\x02ab", 1002),
        (b"\x81\xff" + b"\xff" * 8, 1002),
        (b"\x81\x7f" + b"\xff" * 8, 1009),
        (b"\x09\x00", 1002),
        (build_frame(Opcode.TEXT, b"begins", fin=False) + build_frame(Opcode.TEXT, b"begins again"), 1002),
        (build_frame(Opcode.TEXT, b"y" * MOST, fin=False) + build_frame(Opcode.CONT, b"more"), 1009),
        (
            build_frame(Opcode.TEXT, b"", fin=False)
            + build_frame(Opcode.CONT, b"", fin=False) * MAX_FRAGMENTS,
            1009,
        ),
        (build_frame(Opcode.TEXT, b"\xff"), 1007),
        (build_frame(Opcode.TEXT, b"\xff" * 200), 1007),
        (build_frame(Opcode.TEXT, b"\xc3", fin=False) + build_frame(Opcode.CONT, b"("), 1007),
    ],
)
def test_a_violation_of_the_protocol_is_named(bad: bytes, code: int) -> None:
    """Earlier messages are emitted, later ones are not."""
    before, after = build_frame(Opcode.TEXT, b"good"), build_frame(Opcode.TEXT, b"never")
    messages, _, violation = parse_pieces(before + bad + after, [len(before + bad + after)])
    assert messages == [b"good"]
    assert violation is not None
    assert violation.code == code


def test_a_character_may_be_cut_by_a_fragment() -> None:
    """Only the whole message must be UTF-8."""
    euro = "€".encode()
    data = build_frame(Opcode.TEXT, euro[:1], fin=False) + build_frame(Opcode.CONT, euro[1:])
    assert parse_pieces(data, [1]) == ([euro], [], None)


def test_a_call_takes_a_limited_number_of_frames() -> None:
    """The remaining frames wait for the next call, in order."""
    messages: list[bytes] = []
    cutter = FrameParser(messages.append, lambda _: None, MOST)
    sent = [b"%d" % number for number in range(3 * MAX_FRAMES)]
    data = b"".join(build_frame(Opcode.TEXT, each) for each in sent)
    counts = [cutter.feed(data)]
    while cutter.is_behind:
        counts.append(cutter.feed())
    assert messages == sent
    assert max(counts) <= MAX_FRAMES
    assert sum(counts) == len(sent)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n", "429"),
        (b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", ""),
        (b"no HTTP at all\r\n\r\n", ""),
        (b"", ""),
    ],
    ids=["429", "redirect", "no http", "nothing"],
)
def test_a_refusal_is_an_end_with_its_reason(answer: bytes, expected: str) -> None:
    """Nothing is raised, and no connection was open."""

    async def refused() -> Connection:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        connection = Connection(1, 0, lambda *_: None)
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.wait_for(connection.run(f"ws://127.0.0.1:{port}/stream", lambda _: None), 20)
        return connection

    connection = asyncio.run(refused())
    assert (connection.cause, connection.opened_s) == (Cause.CLOSED, None)
    assert expected in connection.detail
    assert connection.detail


def test_a_bug_behind_a_connection_is_raised_and_not_swallowed() -> None:
    """An event loop would only log it and continue."""
    from websockets.asyncio.server import ServerConnection, serve  # noqa: PLC0415

    async def talk(socket: ServerConnection) -> None:
        await socket.send("{}")
        await socket.wait_closed()

    def fail(_: int, message: bytes) -> None:
        raise LookupError(message)

    async def main() -> None:
        async with serve(talk, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            await asyncio.wait_for(Connection(1, 0, fail).run(f"ws://127.0.0.1:{port}/", lambda _: None), 20)

    with pytest.raises(LookupError):
        asyncio.run(main())
