"""Settings that apply to a period of the synthetic market: outages, suspensions, irregular rows and files."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.binance.urls import Granularity, Market
from capture_pipeline.errors import ConfigError
from sandbox_exchange.faults.kinds import ChecksumForm


def _time_us(value: object) -> object:
    """Convert an ISO text, or the date that YAML parsed from it, to microseconds."""
    if not isinstance(value, date | str):
        return value
    try:
        return parse_time(value if isinstance(value, str) else value.isoformat())
    except ConfigError as error:
        raise ValueError(str(error)) from None


TimeUs = Annotated[int, BeforeValidator(_time_us)]
"""Microseconds UTC; settings contain an ISO date or time."""
_BOTH = (Granularity.MONTHLY, Granularity.DAILY)


class StrictModel(BaseModel):
    """Base class of settings that reject unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Span(StrictModel):
    """Period `[start, end)`."""

    start: TimeUs
    end: TimeUs

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError("end must be later than start")
        return self


class MarketSpan(_Span):
    """Period `[start, end)` of some symbols.

    Attributes:
        symbols: Symbols that the setting applies to; None for all.
        market: Market that the setting applies to; None for both.
    """

    symbols: tuple[str, ...] | None = None
    market: Market | None = None

    def applies_to(self, market: Market, symbol: str) -> bool:
        """Return whether the setting applies to a symbol of a market."""
        return self.market in {None, market} and (self.symbols is None or symbol in self.symbols)


class LastCandle(StrEnum):
    """Close time of the last kline before an outage."""

    WHOLE = "whole"
    """Open time + interval − 1 unit, the usual close time."""
    EARLY = "early"
    """Start of the outage − 1 unit."""
    INVERTED = "inverted"
    """As EARLY, and an empty kline that opens at the start of the outage closes 1 unit before it opens."""


class Outage(MarketSpan):
    """Period without trades and klines.

    Attributes:
        last_candle: Close time of the last kline before the outage.
    """

    last_candle: LastCandle = LastCandle.WHOLE


class Suspension(_Span):
    """Period in which a listed symbol does not trade.

    Attributes:
        symbol: Suspended symbol.
        status: Status in exchangeInfo during the period. Klines of a futures contract with the status
            `SETTLING` are refused with -1122.
        market: Market of the suspension; None for both.
    """

    symbol: str
    status: Literal["BREAK", "HALT", "SETTLING"] = "BREAK"
    market: Market | None = None


class OffGrid(MarketSpan):
    """Klines off the grid: the klines that open in `[start, end)` have shifted times.

    Attributes:
        shift_s: Seconds added to open and close time, modulo the interval.
    """

    shift_s: Annotated[Decimal, Field(gt=0, lt=86_400, decimal_places=6)]

    @property
    def shift_us(self) -> int:
        """Shift in microseconds."""
        return int(self.shift_s * 1_000_000)


class IgnoreText(MarketSpan):
    """Text other than `0` in the column `ignore` of klines that open in `[start, end)`.

    Attributes:
        text: Content of the column; None for numbers that differ from row to row.
    """

    text: Annotated[str | None, Field(pattern=r"^[^,\"\r\n]*$")] = None


class Omission(_Span):
    """Klines that open in `[start, end)`, which archive files lack and REST has."""

    symbol: str
    granularities: tuple[Granularity, ...] = _BOTH
    market: Market | None = None


class Arrangement(Omission):
    """Rows in `[start, end)` that archive files contain twice, or in reverse order.

    Attributes:
        data: Kinds of files that the setting applies to.
    """

    data: tuple[Literal["klines", "trades"], ...] = ("klines", "trades")


class ChecksumFiles(Arrangement):
    """Other form of the checksum files of files whose period begins in `[start, end)`; the digest is correct.

    Attributes:
        form: Kind of checksum fault without the prefix `checksum_`.
    """

    form: ChecksumForm


class OrderTypes(StrictModel):
    """Ids of the futures stream `@trade` that are not in any aggregate, file or kline.

    Attributes:
        every: Number of trades of the market between two such ids.
        kinds: Values of the field `X`, used in turn; a message with `NA` has price and quantity 0.
    """

    every: Annotated[int, Field(ge=1)]
    kinds: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Z_]+$")], ...], Field(min_length=1)] = (
        "INSURANCE_FUND",
        "NA",
        "ADL",
    )
