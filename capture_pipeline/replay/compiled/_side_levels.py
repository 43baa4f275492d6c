"""Compiled kernel that sets many levels of one side: the innermost loop of a replay."""

from __future__ import annotations

import numpy as np

from capture_pipeline.replay.compiled._jit import kernel
from capture_pipeline.replay.compiled._side import (
    BASE,
    BEST,
    LEVEL_COUNT,
    WINDOW,
    WINDOW_START,
    Ints,
    SideArrays,
    clear_parent_bits,
    is_in_range,
    next_rank,
    set_level,
    set_parent_bits,
)

_0, _1, _6, _63 = np.uint64(0), np.uint64(1), np.uint64(6), np.uint64(63)
_WINDOW, _RING = np.uint64(WINDOW), np.uint64(WINDOW - 1)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def set_levels(  # noqa: C901, PLR0917 - a call costs more than a level
    side: SideArrays, sign: np.int64, prices: Ints, lots: Ints, first: int, end: int
) -> int:
    """Set levels as `set_level` does for each of them, but several times as fast inside the window.

    Args:
        side: The side.
        sign: -1 for bids, +1 for asks.
        prices: Ticks.
        lots: Quantities; 0 removes a level.
        first: First level to set.
        end: First level that is not set.

    Returns:
        The first level that was not set, because the table is full or the price is out of range; `end` if all
        were.
    """
    stats, window, bitmap_l0 = side.stats, side.window, side.bitmap_l0
    base, start, best, taken = stats[BASE], stats[WINDOW_START], stats[BEST], stats[LEVEL_COUNT]
    for level in range(first, end):
        rank, count = sign * prices[level], lots[level]
        if np.uint64(rank - start) < _WINDOW and taken > 0:
            window[np.uint64(rank) & _RING] = count
            bit = np.uint64(rank - base)
            word, shift = bit >> _6, bit & _63
            before = bitmap_l0[word]
            now = np.uint64(count != 0)
            after_it = (before & ~(_1 << shift)) | (now << shift)
            bitmap_l0[word] = after_it
            taken += np.int64(now) - np.int64((before >> shift) & _1)
            if (before == _0) != (after_it == _0):
                if now:
                    set_parent_bits(side, word)
                else:
                    clear_parent_bits(side, word)
            if rank <= best:
                if now:
                    best = rank
                elif rank == best:
                    stats[LEVEL_COUNT] = taken
                    best = next_rank(side, rank)
            continue
        stats[BEST], stats[LEVEL_COUNT] = best, taken
        if not is_in_range(prices[level]) or not set_level(side, rank, count):
            return level
        base, start, best, taken = stats[BASE], stats[WINDOW_START], stats[BEST], stats[LEVEL_COUNT]
    stats[BEST], stats[LEVEL_COUNT] = best, taken
    return end
