"""Stream names and addresses, the unit of event times, and the envelope of the combined stream.

Source: the exchange's WebSocket documentation. Hosts are configuration and do not stand here.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from urllib.parse import quote

from capture_pipeline.binance.symbols import validate_symbol
from capture_pipeline.binance.urls import Market

SHUTDOWN_STREAM = "!serverShutdown"
"""Name under which the exchange tells that it is about to close this connection."""
CONNECTION_LIFE_S = 24 * 3600
"""The exchange closes a connection at this age at the latest."""
PING_EVERY_S = {Market.SPOT: 20, Market.UM: 180}
"""Seconds between two pings of the exchange."""
MAX_STREAMS = 1024
"""Streams that one connection may carry."""
MAX_URL = 8000
"""Characters of an address. The exchange documents no limit; 8,004 were measured."""
ROUTE = "{route}"
"""Stands in an address for the endpoint by which a stream goes; see `Route`."""
_FIRST_MICROSECOND = 10**14
_STREAMS = "streams="
_NOTICE_LENGTH = 200
_UNQUOTED = "@!"


class StreamKind(StrEnum):
    """What a stream carries, told from its name."""

    TRADE = "trade"
    AGG_TRADE = "aggTrade"
    DEPTH = "depth"
    BOOK_TICKER = "bookTicker"
    SNAPSHOT = "depthSnapshot"
    """Not a stream of the exchange: a REST answer of `depth`, recorded between its diffs."""
    SHUTDOWN = "serverShutdown"
    OTHER = "other"


class Route(StrEnum):
    """Endpoints among which the futures' host divides its streams; by another than its own a stream is subscribed to in vain."""

    PUBLIC = "public"
    MARKET = "market"


def trade_stream(symbol: str) -> str:
    """`btcusdt@trade`."""
    return f"{validate_symbol(symbol).lower()}@trade"


def depth_stream(symbol: str) -> str:
    """`btcusdt@depth@100ms`."""
    return f"{validate_symbol(symbol).lower()}@depth@100ms"


def snapshot_stream(symbol: str) -> str:
    """`btcusdt@depthSnapshot`: the name under which recordings carry REST snapshots."""
    return f"{validate_symbol(symbol).lower()}@{StreamKind.SNAPSHOT}"


def agg_trade_stream(symbol: str) -> str:
    """`btcusdt@aggTrade`."""
    return f"{validate_symbol(symbol).lower()}@aggTrade"


def list_streams(symbols: list[str], market: Market = Market.SPOT) -> list[str]:
    """What a session records of its symbols: diffs, and trades; futures document no stream of single trades but their aggregates."""
    trades = trade_stream if market is Market.SPOT else agg_trade_stream
    return [stream for symbol in symbols for stream in (trades(symbol), depth_stream(symbol))]


def combined_url(base: str, streams: list[str]) -> str:
    """Return the address of a combined stream, for instance `wss://host/stream?streams=btcusdt@trade/btcusdt@depth@100ms`.

    Names are percent-encoded, as the exchange demands of those that are not ASCII.
    """
    return (
        f"{base.rstrip('/')}/stream?streams={'/'.join(quote(stream, safe=_UNQUOTED) for stream in streams)}"
    )


def route_of(stream: str) -> Route:
    """The endpoint of a futures stream: books, best prices and single trades are `public`, all else is `market`."""
    topic = stream.partition("@")[2]
    return Route.PUBLIC if topic.startswith(_PUBLIC_TOPICS) else Route.MARKET


def split_by_route(url: str) -> list[str]:
    """Divide a combined stream among the addresses that it needs.

    An address with `{route}` is one for each endpoint with its streams. Each of these is as many as its streams need, which are then
    divided evenly: an address has at most `MAX_URL` characters and `MAX_STREAMS` streams.
    """
    head, _, names = url.partition(_STREAMS)
    streams: dict[str, list[str]] = {}
    for stream in names.split("/"):
        streams.setdefault(head.replace(ROUTE, route_of(stream)), []).append(stream)
    return [address for base, names in sorted(streams.items()) for address in _divide_streams(base, names)]


def _divide_streams(base: str, streams: list[str]) -> list[str]:
    """Return the fewest addresses that hold some streams; none has fewer than one stream, however long that one is."""
    for count in range(1, len(streams) + 1):
        bounds = [len(streams) * part // count for part in range(count + 1)]
        parts = [streams[first:end] for first, end in pairwise(bounds)]
        addresses = [f"{base}{_STREAMS}{'/'.join(part)}" for part in parts]
        if max(map(len, addresses)) <= MAX_URL and max(map(len, parts)) <= MAX_STREAMS:
            break
    return addresses


def kind_of(stream: str) -> StreamKind:
    """What a stream carries; a diff stream at any speed is DEPTH, a partial book (`@depth20`) is OTHER."""
    if stream == SHUTDOWN_STREAM:
        return StreamKind.SHUTDOWN
    _, _, topic = stream.partition("@")
    if topic == "depth" or topic.startswith("depth@"):
        return StreamKind.DEPTH
    return _BY_TOPIC.get(topic, StreamKind.OTHER)


def is_close_notice(message: bytes) -> bool:
    """Return whether a message that is no market data announces the end of its connection, in the envelope of a stream or without it.

    Spot sends `{"stream":"!serverShutdown","data":{…}}`. No document states the form of the futures.
    """
    return SHUTDOWN_STREAM[1:].encode() in message[:_NOTICE_LENGTH]


def symbol_of(stream: str) -> str:
    """The symbol in capitals: BTCUSDT of `btcusdt@trade`; empty for streams of no symbol."""
    symbol, at, _ = stream.partition("@")
    return symbol.upper() if at else ""


def event_us(value: int) -> int:
    """An event time in microseconds, whichever unit it was sent in."""
    return value if value >= _FIRST_MICROSECOND else value * 1000


_PUBLIC_TOPICS = (StreamKind.DEPTH, StreamKind.BOOK_TICKER, "rpiDepth", StreamKind.TRADE)
_BY_TOPIC = {
    str(kind): kind
    for kind in (StreamKind.TRADE, StreamKind.AGG_TRADE, StreamKind.BOOK_TICKER, StreamKind.SNAPSHOT)
}
FIELDS: dict[tuple[Market, StreamKind], tuple[str, ...]] = {
    (Market.SPOT, StreamKind.TRADE): ("e", "E", "s", "t", "p", "q", "T", "m", "M"),
    (Market.SPOT, StreamKind.DEPTH): ("e", "E", "s", "U", "u", "b", "a"),
    (Market.UM, StreamKind.AGG_TRADE): ("e", "E", "a", "s", "p", "q", "nq", "f", "l", "T", "m", "st"),
    (Market.UM, StreamKind.DEPTH): ("e", "E", "T", "s", "ps", "U", "u", "pu", "b", "a", "st"),
    (Market.UM, StreamKind.TRADE): ("e", "E", "T", "s", "t", "p", "q", "X", "m", "st"),
}
"""Fields of a message, in their order, of the streams that sessions record and of the futures' `@trade`."""
