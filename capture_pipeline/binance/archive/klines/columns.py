"""Columns of parsed klines."""

from __future__ import annotations

import polars as pl

from capture_pipeline.binance.decimals import PLACES, SUM_DIGITS

PRICE = pl.Decimal(18, PLACES)
VOLUME = pl.Decimal(SUM_DIGITS + PLACES, PLACES)
"""Sums have up to 18 digits before the point. Prices have up to ten, because they are stored in 64 bits."""

KLINE_SCHEMA = {
    "open_time_us": pl.Int64(),
    "open": PRICE,
    "high": PRICE,
    "low": PRICE,
    "close": PRICE,
    "volume": VOLUME,
    "close_time_us": pl.Int64(),
    "quote_volume": VOLUME,
    "trades": pl.Int64(),
    "taker_buy_volume": VOLUME,
    "taker_buy_quote_volume": VOLUME,
    "time_unit": pl.String(),
}
"""Columns of a parsed frame. Times are microseconds; `time_unit` is the unit as sent, `ms` or `us`."""

REMEDY = "these klines are not used; run again after the exchange has corrected them"
