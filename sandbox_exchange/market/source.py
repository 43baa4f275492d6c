"""Interface between archive or REST and the source of their data: the synthetic market, or recorded files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import polars as pl

from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.urls import ArchiveFile, Granularity, Market, TradesFile
from sandbox_exchange.config.symbols import SymbolSpec

AnyFile = ArchiveFile | TradesFile
"""A file of klines or of trades."""


@dataclass(frozen=True)
class KlineQuery:
    """Parameters of a klines request.

    Attributes:
        market: Spot or futures.
        symbol: Symbol that the market lists.
        interval: Length of the klines.
        start_us: First open time; None for the latest klines.
        end_us: Last open time, included; None for no bound.
        limit: Maximum number of klines.
        lag_us: Age of the response: the data are those of this number of microseconds ago.
    """

    market: Market
    symbol: str
    interval: Interval
    start_us: int | None
    end_us: int | None
    limit: int
    lag_us: int = 0


@dataclass(frozen=True)
class FileContent:
    """Content of an archive file before its publication.

    Attributes:
        csv: CSV; None if a recorded zip is served unchanged.
        zip: Recorded zip.
        checksum: Recorded checksum file of the zip.
    """

    csv: bytes | None = None
    zip: bytes | None = None
    checksum: bytes | None = None


class Source(Protocol):
    """Klines and archive files, without publication times, revisions and faults."""

    def symbols(self, market: Market) -> list[SymbolSpec]:
        """Return the symbols of a market."""

    def status(self, market: Market, symbol: SymbolSpec, now_us: int) -> str:
        """Return the status in exchangeInfo: TRADING, BREAK, HALT or SETTLING."""

    def klines(self, query: KlineQuery, now_us: int) -> pl.DataFrame:
        """Return the klines of a query at a time, oldest first."""

    def intervals(self, market: Market, granularity: Granularity, symbol: str) -> list[Interval]:
        """Return the intervals with archive files."""

    def files(
        self, market: Market, granularity: Granularity, symbol: str, interval: Interval, until_us: int
    ) -> list[ArchiveFile]:
        """Return the kline files whose period ends by `until_us`."""

    def trades_files(
        self, market: Market, granularity: Granularity, symbol: str, until_us: int
    ) -> list[TradesFile]:
        """Return the files of trades whose period ends by `until_us`."""

    def content(self, file: AnyFile) -> FileContent | None:
        """Return the content of a file; None if the file does not exist."""
