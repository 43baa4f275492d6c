"""The `bars` table: one row per candle, one file per symbol and month, and the rules for its rows.

A rule is an element-wise expression that is true for a valid row. The Pandera models consist of these
expressions. Asset checks, the command line and the report all use these models.

There are two kinds of rules. Only an error of this pipeline can break the first kind (order, uniqueness,
grid, unfinished candles). A verified file of the exchange can break the second kind. A row that breaks a rule
of the second kind is *irregular*: it is kept as sent and classified.
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
"""Sources of bars, the most trusted first."""

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
    """Classes of irregular rows, which occur in verified files of the exchange."""

    EARLY_CLOSE = "early_close"
    """The candle closes before the end of its interval, because the exchange halted."""
    NEGATIVE_LENGTH = "negative_length"
    """The candle closes before it opens."""
    LATE_CLOSE = "late_close"
    """The candle closes after the end of its interval."""
    HIGH_NOT_HIGHEST = "high_not_highest"
    LOW_NOT_LOWEST = "low_not_lowest"
    PRICE_NOT_POSITIVE = "price_not_positive"
    NEGATIVE_AMOUNT = "negative_amount"
    TAKER_ABOVE_TOTAL = "taker_above_total"
    OFF_GRID = "off_grid"
    """The candle opens between two open times of the grid; such rows are only in `bar_exclusions`."""


_PRICES = ("open", "high", "low", "close")
_AMOUNTS = ("volume", "quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")


@dataclass(frozen=True)
class Rule:
    """Rule for valid rows.

    Attributes:
        name: Name of the rule and of its gate.
        description: Description for people.
        holds: Element-wise expression that is true for valid rows.
        implied: Whether the other rules imply this one, so that it need not be evaluated if they are met.
        irregularity: Expression for the class of a row that breaks the rule; None if no file of the exchange
            can break it, because parser and merge guarantee it.
    """

    name: str
    description: str
    holds: pl.Expr
    implied: bool = False
    irregularity: pl.Expr | None = None


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


def has_schema(bars: pl.DataFrame) -> bool:
    """Return whether the columns, their order and types are valid and no value is null.

    The result is that of `schema_model`, in a hundredth of its time.
    """
    return bars.schema == pl.Schema(BAR_SCHEMA) and not any(column.null_count() for column in bars)


def rules_model(interval: Interval, now_us: int) -> pa.DataFrameSchema:
    """Build a model of all rules in one check; `rule_model` shows which rule fails and where."""
    holds = [rule.holds.all().alias(rule.name) for rule in rules(interval, now_us) if not rule.implied]

    def hold(data: PolarsData) -> bool:
        return all(data.lazyframe.collect().select(holds).row(0))

    return pa.DataFrameSchema(checks=[pa.Check(hold, name="rules")])


def schema_model() -> pa.DataFrameSchema:
    """Build a model of the columns and types."""
    return pa.DataFrameSchema(_columns(), strict=True, ordered=True)


def rule_model(rule: Rule) -> pa.DataFrameSchema:
    """Build a model of one rule, which shows the failing rows."""
    return pa.DataFrameSchema(checks=[pa.Check(_select([rule.holds]), name=rule.name)])


def _columns() -> dict[str, pa.Column]:
    return {name: pa.Column(kind, nullable=False) for name, kind in BAR_SCHEMA.items()}


def _select(expressions: list[pl.Expr]) -> Callable[[PolarsData], pl.LazyFrame]:
    return lambda data: data.lazyframe.select(expressions)
