"""Tests of stream limits: URL length, streams, client messages and pings; and of quiet markets."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from capture_pipeline_tests.support.exchange.streams import (
    BUSY,
    DEPTH,
    Exchange,
    close_code,
    exchange,
    raw_connection,
    receive,
    receive_rest,
    until,
)

UM = "/fstream/market"
SHORT = [f"{number:x}@t" for number in range(1025)]
"""Short names of unknown streams: 1,025 of them fit into a URL."""
QUIET = {**BUSY, "trades_per_day": 10, "book_interval_s": 12.5}


@pytest.fixture(scope="module")
def box() -> Any:
    with exchange(symbols=[QUIET, {**BUSY, "symbol": "ETHUSDT", "book_interval_s": None}]) as running:
        yield running


@pytest.mark.parametrize("host", ["", UM])
def test_a_url_of_more_than_8000_characters_is_refused_with_414(box: Exchange, host: str) -> None:
    before = box.control("limits")["connection_attempts"]
    path = f"{host}/stream?streams="
    with box.connect(path + "x" * (8000 - len(path))), pytest.raises(InvalidStatus) as refused:
        box.connect(path + "x" * (8001 - len(path)))
    assert refused.value.response.status_code == 414
    assert box.control("limits")["connection_attempts"] - before == 2


def test_the_1025th_spot_stream_is_refused_with_400(box: Exchange) -> None:
    with box.connect(f"/stream?streams={'/'.join(SHORT[1:])}"), pytest.raises(InvalidStatus) as refused:
        box.connect(f"/stream?streams={'/'.join(SHORT)}")
    assert refused.value.response.status_code == 400


def test_the_1025th_futures_stream_is_answered_with_error_4_and_1008(box: Exchange) -> None:
    with box.connect(f"{UM}/stream?streams={'/'.join(SHORT[1:])}") as client:
        client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        assert len(json.loads(receive(client, 1)[0])["result"]) == 1024
    with box.connect(f"{UM}/stream?streams={'/'.join(SHORT)}") as client:
        answers, closed = receive_rest(client)
    assert [json.loads(answer)["error"]["code"] for answer in answers] == [4]
    assert close_code(closed) == 1008


@pytest.mark.parametrize(("host", "most"), [("", 5), (UM, 10)])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.PING, Opcode.PONG])
def test_one_message_more_than_allowed_in_a_second_ends_the_connection(
    box: Exchange, host: str, most: int, opcode: Opcode
) -> None:
    """Requests, pings and pongs count; the close code is 1008."""
    payload = b'{"method":"LIST_SUBSCRIPTIONS","id":1}' if opcode is Opcode.TEXT else b"x"
    with raw_connection(box, f"{host}/stream") as raw:
        raw.sendall(Frame(opcode, payload).serialize(mask=True) * (most + 1))
        received = b""
        while b"Too many requests" not in received:
            data = raw.recv(4096)
            assert data, "closed without a reason"
            received += data
    assert received.count(b'"result":[]') == (most if opcode is Opcode.TEXT else 0)


def test_futures_are_pinged_at_a_pace_of_their_own() -> None:
    with (
        exchange(um_ping_every_s=0.2, um_pong_within_s=0.3) as box,
        raw_connection(box, f"{UM}/stream") as raw,
        box.connect() as spot,
    ):
        received = b""
        while b"Pong timeout" not in received:
            received += raw.recv(4096)
        assert received.startswith(b"\x89")
        box.advance(1)
        receive(spot, 1)


def test_a_close_frame_may_come_and_tcp_stay_open(box: Exchange) -> None:
    with raw_connection(box, f"/stream?streams={DEPTH}") as raw:
        number = box.connections()[-1]["number"]
        box.control("streams", {"connection": number, "fault": "ws_close_half", "code": 1012})
        assert raw.recv(100) == b"\x88\x02\x03\xf4"
        raw.sendall(Frame(Opcode.CLOSE, b"\x03\xf4").serialize(mask=True))
        raw.settimeout(0.5)
        with pytest.raises(TimeoutError):
            raw.recv(100)


def test_a_book_changes_and_a_symbol_trades_as_seldom_as_wanted() -> None:
    """There is one contiguous diff per 12.5 s, or none for a constant book."""
    symbols = [QUIET, {**BUSY, "symbol": "ETHUSDT", "book_interval_s": None}]
    with (
        exchange(symbols=symbols) as box,
        box.connect("/stream?streams=ethusdt@depth@100ms/btcusdt@trade/btcusdt@depth@100ms") as client,
    ):
        still = box.get("/api/v3/depth", symbol="ETHUSDT", limit=5)
        box.advance(50)
        messages = [json.loads(message) for message in receive(client, 4)]
        assert [message["stream"] for message in messages] == [DEPTH] * 4
        diffs = [message["data"] for message in messages]
        assert all(
            one["u"] + 1 == other["U"] and other["E"] - one["E"] == 12_500_000 // 1000
            for one, other in pairwise(diffs)
        )
        now = box.get("/api/v3/depth", symbol="BTCUSDT", limit=5)
        assert diffs[-1]["u"] <= now["lastUpdateId"]
        assert box.get("/api/v3/depth", symbol="ETHUSDT", limit=5) == still
    with exchange(symbols=symbols) as box, box.connect("/stream?streams=btcusdt@trade") as client:
        box.advance(20_000)
        until(lambda: box.control("streams")["position"] == box.control("clock")["now"], 30)
        count = box.control("streams")["streams"]["btcusdt@trade"]["count"]
        assert 1 <= count <= 4
        ids = [json.loads(message)["data"]["t"] for message in receive(client, count)]
        assert ids == list(range(ids[0], ids[0] + count))


@pytest.mark.parametrize("interval_s", [0.15, 0.3, 26])
def test_an_interval_of_books_that_cannot_be_is_refused(interval_s: float) -> None:
    with (
        pytest.raises(ValueError, match="book_interval_s"),
        exchange(symbols=[{**BUSY, "book_interval_s": interval_s}]),
    ):
        pass
