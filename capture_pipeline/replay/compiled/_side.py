"""One side of a book in compiled code. All accesses are bounds-checked.

The rank of a level is its tick for asks and its negated tick for bids: the best level has the lowest rank.

- A bitmap of four layers shows which of the 2**26 ranks from `BASE` on have a level. A bit of a layer is set
  if a word of the layer below is not 0, so that the next level is found with four loads.
- A ring buffer, the window, contains the quantities of 2**18 ranks around the best level.
- A hash table contains the quantities of all other levels, also of levels outside the bitmap.

Only the caller enlarges the table: a kernel that finds it full changes nothing and returns that result.

numba does not notice a change of a kernel in another file: remove `__pycache__` after a change of this
module.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.replay.compiled._jit import kernel, trailing_zeros

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

_0, _1, _6, _63 = np.uint64(0), np.uint64(1), np.uint64(6), np.uint64(63)
_SPAN, _WINDOW, _RING = np.uint64(SPAN), np.uint64(WINDOW), np.uint64(WINDOW - 1)
_MAX_SPAN = np.uint64(2 * MAX_TICK)
_MIX = np.uint64(0x9E3779B97F4A7C15)


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


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def next_occupied(side: SideArrays, bit: np.uint64) -> np.uint64:  # noqa: C901, PLR0911 - one step per layer
    """Return the first set bit from `bit` on (a rank minus `BASE`); `SPAN` if there is none."""
    if bit >= _SPAN:
        return _SPAN
    word = side.bitmap_l0[bit >> _6] >> (bit & _63)
    if word:
        return bit + np.uint64(trailing_zeros(word))
    at = (bit >> _6) + _1
    if at >= np.uint64(side.bitmap_l0.size):
        return _SPAN
    word = side.bitmap_l1[at >> _6] >> (at & _63)
    if word:
        at += trailing_zeros(word)
        return np.uint64((at << _6) + trailing_zeros(side.bitmap_l0[at]))
    at = (at >> _6) + _1
    if at >= np.uint64(side.bitmap_l1.size):
        return _SPAN
    word = side.bitmap_l2[at >> _6] >> (at & _63)
    if word:
        at += trailing_zeros(word)
        at = (at << _6) + trailing_zeros(side.bitmap_l1[at])
        return np.uint64((at << _6) + trailing_zeros(side.bitmap_l0[at]))
    at = (at >> _6) + _1
    if at >= np.uint64(side.bitmap_l2.size):
        return _SPAN
    top = at >> _6
    word = (side.bitmap_l3[top] >> (at & _63)) << (at & _63)
    while not word:
        top += _1
        if top >= np.uint64(side.bitmap_l3.size):
            return _SPAN
        word = side.bitmap_l3[top]
    at = (top << _6) + trailing_zeros(word)
    at = (at << _6) + trailing_zeros(side.bitmap_l2[at])
    at = (at << _6) + trailing_zeros(side.bitmap_l1[at])
    return np.uint64((at << _6) + trailing_zeros(side.bitmap_l0[at]))


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def set_parent_bits(side: SideArrays, word: np.uint64) -> None:
    """Set the bits of the upper layers after a word of the lowest layer became non-zero."""
    at = word
    before = side.bitmap_l1[at >> _6]
    side.bitmap_l1[at >> _6] = before | (_1 << (at & _63))
    if before:
        return
    at >>= _6
    before = side.bitmap_l2[at >> _6]
    side.bitmap_l2[at >> _6] = before | (_1 << (at & _63))
    if before:
        return
    at >>= _6
    side.bitmap_l3[at >> _6] |= _1 << (at & _63)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def clear_parent_bits(side: SideArrays, word: np.uint64) -> None:
    """Clear bits of the upper layers after a word of the lowest layer became zero."""
    at = word
    side.bitmap_l1[at >> _6] &= ~(_1 << (at & _63))
    if side.bitmap_l1[at >> _6]:
        return
    at >>= _6
    side.bitmap_l2[at >> _6] &= ~(_1 << (at & _63))
    if side.bitmap_l2[at >> _6]:
        return
    at >>= _6
    side.bitmap_l3[at >> _6] &= ~(_1 << (at & _63))


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def set_bit(side: SideArrays, bit: np.uint64) -> None:
    """Set a bit of the bitmap."""
    word = side.bitmap_l0[bit >> _6]
    side.bitmap_l0[bit >> _6] = word | (_1 << (bit & _63))
    if not word:
        set_parent_bits(side, bit >> _6)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def clear_bit(side: SideArrays, bit: np.uint64) -> None:
    """Clear a bit of the bitmap."""
    word = side.bitmap_l0[bit >> _6] & ~(_1 << (bit & _63))
    side.bitmap_l0[bit >> _6] = word
    if not word:
        clear_parent_bits(side, bit >> _6)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def find_slot(side: SideArrays, rank: np.int64) -> np.uint64:
    """Find the slot of a rank in the table, or the free slot for it. At least one slot is always free."""
    most = np.uint64(side.keys.size - 1)
    at = (np.uint64(rank) * _MIX) >> np.uint64(20) & most
    while side.keys[at] != rank and side.keys[at] != EMPTY:
        at = (at + _1) & most
    return at


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def remove_slot(side: SideArrays, at: np.uint64) -> None:
    """Free a slot, and move later entries of the same probe sequence forward."""
    most = np.uint64(side.keys.size - 1)
    hole, at = at, (at + _1) & most
    while side.keys[at] != EMPTY:
        home = (np.uint64(side.keys[at]) * _MIX) >> np.uint64(20) & most
        if ((at - home) & most) >= ((at - hole) & most):
            side.keys[hole], side.values[hole] = side.keys[at], side.values[at]
            hole = at
        at = (at + _1) & most
    side.keys[hole] = EMPTY


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def is_in_range(tick: np.int64) -> bool:
    """Return True if the price is at most `MAX_TICK` in absolute value."""
    return bool(np.uint64(tick + MAX_TICK) <= _MAX_SPAN)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def is_table_full(side: SideArrays) -> bool:
    """Return True if another level would occupy more than half of the slots of the table."""
    return bool(2 * (side.stats[IN_TABLE] + 1) > side.keys.size)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def quantity(side: SideArrays, rank: np.int64) -> np.int64:
    """Return the lots at a rank; 0 if there is no level."""
    if np.uint64(rank - side.stats[WINDOW_START]) < _WINDOW:
        return np.int64(side.window[np.uint64(rank) & _RING])
    slot = find_slot(side, rank)
    return np.int64(side.values[slot]) if side.keys[slot] == rank else np.int64(0)


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
