"""Window of quantities around the best level, a ring buffer; and kernels for all levels of a side.

    ranks     WINDOW_START                                   WINDOW_START + WINDOW
                 ├── quarter ──┼────────── half ──────────┼── quarter ──┤
                               └ BEST stays in this part ─┘

    window    [ 8 9 10 11 4 5 6 7 ]     a window of eight from rank 4 on: the quantity of a rank is at rank
                                        modulo eight, so that a move from 4 to 6 replaces only ranks 4 and 5

When the best level leaves the middle half, `recentre` moves the levels that leave the window to the table,
and levels that enter it from the table. If the new window does not fit into the bitmap, the bitmap moves as
well.
"""

from __future__ import annotations

import numpy as np

from capture_pipeline.orderbook.compiled._arrays import (
    BASE,
    BEST,
    EMPTY,
    IN_TABLE,
    LEVEL_COUNT,
    OUTSIDE_BITMAP,
    SPAN,
    WINDOW,
    WINDOW_START,
    Ints,
    SideArrays,
)
from capture_pipeline.orderbook.compiled._bitmap import clear_bit, next_occupied, set_bit
from capture_pipeline.orderbook.compiled._jit import allocating_kernel, kernel
from capture_pipeline.orderbook.compiled._levels import next_rank, quantity, set_level
from capture_pipeline.orderbook.compiled._table import find_slot, remove_slot

_SPAN, _WINDOW, _RING = np.uint64(SPAN), np.uint64(WINDOW), np.uint64(WINDOW - 1)
_QUARTER, _HALF = np.uint64(WINDOW // 4), np.uint64(WINDOW // 2)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def is_off_centre(side: SideArrays) -> bool:
    """Return True if the best level is not in the middle half of the window."""
    stats = side.stats
    return bool(stats[LEVEL_COUNT] != 0 and np.uint64(stats[BEST] - stats[WINDOW_START]) - _QUARTER >= _HALF)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def recentre(side: SideArrays) -> bool:
    """Centre the window on the best level. Returns False without a change if the table might become full."""
    stats = side.stats
    if 2 * (stats[LEVEL_COUNT] + 1) > side.keys.size:
        return False
    start = stats[BEST] - WINDOW // 2
    if start < stats[BASE] or start + WINDOW > stats[BASE] + SPAN:
        _move_to_table(side, stats[WINDOW_START] + WINDOW)
        _move_bitmap(side, stats[BEST] - SPAN // 2)
    else:
        _move_to_table(side, start)
    stats[WINDOW_START] = start
    slot = 0
    while slot < side.keys.size and stats[IN_TABLE]:
        rank = side.keys[slot]
        if rank != EMPTY and np.uint64(rank - start) < _WINDOW:
            side.window[np.uint64(rank) & _RING] = side.values[slot]
            remove_slot(side, np.uint64(slot))
            stats[IN_TABLE] -= 1
        else:
            slot += 1
    return True


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def _move_to_table(side: SideArrays, start: np.int64) -> None:
    """Move the levels that a window from rank `start` on does not cover to the table."""
    stats = side.stats
    end = stats[WINDOW_START] + WINDOW
    rank = next_rank(side, stats[WINDOW_START])
    while rank != EMPTY and rank < end:
        if np.uint64(rank - start) >= _WINDOW:
            slot = find_slot(side, rank)
            side.keys[slot], side.values[slot] = rank, side.window[np.uint64(rank) & _RING]
            side.window[np.uint64(rank) & _RING] = 0
            stats[IN_TABLE] += 1
        rank = next_rank(side, rank + 1)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def _move_bitmap(side: SideArrays, base: np.int64) -> None:
    """Move the bitmap to another first rank. All levels must be in the table."""
    side.bitmap_l0[:] = 0
    side.bitmap_l1[:] = 0
    side.bitmap_l2[:] = 0
    side.bitmap_l3[:] = 0
    stats = side.stats
    stats[BASE], stats[OUTSIDE_BITMAP] = base, 0
    for slot in range(side.keys.size):
        rank = side.keys[slot]
        if rank == EMPTY:
            continue
        if np.uint64(rank - base) < _SPAN:
            set_bit(side, np.uint64(rank - base))
        else:
            stats[OUTSIDE_BITMAP] += 1


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def prune(side: SideArrays, furthest: np.int64) -> int:
    """Remove the levels with a rank above `furthest`. Returns their number."""
    before = side.stats[LEVEL_COUNT]
    rank = next_rank(side, furthest + 1)
    while rank != EMPTY:
        set_level(side, rank, np.int64(0))
        rank = next_rank(side, rank)
    return int(before - side.stats[LEVEL_COUNT])


@allocating_kernel  # type: ignore[untyped-decorator, unused-ignore]
def list_levels(side: SideArrays, most: int) -> tuple[Ints, Ints]:
    """Return the best levels, best first: (ranks, lots). A kernel returns a plain tuple."""
    count = min(most, side.stats[LEVEL_COUNT])
    ranks, lots = np.empty(count, np.int64), np.empty(count, np.int64)
    rank = side.stats[BEST]
    for number in range(count):
        ranks[number], lots[number] = rank, quantity(side, rank)
        rank = next_rank(side, rank + 1)
    return ranks, lots


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def remove_all(side: SideArrays) -> None:
    """Remove every level."""
    stats = side.stats
    rank = next_rank(side, stats[WINDOW_START])
    while rank != EMPTY and np.uint64(rank - stats[WINDOW_START]) < _WINDOW:
        side.window[np.uint64(rank) & _RING] = 0
        rank = next_rank(side, rank + 1)
    bit = next_occupied(side, np.uint64(0))
    while bit < _SPAN:
        clear_bit(side, bit)
        bit = next_occupied(side, bit)
    if stats[IN_TABLE]:
        side.keys[:] = EMPTY
    stats[LEVEL_COUNT] = stats[IN_TABLE] = stats[OUTSIDE_BITMAP] = 0
    stats[BEST] = EMPTY


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def load(side: SideArrays, ranks: Ints, lots: Ints, first: int) -> int:
    """Set levels from `first` on. Returns the level for which the table is full, or the number of levels."""
    for number in range(first, ranks.size):
        if not set_level(side, ranks[number], lots[number]) or (is_off_centre(side) and not recentre(side)):
            return number
    return int(ranks.size)
