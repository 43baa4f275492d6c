"""Trades of one symbol by day: each trade is a pure function of the seed, the symbol, the day and the id.

Each day has the same number of trades, so that ids are contiguous and any day can be computed without the
others. Random weights distribute the trades of a day over its minutes; minutes with weight 0 have no trades.
The trades of one taker order have the same time and side.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.periods import DAY_US, MINUTE_US
from sandbox_exchange.config.symbols import SymbolSpec
from sandbox_exchange.market.fills import count_aggregates, count_blocks, divide_into_orders
from sandbox_exchange.market.prices import path_ticks
from sandbox_exchange.market.prng import Ints, derive_key, extract_bits, random_bits
from sandbox_exchange.market.trading_hours import TradingHours

_JITTER_BITS = 10
_MIN_WEIGHT, _QUIET_OF_64 = 1 << 17, 1
_MAX_CACHED_TRADES = 2_000_000


@dataclass(frozen=True)
class Trades:
    """Trades in order of id and time, as arrays of equal length.

    Attributes:
        ids: Contiguous ids; the first trade of the symbol has id 0.
        time_us: Microseconds UTC, in ascending order.
        price: Ticks.
        quantity: Lots.
        taker_buys: 1 if the buyer is the taker, 0 if the buyer is the maker.
        aggregates: Id of the aggregate of each trade, contiguous from 0. An aggregate has one time, price and
            side.
    """

    ids: Ints
    time_us: Ints
    price: Ints
    quantity: Ints
    taker_buys: Ints
    aggregates: Ints

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def slice_rows(self, first: int, end: int) -> Trades:
        part = slice(first, end)
        return Trades(*(getattr(self, name)[part] for name in _COLUMNS))

    def select_period(self, start_us: int, end_us: int) -> Trades:
        """Select the trades in `[start_us, end_us)`."""
        first, end = np.searchsorted(self.time_us, [start_us, end_us])
        return self.slice_rows(int(first), int(end))


_COLUMNS = tuple(each.name for each in fields(Trades))


@dataclass(frozen=True)
class Aggregates:
    """Aggregates: the trades of one taker order at one price; arrays of equal length.

    Attributes:
        rows: Aggregates in the form of trades: ids of the aggregates, and sums of the quantities.
        first: Id of the first trade of each aggregate.
        last: Id of the last trade of each aggregate.
    """

    rows: Trades
    first: Ints
    last: Ints

    @classmethod
    def of(cls, trades: Trades) -> Aggregates:
        """Combine trades into aggregates.

        The trades must contain whole aggregates. A selection by time always does, as an aggregate has one
        time.
        """
        starts = np.flatnonzero(np.diff(trades.aggregates, prepend=-1))
        ends = np.append(starts[1:], len(trades)) - 1 if len(starts) else starts
        values = {name: getattr(trades, name)[starts] for name in _COLUMNS}
        quantity = np.add.reduceat(trades.quantity, starts) if len(starts) else trades.quantity
        return cls(
            Trades(**values | {"ids": values["aggregates"], "quantity": quantity}),
            trades.ids[starts],
            trades.ids[ends],
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def slice_rows(self, first: int, end: int) -> Aggregates:
        return Aggregates(self.rows.slice_rows(first, end), self.first[first:end], self.last[first:end])


class TradeSeries:
    """Generator and cache of the trades of one symbol in one market."""

    def __init__(self, seed: int, market: str, spec: SymbolSpec, hours: TradingHours) -> None:
        """Derive the keys; spot and futures of a symbol share the price path only."""
        self.spec = spec
        self.hours = hours
        self._path_key = derive_key(seed, spec.symbol, "path")
        self._trade_key = derive_key(seed, market, spec.symbol, "trades")
        self._order_key = derive_key(seed, market, spec.symbol, "orders")
        self._minute_key = derive_key(seed, market, spec.symbol, "minutes")
        self._first_day = hours.first_us // DAY_US
        self._days: OrderedDict[int, Trades] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def first_us(self) -> int:
        """Time of the first trade of the symbol."""
        return int(self._day(self._first_day).time_us[0])

    def first_id(self, day: int) -> int:
        """Return the id of the first trade on or after a day; days are counted from 1970."""
        if day <= self._first_day:
            return 0
        return (
            day - self._first_day - self.hours.count_closed_days(self._first_day, day)
        ) * self.spec.trades_per_day

    def day_of(self, trade_id: int) -> int:
        """Return the day of a trade."""
        low, high = self._first_day, self._first_day + 200 * 366
        while low < high:
            middle = (low + high) // 2
            if self.first_id(middle + 1) > trade_id:
                high = middle
            else:
                low = middle + 1
        return low

    def aggregate_day(self, aggregate_id: int) -> int:
        """Return the day of an aggregate."""
        per_day = self.spec.trades_per_day
        return self.day_of(max(0, aggregate_id) // count_aggregates(per_day) * per_day)

    def trades_of_days(self, first_day: int, end_day: int) -> Trades:
        """Return the trades of the days in `[first_day, end_day)`."""
        first_day, end_day = max(first_day, self._first_day), min(end_day, self.hours.last_us // DAY_US + 1)
        parts = [self._day(day) for day in range(first_day, end_day)]
        if len(parts) == 1:
            return parts[0]
        nothing = np.empty(0, np.int64)
        return Trades(
            *(
                np.concatenate([getattr(part, name) for part in parts]) if parts else nothing
                for name in _COLUMNS
            )
        )

    def last_trade_before(self, time_us: int) -> Trades:
        """Return the last trade before a time; empty if there is none."""
        day = min((time_us - 1) // DAY_US, self.hours.last_us // DAY_US)
        while day >= self._first_day:
            trades = self._day(day).select_period(0, time_us)
            if len(trades):
                return trades.slice_rows(len(trades) - 1, len(trades))
            day -= 1
        return self.trades_of_days(0, 0)

    def smooth_price(self, time_us: Ints) -> Ints:
        """Return the smooth price around which trades scatter, in ticks, at times in ascending order."""
        return path_ticks(self._path_key, self.spec.base_ticks, time_us)

    def _day(self, day: int) -> Trades:
        with self._lock:
            if day in self._days:
                self._days.move_to_end(day)
                return self._days[day]
        trades = self._generate_day(day)
        with self._lock:
            self._days[day] = trades
            while len(self._days) * self.spec.trades_per_day > _MAX_CACHED_TRADES:
                self._days.popitem(last=False)
        return trades

    def _generate_day(self, day: int) -> Trades:
        edges, is_open = self.hours.day_edges(day, MINUTE_US)
        nothing = np.empty(0, np.int64)
        if not is_open.any():
            return Trades(*(nothing for _ in _COLUMNS))
        count, first = self.spec.trades_per_day, self.first_id(day)
        ids = first + np.arange(count, dtype=np.int64)
        blocks = day * count_blocks(count) + np.arange(count_blocks(count), dtype=np.int64)
        fills = divide_into_orders(random_bits(self._order_key, blocks), count)
        random = random_bits(self._trade_key, ids)
        time_us = self._times(edges, self._weights(edges, is_open), extract_bits(random, 0, _JITTER_BITS))
        size = extract_bits(random, 10, 12)
        quantity = 1 + (size * size * self.spec.max_trade_lots >> 24)
        taker_buys = extract_bits(random, 32, 1)[fills.order]
        price = self._prices(time_us, extract_bits(random, 22, 10))[fills.order]
        price = np.maximum(1, price + np.where(fills.is_second_price, 2 * taker_buys - 1, 0))
        aggregates = first // count * count_aggregates(count) + fills.aggregate
        return Trades(ids, time_us[fills.order], price, quantity, taker_buys, aggregates)

    def _weights(self, edges: Ints, is_open: NDArray[np.bool_]) -> Ints:
        lengths = np.diff(edges)
        random = random_bits(self._minute_key, edges[:-1] // MINUTE_US)
        weights = _MIN_WEIGHT + extract_bits(random, 0, 19)
        weights = np.where(extract_bits(random, 20, 6) < _QUIET_OF_64, 0, weights) * lengths // MINUTE_US
        weights[~is_open] = 0
        first = int(np.argmax(is_open))
        # The first open cell always has trades, so that no day is empty and the first trade is close to the
        # listing.
        weights[first] = max(int(weights[first]), _MIN_WEIGHT)
        return weights

    @staticmethod
    def _times(edges: Ints, weights: Ints, jitter: Ints) -> Ints:
        total, count = int(weights.sum()), len(jitter)
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(weights)])
        # One trade in each of `count` equal shares of the weight: the trades are in order without sorting.
        place = (
            ((np.arange(count, dtype=np.int64) << _JITTER_BITS) + jitter) * total // (count << _JITTER_BITS)
        )
        cell = np.searchsorted(before, place, side="right") - 1
        times: Ints = edges[cell] + (place - before[cell]) * np.diff(edges)[cell] // weights[cell]
        return times

    def _prices(self, time_us: Ints, spread: Ints) -> Ints:
        middle = self.smooth_price(time_us)
        # Trades scatter by up to 1/4096 of the price, and by at least one tick.
        prices: Ints = np.maximum(1, middle + ((spread - 512) * np.maximum(2, middle >> 12) >> 9))
        return prices
