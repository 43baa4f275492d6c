"""Names and paths of archive files, REST paths and their weights. Hosts are settings.

Source: the exchange's public-data README and its REST documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Protocol

from capture_pipeline.binance.periods import Interval, Month, TimeRange, day_bounds
from capture_pipeline.binance.symbols import validate_symbol
from capture_pipeline.errors import ConfigError

_TRADES, AGG_TRADES = "trades", "aggTrades"
_NAME = re.compile(r"([^-]+)-(\w+)-(\d{4}-\d{2})(-\d{2})?\.zip", re.ASCII)
SPOT_DEPTH = 5000
"""Maximum number of levels of each side in an answer of spot's `depth`."""
UM_DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
"""Numbers of levels of each side that a request for the futures' `depth` may contain."""
NO_UM_SECONDS = (
    "interval: USD-M futures have no klines of 1s; set interval to 1m or longer, or market to spot"
)


class Market(StrEnum):
    """Markets of the exchange."""

    SPOT = "spot"
    UM = "um"

    @property
    def archive_root(self) -> str:
        """First folders of every archive path."""
        return "data/spot" if self is Market.SPOT else "data/futures/um"

    @property
    def rest_root(self) -> str:
        """Part of a REST path before the endpoint's name."""
        return "/api/v3" if self is Market.SPOT else "/fapi/v1"

    @property
    def weight_per_minute(self) -> int:
        """Request weight that the exchange allows an address in a minute, as its exchangeInfo states."""
        return 6000 if self is Market.SPOT else 2400


_WEIGHTS: dict[Market, dict[str, int | tuple[tuple[int, int], ...]]] = {
    Market.SPOT: {
        "time": 1,
        "exchangeInfo": 20,
        "klines": 2,
        "depth": ((100, 5), (500, 25), (1000, 50), (5000, 250)),
        "aggTrades": 4,
    },
    Market.UM: {
        "time": 1,
        "exchangeInfo": 1,
        "klines": ((99, 1), (499, 2), (1000, 5), (1500, 10)),
        "depth": ((50, 2), (100, 5), (500, 10), (1000, 20)),
        "aggTrades": 20,
    },
}
"""Weight of a request, or pairs of a maximum `limit` and a weight; the sources are in `docs/exchange.md`."""


def has_interval(market: Market, interval: Interval) -> bool:
    """Report whether a market has klines of an interval; futures have no `1s` and answer with code -1120."""
    return market is Market.SPOT or interval is not Interval.S1


class Granularity(StrEnum):
    """Period of an archive file."""

    MONTHLY = "monthly"
    DAILY = "daily"


class PublishedFile(Protocol):
    """Name and path of a zip of the archive."""

    @property
    def name(self) -> str:
        """Name of the zip."""

    @property
    def stem(self) -> str:
        """Name without `.zip`."""

    @property
    def path(self) -> str:
        """Path below the archive's host."""


class _PeriodFile:
    """Common properties of archive files: zips of a month or a day."""

    period: Month | date

    @property
    def stem(self) -> str:
        """Name of the zip without its ending."""
        raise NotImplementedError

    @property
    def granularity(self) -> Granularity:
        """Monthly or daily."""
        return Granularity.MONTHLY if isinstance(self.period, Month) else Granularity.DAILY

    @property
    def name(self) -> str:
        """Name of the zip."""
        return f"{self.stem}.zip"

    @property
    def bounds(self) -> TimeRange:
        """Range of the period."""
        period = self.period
        return period.bounds if isinstance(period, Month) else day_bounds(period)


@dataclass(frozen=True)
class ArchiveFile(_PeriodFile):
    """One kline file of the public archive."""

    market: Market
    symbol: str
    interval: Interval
    period: Month | date

    @property
    def stem(self) -> str:
        """`BTCUSDT-1m-2024-12` or `BTCUSDT-1m-2024-12-31`."""
        return f"{self.symbol}-{self.interval}-{self.period}"

    @property
    def folder(self) -> str:
        """Folder in the archive, with a slash at its end."""
        return archive_folder(self.market, self.granularity, self.symbol, self.interval)

    @property
    def path(self) -> str:
        """Path below the archive's host."""
        return self.folder + self.name


@dataclass(frozen=True)
class TradesFile(_PeriodFile):
    """One file of published trades.

    Attributes:
        market: Spot or USD-M futures.
        symbol: Symbol, for instance BTCUSDT.
        period: Day or month of the trades, UTC.
        kind: `trades` or `aggTrades`.
    """

    market: Market
    symbol: str
    period: Month | date
    kind: str = _TRADES

    @property
    def stem(self) -> str:
        """`BTCUSDT-trades-2026-08-03`."""
        return f"{validate_symbol(self.symbol)}-{self.kind}-{self.period}"

    @property
    def path(self) -> str:
        """Path below the archive's host."""
        return f"{self.market.archive_root}/{self.granularity}/{self.kind}/{self.symbol}/{self.name}"


def archive_folder(market: Market, granularity: Granularity, symbol: str, interval: Interval) -> str:
    """Return the archive's folder of one symbol and interval, with a slash at its end."""
    return f"{market.archive_root}/{granularity}/klines/{symbol}/{interval}/"


def parse_name(name: str, market: Market) -> ArchiveFile | None:
    """Parse the name of a zip of klines; None if it is not one."""
    found = _split_name(name)
    return (
        ArchiveFile(market, found.symbol, Interval(found.content), found.period)
        if found and found.content in set(Interval)
        else None
    )


def parse_trades_name(name: str, market: Market) -> TradesFile | None:
    """Parse the name of a zip of trades; None if it is not one."""
    found = _split_name(name)
    return (
        TradesFile(market, found.symbol, found.period, found.content)
        if found and found.content in {_TRADES, AGG_TRADES}
        else None
    )


def request_weight(market: Market, endpoint: str, limit: str | int | None = None) -> int:
    """Return the request weight of one REST call.

    Args:
        market: Spot or USD-M futures.
        endpoint: Last part of the REST path.
        limit: Parameter `limit` of the request; without it, the highest weight of the endpoint is returned.
    """
    steps = _WEIGHTS[market][endpoint]
    if isinstance(steps, int):
        return steps
    return next(
        (weight for bound, weight in steps if limit is not None and int(limit) <= bound), steps[-1][1]
    )


def depth_limit(market: Market, limit: int) -> int:
    """Return the smallest allowed number of levels that is not below `limit`, or the largest allowed one."""
    return (
        min(limit, SPOT_DEPTH)
        if market is Market.SPOT
        else next((step for step in UM_DEPTHS if step >= limit), UM_DEPTHS[-1])
    )


@dataclass(frozen=True)
class _FileName:
    symbol: str
    content: str
    period: Month | date


def _split_name(name: str) -> _FileName | None:
    """Split the name of a zip into symbol, content (an interval, or a kind of trades) and period."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    try:
        period = date.fromisoformat(found[3] + found[4]) if found[4] else Month.parse(found[3])
        return _FileName(validate_symbol(found[1]), found[2], period)
    except (ValueError, ConfigError):
        return None
