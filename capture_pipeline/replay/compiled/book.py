"""A whole book in compiled code, for Python: snapshots loaded, runs of diffs applied, levels told. Gives its kernels the room they lack.

Prices are ticks and quantities lots, both int64; whoever fills the book knows what they are worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.replay.compiled._apply import (
    ASKS_LACK_ROOM,
    CROSSED,
    DONE,
    LEVEL,
    NO_RANK,
    PLACES,
    apply_run,
)
from capture_pipeline.replay.compiled._side import BEST, EMPTY, MOST_TICK, TAKEN, new_side, quantity
from capture_pipeline.replay.compiled._side_window import forget, listed, load, prune, widened

Ints = NDArray[np.int64]
_SIGNS = (-1, 1)
_FEWEST_SLOTS, _MOST_SLOTS = 1 << 12, 1 << 24


@dataclass(frozen=True)
class LevelBatch:
    """Messages in their order; prices and quantities of all levels, one message after the other.

    Attributes:
        bounds: `(3, messages)`: first bid, first ask, end of the levels of each message.
        prices: Ticks.
        lots: 0 removes a level.
    """

    bounds: Ints
    prices: Ints
    lots: Ints

    def __len__(self) -> int:
        """How many messages."""
        return int(self.bounds.shape[1])


class TickBook:
    """Both sides.

    Attributes:
        crossed: After how many messages the best bid reached the best ask.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._sides = [new_side(_FEWEST_SLOTS), new_side(_FEWEST_SLOTS)]
        self.crossed = 0

    def clear(self) -> None:
        """Forget everything."""
        for side in self._sides:
            forget(side)

    def load(self, bids: tuple[Ints, Ints], asks: tuple[Ints, Ints]) -> None:
        """Take a snapshot in place of all there is.

        Args:
            bids: Ticks and lots, in any order.
            asks: Likewise.

        Raises:
            MalformedDataError: See `apply`.
        """
        self.clear()
        for number, (prices, lots) in enumerate((bids, asks)):
            _check(prices)
            done = 0
            while (
                done := load(self._sides[number], _constant(prices * _SIGNS[number]), _constant(lots), done)
            ) < len(prices):
                self._widen(number)

    def apply(self, run: LevelBatch, first: int = 0, end: int | None = None) -> Ints:
        """Apply messages of a run.

        Args:
            run: The messages.
            first: Message to begin with.
            end: Message to stop before; None for all.

        Returns:
            `(4, messages)`: bid and its lots, ask and its lots after each message, `EMPTY` and 0 where a side is empty; those of
            other messages of the run are not filled.

        Raises:
            MalformedDataError: A price has no rank, or the book more levels than any market.
        """
        end = len(run) if end is None else end
        bests = np.empty((4, len(run)), np.int64)
        bounds, prices, lots = _constant(run.bounds), _constant(run.prices), _constant(run.lots)
        progress = np.zeros(PLACES, np.int64)
        progress[0] = first
        while True:
            bids, asks = self._sides
            status = apply_run(bids, asks, bounds, prices, lots, end, progress, bests)
            if status == DONE:
                self.crossed += int(progress[CROSSED])
                return bests
            if status == NO_RANK:
                raise _no_rank(int(run.prices[progress[LEVEL]]))
            self._widen(int(status == ASKS_LACK_ROOM))

    def best(self) -> tuple[int, int, int, int] | None:
        """Bid, its lots, ask, its lots; None while a side is empty."""
        ranks = [int(side.facts[BEST]) for side in self._sides]
        if EMPTY in ranks:
            return None
        lots = [int(quantity(side, np.int64(rank))) for side, rank in zip(self._sides, ranks, strict=True)]
        return -ranks[0], lots[0], ranks[1], lots[1]

    def top(self, count: int | None = None) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """Ticks and lots of the best bids, best first, and of the best asks; all of them without `count`."""
        found = [listed(side, MOST_TICK if count is None else count) for side in self._sides]
        return (-found[0][0], found[0][1]), found[1]

    def lots(self, side: int, tick: int) -> int:
        """Lots of a bid (0) or an ask (1) at a price; 0 where there is no level."""
        return int(quantity(self._sides[side], np.int64(tick * _SIGNS[side])))

    @property
    def levels(self) -> tuple[int, int]:
        """How many bids and asks there are."""
        bids, asks = self._sides
        return int(bids.facts[TAKEN]), int(asks.facts[TAKEN])

    def prune(self, corridor: float) -> int:
        """Forget what lies further from the best price than this share of it; returns how many levels."""
        gone = 0
        for side in self._sides:
            best = int(side.facts[BEST])
            if best != EMPTY:
                gone += prune(side, np.int64(best + int(abs(best) * corridor)))
        return gone

    def _widen(self, number: int) -> None:
        slots = 2 * self._sides[number].keys.size
        while slots <= 4 * int(self._sides[number].facts[TAKEN]):
            slots *= 2
        if slots > _MOST_SLOTS:
            raise MalformedDataError(
                f"holds a book of more than {_MOST_SLOTS // 4:,} levels a side",
                remedy="no market has so many; look at it",
            )
        self._sides[number] = widened(self._sides[number], slots)


def _check(prices: Ints) -> None:
    for price in (prices.max(), prices.min()) if prices.size else ():
        if abs(int(price)) > MOST_TICK:
            raise _no_rank(int(price))


def _no_rank(price: int) -> MalformedDataError:
    return MalformedDataError(
        f"holds a price of {price:,} ticks, beyond what 62 bits can tell",
        remedy="look at it, or at the scale of its prices",
    )


def _constant(values: Ints) -> Ints:
    """The same values as kernels are compiled for: in one piece, and not to be written to."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view
