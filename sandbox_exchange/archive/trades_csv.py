"""CSVs of the archive files of trades and aggregates.

Files of spot trades have seven columns and no header, files of futures trades have six columns and a header.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from capture_pipeline.binance.periods import DAY_US
from capture_pipeline.binance.urls import Market, TradesFile
from sandbox_exchange.constants import TRADES_HEADER
from sandbox_exchange.market.kline_text import MICROSECONDS_FROM_US, Scale
from sandbox_exchange.market.market import AGGREGATES_FROM, SyntheticMarket
from sandbox_exchange.market.trades import Aggregates, Trades

_AGG_TRADES = "aggTrades"
_AGG_HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
Arrange = Callable[[pl.DataFrame, pl.Expr], pl.DataFrame]
"""Function from rows and the expression of their time in microseconds to the rows of the file."""


class _Columns(NamedTuple):
    """Trades with times and sides of the rows, and the other columns in order."""

    trades: Trades
    values: dict[str, Any]


def build_trades_csv(market: SyntheticMarket, file: TradesFile, scale: Scale, arrange: Arrange) -> bytes:
    """Build the CSV of a file day by day; empty for a period without trades.

    Args:
        market: Market that also provides the trades of streams and REST.
        file: Symbol, period and kind of the file.
        scale: Number format of the symbol.
        arrange: Function that repeats rows or changes their order.
    """
    start, end = file.bounds
    is_spot = file.market is Market.SPOT
    micro = is_spot and start >= MICROSECONDS_FROM_US
    days = (market.trades(file.market, file.symbol, day, day + DAY_US) for day in range(start, end, DAY_US))
    columns = _aggregate_columns if file.kind == _AGG_TRADES else _trade_columns
    body = b"".join(
        _csv(columns(market, file.market, day, scale), arrange, micro=micro, is_spot=is_spot)
        for day in days
        if len(day)
    )
    header = _AGG_HEADER if file.kind == _AGG_TRADES else TRADES_HEADER
    return body if is_spot or not body else f"{header}\n".encode() + body


def _trade_columns(market: SyntheticMarket, venue: Market, trades: Trades, scale: Scale) -> _Columns:
    quote = scale.text("quote", trades.price * trades.quantity)
    values = {
        "price": scale.text("price", trades.price),
        "qty": scale.text("lot", trades.quantity),
        "quote_qty": quote,
    }
    return _Columns(trades, {"id": market.trade_ids.sent_ids(venue, trades.ids), **values})


def _aggregate_columns(market: SyntheticMarket, venue: Market, trades: Trades, scale: Scale) -> _Columns:
    aggregates = Aggregates.of(trades)
    values = {
        "price": scale.text("price", aggregates.rows.price),
        "qty": scale.text("lot", aggregates.rows.quantity),
    }
    first, last = (market.trade_ids.sent_ids(venue, ids) for ids in (aggregates.first, aggregates.last))
    numbers = {"id": aggregates.rows.ids + AGGREGATES_FROM[venue]}
    return _Columns(aggregates.rows, {**numbers, **values, "first": first, "last": last})


def _csv(columns: _Columns, arrange: Arrange, *, micro: bool, is_spot: bool) -> bytes:
    rows, values = columns
    yes, no = ("True", "False") if is_spot else ("true", "false")
    maker = np.where(rows.taker_buys == 0, yes, no)
    best = {"best": np.full(len(rows), "True")} if is_spot else {}
    frame = pl.DataFrame(
        {**values, "time": rows.time_us if micro else rows.time_us // 1000, "m": maker, **best}
    )
    return (
        arrange(frame, pl.col("time") * (1 if micro else 1000))
        .write_csv(None, include_header=False, quote_style="never")
        .encode()
    )
