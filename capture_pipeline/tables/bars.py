"""The `bars` table: one row a candle, one file a symbol-month, and the rules that every row must keep.

A rule is an element-wise expression that is true where a row is sound. The Pandera model is made of them, and asset checks, the
command line and the report all use that model.

Two kinds of rules: those that only damage of our own can break (order, uniqueness, grid, unfinished candles), and those that a
verified file of the exchange can break. A row that breaks one of the second kind is *irregular*: it is kept as sent and classified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import pandera.polars as pa
import polars as pl
from pandera.api.polars.types import PolarsData

from capture_pipeline.binance.archive.klines import KLINE_SCHEMA
from capture_pipeline.binance.periods import Interval

SOURCES = ("monthly", "daily", "rest")
"""Where a bar can come from, the most trusted first."""

BAR_SCHEMA: dict[str, pl.DataType] = {**KLINE_SCHEMA, "source": pl.String()}
VALUE_COLUMNS = [name for name in KLINE_SCHEMA if not name.endswith("_us") and name != "time_unit"]

COLUMN_DESCRIPTIONS = {
    "open_time_us": "Open time, microseconds UTC",
    "open": "First price, quote asset, exact",
    "high": "Highest price, quote asset, exact",
    "low": "Lowest price, quote asset, exact",
    "close": "Last price, quote asset, exact",
    "volume": "Base asset traded, exact",
    "close_time_us": "Close time as sent, microseconds UTC; in irregular rows not the end of the interval",
    "quote_volume": "Quote asset traded, exact",
    "trades": "Number of trades",
    "taker_buy_volume": "Base asset bought by takers, exact",
    "taker_buy_quote_volume": "Quote asset spent by buying takers, exact",
    "time_unit": "Unit the exchange sent the times in: ms or us",
    "source": "monthly, daily (archive files) or rest",
}


class Irregularity(StrEnum):
    """Classes of irregular rows: what a verified file of the exchange may hold although no candle should be so."""

    EARLY_CLOSE = "early_close"
    """It closes before the end of its interval: the exchange halted."""
    NEGATIVE_LENGTH = "negative_length"
    """It closes before it opens."""
    LATE_CLOSE = "late_close"
    """It closes after the end of its interval."""
    HIGH_NOT_HIGHEST = "high_not_highest"
    LOW_NOT_LOWEST = "low_not_lowest"
    PRICE_NOT_POSITIVE = "price_not_positive"
    NEGATIVE_AMOUNT = "negative_amount"
    TAKER_ABOVE_TOTAL = "taker_above_total"
    OFF_GRID = "off_grid"
    """It opens between two open times of the grid. No bar has this class: such rows are in `bar_exclusions`."""


_PRICES = ("open", "high", "low", "close")
_AMOUNTS = ("volume", "quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")


@dataclass(frozen=True)
class Rule:
    """One thing that is true of every sound row.

    Attributes:
        name: Also the name of the gate.
        description: For people.
        holds: Element-wise expression.
        implied: Whether the other rules together imply it, so that it need not be evaluated where they hold.
        irregularity: The class of a row that breaks it, as an expression; None where no file of the exchange can break it, because
            parser and merge guarantee it.
    """

    name: str
    description: str
    holds: pl.Expr
    implied: bool = False
    irregularity: pl.Expr | None = None


def rules(interval: Interval, now_us: int) -> list[Rule]:
    """The rules of bars of one interval, as of `now_us`."""
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
        Rule("open_times_unique", "No open time stands twice.", opened.is_unique(), implied=True),
        Rule("open_times_on_grid", "Open times stand on the interval's grid.", opened % interval.us == 0),
        Rule("none_in_future", "No candle's interval ends in the future.", last < now_us),
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
            "What takers bought is at most what was traded.",
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


def has_schema(bars: pl.DataFrame) -> bool:
    """Whether columns, their order and types are the table's and nothing is null: what `schema_model` says, in a hundredth of its time."""
    return bars.schema == pl.Schema(BAR_SCHEMA) and not any(column.null_count() for column in bars)


def rules_model(interval: Interval, now_us: int) -> pa.DataFrameSchema:
    """All rules, in one pass; which of them fails, and where, `rule_model` tells once one has."""
    holds = [rule.holds.all().alias(rule.name) for rule in rules(interval, now_us) if not rule.implied]

    def hold(data: PolarsData) -> bool:
        return all(data.lazyframe.collect().select(holds).row(0))

    return pa.DataFrameSchema(checks=[pa.Check(hold, name="rules")])


def schema_model() -> pa.DataFrameSchema:
    """The columns and types."""
    return pa.DataFrameSchema(_columns(), strict=True, ordered=True)


def rule_model(rule: Rule) -> pa.DataFrameSchema:
    """One rule alone, for telling which one failed and where."""
    return pa.DataFrameSchema(checks=[pa.Check(_select([rule.holds]), name=rule.name)])


def _columns() -> dict[str, pa.Column]:
    return {name: pa.Column(kind, nullable=False) for name, kind in BAR_SCHEMA.items()}


def _select(expressions: list[pl.Expr]) -> Callable[[PolarsData], pl.LazyFrame]:
    return lambda data: data.lazyframe.select(expressions)
