"""Aggregation of captured trades to bars of any interval, with exact sums in 128-bit integers."""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from capture_pipeline.binance.archive.klines.columns import PRICE, VOLUME
from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.streams.messages import MARKET_ORDER
from capture_pipeline.tables.klines.bars import BARS

SOURCE = "trades"
_E8, _E16 = -8, 10**8


def build_trade_bars(trades: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """Build bars by the exchange's trade time.

    First and last price are those of the lowest and the highest trade id of a bar. An interval without a
    trade has no bar; the exchange publishes a bar of volume zero. The sum of quote volumes is cut after the
    eighth decimal. Only market trades count (see `is_market_trade`).

    Args:
        trades: `trade_id, trade_us, price_e8, quantity_e8, buyer_maker`, optionally `order_type`, in any
            order; each id occurs once.
        interval: Length of the bars.

    Returns:
        A frame of `BARS`, sorted by open time; `source` is `trades`, `time_unit` is `us`.
    """
    price, quantity, taken = pl.col("price_e8"), pl.col("quantity_e8").cast(pl.Int128), ~pl.col("buyer_maker")
    quote = price.cast(pl.Int128) * quantity
    rows = (
        trades.lazy()
        .filter(is_market_trade(trades))
        .sort("trade_id")
        .group_by((pl.col("trade_us") - pl.col("trade_us") % interval.us).alias("open_time_us"))
        .agg(
            price.first().alias("open"),
            price.max().alias("high"),
            price.min().alias("low"),
            price.last().alias("close"),
            quantity.sum().alias("volume"),
            quote.sum().alias("quote_volume"),
            pl.len().cast(pl.Int64).alias("trades"),
            quantity.filter(taken).sum().alias("taker_buy_volume"),
            quote.filter(taken).sum().alias("taker_buy_quote_volume"),
        )
        .sort("open_time_us")
        .collect()
    )
    return rows.select(
        "open_time_us",
        *(_to_decimals(rows[name], PRICE) for name in ("open", "high", "low", "close")),
        _to_decimals(rows["volume"], VOLUME),
        (pl.col("open_time_us") + interval.us - 1).alias("close_time_us"),
        _to_decimals(rows["quote_volume"], VOLUME, _E16),
        "trades",
        _to_decimals(rows["taker_buy_volume"], VOLUME),
        _to_decimals(rows["taker_buy_quote_volume"], VOLUME, _E16),
        pl.lit("us").alias("time_unit"),
        pl.lit(SOURCE).alias("source"),
    ).select(*BARS.schema)


def is_market_trade(trades: pl.DataFrame) -> pl.Expr:
    """Select trades for bars: with a price, and with the order type `MARKET` if there is an order type.

    The trade stream of futures also has ids for orders filled by the insurance fund or by auto-deleveraging,
    and ids without a trade (`NA`, price 0).
    """
    is_priced = pl.col("price_e8") > 0
    return (
        is_priced & (pl.col("order_type").fill_null(MARKET_ORDER) == MARKET_ORDER)
        if "order_type" in trades.columns
        else is_priced
    )


def _to_decimals(values: pl.Series, kind: pl.Decimal, divisor: int = 1) -> pl.Series:
    """Convert integers in units of 1e-8 to decimals. There are few bars: Python is fast enough."""
    return pl.Series(values.name, [Decimal(value // divisor).scaleb(_E8) for value in values.to_list()], kind)
