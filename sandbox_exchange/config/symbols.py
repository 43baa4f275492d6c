"""Symbols of the sandbox: tick, lot, base price, listing and number of trades."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.binance.symbols import validate_symbol
from capture_pipeline.binance.urls import Market
from capture_pipeline.errors import ConfigError
from sandbox_exchange.config.spans import TimeUs

LISTED_US = parse_time("2024-01-01")
_MAX_DECIMALS = 8
_MEAN_NOTIONAL = 500


def _check_symbol(text: str) -> str:
    try:
        return validate_symbol(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def count_decimals(step: Decimal) -> int:
    """Return the number of decimals of a step: 2 for 0.01."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -int(exponent))


class SymbolSpec(BaseModel):
    """Properties of a symbol.

    Attributes:
        symbol: Name, for example BTCUSDT.
        base_price: Price around which the price path moves.
        tick_size: Smallest price step.
        lot_size: Smallest quantity step. Tick and lot together have at most eight decimals, so that turnover
            is exact.
        listed: Time of the listing, microseconds UTC; the first trade is within a minute of it.
        delisted: Time of the delisting, microseconds UTC; there are no later trades.
        trades_per_day: Constant, so that the ids of any day are known without counting.
        book_interval_s: Time between two diffs, a divisor of 25 s and a multiple of 0.1 s. None for a
            constant book.
        quote: Quote asset: the end of the symbol, or of the part before the date of a delivery contract
            (BTCUSDT_250328).
        markets: Markets that list the symbol.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: Annotated[str, AfterValidator(_check_symbol)]
    base_price: Decimal = Field(Decimal(1), gt=0)
    tick_size: Decimal = Field(Decimal("0.0001"), gt=0)
    lot_size: Decimal = Field(Decimal("0.1"), gt=0)
    listed: TimeUs | None = None
    delisted: TimeUs | None = None
    trades_per_day: int = Field(5760, ge=1, le=500_000)
    book_interval_s: float | None = Field(0.1, ge=0.1, le=25)
    quote: str = "USDT"
    markets: tuple[Market, ...] = Field(tuple(Market), min_length=1)

    @model_validator(mode="after")
    def _check_decimals(self) -> SymbolSpec:
        if self.price_decimals + self.lot_decimals > _MAX_DECIMALS:
            raise ValueError("tick_size and lot_size have more than eight decimals together")
        return self

    @model_validator(mode="after")
    def _check_book_interval(self) -> SymbolSpec:
        if self.book_slots is not None and (
            not math.isclose(self.book_slots / 10, self.book_interval_s or 0) or 250 % self.book_slots
        ):
            raise ValueError("book_interval_s must divide 25 s and be a multiple of 0.1 s")
        return self

    @property
    def book_slots(self) -> int | None:
        """Number of slots of 100 ms between two diffs; None for a constant book."""
        return None if self.book_interval_s is None else round(self.book_interval_s * 10)

    @property
    def price_decimals(self) -> int:
        """Number of decimals of prices."""
        return count_decimals(self.tick_size)

    @property
    def lot_decimals(self) -> int:
        """Number of decimals of quantities."""
        return count_decimals(self.lot_size)

    @property
    def tick_units(self) -> int:
        """Tick size in units of its last decimal."""
        return int(self.tick_size.scaleb(self.price_decimals))

    @property
    def lot_units(self) -> int:
        """Lot size in units of its last decimal."""
        return int(self.lot_size.scaleb(self.lot_decimals))

    @property
    def base_ticks(self) -> int:
        """Base price in ticks."""
        return max(1, int(self.base_price / self.tick_size))

    @property
    def max_trade_lots(self) -> int:
        """Maximum quantity of one trade, in lots."""
        return max(1, int(3 * _MEAN_NOTIONAL / (self.base_price * self.lot_size)))

    @property
    def base(self) -> str:
        """Base asset."""
        return self.pair.removesuffix(self.quote)

    @property
    def pair(self) -> str:
        """Symbol without the delivery date of a contract."""
        return self.symbol.partition("_")[0]

    @property
    def is_delivery(self) -> bool:
        """True if the symbol is a contract with a delivery date, the time of its delisting."""
        return self.pair != self.symbol


def _create_spec(symbol: str, price: str, tick: str, lot: str, trades: int = 5760) -> SymbolSpec:
    return SymbolSpec(
        symbol=symbol,
        base_price=Decimal(price),
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        trades_per_day=trades,
    )


DEFAULT_SYMBOLS = {
    spec.symbol: spec
    for spec in (
        _create_spec("BTCUSDT", "60000", "0.01", "0.00001", 11520),
        _create_spec("ETHUSDT", "3000", "0.01", "0.0001", 8640),
        _create_spec("BNBUSDT", "550", "0.01", "0.001"),
        _create_spec("SOLUSDT", "150", "0.01", "0.001"),
        _create_spec("XRPUSDT", "0.6", "0.0001", "0.1"),
        _create_spec("ADAUSDT", "0.5", "0.0001", "0.1"),
        _create_spec("DOGEUSDT", "0.15", "0.00001", "1"),
        _create_spec("AVAXUSDT", "35", "0.01", "0.01"),
        _create_spec("TRXUSDT", "0.13", "0.0001", "0.1"),
        _create_spec("DOTUSDT", "7", "0.001", "0.01"),
    )
}
"""Ten symbols that are served by default."""


def create_synthetic_symbol(number: int, listed_us: int) -> SymbolSpec:
    """Create an additional symbol, SYN00USDT and so on; few trades keep a thousand of them cheap."""
    price = Decimal(number % 90 + 10) / 10
    tick, lot = Decimal("0.0001"), Decimal("0.1")
    return SymbolSpec(
        symbol=f"SYN{number:02d}USDT",
        base_price=price,
        tick_size=tick,
        lot_size=lot,
        listed=listed_us,
        trades_per_day=1440,
    )
