"""Tests of USD-M futures streams: form, endpoints and agreement with REST."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest
import requests
from websockets.exceptions import InvalidStatus

from capture_pipeline.binance.streams import columns as layout
from capture_pipeline.binance.streams.decoders import CompiledDecoder
from capture_pipeline_tests.binance.stream_kernel_test import list_values, parse, parse_with_msgspec
from capture_pipeline_tests.support.exchange.streams import (
    BUSY,
    DEPTH,
    NOW_US,
    Exchange,
    exchange,
    receive,
    receive_data,
    until,
)

AGG_TRADE = "btcusdt@aggTrade"
MARKET, PUBLIC = f"/fstream/market/stream?streams={AGG_TRADE}", f"/fstream/public/stream?streams={DEPTH}"


@pytest.mark.parametrize("is_older", [False, True])
def test_messages_have_the_exchanges_form(is_older: bool) -> None:
    """Messages have ordered fields, the decimals of the symbol, and always milliseconds."""
    paths = (
        MARKET + "&timeUnit=MICROSECOND",
        f"/fstream/public/ws/{DEPTH}",
        "/fstream/public/ws/btcusdt@trade",
    )
    with exchange(older_um_frames=is_older) as box, ExitStack() as stack:
        market, public, trades = (stack.enter_context(box.connect(path)) for path in paths)
        box.advance(5)
        price, quantity = r'"\d+\.\d{2}"', r'"\d+\.\d{5}"'
        end = "}" if is_older else ',"st":1}'
        names = r'"s":"BTCUSDT","a":\d+' if is_older else r'"a":\d+,"s":"BTCUSDT"'
        values = rf'"p":{price},"q":{quantity},"nq":{quantity},"f":\d+,"l":\d+'
        aggregate = rf'{{"e":"aggTrade","E":\d{{13}},{names},{values},"T":\d{{13}},"m":(true|false){end}'
        assert re.fullmatch(rf'{{"stream":"{AGG_TRADE}","data":{aggregate}}}', receive(market, 1)[0].decode())
        level = rf"\[{price},{quantity}\]"
        levels = rf"\[({level}(,{level})*)?\]"
        pair = "" if is_older else '"ps":"BTCUSDT",'
        ids = rf'"s":"BTCUSDT",{pair}"U":\d+,"u":\d+,"pu":\d+'
        depth = rf'{{"e":"depthUpdate","E":\d{{13}},"T":\d{{13}},{ids},"b":{levels},"a":{levels}{end}'
        assert re.fullmatch(depth, receive(public, 1)[0].decode())
        head = r'"e":"trade","E":\d{13},"T":\d{13},"s":"BTCUSDT","t":\d+'
        trade = rf'{{{head},"p":{price},"q":{quantity},"X":"MARKET","m":(true|false){end}'
        assert re.fullmatch(trade, receive(trades, 1)[0].decode())


@pytest.mark.parametrize("is_older", [False, True])
@pytest.mark.parametrize("symbol", [BUSY, BUSY | {"symbol": "BTCUSDT_261225", "markets": ["um"]}])
def test_every_frame_takes_the_compiled_path(symbol: dict[str, Any], is_older: bool) -> None:
    """The compiled reader parses all recorded lines, with the results of the reference decoder."""
    name = symbol["symbol"].lower()
    of_market, of_public = (
        f"/fstream/market/stream?streams={name}@aggTrade",
        f"/fstream/public/stream?streams={name}@trade/{name}@depth@100ms",
    )
    with (
        exchange(symbols=[symbol], older_um_frames=is_older) as box,
        box.connect(of_market) as one,
        box.connect(of_public) as other,
    ):
        box.advance(20)
        messages = [message[1:] for message in receive(one, 30) + receive(other, 90)]
        shot = requests.get(
            f"{box.url}/fapi/v1/depth", params={"symbol": symbol["symbol"], "limit": 100}, timeout=30
        ).content
    messages.append(b'"stream":"%b@depthSnapshot","data":%b}' % (name.encode(), shot))
    content = b"".join(
        b'{"capture_ns":%d,%b\n' % (number, message) for number, message in enumerate(messages)
    )
    decoder = CompiledDecoder("made.gz")
    parse(content, decoder)
    found = parse(content, decoder)
    assert (found.lines, found.by_fallback) == (121, 0)
    assert set(found.columns.trades[layout.T_MARKET].tolist()) == {1}
    assert list_values(found, decoder.streams) == parse_with_msgspec(content)


def _received_streams(box: Exchange, path: str) -> set[str]:
    with box.connect(path) as client:
        box.advance(3)
        until(lambda: bool(box.control("streams")["position"] == box.control("clock")["now"]))
        client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        came: set[str] = set()
        while True:
            message = json.loads(receive(client, 1)[0])
            if "result" in message:
                assert message["result"] == [AGG_TRADE, DEPTH]
                return came
            came.add(message["stream"])


def test_each_endpoint_sends_its_own_streams_and_no_others() -> None:
    """Books are sent by `public` and trades by `market`; other streams get no messages and no error."""
    with exchange() as box:
        both = f"stream?streams={AGG_TRADE}/{DEPTH}"
        assert _received_streams(box, f"/fstream/market/{both}") == {AGG_TRADE}
        assert _received_streams(box, f"/fstream/public/{both}") == {DEPTH}
        assert _received_streams(box, f"/fstream/{both}") == {DEPTH}
        with pytest.raises(InvalidStatus):
            box.connect("/fstream/private/stream")


def test_aggregates_are_those_of_rest_and_not_those_of_spot() -> None:
    """Ids of aggregates are contiguous, differ from trade ids, and are valid in REST."""
    with exchange() as box, box.connect(MARKET) as client:
        box.advance(20)
        until(lambda: f"fstream/{AGG_TRADE}" in box.control("streams")["streams"])
        sent = receive_data(client, box.control("streams")["streams"][f"fstream/{AGG_TRADE}"]["count"])
        fields = ("a", "p", "q", "f", "l", "T", "m")
        rest = box.get("/fapi/v1/aggTrades", symbol="BTCUSDT", startTime=NOW_US // 1000, limit=1000)
        assert len(sent) > 20
        assert [[one[name] for name in fields] for one in sent] == [
            [one[name] for name in fields] for one in rest
        ]
        assert [one["a"] for one in sent] == list(range(sent[0]["a"], sent[0]["a"] + len(sent)))
        assert not {one["a"] for one in sent} & {one["f"] for one in sent}
        assert (
            box.get("/fapi/v1/aggTrades", symbol="BTCUSDT", fromId=sent[5]["a"], limit=1)[0]["a"]
            == sent[5]["a"]
        )
        spot = box.get("/api/v3/aggTrades", symbol="BTCUSDT", startTime=NOW_US // 1000, limit=10)
        assert [one["T"] for one in spot] != [one["T"] for one in sent[:10]]


def test_a_local_book_bridges_by_the_previous_update_id() -> None:
    """Diffs after a snapshot, each with the `pu` of its predecessor, give the book of a later snapshot."""
    with exchange() as box, box.connect(PUBLIC) as client:
        box.advance(3)
        first = box.get("/fapi/v1/depth", symbol="BTCUSDT", limit=1000)
        box.advance(5)
        last = box.get("/fapi/v1/depth", symbol="BTCUSDT", limit=1000)
        diffs = receive_data(client, 80)
        assert all(one["u"] == other["pu"] < other["U"] <= other["u"] for one, other in pairwise(diffs))
        assert any(diff["U"] > diff["pu"] + 1 for diff in diffs)
        newer = [diff for diff in diffs if diff["u"] >= first["lastUpdateId"]]
        assert newer[0]["U"] <= first["lastUpdateId"] <= newer[0]["u"]
        assert newer[-1]["u"] == last["lastUpdateId"]
        _assert_equal(first, newer, last)


def _assert_equal(first: dict[str, Any], diffs: list[dict[str, Any]], last: dict[str, Any]) -> None:
    """Compare a snapshot with diffs to another snapshot between the outermost common levels."""
    low = max(float(shot["bids"][-1][0]) for shot in (first, last))
    high = min(float(shot["asks"][-1][0]) for shot in (first, last))
    for name, side in (("bids", "b"), ("asks", "a")):
        book = dict(first[name])
        for diff in diffs:
            book |= dict(diff[side])
        mine = {
            price: quantity
            for price, quantity in book.items()
            if float(quantity) and low <= float(price) <= high
        }
        assert mine == {price: quantity for price, quantity in last[name] if low <= float(price) <= high}
        assert len(mine) > 500
