"""The one market behind archive, REST and streams: trades and klines of every symbol at every time. Knows no HTTP and no clock."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from capture_pipeline.binance.periods import DAY_US, Interval, Month
from capture_pipeline.binance.urls import Market
from sandbox_exchange.config import SandboxConfig
from sandbox_exchange.market.bars import Bars, coarser, filled, from_trades, joined
from sandbox_exchange.market.book import Book
from sandbox_exchange.market.fills import aggregates_of_day
from sandbox_exchange.market.irregular import Irregularities, closed_times
from sandbox_exchange.market.prng import Ints
from sandbox_exchange.market.spans import OrderTypes
from sandbox_exchange.market.symbols import LISTED_US, SymbolSpec
from sandbox_exchange.market.trades import Aggregates, Trades, TradeSeries
from sandbox_exchange.market.trading_hours import TradingHours

AGGREGATES_FROM = {Market.SPOT: 0, Market.UM: 1_000_000_000}
"""Id of the first aggregate. Futures count theirs from far above, so that their ids and those of trades are never taken for each other."""
_CACHED_ROWS = 1_500_000


class TradeIds:
    """Ids of trades as they are sent: some of spot's are missing, and some of the futures' belong to no trade of the market."""

    def __init__(self, kinds: OrderTypes | None, spot_hole_every: int | None) -> None:
        """Keep how often an id of either kind comes, and the futures' values of `X`."""
        self._kinds, self._spot_hole_every = kinds, spot_hole_every

    def sent(self, market: Market, ids: Ints) -> Ints:
        """The ids that are sent of trades of the tape."""
        every = self._spot_hole_every if market is Market.SPOT else self._kinds.every if self._kinds else None
        return ids if every is None else ids + ids // every

    def kind_after(self, trade_id: int) -> str | None:
        """`X` of the id that follows the one of a trade of the tape, None where the next trade follows."""
        kinds = self._kinds
        if kinds is None or (trade_id + 1) % kinds.every:
            return None
        return kinds.kinds[trade_id // kinds.every % len(kinds.kinds)]


class SyntheticMarket:
    """Deterministic trades and klines; everything is a function of the configuration.

    Attributes:
        trade_ids: Ids under which trades are sent.
        has_older_um_frames: Whether the futures' streams send frames as before the middle of 2026.
    """

    def __init__(self, config: SandboxConfig) -> None:
        """Prepare the symbols; nothing is computed before it is asked for."""
        self._tapes: dict[tuple[Market, str], TradeSeries] = {}
        self._irregular: dict[tuple[Market, str], Irregularities] = {}
        for spec in config.all_symbols():
            for market in spec.markets:
                hours = TradingHours(
                    spec.listed or LISTED_US, spec.delisted, closed_times(config, market, spec.symbol)
                )
                self._tapes[market, spec.symbol] = TradeSeries(config.seed, str(market), spec, hours)
                self._irregular[market, spec.symbol] = Irregularities.of(config, market, spec.symbol)
        self.trade_ids = TradeIds(config.order_types, config.spot_trade_id_hole_every)
        self.has_older_um_frames = config.older_um_frames
        self._books = {of: Book(config.seed, str(of[0]), tape) for of, tape in self._tapes.items()}
        self._months: OrderedDict[tuple[Market, str, Month, Interval], Bars] = OrderedDict()
        self._rows = 0
        self._lock = threading.Lock()

    def symbols(self, market: Market) -> list[SymbolSpec]:
        """All symbols of a market, delisted ones too."""
        return [tape.spec for (of, _), tape in self._tapes.items() if of is market]

    def tape(self, market: Market, symbol: str) -> TradeSeries:
        """The trades of a symbol.

        Raises:
            KeyError: It is not one of the market's.
        """
        return self._tapes[market, symbol]

    def irregular(self, market: Market, symbol: str) -> Irregularities:
        """The irregularities of a symbol's klines.

        Raises:
            KeyError: It is not one of the market's.
        """
        return self._irregular[market, symbol]

    def book(self, market: Market, symbol: str) -> Book:
        """The order book of a symbol.

        Raises:
            KeyError: It is not one of the market's.
        """
        return self._books[market, symbol]

    def trades(self, market: Market, symbol: str, start_us: int, end_us: int) -> Trades:
        """Trades in `[start_us, end_us)`."""
        tape = self.tape(market, symbol)
        return tape.days(start_us // DAY_US, -(-end_us // DAY_US)).between(start_us, end_us)

    def aggregates_from(
        self, market: Market, symbol: str, first_id: int, limit: int, end_us: int
    ) -> Aggregates:
        """At most `limit` aggregates from an id of an aggregate on, those before `end_us`."""
        tape = self.tape(market, symbol)
        day = tape.aggregate_day(first_id)
        reach = limit // aggregates_of_day(tape.spec.trades_per_day) + 2
        found = Aggregates.of(tape.days(day, day + reach).between(0, end_us))
        first = int(np.searchsorted(found.rows.ids, first_id))
        return found.cut(first, first + limit)

    def opens(self, market: Market, symbol: str, interval: Interval, start_us: int, end_us: int) -> Ints:
        """Open times in `[start_us, end_us)` of the candles that exist when all is over."""
        tape = self.tape(market, symbol)
        hours = tape.hours
        start = max(interval.ceil(start_us), interval.floor(tape.first_us))
        opens = np.arange(start, max(start, min(end_us, hours.last_us)), interval.us, dtype=np.int64)
        return self.irregular(market, symbol).add_opens(
            opens[hours.exist(opens, interval.us)], interval, start, min(end_us, hours.last_us)
        )

    def klines(
        self, market: Market, symbol: str, interval: Interval, start_us: int, end_us: int, now_us: int
    ) -> Bars:
        """The candles that open in `[start_us, end_us)`, as of a time.

        Args:
            market: Spot or futures.
            symbol: One of the market's.
            interval: Length of the candles.
            start_us: Earliest open time, microseconds UTC.
            end_us: First open time after them.
            now_us: The last candle holds only trades up to this time if it is not finished by then.
        """
        opens = self.opens(market, symbol, interval, start_us, min(end_us, now_us + 1))
        tape = self.tape(market, symbol)
        if not len(opens) or now_us < tape.first_us:
            return joined([])
        first, end = int(opens[0]), int(opens[-1]) + interval.us
        finished_us = min(end, interval.floor(now_us + 1))
        bars = self._traded(market, symbol, interval, first, finished_us)
        if end > finished_us:
            so_far = self.trades(market, symbol, finished_us, now_us + 1)
            bars = joined([bars, from_trades(so_far, interval.us)])
        before = tape.last_before(first) if not len(bars) or int(bars.open_us[0]) > first else None
        return filled(bars, opens, int(before.price[0]) if before is not None and len(before) else 0)

    def _traded(self, market: Market, symbol: str, interval: Interval, start_us: int, end_us: int) -> Bars:
        """Candles with trades, from whole months in the cache, or for seconds straight from the trades."""
        if interval is Interval.S1:
            return from_trades(self.trades(market, symbol, start_us, end_us), interval.us)
        base = Interval.H1 if interval.us >= Interval.H1.us else Interval.M1
        if end_us - start_us <= DAY_US:
            return coarser(from_trades(self.trades(market, symbol, start_us, end_us), base.us), interval.us)
        months = Month.range(Month.of(start_us), Month.of(end_us - 1))
        bars = joined(
            [self._month(market, symbol, month, base).between(start_us, end_us) for month in months]
        )
        return coarser(bars, interval.us)

    def _month(self, market: Market, symbol: str, month: Month, base: Interval) -> Bars:
        key = market, symbol, month, base
        with self._lock:
            if key in self._months:
                self._months.move_to_end(key)
                return self._months[key]
        days = range(month.start_us // DAY_US, month.end_us // DAY_US)
        tape = self.tape(market, symbol)
        made = joined([from_trades(tape.days(day, day + 1), base.us) for day in days])
        with self._lock:
            self._rows += len(made) - len(self._months.pop(key, made.select(slice(0, 0))))
            self._months[key] = made
            while self._rows > _CACHED_ROWS:
                self._rows -= len(self._months.popitem(last=False)[1])
        return made
