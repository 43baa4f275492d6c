"""Addresses of streams, and the endpoints of the futures' host."""

from __future__ import annotations

import pytest

from capture_pipeline.binance.streams.names import combined_url, list_streams, route_of, split_by_route
from capture_pipeline.binance.urls import Market, depth_limit, request_weight


def test_one_address_carries_all_streams_of_spot() -> None:
    """The address does not change."""
    url = combined_url("wss://host/", list_streams(["BTCUSDT"]))
    assert split_by_route(url) == [url] == ["wss://host/stream?streams=btcusdt@trade/btcusdt@depth@100ms"]


def test_futures_are_divided_among_endpoints() -> None:
    """Each stream is in the address of its endpoint, and an endpoint without streams gets no address."""
    url = combined_url("wss://host/{route}", list_streams(["BTCUSDT", "ETHUSDT"], Market.UM))
    assert split_by_route(url) == [
        "wss://host/market/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade",
        "wss://host/public/stream?streams=btcusdt@depth@100ms/ethusdt@depth@100ms",
    ]
    assert split_by_route(combined_url("wss://host/{route}", ["btcusdt@depth@100ms"])) == [
        "wss://host/public/stream?streams=btcusdt@depth@100ms"
    ]


@pytest.mark.parametrize(
    ("base", "market", "count"), [("wss://host", Market.SPOT, 2), ("wss://host/{route}", Market.UM, 2)]
)
def test_300_symbols_need_several_addresses_of_a_bounded_length(
    base: str, market: Market, count: int
) -> None:
    """Each stream occurs once, in order, and the addresses have about the same number of streams."""
    streams = list_streams([f"SYN{number:03d}USDT" for number in range(300)], market)
    urls = split_by_route(combined_url(base, streams))
    parts = [url.partition("streams=")[2].split("/") for url in urls]
    assert len(urls) == count
    assert max(map(len, urls)) <= 8000
    assert sorted(stream for part in parts for stream in part) == sorted(streams)
    assert {len(part) for part in parts} == {600 // count}


def test_the_longest_address_has_8000_characters_and_1024_streams() -> None:
    """One more character or stream needs a second address."""
    url = combined_url("wss://host", ["a@trade", "b@trade"])
    assert len(split_by_route(url + "x" * (8000 - len(url)))) == 1
    assert len(split_by_route(url + "x" * (8001 - len(url)))) == 2
    names = [f"{number:x}@t" for number in range(1025)]
    assert [len(split_by_route(combined_url("wss://host", part))) for part in (names[:1024], names)] == [1, 2]


def test_a_stream_that_is_too_long_alone_is_left_to_the_exchange() -> None:
    assert len(split_by_route(combined_url("wss://host", ["a@trade", "b" * 9000]))) == 2


@pytest.mark.parametrize(
    ("topic", "route"),
    [
        ("depth", "public"),
        ("depth@100ms", "public"),
        ("depth20@100ms", "public"),
        ("bookTicker", "public"),
        ("rpiDepth@500ms", "public"),
        ("trade", "public"),
        ("aggTrade", "market"),
        ("markPrice@1s", "market"),
        ("kline_1m", "market"),
    ],
)
def test_books_and_trades_are_public_and_all_else_is_market(topic: str, route: str) -> None:
    """The expected endpoints are those of the exchange's announcement."""
    assert route_of(f"btcusdt@{topic}") == route


def test_a_depth_limit_is_one_that_the_market_takes() -> None:
    """Futures allow certain numbers up to 1000 and refuse others."""
    assert [depth_limit(Market.SPOT, limit) for limit in (7, 5000, 6000)] == [7, 5000, 5000]
    assert [depth_limit(Market.UM, limit) for limit in (1, 5, 21, 500, 501, 5000)] == [
        5,
        5,
        50,
        500,
        1000,
        1000,
    ]
    assert [request_weight(Market.UM, "depth", limit) for limit in (50, 100, 500, 1000)] == [2, 5, 10, 20]
