"""Kernels that read and set levels of one side. `set_levels` is the innermost loop of a replay.

    set_level(rank, lots)
      ├ rank in the window ──> window[rank modulo size] = lots
      ├ otherwise          ──> slot of the table: rank, lots
      ├ level new or gone  ──> bit of the bitmap, LEVEL_COUNT
      └ best level changed ──> BEST: the rank, or the next bit after a removed best level

`set_levels` does the same for many levels. For a rank in the window it needs no branch on the old quantity:
the bit before and the bit after give the change of the count.
"""

from __future__ import annotations

import numpy as np

from capture_pipeline.orderbook.compiled._arrays import (
    BASE,
    BEST,
    EMPTY,
    IN_TABLE,
    LEVEL_COUNT,
    MAX_TICK,
    OUTSIDE_BITMAP,
    SPAN,
    WINDOW,
    WINDOW_START,
    Ints,
    SideArrays,
)
from capture_pipeline.orderbook.compiled._bitmap import (
    clear_bit,
    clear_parent_bits,
    next_occupied,
    set_bit,
    set_parent_bits,
)
from capture_pipeline.orderbook.compiled._jit import kernel
from capture_pipeline.orderbook.compiled._table import find_slot, is_table_full, remove_slot

_0, _1, _6, _63 = np.uint64(0), np.uint64(1), np.uint64(6), np.uint64(63)
_SPAN, _WINDOW, _RING = np.uint64(SPAN), np.uint64(WINDOW), np.uint64(WINDOW - 1)
_MAX_SPAN = np.uint64(2 * MAX_TICK)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def is_in_range(tick: np.int64) -> bool:
    """Return True if the price is at most `MAX_TICK` in absolute value."""
    return bool(np.uint64(tick + MAX_TICK) <= _MAX_SPAN)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def quantity(side: SideArrays, rank: np.int64) -> np.int64:
    """Return the lots at a rank; 0 if there is no level."""
    if np.uint64(rank - side.stats[WINDOW_START]) < _WINDOW:
        return np.int64(side.window[np.uint64(rank) & _RING])
    slot = find_slot(side, rank)
    return np.int64(side.values[slot]) if side.keys[slot] == rank else np.int64(0)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def next_rank(side: SideArrays, rank: np.int64) -> np.int64:
    """Return the rank of the first level at or after a rank; `EMPTY` if there is none."""
    if side.stats[LEVEL_COUNT] == 0:
        return EMPTY
    bit = rank - side.stats[BASE]
    found = next_occupied(side, np.uint64(max(bit, 0)))
    best = side.stats[BASE] + np.int64(found) if found < _SPAN else EMPTY
    if side.stats[OUTSIDE_BITMAP]:
        for slot in range(side.keys.size):
            key = side.keys[slot]
            if key != EMPTY and key >= rank and (best == EMPTY or key < best):
                best = key
    return best


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def set_level(side: SideArrays, rank: np.int64, lots: np.int64) -> bool:  # noqa: C901, PLR0912 - calls are slow
    """Set a level; 0 lots remove it. Returns False and changes nothing if the table is full."""
    stats = side.stats
    if stats[LEVEL_COUNT] == 0:
        stats[BASE], stats[WINDOW_START] = rank - SPAN // 2, rank - WINDOW // 2
    if np.uint64(rank - stats[WINDOW_START]) < _WINDOW:
        before = side.window[np.uint64(rank) & _RING]
        side.window[np.uint64(rank) & _RING] = lots
    else:
        slot = find_slot(side, rank)
        known = side.keys[slot] == rank
        if not known and lots and is_table_full(side):
            return False
        before = side.values[slot] if known else np.int64(0)
        bit = np.uint64(rank - stats[BASE])
        if lots:
            side.keys[slot], side.values[slot] = rank, lots
            stats[IN_TABLE] += not known
            stats[OUTSIDE_BITMAP] += not known and bit >= _SPAN
        elif known:
            remove_slot(side, slot)
            stats[IN_TABLE] -= 1
            stats[OUTSIDE_BITMAP] -= bit >= _SPAN
    if (before != 0) != (lots != 0):
        bit = np.uint64(rank - stats[BASE])
        if bit < _SPAN:
            if lots:
                set_bit(side, bit)
            else:
                clear_bit(side, bit)
        stats[LEVEL_COUNT] += 1 if lots else -1
    if lots:
        if rank < stats[BEST] or stats[BEST] == EMPTY:
            stats[BEST] = rank
    elif rank == stats[BEST]:
        stats[BEST] = next_rank(side, rank)
    return True


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
