"""Names and limits of the exchange, copied from its documentation.

None of them is imported from the client: tests could not detect an error that both share. `docs/exchange.md`
states the source of each value, and a test compares the client, the sandbox and that page.
"""

from __future__ import annotations

from enum import StrEnum

from capture_pipeline.binance.periods import DAY_US, Interval, Month
from capture_pipeline.binance.urls import ArchiveFile, Market, TradesFile

REST_ROOTS = {Market.SPOT: "/api/v3", Market.UM: "/fapi/v1"}
WEIGHT_BUDGETS = {Market.SPOT: 6000, Market.UM: 2400}
"""Request weight per minute and address."""
Steps = tuple[tuple[int, int], ...]
WEIGHTS: dict[Market, dict[str, int | Steps]] = {
    Market.SPOT: {
        "ping": 1,
        "time": 1,
        "exchangeInfo": 20,
        "klines": 2,
        "depth": ((100, 5), (500, 25), (1000, 50), (5000, 250)),
        "aggTrades": 4,
    },
    Market.UM: {
        "ping": 1,
        "time": 1,
        "exchangeInfo": 1,
        "klines": ((99, 1), (499, 2), (1000, 5), (1500, 10)),
        "depth": ((50, 2), (100, 5), (500, 10), (1000, 20)),
        "aggTrades": 20,
    },
}
"""Weight of a request; pairs are a maximum of `limit` and the weight up to it."""
MAX_ROWS = {
    Market.SPOT: {"klines": 1000, "depth": 5000, "aggTrades": 1000},
    Market.UM: {"klines": 1500, "depth": 1000, "aggTrades": 1000},
}
DEFAULT_ROWS = {
    Market.SPOT: {"klines": 500, "depth": 100, "aggTrades": 500},
    Market.UM: {"klines": 500, "depth": 500, "aggTrades": 500},
}
"""Rows of an answer to a request without `limit`."""
UM_DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
"""Valid values of `limit` in a depth request of futures, levels per side."""
UM_REACH_US = 2 * DAY_US
"""Maximum age of futures aggTrades: 48 hours since 2026-08-13 (measured by other clients), before that 24."""
INTERVALS = {
    Market.SPOT: tuple(Interval),
    Market.UM: tuple(step for step in Interval if step is not Interval.S1),
}

ARCHIVE_ROOTS = {Market.SPOT: "data/spot", Market.UM: "data/futures/um"}
BUCKET = "data.binance.vision"
DATA = ("aggTrades", "klines", "trades")
"""Folders below `monthly` and `daily` in the archive of a market."""
DAILY_DELAY_HOURS, MONTHLY_DELAY_HOURS = 5.0, 36.0

KLINES_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)
TRADES_HEADER = "id,price,qty,quote_qty,time,is_buyer_maker"
"""Header of futures files of trades. Spot files have one more column and no header."""

FUTURES_HOST = "fstream"
"""First path segment of futures streams, which have a separate host at the exchange."""
SHUTDOWN_STREAM = "!serverShutdown"
CONNECTION_LIFE_S = 86_400
CONNECTION_ATTEMPTS, CONNECTION_WINDOW_S = 300, 300.0
"""Number of handshakes that one address may start in the window."""
MAX_STREAMS = 1024
MAX_TARGET_LENGTH = 8000
"""Characters of path and query of a connection; clients measured 8,004 for a whole address."""
PING_EVERY_S = {Market.SPOT: 20, Market.UM: 180}
PONG_WITHIN_S = {Market.SPOT: 60, Market.UM: 600}
MESSAGES_A_SECOND = {Market.SPOT: 5, Market.UM: 10}
"""Number of messages that a client may send per second, pongs included."""
_PUBLIC_TOPICS = ("depth", "bookTicker", "rpiDepth", "trade")


class StreamRoute(StrEnum):
    """Endpoints of the futures' stream host."""

    PUBLIC = "public"
    MARKET = "market"


def route_of(stream: str) -> StreamRoute:
    """Return the endpoint that sends a futures stream."""
    topic = stream.partition("@")[2]
    return StreamRoute.PUBLIC if topic.startswith(_PUBLIC_TOPICS) else StreamRoute.MARKET


def archive_path(file: ArchiveFile | TradesFile) -> str:
    """Return the path of a file below the archive's host."""
    kind, folder = (
        (file.kind, "") if isinstance(file, TradesFile) else (str(file.interval), f"{file.interval}/")
    )
    granularity = "monthly" if isinstance(file.period, Month) else "daily"
    data = kind if isinstance(file, TradesFile) else "klines"
    name = f"{file.symbol}-{kind}-{file.period}.zip"
    return f"{ARCHIVE_ROOTS[file.market]}/{granularity}/{data}/{file.symbol}/{folder}{name}"
