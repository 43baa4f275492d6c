"""What archive and REST need of whatever stands behind them: the synthetic market, or recorded files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.urls import ArchiveFile, Granularity, Market, TradesFile
from sandbox_exchange.market.symbols import SymbolSpec

AnyFile = ArchiveFile | TradesFile
"""A file of klines or of trades."""


@dataclass(frozen=True)
class KlineQuery:
    """What a klines request asks for.

    Attributes:
        market: Spot or futures.
        symbol: One of the market's.
        interval: Length of the candles.
        start_us: Earliest open time; None for the latest candles.
        end_us: Latest open time, included; None for no bound.
        limit: Most candles.
        lag_us: Age of the data that are served: the answer is that of so many microseconds ago.
    """

    market: Market
    symbol: str
    interval: Interval
    start_us: int | None
    end_us: int | None
    limit: int
    lag_us: int = 0


@dataclass(frozen=True)
class Content:
    """What is known of an archive file before it is published.

    Attributes:
        csv: Its CSV; None where a recorded zip is served as it is.
        zip: The recorded zip.
        checksum: The recorded checksum file beside it.
    """

    csv: bytes | None = None
    zip: bytes | None = None
    checksum: bytes | None = None


class Source(Protocol):
    """Klines and archive files, without publication times, versions or faults."""

    def symbols(self, market: Market) -> list[SymbolSpec]:
        """The symbols of a market."""

    def status(self, market: Market, symbol: SymbolSpec, now_us: int) -> str:
        """The status that exchangeInfo states: TRADING, BREAK, HALT or SETTLING."""

    def klines(self, query: KlineQuery, now_us: int) -> pl.DataFrame:
        """The candles a request asks for, as of a time, oldest first."""

    def intervals(self, market: Market, granularity: Granularity, symbol: str) -> list[Interval]:
        """The intervals of which files exist."""

    def files(
        self, market: Market, granularity: Granularity, symbol: str, interval: Interval, until_us: int
    ) -> list[ArchiveFile]:
        """The files whose period is over by `until_us`."""

    def trades_files(
        self, market: Market, granularity: Granularity, symbol: str, until_us: int
    ) -> list[TradesFile]:
        """The files of trades whose period is over by `until_us`."""

    def content(self, file: AnyFile) -> Content | None:
        """What a file holds, None if it does not exist."""
