"""Tests of streams over real connections: messages, their form, and agreement with REST."""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from capture_pipeline.binance.periods import parse_time
from capture_pipeline_tests.support.exchange.streams import (
    BOTH,
    BUSY,
    DEPTH,
    NOW_US,
    TRADE,
    Exchange,
    check_aggregates,
    close_code,
    exchange,
    raw_connection,
    receive,
    receive_data,
    receive_rest,
    until,
)
from sandbox_exchange.streams.dispatcher import Dispatcher


def test_messages_have_the_exchanges_form() -> None:
    """Messages have ordered fields, eight decimals and compact JSON, with and without envelope."""
    with exchange() as box, box.connect() as combined, box.connect(f"/ws/{TRADE}") as raw:
        box.advance(5)
        wrapped = {json.loads(message)["stream"]: message for message in receive(combined, 55)}
        number = r'"\d+\.\d{8}"'
        values = rf'"p":{number},"q":{number},"T":\d{{13}},"m":(true|false),"M":true'
        trade = rf'{{"e":"trade","E":\d{{13}},"s":"BTCUSDT","t":\d+,{values}}}'
        level = rf"\[{number},{number}\]"
        levels = rf"\[({level}(,{level})*)?\]"
        depth = rf'{{"e":"depthUpdate","E":\d{{13}},"s":"BTCUSDT","U":\d+,"u":\d+,"b":{levels},"a":{levels}}}'
        for stream, pattern in ((TRADE, trade), (DEPTH, depth)):
            assert re.fullmatch(rf'{{"stream":"{stream}","data":{pattern}}}', wrapped[stream].decode())
        assert re.fullmatch(trade, receive(raw, 1)[0].decode())


def test_trades_are_those_of_rest_and_all_is_in_order_of_time() -> None:
    """Trades are contiguous, aggTrades combine them, and trades are between diffs by their time."""
    with exchange() as box, box.connect(BOTH + "/btcusdt@aggTrade") as client:
        box.advance(30)
        until(lambda: len(box.control("streams")["streams"]) == 3)
        sent = box.control("streams")["streams"]
        messages = receive_data(client, sum(stream["count"] for stream in sent.values()))
        trades = [message for message in messages if message["e"] == "trade"]
        rest = box.get("/api/v3/aggTrades", symbol="BTCUSDT", startTime=NOW_US // 1000, limit=1000)
        assert len(trades) > 40
        check_aggregates(rest, {t["t"]: (t["p"], t["q"], t["T"], t["m"]) for t in trades})
        assert [t["t"] for t in trades] == list(range(trades[0]["t"], trades[0]["t"] + len(trades)))
        assert sent[TRADE] == {"first_id": trades[0]["t"], "last_id": trades[-1]["t"], "count": len(trades)}
        assert [{**m, "e": "", "E": 0} for m in messages if m["e"] == "aggTrade"] == [
            {**r, "e": "", "E": 0, "s": "BTCUSDT"} for r in rest
        ]
        times = [message["E"] for message in messages]
        assert times == sorted(times)


class LocalBook:
    """Local book according to the documentation of the exchange."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.last = snapshot["lastUpdateId"]
        self.sides = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}

    def apply(self, diff: dict[str, Any]) -> None:
        """Ignore old diffs, fail at a gap, and apply the others."""
        if diff["u"] <= self.last:
            return
        assert diff["U"] <= self.last + 1
        self.last = diff["u"]
        for name, levels in self.sides.items():
            for price, quantity in diff[name]:
                if float(quantity):
                    levels[price] = quantity
                else:
                    levels.pop(price, None)

    def assert_like(self, snapshot: dict[str, Any], first: dict[str, Any]) -> None:
        """Check that both books are equal between the outermost levels that both contain."""
        assert self.last == snapshot["lastUpdateId"]
        low = max(float(shot["bids"][-1][0]) for shot in (first, snapshot))
        high = min(float(shot["asks"][-1][0]) for shot in (first, snapshot))
        for name, theirs in (("b", snapshot["bids"]), ("a", snapshot["asks"])):
            mine = {
                price: quantity for price, quantity in self.sides[name].items() if low <= float(price) <= high
            }
            assert mine == {price: quantity for price, quantity in theirs if low <= float(price) <= high}
            assert len(mine) > 1000


@pytest.mark.parametrize("speed", [1, 60, 1000])
@pytest.mark.parametrize("stream", [DEPTH, "btcusdt@depth"])
def test_a_local_book_bridges_at_any_speed(speed: int, stream: str) -> None:
    """A snapshot and later diffs give the book of a later snapshot at any speed of the clock."""
    with exchange(speed=speed, frozen=False) as box, box.connect(f"/stream?streams={stream}") as client:
        buffered = receive_data(client, 1)
        first = box.get("/api/v3/depth", symbol="BTCUSDT", limit=5000)
        assert first["lastUpdateId"] >= buffered[0]["U"] - 1
        box.control("clock", {"speed": 0})
        box.advance(2)
        # A merged diff ends with a second, a snapshot with any slot: both agree after the last slot of a
        # second.
        now_us = box.control("clock")["now_us"]
        box.advance((1_000_000 - now_us % 1_000_000) / 1e6 - 0.1)
        last = box.get("/api/v3/depth", symbol="BTCUSDT", limit=5000)
        book = LocalBook(first)
        while book.last < last["lastUpdateId"]:
            for diff in buffered or receive_data(client, 1):
                book.apply(diff)
            buffered = []
        book.assert_like(last, first)


def test_best_prices_are_those_of_the_book() -> None:
    """Each bookTicker contains the best prices of REST at its update id."""
    with exchange() as box, box.connect("/ws/btcusdt@bookTicker") as client:
        box.advance(0.1)
        for _ in range(8):
            box.advance(0.1)
        until(lambda: bool(box.control("streams")["position"] == box.control("clock")["now"]))
        last = box.control("streams")["streams"]["btcusdt@bookTicker"]
        ticker = json.loads(receive(client, last["count"])[-1])
        assert list(ticker) == ["u", "s", "b", "B", "a", "A"]
        top = box.get("/api/v3/depth", symbol="BTCUSDT", limit=1)
        assert ([ticker["b"], ticker["B"]], [ticker["a"], ticker["A"]]) == (top["bids"][0], top["asks"][0])


def test_event_times_in_microseconds_on_request() -> None:
    """`timeUnit=MICROSECOND` changes only the unit of times."""
    with exchange() as box, box.connect() as plain, box.connect(BOTH + "&timeUnit=MICROSECOND") as fine:
        box.advance(10)
        for one, other in zip(receive_data(plain, 100), receive_data(fine, 100), strict=True):
            assert other["E"] // 1000 == one["E"]
            assert other["E"] > 10**15
            assert {**other, "E": 0, "T": 0} == {**one, "E": 0, "T": 0}


def test_streams_are_subscribed_to_and_left_on_a_bare_connection() -> None:
    """SUBSCRIBE, LIST_SUBSCRIPTIONS and UNSUBSCRIBE are answered and change the messages."""
    with exchange() as box, box.connect("/ws") as client:

        def call(method: str, *params: object) -> Any:
            client.send(
                json.dumps(
                    {"method": method, "params": params, "id": 7} if params else {"method": method, "id": 7}
                )
            )
            return json.loads(receive(client, 1)[0])

        assert call("SUBSCRIBE", DEPTH, TRADE) == {"result": None, "id": 7}
        assert call("LIST_SUBSCRIPTIONS") == {"result": [DEPTH, TRADE], "id": 7}
        assert call("UNSUBSCRIBE", TRADE) == {"result": None, "id": 7}
        box.advance(1)
        assert {json.loads(message)["e"] for message in receive(client, 10)} == {"depthUpdate"}
        assert call("SET_PROPERTY", *["combined", True]) == {"result": None, "id": 7}
        box.advance(1)
        assert json.loads(receive(client, 1)[0])["stream"] == DEPTH


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", 3),
        ("[]", 2),
        ('{"method":5,"id":1}', 2),
        ('{"method":"JOIN","params":["x"],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[5],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["a@trade"],"id":{}}', 2),
        ('{"method":"SET_PROPERTY","params":["speed",5],"id":1}', 0),
        ('{"method":"SET_PROPERTY","params":["combined",5],"id":1}', 1),
        (
            json.dumps(
                {"method": "SUBSCRIBE", "params": [f"s{number}@trade" for number in range(1025)], "id": 1}
            ),
            2,
        ),
    ],
)
def test_a_wrong_request_is_answered_with_an_error(box: Exchange, sent: str, code: int) -> None:
    """The answer has the error code of the exchange; the connection stays open."""
    with box.connect("/stream") as client:
        client.send(sent)
        assert json.loads(receive(client, 1)[0])["error"]["code"] == code
        client.send('{"method":"LIST_SUBSCRIPTIONS","id":2}')
        assert json.loads(receive(client, 1)[0]) == {"result": [], "id": 2}


@pytest.fixture(scope="module")
def box() -> Any:
    with exchange() as running:
        yield running


def test_unknown_paths_are_refused(box: Exchange) -> None:
    """An unknown path gets 404; unknown stream names get no messages."""
    with pytest.raises(InvalidStatus) as refused:
        box.connect("/streams")
    assert refused.value.response.status_code == 404
    with box.connect("/ws/BTCUSDT@trade"):
        pass
    assert {entry["status"] for entry in box.control("requests")} >= {101, 404}


def test_the_server_pings_and_ends_connections_that_do_not_answer() -> None:
    """Pings contain the time; a connection without pongs gets 1008."""
    with (
        exchange(ping_every_s=0.3, pong_within_s=0.5) as box,
        box.connect() as client,
        raw_connection(box, BOTH) as raw,
    ):
        received = b""
        while b"Pong timeout" not in received:
            received += raw.recv(4096)
        assert received.startswith(b"\x89\x0d%d" % (NOW_US // 1000))
        assert b"\x03\xf0Pong timeout" in received
        box.advance(1)
        assert len(receive(client, 10)) == 10


def test_a_connection_lives_a_day_of_sandbox_time() -> None:
    """At 1000 times real speed, a life of 300 s ends after 0.3 s without losing a message."""
    with (
        exchange(speed=1000, frozen=False, connection_life_s=300) as box,
        box.connect(f"/stream?streams={DEPTH}") as client,
    ):
        messages, closed = receive_rest(client)
        assert close_code(closed) == 1001
        diffs = [json.loads(message)["data"] for message in messages]
        assert all(one["u"] + 1 == other["U"] for one, other in pairwise(diffs))
        assert 2800 < len(diffs) < 3400


def test_a_slow_consumer_is_closed_and_harms_no_other() -> None:
    """A client that does not read gets 1008; the other connection loses nothing."""
    with (
        exchange(speed=1000, frozen=False, stream_buffer_bytes=100_000) as box,
        box.connect() as client,
        raw_connection(box, BOTH),
    ):
        last, contiguous = 0, True
        while not any(one["close_code"] == 1008 and one["number"] == 2 for one in box.connections()):
            for message in receive(client, 2000):
                data = json.loads(message)["data"]
                if data["e"] == "trade":
                    contiguous &= last in {0, data["t"] - 1}
                    last = data["t"]
        assert contiguous
        assert last > 0


def test_a_jump_of_the_clock_skips_nothing() -> None:
    """After a jump of 30 minutes all 18,000 diffs are sent; a jump back repeats none."""
    with exchange(stream_buffer_bytes=200_000) as box, box.connect(f"/ws/{DEPTH}") as client:
        box.advance(1800)
        diffs = [json.loads(message) for message in receive(client, 18_000)]
        assert all(one["u"] + 1 == other["U"] for one, other in pairwise(diffs))
        assert diffs[-1]["E"] == NOW_US // 1000 + 1_800_000
        box.control("clock", {"now": "2025-02-20T10:35:00Z"})
        until(lambda: box.control("streams")["position"] == "2025-02-20T10:35:00Z")
        box.advance(0.1)
        assert json.loads(receive(client, 1)[0])["E"] == parse_time("2025-02-20T10:35:00.1Z") // 1000


def test_a_running_clock_is_read_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps for new messages are 10 ms apart: a step at once after another would use a whole processor."""
    starts: list[float] = []

    def count(self: Dispatcher, *arguments: Any) -> bool:
        starts.append(time.monotonic())
        return step(self, *arguments)

    step = Dispatcher._step
    monkeypatch.setattr(Dispatcher, "_step", count)
    with exchange(frozen=False, speed=1) as box, box.connect() as client:
        receive(client, 1)
        starts.clear()
        time.sleep(0.3)
        assert len(starts) > 2
        assert len(starts) / (starts[-1] - starts[0]) < 120


def test_several_symbols_and_connections_get_the_same_bytes() -> None:
    """Connections with the same streams get the same bytes."""
    with exchange(symbols=[BUSY, "ETHUSDT"]) as box:
        path = f"{BOTH}/ethusdt@depth@100ms"
        with box.connect(path) as one, box.connect(path) as other:
            box.advance(20)
            first = receive(one, 400)
            assert first == receive(other, 400)
            assert {json.loads(message)["data"]["s"] for message in first} == {"BTCUSDT", "ETHUSDT"}


def test_the_end_of_the_server_is_told_and_quick() -> None:
    """Connections get serverShutdown and 1001 within a second."""
    with ExitStack() as stack:
        with exchange() as box:
            client = stack.enter_context(box.connect())
            stack.enter_context(raw_connection(box, BOTH))
            start = time.perf_counter()
        assert time.perf_counter() - start < 1
        messages, closed = receive_rest(client)
    assert json.loads(messages[-1]) == {
        "stream": "!serverShutdown",
        "data": {"e": "serverShutdown", "E": NOW_US // 1000},
    }
    assert close_code(closed) == 1001
