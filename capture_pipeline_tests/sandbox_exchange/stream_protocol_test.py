"""Tests of the stream protocol: requests in frames of any kind, and close codes of the server."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from websockets.frames import Frame, Opcode

from capture_pipeline_tests.support.exchange.streams import Exchange, exchange, raw_connection, receive
from sandbox_exchange.streams.connection import MAX_REQUEST_BYTES

_CODE_END = 3
"""End of the code behind the first byte of a close frame."""


@pytest.fixture(scope="module")
def box() -> Any:
    with exchange() as running:
        yield running


def receive_close_code(box: Exchange, *frames: Frame) -> int:
    """Send frames and return the close code of the server."""
    with raw_connection(box, "/stream") as raw:
        for frame in frames:
            raw.sendall(frame.serialize(mask=True))
        received = b""
        while len(received.partition(b"\x88")[2]) < _CODE_END and (data := raw.recv(4096)):
            received += data
    return int.from_bytes(received.partition(b"\x88")[2][1:_CODE_END], "big")


def test_a_request_in_fragments_is_put_together(box: Exchange) -> None:
    """A request may have up to five frames within a second."""
    request = b'{"method":"LIST_SUBSCRIPTIONS","id":7}'
    with raw_connection(box, "/stream") as raw:
        for at, opcode in ((0, Opcode.TEXT), (10, Opcode.CONT), (20, Opcode.CONT), (30, Opcode.CONT)):
            end = at + 10 if at < 30 else len(request)
            raw.sendall(Frame(opcode, request[at:end], fin=at == 30).serialize(mask=True))
        received = b""
        while b'"id":7' not in received:
            received += raw.recv(4096)
    assert b'{"result":[],"id":7}' in received


def test_a_request_is_bounded_in_all_its_frames_together(box: Exchange) -> None:
    """A request that is too long, in one frame or several, gets 1009."""
    half = b" " * (MAX_REQUEST_BYTES // 2 + 1)
    assert receive_close_code(box, Frame(Opcode.TEXT, half + half)) == 1009
    assert receive_close_code(box, Frame(Opcode.TEXT, half, fin=False), Frame(Opcode.CONT, half)) == 1009


def test_a_client_that_is_closed_may_still_send(box: Exchange) -> None:
    """The server does not reset the connection before the client has read the close code."""
    with raw_connection(box, "/stream") as raw:
        raw.sendall(
            Frame(Opcode.BINARY, b"{}").serialize(mask=True) + Frame(Opcode.CONT, b"x").serialize(mask=True)
        )
        while raw.recv(4096):
            pass
        for _ in range(3):
            raw.sendall(b" ")
            box.control("clock")


def test_an_error_of_the_protocol_closes_with_its_code(box: Exchange) -> None:
    """Frames out of order get 1002, binary data 1003, and text that is not UTF-8 1007."""
    assert receive_close_code(box, Frame(Opcode.CONT, b"x")) == 1002
    assert receive_close_code(box, Frame(Opcode.TEXT, b"x", fin=False), Frame(Opcode.TEXT, b"x")) == 1002
    assert receive_close_code(box, Frame(Opcode.BINARY, b"{}")) == 1003
    assert receive_close_code(box, Frame(Opcode.BINARY, b"{", fin=False), Frame(Opcode.CONT, b"}")) == 1003
    assert receive_close_code(box, Frame(Opcode.TEXT, b"\xff")) == 1007


def test_a_deeply_nested_request_is_answered_with_an_error(box: Exchange) -> None:
    with box.connect("/stream") as client:
        client.send("[" * 100_000)
        assert json.loads(receive(client, 1)[0])["error"]["code"] == 3


def test_a_control_request_is_bounded(box: Exchange) -> None:
    """A body of more than 4 MB is rejected."""
    answer = requests.post(f"{box.url}/_sandbox/clock", data=b" " * (5 << 20), timeout=30)
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "/_sandbox/clock: the body is longer than 4,194,304 bytes"},
    )
