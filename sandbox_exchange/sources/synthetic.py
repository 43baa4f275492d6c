"""Source of klines and archive files of the synthetic market, with omissions and differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import partial

import polars as pl

from capture_pipeline.binance.periods import DAY_US, Interval, Month, TimeRange, from_us
from capture_pipeline.binance.urls import ArchiveFile, Granularity, Market, TradesFile
from sandbox_exchange.archive.trades_csv import build_trades_csv
from sandbox_exchange.config.models import Difference, SandboxConfig
from sandbox_exchange.config.symbols import LISTED_US, SymbolSpec
from sandbox_exchange.market.irregularities import rearrange_rows, suspended_status
from sandbox_exchange.market.kline_text import MICROSECONDS_FROM_US, Scale, bars_to_frame, frame_to_csv
from sandbox_exchange.market.market import SyntheticMarket
from sandbox_exchange.market.source import AnyFile, FileContent, KlineQuery

_NEVER = 1 << 62


class SyntheticSource:
    """Klines and archive files of the synthetic market."""

    def __init__(self, market: SyntheticMarket, config: SandboxConfig) -> None:
        self._market = market
        self._config = config
        self._specs = {(of, spec.symbol): spec for spec in config.all_symbols() for of in spec.markets}

    def symbols(self, market: Market) -> list[SymbolSpec]:
        """Return the symbols of a market."""
        return self._market.symbols(market)

    def status(self, market: Market, symbol: SymbolSpec, now_us: int) -> str:
        """Return BREAK before listing and after delisting, else the status of a suspension or TRADING."""
        hours = self._market.trade_series(market, symbol.symbol).hours
        if not hours.first_us <= now_us < hours.last_us:
            return "BREAK"
        return suspended_status(self._config, market, symbol.symbol, now_us) or "TRADING"

    def klines(self, query: KlineQuery, now_us: int) -> pl.DataFrame:
        """Return the klines of a query at a time, oldest first."""
        irregularities = self._market.irregularities(query.market, query.symbol)
        start, end = self._open_time_bounds(irregularities.widen(query), now_us)
        bars = self._market.klines(query.market, query.symbol, query.interval, start, end, now_us)
        frame = bars_to_frame(
            bars, query.interval, Scale(self._specs[query.market, query.symbol], query.market)
        )
        return irregularities.select_page(irregularities.apply(frame, query.interval, now_us), query, now_us)

    def _open_time_bounds(self, query: KlineQuery, now_us: int) -> TimeRange:
        """Return the bounds of the open times of the requested klines; outages extend the bounds."""
        step, hours = query.interval, self._market.trade_series(query.market, query.symbol).hours
        bound = min(now_us if query.end_us is None else query.end_us, now_us, hours.last_us) + 1
        first = step.floor(hours.first_us)
        if query.start_us is not None:
            first = max(first, step.ceil(query.start_us))
        span = query.limit * step.us
        while True:
            low, high = (first, first + span) if query.start_us is not None else (bound - span, bound)
            low, high = max(low, first), min(high, bound)
            opens = self._market.open_times(query.market, query.symbol, step, low, high)
            if len(opens) >= query.limit or (low <= first and high >= bound):
                break
            span *= 2
        if not len(opens):
            return TimeRange(0, 0)
        opens = opens[: query.limit] if query.start_us is not None else opens[-query.limit :]
        return TimeRange(int(opens[0]), int(opens[-1]) + 1)

    def intervals(self, market: Market, granularity: Granularity, symbol: str) -> list[Interval]:
        """Return the intervals with files, at most one day; futures have no files of one second."""
        del granularity
        has_files = (market, symbol) in self._specs
        return [
            step
            for step in Interval
            if has_files and step.us <= DAY_US and not (market is Market.UM and step is Interval.S1)
        ]

    def files(
        self, market: Market, granularity: Granularity, symbol: str, interval: Interval, until_us: int
    ) -> list[ArchiveFile]:
        """Return the kline files whose period ends by `until_us`."""
        if interval not in self.intervals(market, granularity, symbol):
            return []
        files = [
            ArchiveFile(market, symbol, interval, period)
            for period in self._periods(market, granularity, symbol, until_us)
        ]
        return [file for file in files if file.bounds.end_us <= until_us and self._is_traded(file)]

    def trades_files(
        self, market: Market, granularity: Granularity, symbol: str, until_us: int
    ) -> list[TradesFile]:
        """Return the files of trades whose period ends by `until_us`."""
        if (market, symbol) not in self._specs:
            return []
        files = [
            TradesFile(market, symbol, period)
            for period in self._periods(market, granularity, symbol, until_us)
        ]
        return [file for file in files if file.bounds.end_us <= until_us and self._is_traded(file)]

    def _periods(
        self, market: Market, granularity: Granularity, symbol: str, until_us: int
    ) -> Sequence[Month | date]:
        hours = self._market.trade_series(market, symbol).hours
        last_us = min(hours.last_us, until_us) - 1
        if last_us < hours.first_us:
            return []
        if granularity is Granularity.MONTHLY:
            return [
                month
                for month in Month.range(Month.of(hours.first_us), Month.of(last_us))
                if month.end_us <= until_us
            ]
        first, last = from_us(hours.first_us).date(), from_us(last_us).date()
        return [first + timedelta(days=number) for number in range((last - first).days + 1)]

    def _is_traded(self, file: AnyFile) -> bool:
        start, end = file.bounds
        hours = self._market.trade_series(file.market, file.symbol).hours
        return (end - start) // DAY_US > hours.count_closed_days(start // DAY_US, end // DAY_US)

    def content(self, file: AnyFile) -> FileContent | None:
        """Return the content of a file; None if the file does not exist."""
        return self._build_trades(file) if isinstance(file, TradesFile) else self._build_klines(file)

    def _build_trades(self, file: TradesFile) -> FileContent | None:
        if replace(file, kind="trades") not in self.trades_files(
            file.market, file.granularity, file.symbol, file.bounds.end_us
        ):
            return None
        arrange = partial(rearrange_rows, config=self._config, file=file)
        return FileContent(
            csv=build_trades_csv(
                self._market, file, Scale(self._specs[file.market, file.symbol], file.market), arrange
            )
        )

    def _build_klines(self, file: ArchiveFile) -> FileContent | None:
        if file not in self.files(
            file.market, file.granularity, file.symbol, file.interval, file.bounds.end_us
        ):
            return None
        start, end = file.bounds
        bars = self._market.klines(file.market, file.symbol, file.interval, start, end, _NEVER)
        frame = bars_to_frame(bars, file.interval, Scale(self._specs[file.market, file.symbol], file.market))
        frame = self._market.irregularities(file.market, file.symbol).apply(frame, file.interval, _NEVER)
        frame = rearrange_rows(
            self._apply_archive_defects(frame, file), pl.col("open_us"), self._config, file
        )
        if frame.is_empty():
            return None
        spot = file.market is Market.SPOT
        return FileContent(
            csv=frame_to_csv(frame, microseconds=spot and start >= MICROSECONDS_FROM_US, header=not spot)
        )

    def _apply_archive_defects(self, frame: pl.DataFrame, file: ArchiveFile) -> pl.DataFrame:
        for hole in self._config.archive_omissions:
            if (
                hole.symbol == file.symbol
                and file.granularity in hole.granularities
                and hole.market in {None, file.market}
            ):
                frame = frame.filter(~pl.col("open_us").is_between(hole.start, hole.end, closed="left"))
        for change in self._config.archive_differences:
            applies = change.symbol == file.symbol and change.granularity is file.granularity
            if applies and change.market in {None, file.market} and change.interval in {None, file.interval}:
                frame = apply_difference(frame, change)
        return frame


def apply_difference(frame: pl.DataFrame, change: Difference) -> pl.DataFrame:
    """Change one value of a frame; a frame without the kline stays unchanged."""
    rows = frame.filter(pl.col("open_us") == change.open_time)
    if rows.is_empty():
        return frame
    value = Decimal(str(rows[change.field][0])) + change.delta
    new: str | int = int(value) if change.field == "count" else f"{value:f}"
    is_changed = pl.col("open_us") == change.open_time
    return frame.with_columns(
        pl.when(is_changed).then(pl.lit(new)).otherwise(pl.col(change.field)).alias(change.field)
    )


__all__ = ["LISTED_US", "SyntheticSource", "apply_difference"]
