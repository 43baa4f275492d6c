"""Names and addresses of streams, and the unit of event times. Hosts are settings.

Source: the exchange's WebSocket documentation.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from urllib.parse import quote

from capture_pipeline.binance.symbols import validate_symbol
from capture_pipeline.binance.urls import Market

SHUTDOWN_STREAM = "!serverShutdown"
"""Stream name of the message with which the exchange announces that it will close the connection."""
CONNECTION_LIFE_S = 24 * 3600
"""Maximum age of a connection; the exchange closes older ones."""
PING_EVERY_S = {Market.SPOT: 20, Market.UM: 180}
"""Seconds between two pings of the exchange."""
MAX_STREAMS = 1024
"""Maximum number of streams of one connection."""
MAX_URL = 8000
"""Maximum length of an address. The exchange documents no limit; a limit of 8,004 was measured."""
ROUTE = "{route}"
"""Placeholder in an address for the endpoint of a stream; see `Route`."""
_FIRST_MICROSECOND = 10**14
_STREAMS = "streams="
_NOTICE_LENGTH = 200
_UNQUOTED = "@!"


class StreamKind(StrEnum):
    """Content of a stream, derived from its name."""

    TRADE = "trade"
    AGG_TRADE = "aggTrade"
    DEPTH = "depth"
    BOOK_TICKER = "bookTicker"
    SNAPSHOT = "depthSnapshot"
    """Not a stream of the exchange: answers of REST `depth`, which a recording contains between the diffs."""
    SHUTDOWN = "serverShutdown"
    OTHER = "other"


class Route(StrEnum):
    """Endpoints of the futures' host. A stream sends messages only at its own endpoint."""

    PUBLIC = "public"
    MARKET = "market"


def trade_stream(symbol: str) -> str:
    """Return the name of a stream of trades, for instance `btcusdt@trade`."""
    return f"{validate_symbol(symbol).lower()}@trade"


def depth_stream(symbol: str) -> str:
    """Return the name of a stream of diffs, for instance `btcusdt@depth@100ms`."""
    return f"{validate_symbol(symbol).lower()}@depth@100ms"


def snapshot_stream(symbol: str) -> str:
    """Return the name of REST snapshots in a recording, for instance `btcusdt@depthSnapshot`."""
    return f"{validate_symbol(symbol).lower()}@{StreamKind.SNAPSHOT}"


def agg_trade_stream(symbol: str) -> str:
    """Return the name of a stream of aggregate trades, for instance `btcusdt@aggTrade`."""
    return f"{validate_symbol(symbol).lower()}@aggTrade"


def list_streams(symbols: list[str], market: Market = Market.SPOT) -> list[str]:
    """List the streams that a session records: diffs and trades, for futures diffs and aggregate trades.

    The exchange documents no stream of single trades of futures.
    """
    trades = trade_stream if market is Market.SPOT else agg_trade_stream
    return [stream for symbol in symbols for stream in (trades(symbol), depth_stream(symbol))]


def combined_url(base: str, streams: list[str]) -> str:
    """Return the address of a combined stream, for instance `wss://host/stream?streams=a@trade/b@trade`.

    Names are percent-encoded; the exchange requires it for names that are not ASCII.
    """
    return (
        f"{base.rstrip('/')}/stream?streams={'/'.join(quote(stream, safe=_UNQUOTED) for stream in streams)}"
    )


def route_of(stream: str) -> Route:
    """Return the endpoint of a futures stream: `public` for books, best prices and trades, else `market`."""
    topic = stream.partition("@")[2]
    return Route.PUBLIC if topic.startswith(_PUBLIC_TOPICS) else Route.MARKET


def split_by_route(url: str) -> list[str]:
    """Split the address of a combined stream into the addresses that its streams need.

    An address with `{route}` becomes one address for each endpoint. Each of these is split again, with an
    even number of streams, until no address has more than `MAX_URL` characters and `MAX_STREAMS` streams.
    """
    head, _, names = url.partition(_STREAMS)
    streams: dict[str, list[str]] = {}
    for stream in names.split("/"):
        streams.setdefault(head.replace(ROUTE, route_of(stream)), []).append(stream)
    return [address for base, names in sorted(streams.items()) for address in _divide_streams(base, names)]


def _divide_streams(base: str, streams: list[str]) -> list[str]:
    """Return as few addresses as possible for streams; each has at least one stream, of any length."""
    for count in range(1, len(streams) + 1):
        bounds = [len(streams) * part // count for part in range(count + 1)]
        parts = [streams[first:end] for first, end in pairwise(bounds)]
        addresses = [f"{base}{_STREAMS}{'/'.join(part)}" for part in parts]
        if max(map(len, addresses)) <= MAX_URL and max(map(len, parts)) <= MAX_STREAMS:
            break
    return addresses


def kind_of(stream: str) -> StreamKind:
    """Return the kind of a stream. Diffs at any speed are DEPTH, a partial book (`@depth20`) is OTHER."""
    if stream == SHUTDOWN_STREAM:
        return StreamKind.SHUTDOWN
    _, _, topic = stream.partition("@")
    if topic == "depth" or topic.startswith("depth@"):
        return StreamKind.DEPTH
    return _BY_TOPIC.get(topic, StreamKind.OTHER)


def is_close_notice(message: bytes) -> bool:
    """Report whether a message that contains no market data announces the end of its connection.

    Spot sends `{"stream":"!serverShutdown","data":{…}}`. The form of futures is not documented, so a message
    without `stream` and `data` is recognised too.
    """
    return SHUTDOWN_STREAM[1:].encode() in message[:_NOTICE_LENGTH]


def symbol_of(stream: str) -> str:
    """Return the symbol of a stream in capitals, BTCUSDT for `btcusdt@trade`; empty without a symbol."""
    symbol, at, _ = stream.partition("@")
    return symbol.upper() if at else ""


def event_us(value: int) -> int:
    """Convert an event time to microseconds; it was sent in milliseconds or microseconds."""
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
"""Fields of a message in their order, for the streams that sessions record and for the futures' `@trade`."""
