"""Fills of taker orders: which trades of a day one order made. Trades of one order at one price are one aggregate.

Each block of eight trades has five aggregates, so that the aggregate of any trade is known without counting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sandbox_exchange.market.prng import Bits, Ints, field

_TRADES, _AGGREGATES = 8, 5
_SIZES = np.array(
    [
        [1, 1, 1, 2, 3],
        [3, 1, 2, 1, 1],
        [2, 3, 1, 1, 1],
        [1, 2, 1, 3, 1],
        [4, 1, 1, 1, 1],
        [1, 1, 2, 2, 2],
        [1, 4, 1, 1, 1],
        [2, 1, 2, 1, 2],
    ]
)
"""Trades of each of the five aggregates of a block."""


@dataclass(frozen=True)
class Fills:
    """The orders of a day's trades; arrays of one length.

    Attributes:
        aggregate: Number of each trade's aggregate, from 0 on.
        order: Position of the first trade of each trade's order, which decides time and side.
        is_second_price: Whether the order had filled everything at its first price, so that the trade is a tick further.
    """

    aggregate: Ints
    order: Ints
    is_second_price: NDArray[np.bool_]


def aggregates_of_day(trades: int) -> int:
    """Number of aggregates that a day of so many trades has."""
    return trades // _TRADES * _AGGREGATES + trades % _TRADES


def block_count(trades: int) -> int:
    """Number of whole blocks in a day of so many trades."""
    return trades // _TRADES


def fills_of(random: Bits, trades: int) -> Fills:
    """Divide a day's trades among orders.

    Args:
        random: One value for each whole block.
        trades: Trades of the day; those after the last whole block are an order each.
    """
    rest = np.ones(trades % _TRADES, np.int64)
    sizes = np.concatenate([_SIZES[field(random, 0, 3)].ravel(), rest])
    starts = np.cumsum(sizes) - sizes
    numbers = np.arange(len(sizes))
    # In every other block the first order goes on at a second price: two aggregates of one time.
    goes_on = (numbers % _AGGREGATES == 1) & (numbers < len(sizes) - len(rest))
    goes_on[: len(sizes) - len(rest)] &= np.repeat(field(random, 3, 1) == 1, _AGGREGATES)
    order = np.where(goes_on, np.concatenate([starts[:1], starts[:-1]]), starts)
    aggregate = np.repeat(numbers, sizes)
    return Fills(aggregate, order[aggregate], goes_on[aggregate])
