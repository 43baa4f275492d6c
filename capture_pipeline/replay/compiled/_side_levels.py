"""Many levels of one side at once, compiled: the hot loop of a replay."""

from __future__ import annotations

import numpy as np

from capture_pipeline.replay.compiled._jit import kernel
from capture_pipeline.replay.compiled._side import (
    BASE,
    BEST,
    PLACE,
    TAKEN,
    WINDOW,
    Ints,
    SideArrays,
    has_rank,
    lower_floors,
    next_rank,
    raise_floors,
    set_level,
)

_0, _1, _6, _63 = np.uint64(0), np.uint64(1), np.uint64(6), np.uint64(63)
_WINDOW, _RING = np.uint64(WINDOW), np.uint64(WINDOW - 1)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def set_levels(side: SideArrays, sign: np.int64, prices: Ints, lots: Ints, first: int, end: int) -> int:  # noqa: C901, PLR0917 - as above
    """Set levels of which most lie in the window, without a branch for those: the same as `set_level` for each, several times as fast.

    Args:
        side: Whose levels.
        sign: -1 of bids, +1 of asks.
        prices: Ticks.
        lots: Their quantities.
        first: Level to begin with.
        end: Level to stop before.

    Returns:
        The level that the table has no room for, or whose price has no rank; `end` if all are set.
    """
    facts, window, floor0 = side.facts, side.window, side.floor0
    base, place, best, taken = facts[BASE], facts[PLACE], facts[BEST], facts[TAKEN]
    for level in range(first, end):
        rank, count = sign * prices[level], lots[level]
        if np.uint64(rank - place) < _WINDOW and taken > 0:
            window[np.uint64(rank) & _RING] = count
            bit = np.uint64(rank - base)
            word, shift = bit >> _6, bit & _63
            before = floor0[word]
            now = np.uint64(count != 0)
            after_it = (before & ~(_1 << shift)) | (now << shift)
            floor0[word] = after_it
            taken += np.int64(now) - np.int64((before >> shift) & _1)
            if (before == _0) != (after_it == _0):
                if now:
                    raise_floors(side, word)
                else:
                    lower_floors(side, word)
            if rank <= best:
                if now:
                    best = rank
                elif rank == best:
                    facts[TAKEN] = taken
                    best = next_rank(side, rank)
            continue
        facts[BEST], facts[TAKEN] = best, taken
        if not has_rank(prices[level]) or not set_level(side, rank, count):
            return level
        base, place, best, taken = facts[BASE], facts[PLACE], facts[BEST], facts[TAKEN]
    facts[BEST], facts[TAKEN] = best, taken
    return end
