"""The trades of one symbol, a day at a time: each is a pure function of the seed, the symbol, its day and its id.

A constant number of trades a day makes ids contiguous and any day computable alone. Within a day trades are spread over minutes by
random weights, some of them zero, so that some minutes have none. The trades of one taker order have one time and one side.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.periods import DAY_US, MINUTE_US
from sandbox_exchange.market.fills import aggregates_of_day, block_count, fills_of
from sandbox_exchange.market.prices import path_ticks
from sandbox_exchange.market.prng import Ints, bits, field, key_of
from sandbox_exchange.market.symbols import SymbolSpec
from sandbox_exchange.market.trading_hours import TradingHours

_JITTER_BITS = 10
_LEAST_WEIGHT, _QUIET_OF_64 = 1 << 17, 1
_CACHED_TRADES = 2_000_000


@dataclass(frozen=True)
class Trades:
    """Trades in order of their ids, which is the order of time; arrays of one length.

    Attributes:
        ids: Contiguous from the symbol's first trade on.
        time_us: Microseconds UTC, never decreasing.
        price: Ticks.
        quantity: Lots.
        taker_buys: 1 where the buyer took, 0 where the buyer was the maker.
        aggregates: Ids of the aggregates that the trades are part of, contiguous from 0 on; an aggregate has one time, price and side.
    """

    ids: Ints
    time_us: Ints
    price: Ints
    quantity: Ints
    taker_buys: Ints
    aggregates: Ints

    def __len__(self) -> int:
        """How many."""
        return len(self.ids)

    def cut(self, first: int, end: int) -> Trades:
        """Those at positions `[first, end)`."""
        part = slice(first, end)
        return Trades(*(getattr(self, name)[part] for name in _COLUMNS))

    def between(self, start_us: int, end_us: int) -> Trades:
        """Those in `[start_us, end_us)`."""
        first, end = np.searchsorted(self.time_us, [start_us, end_us])
        return self.cut(int(first), int(end))


_COLUMNS = tuple(each.name for each in fields(Trades))


@dataclass(frozen=True)
class Aggregates:
    """Trades of one taker order at one price put together; arrays of one length.

    Attributes:
        rows: Their values as those of trades, ids those of the aggregates, quantities the sums.
        first: Id of the first trade of each.
        last: Id of the last one.
    """

    rows: Trades
    first: Ints
    last: Ints

    @classmethod
    def of(cls, trades: Trades) -> Aggregates:
        """Put trades together; none of their aggregates may be cut, and no bound of time cuts one."""
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
        """How many."""
        return len(self.rows)

    def cut(self, first: int, end: int) -> Aggregates:
        """Those at positions `[first, end)`."""
        return Aggregates(self.rows.cut(first, end), self.first[first:end], self.last[first:end])


class TradeSeries:
    """Makes and remembers the trades of one symbol in one market."""

    def __init__(self, seed: int, market: str, spec: SymbolSpec, hours: TradingHours) -> None:
        """Derive the keys: spot and futures of a symbol share their price path and nothing else."""
        self.spec = spec
        self.hours = hours
        self._path_key = key_of(seed, spec.symbol, "path")
        self._trade_key = key_of(seed, market, spec.symbol, "trades")
        self._order_key = key_of(seed, market, spec.symbol, "orders")
        self._minute_key = key_of(seed, market, spec.symbol, "minutes")
        self._first_day = hours.first_us // DAY_US
        self._days: OrderedDict[int, Trades] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def first_us(self) -> int:
        """Time of the first trade of all."""
        return int(self._day(self._first_day).time_us[0])

    def first_id(self, day: int) -> int:
        """Id of the first trade of a day (counted from 1970), or of the first one after it where it has none."""
        if day <= self._first_day:
            return 0
        return (
            day - self._first_day - self.hours.closed_days(self._first_day, day)
        ) * self.spec.trades_per_day

    def day_of(self, trade_id: int) -> int:
        """The day that holds a trade."""
        low, high = self._first_day, self._first_day + 200 * 366
        while low < high:
            middle = (low + high) // 2
            if self.first_id(middle + 1) > trade_id:
                high = middle
            else:
                low = middle + 1
        return low

    def aggregate_day(self, aggregate_id: int) -> int:
        """The day that holds an aggregate."""
        per_day = self.spec.trades_per_day
        return self.day_of(max(0, aggregate_id) // aggregates_of_day(per_day) * per_day)

    def days(self, first_day: int, end_day: int) -> Trades:
        """The trades of the days in `[first_day, end_day)`."""
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

    def last_before(self, time_us: int) -> Trades:
        """The last trade before a time; empty if there is none."""
        day = min((time_us - 1) // DAY_US, self.hours.last_us // DAY_US)
        while day >= self._first_day:
            trades = self._day(day).between(0, time_us)
            if len(trades):
                return trades.cut(len(trades) - 1, len(trades))
            day -= 1
        return self.days(0, 0)

    def middle(self, time_us: Ints) -> Ints:
        """The smooth price around which trades scatter, in ticks, at times that never decrease."""
        return path_ticks(self._path_key, self.spec.base_ticks, time_us)

    def _day(self, day: int) -> Trades:
        with self._lock:
            if day in self._days:
                self._days.move_to_end(day)
                return self._days[day]
        made = self._make(day)
        with self._lock:
            self._days[day] = made
            while len(self._days) * self.spec.trades_per_day > _CACHED_TRADES:
                self._days.popitem(last=False)
        return made

    def _make(self, day: int) -> Trades:
        edges, is_open = self.hours.day_edges(day, MINUTE_US)
        nothing = np.empty(0, np.int64)
        if not is_open.any():
            return Trades(*(nothing for _ in _COLUMNS))
        count, first = self.spec.trades_per_day, self.first_id(day)
        ids = first + np.arange(count, dtype=np.int64)
        blocks = day * block_count(count) + np.arange(block_count(count), dtype=np.int64)
        fills = fills_of(bits(self._order_key, blocks), count)
        random = bits(self._trade_key, ids)
        time_us = self._times(edges, self._weights(edges, is_open), field(random, 0, _JITTER_BITS))
        size = field(random, 10, 12)
        quantity = 1 + (size * size * self.spec.largest_lots >> 24)
        taker_buys = field(random, 32, 1)[fills.order]
        price = self._prices(time_us, field(random, 22, 10))[fills.order]
        price = np.maximum(1, price + np.where(fills.is_second_price, 2 * taker_buys - 1, 0))
        aggregates = first // count * aggregates_of_day(count) + fills.aggregate
        return Trades(ids, time_us[fills.order], price, quantity, taker_buys, aggregates)

    def _weights(self, edges: Ints, is_open: NDArray[np.bool_]) -> Ints:
        lengths = np.diff(edges)
        random = bits(self._minute_key, edges[:-1] // MINUTE_US)
        weights = _LEAST_WEIGHT + field(random, 0, 19)
        weights = np.where(field(random, 20, 6) < _QUIET_OF_64, 0, weights) * lengths // MINUTE_US
        weights[~is_open] = 0
        first = int(np.argmax(is_open))
        # The first open cell always trades, so that no day is empty and a symbol starts where it is listed.
        weights[first] = max(int(weights[first]), _LEAST_WEIGHT)
        return weights

    @staticmethod
    def _times(edges: Ints, weights: Ints, jitter: Ints) -> Ints:
        total, count = int(weights.sum()), len(jitter)
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(weights)])
        # One trade in each of `count` equal strata of the weight: in order without sorting.
        place = (
            ((np.arange(count, dtype=np.int64) << _JITTER_BITS) + jitter) * total // (count << _JITTER_BITS)
        )
        cell = np.searchsorted(before, place, side="right") - 1
        times: Ints = edges[cell] + (place - before[cell]) * np.diff(edges)[cell] // weights[cell]
        return times

    def _prices(self, time_us: Ints, spread: Ints) -> Ints:
        middle = self.middle(time_us)
        # Trades scatter by up to a four-thousandth of the price, and by a tick at least.
        prices: Ints = np.maximum(1, middle + ((spread - 512) * np.maximum(2, middle >> 12) >> 9))
        return prices
