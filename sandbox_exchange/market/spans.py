"""Settings of the synthetic market that hold for a span of its time: outages, suspensions, irregular rows and files."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.binance.urls import Granularity, Market
from capture_pipeline.errors import ConfigError
from sandbox_exchange.faults.rules import ChecksumForm


def _time_us(value: object) -> object:
    """YAML makes dates of what looks like one; all forms become microseconds."""
    if not isinstance(value, date | str):
        return value
    try:
        return parse_time(value if isinstance(value, str) else value.isoformat())
    except ConfigError as error:
        raise ValueError(str(error)) from None


TimeUs = Annotated[int, BeforeValidator(_time_us)]
"""Microseconds UTC, written as an ISO date or time."""
_BOTH = (Granularity.MONTHLY, Granularity.DAILY)


class Strict(BaseModel):
    """Settings that refuse unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Span(Strict):
    """The time `[start, end)`."""

    start: TimeUs
    end: TimeUs

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError("end must lie after start")
        return self


class MarketSpan(_Span):
    """The time `[start, end)` of some symbols.

    Attributes:
        symbols: The symbols concerned; None for all.
        market: The market concerned; None for both.
    """

    symbols: tuple[str, ...] | None = None
    market: Market | None = None

    def concerns(self, market: Market, symbol: str) -> bool:
        """Whether a symbol of a market is among those concerned."""
        return self.market in {None, market} and (self.symbols is None or symbol in self.symbols)


class LastCandle(StrEnum):
    """The close time of the last candle before an outage."""

    WHOLE = "whole"
    """Open time + interval − 1 unit, as always."""
    EARLY = "early"
    """Start of the outage − 1 unit."""
    INVERTED = "inverted"
    """As early; where a candle would open at the start of the outage it exists, is empty, and closes 1 unit before it opens."""


class Outage(MarketSpan):
    """A time without trades and without candles.

    Attributes:
        last_candle: Close time of the last candle before it.
    """

    last_candle: LastCandle = LastCandle.WHOLE


class Suspension(_Span):
    """A time inside a symbol's life in which it does not trade.

    Attributes:
        symbol: The suspended symbol.
        status: Its status in exchangeInfo during that time. Klines of a futures contract that is `SETTLING` are refused with -1122.
        market: Only in this market; None for both.
    """

    symbol: str
    status: Literal["BREAK", "HALT", "SETTLING"] = "BREAK"
    market: Market | None = None


class OffGrid(MarketSpan):
    """Candles whose times are not on the interval's grid: those of the grid in `[start, end)`, each moved by the same shift.

    Attributes:
        shift_s: Seconds added to open and close time, modulo the interval.
    """

    shift_s: Annotated[Decimal, Field(gt=0, lt=86_400, decimal_places=6)]

    @property
    def shift_us(self) -> int:
        """The shift in microseconds."""
        return int(self.shift_s * 1_000_000)


class IgnoreText(MarketSpan):
    """Another text than `0` in the column `ignore` of candles that open in `[start, end)`.

    Attributes:
        text: What the column contains; None for decimals that differ from row to row.
    """

    text: Annotated[str | None, Field(pattern=r"^[^,\"\r\n]*$")] = None


class Omission(_Span):
    """Rows left out of archive files although REST serves them: candles that open in `[start, end)`."""

    symbol: str
    granularities: tuple[Granularity, ...] = _BOTH
    market: Market | None = None


class Arrangement(Omission):
    """Rows in `[start, end)` that archive files contain twice, or in reverse order.

    Attributes:
        data: Kinds of files that are concerned.
    """

    data: tuple[Literal["klines", "trades"], ...] = ("klines", "trades")


class ChecksumFiles(Arrangement):
    """Another form of the checksum files of archive files whose period begins in `[start, end)`; the digest is right.

    Attributes:
        form: Kind of a checksum fault, without `checksum_`.
    """

    form: ChecksumForm


class OrderTypes(Strict):
    """Ids of the futures' stream `@trade` that are no trades of the market, and so are in no aggregate, file or candle.

    Attributes:
        every: Trades of the market between two such ids.
        kinds: Values of `X`, in turn; the row of `NA` has price and quantity 0.
    """

    every: Annotated[int, Field(ge=1)]
    kinds: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Z_]+$")], ...], Field(min_length=1)] = (
        "INSURANCE_FUND",
        "NA",
        "ADL",
    )
