"""Python interface of the compiled order book. It enlarges the hash tables of the kernels when they are full.

Prices are ticks and quantities are lots, both int64. The caller knows their scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.compiled._arrays import (
    BEST,
    EMPTY,
    LEVEL_COUNT,
    MAX_TICK,
    Ints,
    new_side,
)
from capture_pipeline.orderbook.compiled._levels import quantity
from capture_pipeline.orderbook.compiled._messages import (
    ASKS_FULL,
    CROSSED,
    DONE,
    LEVEL,
    PRICE_OUT_OF_RANGE,
    PROGRESS_SIZE,
    apply_messages,
)
from capture_pipeline.orderbook.compiled._table import with_larger_table
from capture_pipeline.orderbook.compiled._window import list_levels, load, prune, remove_all
from capture_pipeline.orderbook.levels import BestQuotes, BookSides

_SIGNS = (-1, 1)
_MIN_SLOTS, _MAX_SLOTS = 1 << 12, 1 << 24


class LevelArrays(NamedTuple):
    """Prices in ticks and quantities in lots of several levels."""

    ticks: Ints
    lots: Ints


@dataclass(frozen=True)
class LevelBatch:
    """Levels of consecutive messages, in the order of the messages.

    Attributes:
        bounds: `(3, messages)`: first bid, first ask, end of the levels of each message.
        prices: Ticks.
        lots: Quantities; 0 removes a level.
    """

    bounds: Ints
    prices: Ints
    lots: Ints

    def __len__(self) -> int:
        """Return the number of messages."""
        return int(self.bounds.shape[1])


class TickBook:
    """Bids and asks of one symbol.

    Attributes:
        crossed: Number of messages after which the best bid was not below the best ask.
    """

    def __init__(self) -> None:
        """Create an empty book."""
        self._sides = [new_side(_MIN_SLOTS), new_side(_MIN_SLOTS)]
        self.crossed = 0

    def clear(self) -> None:
        """Remove all levels."""
        for side in self._sides:
            remove_all(side)

    def load(self, bids: LevelArrays, asks: LevelArrays) -> None:
        """Replace all levels by those of a snapshot.

        Args:
            bids: Levels in any order.
            asks: Levels in any order.

        Raises:
            MalformedDataError: See `apply`.
        """
        self.clear()
        for number, (prices, lots) in enumerate((bids, asks)):
            _check_prices(prices)
            done = 0
            while (
                done := load(self._sides[number], _read_only(prices * _SIGNS[number]), _read_only(lots), done)
            ) < len(prices):
                self._enlarge_table(number)

    def apply(self, batch: LevelBatch, first: int = 0, end: int | None = None) -> Ints:
        """Apply messages of a batch.

        Args:
            batch: The messages.
            first: First message to apply.
            end: First message that is not applied; None for all.

        Returns:
            `(4, messages)`: best bid and its lots, best ask and its lots after each message; `EMPTY` and 0 if
            a side is empty. Columns of messages that were not applied are undefined.

        Raises:
            MalformedDataError: A price exceeds `MAX_TICK`, or a side exceeds 4 million levels.
        """
        end = len(batch) if end is None else end
        bests = np.empty((4, len(batch)), np.int64)
        bounds, prices, lots = _read_only(batch.bounds), _read_only(batch.prices), _read_only(batch.lots)
        progress = np.zeros(PROGRESS_SIZE, np.int64)
        progress[0] = first
        while True:
            bids, asks = self._sides
            status = apply_messages(bids, asks, bounds, prices, lots, end, progress, bests)
            if status == DONE:
                self.crossed += int(progress[CROSSED])
                return bests
            if status == PRICE_OUT_OF_RANGE:
                raise _price_error(int(batch.prices[progress[LEVEL]]))
            self._enlarge_table(int(status == ASKS_FULL))

    def best(self) -> BestQuotes[int] | None:
        """Return the best prices in ticks and their lots; None if a side is empty."""
        ranks = [int(side.stats[BEST]) for side in self._sides]
        if EMPTY in ranks:
            return None
        lots = [int(quantity(side, np.int64(rank))) for side, rank in zip(self._sides, ranks, strict=True)]
        return BestQuotes(-ranks[0], lots[0], ranks[1], lots[1])

    def top(self, count: int | None = None) -> BookSides[LevelArrays]:
        """Return the best bids and asks, best first; all levels if `count` is None."""
        bids, asks = (
            LevelArrays(*list_levels(side, MAX_TICK if count is None else count)) for side in self._sides
        )
        return BookSides(LevelArrays(-bids.ticks, bids.lots), asks)

    def lots(self, side: int, tick: int) -> int:
        """Return the lots of a bid (`side` 0) or an ask (1) at a price; 0 if there is no level."""
        return int(quantity(self._sides[side], np.int64(tick * _SIGNS[side])))

    @property
    def level_counts(self) -> BookSides[int]:
        """Number of levels of each side."""
        return BookSides(*(int(side.stats[LEVEL_COUNT]) for side in self._sides))

    def prune(self, corridor: float) -> int:
        """Remove levels that are further from the best price than this share of it. Returns their number."""
        removed = 0
        for side in self._sides:
            best = int(side.stats[BEST])
            if best != EMPTY:
                removed += prune(side, np.int64(best + int(abs(best) * corridor)))
        return removed

    def _enlarge_table(self, number: int) -> None:
        slots = 2 * self._sides[number].keys.size
        while slots <= 4 * int(self._sides[number].stats[LEVEL_COUNT]):
            slots *= 2
        if slots > _MAX_SLOTS:
            raise MalformedDataError(
                f"contains a book with more than {_MAX_SLOTS // 4:,} levels per side",
                remedy="no market has so many levels; check the file",
            )
        self._sides[number] = with_larger_table(self._sides[number], slots)


def _check_prices(prices: Ints) -> None:
    for price in (prices.max(), prices.min()) if prices.size else ():
        if abs(int(price)) > MAX_TICK:
            raise _price_error(int(price))


def _price_error(price: int) -> MalformedDataError:
    return MalformedDataError(
        f"contains a price of {price:,} ticks, which exceeds 62 bits",
        remedy="check the file and the scale of its prices",
    )


def _read_only(values: Ints) -> Ints:
    """Return the values as a contiguous read-only array, the type for which the kernels are compiled."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view
