"""The table `bars`: one row per kline, one file per symbol and month, and the rules for its rows.

A rule is an element-wise expression that is true for a valid row. The Pandera models (`models`) consist of
these expressions. Asset checks, the command line and the report all use these models.

There are two kinds of rules. Only an error of this pipeline can break the first kind (order, uniqueness,
grid, unfinished klines). A verified file of the exchange can break the second kind. A row that breaks a rule
of the second kind is *irregular*: it is kept as sent and classified.
"""

from __future__ import annotations

from enum import StrEnum

import polars as pl

from capture_pipeline.binance.archive.klines.columns import PRICE, VOLUME
from capture_pipeline.binance.periods import Interval
from capture_pipeline.tables.table import INT64, KLINE_KEYS, TEXT, Column, Rule, Table

SOURCES = ("monthly", "daily", "rest")
"""Sources of bars, the most trusted first."""

BARS = Table(
    "bars",
    "Verified bars: one row per kline, one Parquet file for each symbol and month. If a bar is in several "
    "sources, the monthly file is preferred, then the daily file, then REST.",
    (
        Column("open_time_us", INT64, "Open time", "microseconds UTC"),
        Column("open", PRICE, "First price, exact", "quote asset"),
        Column("high", PRICE, "Highest price, exact", "quote asset"),
        Column("low", PRICE, "Lowest price, exact", "quote asset"),
        Column("close", PRICE, "Last price, exact", "quote asset"),
        Column("volume", VOLUME, "Traded amount, exact", "base asset"),
        Column(
            "close_time_us",
            INT64,
            "Close time as received: open + interval − 1 ms or − 1 µs, depending on `time_unit`; in an "
            "irregular row it can be any other time. Compute the end of a kline from `open_time_us`",
            "microseconds UTC",
        ),
        Column("quote_volume", VOLUME, "Traded amount, exact", "quote asset"),
        Column("trades", INT64, "Number of trades"),
        Column("taker_buy_volume", VOLUME, "Amount that takers bought, exact", "base asset"),
        Column("taker_buy_quote_volume", VOLUME, "Amount that buying takers spent, exact", "quote asset"),
        Column(
            "time_unit",
            TEXT,
            "`ms` or `us`: the unit of the received times. Spot archives use microseconds from 2025-01-01 "
            "on. The unit is determined from the values, never from the date",
        ),
        Column("source", TEXT, "`monthly`, `daily` (archive files) or `rest`"),
    ),
    KLINE_KEYS,
    """\
Rows are sorted by `open_time_us`. Each open time occurs once.

The close time of an irregular row is before the end of the interval, before the open time, or after the end
of the interval. The first case occurs where the exchange halted (klines of 1s to 12h on thirteen known
dates).

Within one source the earlier file or answer is used. A minute without trades has a kline of volume 0. During
a halt of the exchange there is no kline.""",
)
VALUE_COLUMNS = [
    name for name in BARS.schema if not name.endswith("_us") and name not in {"time_unit", "source"}
]


class Irregularity(StrEnum):
    """Classes of irregular rows, which occur in verified files of the exchange."""

    EARLY_CLOSE = "early_close"
    """The kline closes before the end of its interval, because the exchange halted."""
    NEGATIVE_LENGTH = "negative_length"
    """The kline closes before it opens."""
    LATE_CLOSE = "late_close"
    """The kline closes after the end of its interval."""
    HIGH_NOT_HIGHEST = "high_not_highest"
    LOW_NOT_LOWEST = "low_not_lowest"
    PRICE_NOT_POSITIVE = "price_not_positive"
    NEGATIVE_AMOUNT = "negative_amount"
    TAKER_ABOVE_TOTAL = "taker_above_total"
    OFF_GRID = "off_grid"
    """The kline opens between two open times of the grid; such rows are only in `bar_exclusions`."""


_PRICES = ("open", "high", "low", "close")
_AMOUNTS = ("volume", "quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")


def rules(interval: Interval, now_us: int) -> list[Rule]:
    """Return the rules for bars of one interval at the time `now_us`."""
    column = pl.col
    opened, closed = column("open_time_us"), column("close_time_us")
    unit = pl.when(column("time_unit") == "ms").then(1000).otherwise(1)
    last = opened + interval.us - unit
    length = (
        pl.when(closed < opened)
        .then(pl.lit(str(Irregularity.NEGATIVE_LENGTH)))
        .when(closed < last)
        .then(pl.lit(str(Irregularity.EARLY_CLOSE)))
        .otherwise(pl.lit(str(Irregularity.LATE_CLOSE)))
    )
    return [
        Rule("open_times_increase", "Open times increase strictly.", opened.diff().fill_null(1) > 0),
        Rule("open_times_unique", "Each open time occurs once.", opened.is_unique(), implied=True),
        Rule("open_times_on_grid", "Open times are on the grid of the interval.", opened % interval.us == 0),
        Rule("none_in_future", "No kline's interval ends in the future.", last < now_us),
        Rule(
            "high_is_highest",
            "high ≥ max(open, close, low).",
            column("high") >= pl.max_horizontal("open", "close", "low"),
            irregularity=_always(Irregularity.HIGH_NOT_HIGHEST),
        ),
        Rule(
            "low_is_lowest",
            "low ≤ min(open, close, high).",
            column("low") <= pl.min_horizontal("open", "close", "high"),
            irregularity=_always(Irregularity.LOW_NOT_LOWEST),
        ),
        Rule(
            "prices_positive",
            "Prices are positive.",
            pl.all_horizontal(column(name) > 0 for name in _PRICES),
            irregularity=_always(Irregularity.PRICE_NOT_POSITIVE),
        ),
        Rule(
            "volumes_not_negative",
            "Volumes and counts are not negative.",
            pl.all_horizontal(column(name) >= 0 for name in _AMOUNTS),
            irregularity=_always(Irregularity.NEGATIVE_AMOUNT),
        ),
        Rule(
            "taker_within_total",
            "Taker volumes are at most the total volumes.",
            (column("taker_buy_volume") <= column("volume"))
            & (column("taker_buy_quote_volume") <= column("quote_volume")),
            irregularity=_always(Irregularity.TAKER_ABOVE_TOTAL),
        ),
        Rule(
            "close_time_fits",
            "close time = open time + interval − 1 unit.",
            closed == last,
            irregularity=length,
        ),
    ]


def _always(irregularity: Irregularity) -> pl.Expr:
    return pl.lit(str(irregularity))
