"""Diffs applied to both sides of a book, and the best of either side after each of them; compiled, once, and kept on disk.

A run of messages is given as columns: levels one after the other, for each message where its bids begin, where its asks do, and where it
ends. Stops where a table lacks room; the caller gives it more and goes on with the same level, for quantities are absolute.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.replay.compiled._jit import kernel
from capture_pipeline.replay.compiled._side import BEST, EMPTY, SideArrays, has_rank, quantity
from capture_pipeline.replay.compiled._side_levels import set_levels
from capture_pipeline.replay.compiled._side_window import is_astray, recentre

Ints = NDArray[np.int64]
DONE, BIDS_LACK_ROOM, ASKS_LACK_ROOM, NO_RANK = range(4)
AT, LEVEL, CROSSED, PLACES = range(4)
"""Of the progress: message to go on with, level to go on with, how many messages left the book crossed."""


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def apply_run(  # noqa: PLR0917 - compiled: a call costs more than a level, and columns come one by one
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
        lots: Their quantities; 0 removes a level.
        end: Message to stop before.
        progress: `AT`, `LEVEL` and `CROSSED`; advanced.
        bests: `(4, messages)`: bid and its lots, ask and its lots after each message, in ticks; `EMPTY` and 0 where a side is empty.

    Returns:
        `DONE`, which table lacks room, or `NO_RANK` where the price of `LEVEL` is beyond all ranks.
    """
    bid_facts, ask_facts = bids.facts, asks.facts
    for message in range(progress[AT], end):
        middle, last = bounds[1, message], bounds[2, message]
        level = max(progress[LEVEL], bounds[0, message])
        if level < middle:
            level = set_levels(bids, np.int64(-1), prices, lots, level, middle)
            if level < middle:
                progress[AT], progress[LEVEL] = message, level
                return BIDS_LACK_ROOM if has_rank(prices[level]) else NO_RANK
        if level < last:
            level = set_levels(asks, np.int64(1), prices, lots, level, last)
            if level < last:
                progress[AT], progress[LEVEL] = message, level
                return ASKS_LACK_ROOM if has_rank(prices[level]) else NO_RANK
        if (is_astray(bids) and not recentre(bids)) or (is_astray(asks) and not recentre(asks)):
            progress[AT], progress[LEVEL] = message, level
            return BIDS_LACK_ROOM if is_astray(bids) else ASKS_LACK_ROOM
        bid, ask = bid_facts[BEST], ask_facts[BEST]
        bests[0, message], bests[2, message] = (EMPTY if bid == EMPTY else -bid), ask
        bests[1, message] = 0 if bid == EMPTY else quantity(bids, bid)
        bests[3, message] = 0 if ask == EMPTY else quantity(asks, ask)
        progress[CROSSED] += bid != EMPTY and ask != EMPTY and -bid >= ask  # noqa: PLR1714 - compiled
    progress[AT], progress[LEVEL] = end, bounds[2, end - 1] if end > 0 else 0
    return DONE
