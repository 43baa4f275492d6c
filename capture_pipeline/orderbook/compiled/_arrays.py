"""Arrays of one side of the compiled book, and the purpose of each array.

The rank of a level is its tick for asks and its negated tick for bids: the best level has the lowest rank.
All accesses are bounds-checked.

              BASE                 WINDOW_START     BEST                        BASE + SPAN
    ranks  ────┼────────────────────────┼─────────────┼──────────┼───────────────────┼──────>
    bitmap     ├─ one bit for each rank: is there a level? ──────────── 2**26 bits ──┤
    window                              ├─ 2**18 quantities ─────┤
    table  ─ rank and quantity of each ─┤                        ├─ other level ────────────>

- The bitmap (`_bitmap`) finds the next level. Levels outside of it are rare: a search of the table finds
  them.
- The window (`_window`) has the quantities around the best level, where nearly all changes are.
- The table (`_table`) has the quantities of all other levels.
- `_levels` sets levels, `_messages` applies messages to both sides.

Only the caller enlarges the table. A kernel that finds the table full changes nothing and reports this in its
result.

Numba does not notice a change of a kernel in another file: remove `__pycache__` after a change of a kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

SPAN_BITS, WINDOW_BITS = 26, 18
SPAN, WINDOW = 1 << SPAN_BITS, 1 << WINDOW_BITS
MAX_TICK = 1 << 61
"""Highest absolute price in ticks."""
EMPTY = np.int64(-(2**63))
"""Rank of a free slot of the table, and of the best level of an empty side."""
BASE, WINDOW_START, BEST, LEVEL_COUNT, IN_TABLE, OUTSIDE_BITMAP, STATS_SIZE = range(7)
"""Entries of `SideArrays.stats`.

- `BASE`: rank of the first bit of the bitmap
- `WINDOW_START`: rank of the first quantity of the window
- `BEST`: best rank
- `LEVEL_COUNT`: number of levels
- `IN_TABLE`: number of levels in the table
- `OUTSIDE_BITMAP`: number of levels in the table whose rank is outside the bitmap
- `STATS_SIZE`: number of entries
"""


class SideArrays(NamedTuple):
    """Arrays of one side.

    Attributes:
        bitmap_l0: A bit for each rank from `BASE` on.
        bitmap_l1: A bit for each word of `bitmap_l0`.
        bitmap_l2: A bit for each word of `bitmap_l1`.
        bitmap_l3: A bit for each word of `bitmap_l2`.
        window: Quantities in lots of the ranks from `WINDOW_START` on, at rank modulo window size; 0 if no
            level.
        keys: Ranks in the hash table, `EMPTY` in free slots. The size is a power of two.
        values: Quantities in lots of the ranks in `keys`.
        stats: `BASE`, `WINDOW_START`, `BEST`, `LEVEL_COUNT`, `IN_TABLE`, `OUTSIDE_BITMAP`.
    """

    bitmap_l0: Words
    bitmap_l1: Words
    bitmap_l2: Words
    bitmap_l3: Words
    window: Ints
    keys: Ints
    values: Ints
    stats: Ints


def new_side(slots: int) -> SideArrays:
    """Create an empty side with `slots` slots in its table, a power of two."""
    l0, l1, l2, l3 = (np.zeros(SPAN >> (6 * layer), np.uint64) for layer in (1, 2, 3, 4))
    stats = np.zeros(STATS_SIZE, np.int64)
    stats[BEST] = EMPTY
    window, keys, values = np.zeros(WINDOW, np.int64), np.full(slots, EMPTY), np.zeros(slots, np.int64)
    return SideArrays(l0, l1, l2, l3, window, keys, values, stats)
