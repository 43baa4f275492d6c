"""Division of the trades of a day into taker orders. The trades of one order at one price are one aggregate.

Each block of eight trades has five aggregates, so that the aggregate of any trade is known without counting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sandbox_exchange.market.prng import Bits, Ints, extract_bits

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
"""Number of trades of each of the five aggregates of a block."""


@dataclass(frozen=True)
class Fills:
    """Orders of the trades of a day, as arrays of equal length.

    Attributes:
        aggregate: Number of the aggregate of each trade, from 0.
        order: Position of the first trade of the same order, which determines time and side.
        is_second_price: Whether the order has used up its first price, so that the trade is one tick away.
    """

    aggregate: Ints
    order: Ints
    is_second_price: NDArray[np.bool_]


def count_aggregates(trades: int) -> int:
    """Return the number of aggregates of a day from its number of trades."""
    return trades // _TRADES * _AGGREGATES + trades % _TRADES


def count_blocks(trades: int) -> int:
    """Return the number of whole blocks of a day from its number of trades."""
    return trades // _TRADES


def divide_into_orders(random: Bits, trades: int) -> Fills:
    """Divide the trades of a day into orders.

    Args:
        random: One value for each whole block.
        trades: Number of trades of the day; each trade after the last whole block is one order.
    """
    rest = np.ones(trades % _TRADES, np.int64)
    sizes = np.concatenate([_SIZES[extract_bits(random, 0, 3)].ravel(), rest])
    starts = np.cumsum(sizes) - sizes
    numbers = np.arange(len(sizes))
    # In half of the blocks the first order has a second price: two aggregates with the same time.
    is_second_price = (numbers % _AGGREGATES == 1) & (numbers < len(sizes) - len(rest))
    is_second_price[: len(sizes) - len(rest)] &= np.repeat(extract_bits(random, 3, 1) == 1, _AGGREGATES)
    order = np.where(is_second_price, np.concatenate([starts[:1], starts[:-1]]), starts)
    aggregate = np.repeat(numbers, sizes)
    return Fills(aggregate, order[aggregate], is_second_price[aggregate])
