"""Aggregation of trades into bars, and of bars into longer bars, in int64 without rounding."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sandbox_exchange.market.prng import Ints
from sandbox_exchange.market.trades import Trades


@dataclass(frozen=True)
class Bars:
    """Bars in order of time, as arrays of equal length.

    Attributes:
        open_us: Open time, microseconds UTC.
        open: First price, ticks.
        high: Highest price, ticks.
        low: Lowest price, ticks.
        close: Last price, ticks.
        volume: Lots.
        quote: Turnover, ticks times lots.
        count: Number of trades.
        taker_volume: Lots bought by takers.
        taker_quote: Turnover bought by takers, ticks times lots.
    """

    open_us: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    quote: Ints
    count: Ints
    taker_volume: Ints
    taker_quote: Ints

    def __len__(self) -> int:
        """Return the number of bars."""
        return len(self.open_us)

    def select(self, which: NDArray[np.bool_] | slice) -> Bars:
        """Select bars by a mask or a slice."""
        return Bars(*(getattr(self, item.name)[which] for item in fields(self)))

    def select_period(self, start_us: int, end_us: int) -> Bars:
        """Select the bars that open in `[start_us, end_us)`."""
        first, end = np.searchsorted(self.open_us, [start_us, end_us])
        return self.select(slice(int(first), int(end)))


def concat_bars(parts: list[Bars]) -> Bars:
    """Concatenate bars."""
    if not parts:
        return Bars(*(np.empty(0, np.int64) for _ in fields(Bars)))
    return Bars(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Bars)))


def build_bars(trades: Trades, interval_us: int) -> Bars:
    """Build the bars of the intervals that contain trades."""
    if not len(trades):
        return concat_bars([])
    price, quantity = trades.price, trades.quantity
    bought = quantity * trades.taker_buys
    single = Bars(
        trades.time_us,
        price,
        price,
        price,
        price,
        quantity,
        price * quantity,
        np.ones_like(price),
        bought,
        price * bought,
    )
    return combine_bars(single, interval_us)


def combine_bars(bars: Bars, interval_us: int) -> Bars:
    """Combine bars into longer bars; an interval without bars has no longer bar."""
    if not len(bars):
        return bars
    opens = bars.open_us // interval_us * interval_us
    first = np.flatnonzero(np.concatenate([[True], opens[1:] != opens[:-1]]))
    last = np.concatenate([first[1:], [len(opens)]]) - 1
    return Bars(
        opens[first],
        bars.open[first],
        np.maximum.reduceat(bars.high, first),
        np.minimum.reduceat(bars.low, first),
        bars.close[last],
        *(
            np.add.reduceat(column, first)
            for column in (bars.volume, bars.quote, bars.count, bars.taker_volume, bars.taker_quote)
        ),
    )


def fill_empty_bars(bars: Bars, opens: Ints, close_before: int) -> Bars:
    """Return a bar for each of `opens`: without trades it has the previous close and volume 0.

    Args:
        bars: Bars with trades; each opens at one of `opens`.
        opens: Open times of all bars.
        close_before: Last price before the first bar, ticks.
    """
    at = np.searchsorted(bars.open_us, opens, side="right") - 1
    close = np.concatenate([[close_before], bars.close])[at + 1]
    if not len(bars):
        zero = np.zeros_like(opens)
        return Bars(opens, close, close, close, close, zero, zero, zero, zero, zero)
    traded = (at >= 0) & (bars.open_us[at] == opens)
    prices = [np.where(traded, column[at], close) for column in (bars.open, bars.high, bars.low)]
    sums = [
        np.where(traded, column[at], 0)
        for column in (bars.volume, bars.quote, bars.count, bars.taker_volume, bars.taker_quote)
    ]
    columns: list[Ints] = [opens, *prices, close, *sums]
    return Bars(*columns)
