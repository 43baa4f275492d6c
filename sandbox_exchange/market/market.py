"""Synthetic market of archive, REST and streams: trades and klines of all symbols at any time.

The market has no clock: callers pass the present time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from capture_pipeline.binance.periods import DAY_US, Interval, Month
from capture_pipeline.binance.urls import Market
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.config.spans import OrderTypes
from sandbox_exchange.config.symbols import LISTED_US, SymbolSpec
from sandbox_exchange.market.bars import Bars, build_bars, combine_bars, concat_bars, fill_empty_bars
from sandbox_exchange.market.book import Book
from sandbox_exchange.market.fills import count_aggregates
from sandbox_exchange.market.irregularities import Irregularities, closed_times
from sandbox_exchange.market.prng import Ints
from sandbox_exchange.market.trades import Aggregates, Trades, TradeSeries
from sandbox_exchange.market.trading_hours import TradingHours

AGGREGATES_FROM = {Market.SPOT: 0, Market.UM: 1_000_000_000}
"""Id of the first aggregate. The large value of futures separates ids of aggregates from ids of trades."""
_MAX_CACHED_BARS = 1_500_000


class TradeIds:
    """Conversion of trade ids to sent ids.

    Spot skips some ids, and some ids of futures are not trades of the market.
    """

    def __init__(self, kinds: OrderTypes | None, spot_hole_every: int | None) -> None:
        """Create a conversion.

        Args:
            kinds: Ids of futures that are not trades of the market; None for no such ids.
            spot_hole_every: Number of spot trades after which one id is skipped; None for no skipped ids.
        """
        self._kinds, self._spot_hole_every = kinds, spot_hole_every

    def sent_ids(self, market: Market, ids: Ints) -> Ints:
        """Convert ids of the trade series to sent ids."""
        every = self._spot_hole_every if market is Market.SPOT else self._kinds.every if self._kinds else None
        return ids if every is None else ids + ids // every

    def order_type_after(self, trade_id: int) -> str | None:
        """Return the order type of the id after a trade; None if the next id is a trade of the market."""
        kinds = self._kinds
        if kinds is None or (trade_id + 1) % kinds.every:
            return None
        return kinds.kinds[trade_id // kinds.every % len(kinds.kinds)]


class SyntheticMarket:
    """Deterministic trades and klines, a pure function of the configuration.

    Attributes:
        trade_ids: Conversion of trade ids to sent ids.
        has_older_um_frames: Whether futures streams send frames as before mid-2026.
    """

    def __init__(self, config: SandboxConfig) -> None:
        """Prepare the symbols; trades and klines are computed on demand."""
        self._series: dict[tuple[Market, str], TradeSeries] = {}
        self._irregularities: dict[tuple[Market, str], Irregularities] = {}
        for spec in config.all_symbols():
            for market in spec.markets:
                hours = TradingHours(
                    spec.listed or LISTED_US, spec.delisted, closed_times(config, market, spec.symbol)
                )
                self._series[market, spec.symbol] = TradeSeries(config.seed, str(market), spec, hours)
                self._irregularities[market, spec.symbol] = Irregularities.from_config(
                    config, market, spec.symbol
                )
        self.trade_ids = TradeIds(config.order_types, config.spot_trade_id_hole_every)
        self.has_older_um_frames = config.older_um_frames
        self._books = {of: Book(config.seed, str(of[0]), series) for of, series in self._series.items()}
        self._months: OrderedDict[tuple[Market, str, Month, Interval], Bars] = OrderedDict()
        self._cached_bars = 0
        self._lock = threading.Lock()

    def symbols(self, market: Market) -> list[SymbolSpec]:
        """Return all symbols of a market, including delisted ones."""
        return [series.spec for (of, _), series in self._series.items() if of is market]

    def trade_series(self, market: Market, symbol: str) -> TradeSeries:
        """Return the trades of a symbol.

        Raises:
            KeyError: The market does not list the symbol.
        """
        return self._series[market, symbol]

    def irregularities(self, market: Market, symbol: str) -> Irregularities:
        """Return the irregularities of a symbol.

        Raises:
            KeyError: The market does not list the symbol.
        """
        return self._irregularities[market, symbol]

    def book(self, market: Market, symbol: str) -> Book:
        """Return the order book of a symbol.

        Raises:
            KeyError: The market does not list the symbol.
        """
        return self._books[market, symbol]

    def trades(self, market: Market, symbol: str, start_us: int, end_us: int) -> Trades:
        """Return the trades in `[start_us, end_us)`."""
        series = self.trade_series(market, symbol)
        return series.trades_of_days(start_us // DAY_US, -(-end_us // DAY_US)).select_period(start_us, end_us)

    def aggregates_from(
        self, market: Market, symbol: str, first_id: int, limit: int, end_us: int
    ) -> Aggregates:
        """Return at most `limit` aggregates before `end_us`, starting with an aggregate id."""
        series = self.trade_series(market, symbol)
        day = series.aggregate_day(first_id)
        day_count = limit // count_aggregates(series.spec.trades_per_day) + 2
        aggregates = Aggregates.of(series.trades_of_days(day, day + day_count).select_period(0, end_us))
        first = int(np.searchsorted(aggregates.rows.ids, first_id))
        return aggregates.slice_rows(first, first + limit)

    def open_times(self, market: Market, symbol: str, interval: Interval, start_us: int, end_us: int) -> Ints:
        """Return the open times in `[start_us, end_us)` of all klines, including future ones."""
        series = self.trade_series(market, symbol)
        hours = series.hours
        start = max(interval.ceil(start_us), interval.floor(series.first_us))
        opens = np.arange(start, max(start, min(end_us, hours.last_us)), interval.us, dtype=np.int64)
        return self.irregularities(market, symbol).add_opens(
            opens[hours.are_open(opens, interval.us)], interval, start, min(end_us, hours.last_us)
        )

    def klines(
        self, market: Market, symbol: str, interval: Interval, start_us: int, end_us: int, now_us: int
    ) -> Bars:
        """Return the klines that open in `[start_us, end_us)`.

        Args:
            market: Spot or futures.
            symbol: Symbol that the market lists.
            interval: Length of the klines.
            start_us: First open time, microseconds UTC.
            end_us: End of the open times, microseconds UTC, not included.
            now_us: Present time; an unfinished kline contains the trades up to this time.
        """
        opens = self.open_times(market, symbol, interval, start_us, min(end_us, now_us + 1))
        series = self.trade_series(market, symbol)
        if not len(opens) or now_us < series.first_us:
            return concat_bars([])
        first, end = int(opens[0]), int(opens[-1]) + interval.us
        finished_us = min(end, interval.floor(now_us + 1))
        bars = self._bars_with_trades(market, symbol, interval, first, finished_us)
        if end > finished_us:
            unfinished = self.trades(market, symbol, finished_us, now_us + 1)
            bars = concat_bars([bars, build_bars(unfinished, interval.us)])
        before = series.last_trade_before(first) if not len(bars) or int(bars.open_us[0]) > first else None
        return fill_empty_bars(bars, opens, int(before.price[0]) if before is not None and len(before) else 0)

    def _bars_with_trades(
        self, market: Market, symbol: str, interval: Interval, start_us: int, end_us: int
    ) -> Bars:
        """Return the klines with trades; long periods are read from a cache of whole months."""
        if interval is Interval.S1:
            return build_bars(self.trades(market, symbol, start_us, end_us), interval.us)
        base = Interval.H1 if interval.us >= Interval.H1.us else Interval.M1
        if end_us - start_us <= DAY_US:
            return combine_bars(
                build_bars(self.trades(market, symbol, start_us, end_us), base.us), interval.us
            )
        months = Month.range(Month.of(start_us), Month.of(end_us - 1))
        bars = concat_bars(
            [self._month(market, symbol, month, base).select_period(start_us, end_us) for month in months]
        )
        return combine_bars(bars, interval.us)

    def _month(self, market: Market, symbol: str, month: Month, base: Interval) -> Bars:
        key = market, symbol, month, base
        with self._lock:
            if key in self._months:
                self._months.move_to_end(key)
                return self._months[key]
        days = range(month.start_us // DAY_US, month.end_us // DAY_US)
        series = self.trade_series(market, symbol)
        month_bars = concat_bars([build_bars(series.trades_of_days(day, day + 1), base.us) for day in days])
        with self._lock:
            self._cached_bars += len(month_bars) - len(self._months.pop(key, month_bars.select(slice(0, 0))))
            self._months[key] = month_bars
            while self._cached_bars > _MAX_CACHED_BARS:
                self._cached_bars -= len(self._months.popitem(last=False)[1])
        return month_bars
