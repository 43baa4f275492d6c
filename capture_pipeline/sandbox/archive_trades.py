"""Trades as the archive publishes them: the rows of a file, in the exchange's columns. Knows no HTTP and no publication times.

Spot has seven columns and no header, futures have six and one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import polars as pl

from capture_pipeline.binance.periods import DAY_US
from capture_pipeline.binance.urls import AGG_TRADES, Market, TradesFile
from capture_pipeline.sandbox.frames import MICROSECONDS_FROM_US, TRADES_HEADER, Scale
from capture_pipeline.sandbox.market import AGGREGATES_FROM, SyntheticMarket
from capture_pipeline.sandbox.noise import Ints
from capture_pipeline.sandbox.tape import Trades

_AGG_HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
Arrange = Callable[[pl.DataFrame, pl.Expr], pl.DataFrame]
"""Rows and the expression of their time in microseconds, to the rows of the file."""


def trades_csv(market: SyntheticMarket, file: TradesFile, scale: Scale, arrange: Arrange) -> bytes:
    """The CSV of a file, made a day at a time; empty where nothing was traded.

    Args:
        market: Whose trades; the same as those of its streams and its REST.
        file: Which period of which symbol.
        scale: How the symbol's values are written.
        arrange: Repeats rows, or changes their order.
    """
    start, end = file.bounds
    is_spot = file.market is Market.SPOT
    micro = is_spot and start >= MICROSECONDS_FROM_US
    days = range(start, end, DAY_US)
    parts = (market.trades(file.market, file.symbol, day, day + DAY_US) for day in days)
    is_of_aggregates, since = file.kind == AGG_TRADES, AGGREGATES_FROM[file.market]
    pairs = ((part.ids + since, replace(part, ids=market.trade_ids.sent(file.market, part.ids))) for part in parts)
    body = b"".join(_rows(part, scale, arrange, aggregates if is_of_aggregates else None, micro, is_spot) for aggregates, part in pairs)
    header = _AGG_HEADER if is_of_aggregates else TRADES_HEADER
    return body if is_spot or not body else f"{header}\n".encode() + body


def _rows(trades: Trades, scale: Scale, arrange: Arrange, aggregates: Ints | None, micro: bool, spot: bool) -> bytes:  # noqa: FBT001
    """Rows of trades, or of aggregates of one trade each where their ids are given."""
    if not len(trades):
        return b""
    maker = pl.Series(trades.taker_buys) == 0
    flags = ["True", "False"] if spot else ["true", "false"]
    is_plain = aggregates is None
    columns = {
        "id": trades.ids if is_plain else aggregates,
        "price": scale.text("price", trades.price),
        "qty": scale.text("lot", trades.quantity),
        **({"quote_qty": scale.text("quote", trades.price * trades.quantity)} if is_plain else {"first": trades.ids, "last": trades.ids}),
        "time": trades.time_us if micro else trades.time_us // 1000,
        "is_buyer_maker": maker,
    }
    frame = pl.DataFrame(columns).with_columns(pl.when("is_buyer_maker").then(pl.lit(flags[0])).otherwise(pl.lit(flags[1])).alias("m"))
    frame = frame.drop("is_buyer_maker").with_columns(pl.lit("True").alias("best")) if spot else frame.drop("is_buyer_maker")
    frame = arrange(frame, pl.col("time") * (1 if micro else 1000))
    return frame.write_csv(None, include_header=False, quote_style="never").encode()
