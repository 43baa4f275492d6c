"""Kline frame of archive and REST, with its CSV and its JSON rows.

The columns `open_us` and `close_us` are microseconds UTC, `count` is an integer, and all others are text as
sent.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from capture_pipeline.binance.periods import Interval, parse_time
from capture_pipeline.binance.urls import Market
from sandbox_exchange.config.symbols import SymbolSpec
from sandbox_exchange.constants import KLINES_HEADER
from sandbox_exchange.market.bars import Bars
from sandbox_exchange.market.prng import Ints

SCHEMA = {
    "open_us": pl.Int64(),
    "open": pl.String(),
    "high": pl.String(),
    "low": pl.String(),
    "close": pl.String(),
    "volume": pl.String(),
    "close_us": pl.Int64(),
    "quote_volume": pl.String(),
    "count": pl.Int64(),
    "taker_buy_volume": pl.String(),
    "taker_buy_quote_volume": pl.String(),
    "ignore": pl.String(),
}
"""Columns of a kline frame, in the order of the exchange."""
_KINDS = {
    **dict.fromkeys(("open", "high", "low", "close"), "price"),
    **dict.fromkeys(("volume", "taker_buy_volume"), "lot"),
    **dict.fromkeys(("quote_volume", "taker_buy_quote_volume"), "quote"),
}
"""Unit of each column with decimals."""
MICROSECONDS_FROM_US = parse_time("2025-01-01")
"""Start of the first period whose spot archive files have times in microseconds."""
_SPOT_DECIMALS = 8


def decimal_text(values: pl.Expr, decimals: int) -> pl.Expr:
    """Render non-negative integers in units of the last decimal: 1234 with two decimals is 12.34."""
    digits = values.cast(pl.String)
    if not decimals:
        return digits
    digits = digits.str.zfill(decimals + 1)
    return digits.str.head(-decimals) + "." + digits.str.tail(decimals)


class Scale:
    """Number format of a symbol in one market: spot has eight decimals, futures have those of the symbol."""

    def __init__(self, spec: SymbolSpec, market: Market) -> None:
        price, lot = spec.price_decimals, spec.lot_decimals
        self._decimals = {"price": price, "lot": lot, "quote": price + lot}
        self._factors = {
            "price": spec.tick_units,
            "lot": spec.lot_units,
            "quote": spec.tick_units * spec.lot_units,
        }
        self._is_spot = market is Market.SPOT

    def text(self, kind: str, values: Ints) -> pl.Series:
        """Render values as text.

        Args:
            kind: price, lot or quote.
            values: Integers in ticks, lots, or ticks times lots.
        """
        return (
            pl.DataFrame({kind: values}, schema={kind: pl.Int64})
            .select(self.text_expr(kind, kind))
            .to_series()
        )

    def text_expr(self, kind: str, column: str) -> pl.Expr:
        """Build the expression that renders a column as text.

        Args:
            kind: price, lot or quote.
            column: Name of a column of integers in ticks, lots, or ticks times lots.
        """
        decimals = self._decimals[kind]
        text = decimal_text(pl.col(column) * self._factors[kind], decimals)
        # Zeros are appended as text: a multiplication would overflow for volumes with eleven digits before
        # the point.
        return (
            text + (("" if decimals else ".") + "0" * (_SPOT_DECIMALS - decimals)) if self._is_spot else text
        )


def bars_to_frame(bars: Bars, interval: Interval, scale: Scale) -> pl.DataFrame:
    """Convert bars to a kline frame."""
    numbers = {
        "open_us": bars.open_us,
        **{name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")},
        "close_us": bars.open_us + (interval.us - 1),
        "quote_volume": bars.quote,
        "count": bars.count,
        "taker_buy_volume": bars.taker_volume,
        "taker_buy_quote_volume": bars.taker_quote,
    }
    texts = [scale.text_expr(_KINDS[name], name) for name in numbers if name in _KINDS]
    return pl.DataFrame(numbers, schema=dict.fromkeys(numbers, pl.Int64)).with_columns(
        *texts, ignore=pl.lit("0")
    )


def convert_times(frame: pl.DataFrame, *, microseconds: bool) -> pl.DataFrame:
    """Convert times to milliseconds unless `microseconds` is set."""
    return frame if microseconds else frame.with_columns(pl.col("open_us", "close_us") // 1000)


def frame_to_csv(frame: pl.DataFrame, *, microseconds: bool, header: bool) -> bytes:
    """Render the CSV of an archive file."""
    body = (
        convert_times(frame, microseconds=microseconds)
        .write_csv(None, include_header=False, quote_style="never")
        .encode()
    )
    return f"{KLINES_HEADER}\n".encode() + body if header else body


def frame_to_rows(frame: pl.DataFrame, *, microseconds: bool) -> list[list[Any]]:
    """Convert a frame to REST rows, in which times and count are integers and all other values text."""
    return [list(row) for row in convert_times(frame, microseconds=microseconds).iter_rows()]


def parse_csv(text: bytes) -> pl.DataFrame:
    """Parse a recorded CSV without changing its values.

    Rows without a valid open time, a header and a byte order mark are skipped. The size of a time determines
    its unit.
    """
    text = text.removeprefix(b"\xef\xbb\xbf")
    lines = text.decode("utf-8", "replace").splitlines()
    rows = [line.split(",") for line in lines if line[:1].isdigit() and line.count(",") == len(SCHEMA) - 1]
    raw = pl.DataFrame(rows, schema=dict.fromkeys(SCHEMA, pl.String()), orient="row")
    numbers = raw.with_columns(
        pl.col("open_us", "close_us", "count").cast(pl.Int64, strict=False)
    ).drop_nulls("open_us")
    is_ms = pl.col("open_us") < 10**14
    close = pl.when(is_ms).then((pl.col("close_us") + 1) * 1000 - 1).otherwise(pl.col("close_us"))
    return numbers.with_columns(
        close_us=close, open_us=pl.when(is_ms).then(pl.col("open_us") * 1000).otherwise(pl.col("open_us"))
    )
