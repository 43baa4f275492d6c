"""Kernel that applies messages to both sides of a book and stores the best prices after each message.

Messages are columns: the levels of all messages, and three bounds for each message.

    bounds        message 0           message 1
                  0     2     5       5   6      8
    prices        b  b  a  a  a       b   a  a        ticks: bids, then asks
    lots          q  q  q  q  0       q   0  q        quantities; 0 removes a level
    bests         best bid, its lots, best ask, its lots, after each message

The kernel stops if a hash table is full. The caller enlarges the table and
continues with the same level; this is safe because quantities are absolute.
"""

from __future__ import annotations

import numpy as np

from capture_pipeline.orderbook.compiled._arrays import BEST, EMPTY, Ints, SideArrays
from capture_pipeline.orderbook.compiled._jit import kernel
from capture_pipeline.orderbook.compiled._levels import is_in_range, quantity, set_levels
from capture_pipeline.orderbook.compiled._window import is_off_centre, recentre

DONE, BIDS_FULL, ASKS_FULL, PRICE_OUT_OF_RANGE = range(4)
AT, LEVEL, CROSSED, PROGRESS_SIZE = range(4)
"""Entries of `progress`: next message, next level, messages after which the book was crossed; its size."""


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def apply_messages(  # noqa: PLR0917 - compiled: a call costs more than a level
    bids: SideArrays,
    asks: SideArrays,
    bounds: Ints,
    prices: Ints,
    lots: Ints,
    end: int,
    progress: Ints,
    bests: Ints,
) -> int:
    """Apply messages.

    Args:
        bids: Ranks are negated ticks.
        asks: Ranks are ticks.
        bounds: `(3, messages)`: first bid, first ask, end of the levels of each message.
        prices: Ticks of the levels.
        lots: Quantities of the levels; 0 removes a level.
        end: First message that is not applied.
        progress: `AT`, `LEVEL` and `CROSSED`; updated.
        bests: Output, `(4, messages)`: best bid and its lots, best ask and its lots after each message;
            `EMPTY` and 0 if a side is empty.

    Returns:
        `DONE`; or `BIDS_FULL` or `ASKS_FULL` if a table is full; or `PRICE_OUT_OF_RANGE` for the price of
        `LEVEL`.
    """
    bid_stats, ask_stats = bids.stats, asks.stats
    for message in range(progress[AT], end):
        middle, last = bounds[1, message], bounds[2, message]
        level = max(progress[LEVEL], bounds[0, message])
        if level < middle:
            level = set_levels(bids, np.int64(-1), prices, lots, level, middle)
            if level < middle:
                progress[AT], progress[LEVEL] = message, level
                return BIDS_FULL if is_in_range(prices[level]) else PRICE_OUT_OF_RANGE
        if level < last:
            level = set_levels(asks, np.int64(1), prices, lots, level, last)
            if level < last:
                progress[AT], progress[LEVEL] = message, level
                return ASKS_FULL if is_in_range(prices[level]) else PRICE_OUT_OF_RANGE
        if (is_off_centre(bids) and not recentre(bids)) or (is_off_centre(asks) and not recentre(asks)):
            progress[AT], progress[LEVEL] = message, level
            return BIDS_FULL if is_off_centre(bids) else ASKS_FULL
        bid, ask = bid_stats[BEST], ask_stats[BEST]
        bests[0, message], bests[2, message] = (EMPTY if bid == EMPTY else -bid), ask
        bests[1, message] = 0 if bid == EMPTY else quantity(bids, bid)
        bests[3, message] = 0 if ask == EMPTY else quantity(asks, ask)
        progress[CROSSED] += bid != EMPTY and ask != EMPTY and -bid >= ask  # noqa: PLR1714 - compiled
    progress[AT], progress[LEVEL] = end, bounds[2, end - 1] if end > 0 else 0
    return DONE
