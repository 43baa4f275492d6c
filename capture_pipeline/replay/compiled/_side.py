"""One side of a book in compiled code: which prices have a level, the best of them, and their quantities. Everything is bounds-checked.

A price is a *rank*: the tick of an ask, the negated tick of a bid, so that the best level has the least. A bitmap of four floors tells over
2**26 ranks from `base` on which are taken: a bit of a floor says whether a word of the floor below has any, so that the next level is four
loads away. Quantities lie in a window of 2**18 ranks around the best one, the others in a hash table of ranks; what lies outside the bitmap
lies in that table too. Tables grow by the caller's hand: a kernel that lacks room changes nothing and says so.

numba does not see that a kernel of another file changed: after a change here remove `__pycache__`.
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
MOST_TICK = 1 << 61
"""Beyond it a price has no rank."""
EMPTY = np.int64(-(2**63))
"""No rank: of a free slot of the table, and of the best level of an empty side."""
BASE, PLACE, BEST, TAKEN, FAR, OUTSIDE, FACTS = range(7)
"""Facts of a side: rank of the bitmap's first bit; of the window's first quantity; best; levels; levels in the table; those of them that
lie outside the bitmap; how many facts there are."""

_0, _1, _6, _63 = np.uint64(0), np.uint64(1), np.uint64(6), np.uint64(63)
_SPAN, _WINDOW, _RING = np.uint64(SPAN), np.uint64(WINDOW), np.uint64(WINDOW - 1)
_MOST_SPAN = np.uint64(2 * MOST_TICK)
_MIX = np.uint64(0x9E3779B97F4A7C15)


class SideArrays(NamedTuple):
    """What one side is made of.

    Attributes:
        floor0: A bit for each rank from `BASE` on.
        floor1: A bit for each word of `floor0`; so on upwards.
        floor2: …
        floor3: …
        window: Quantities of the ranks from `PLACE` on, in lots, each at its rank modulo the window; 0 where there is no level.
        keys: Ranks in the table, `EMPTY` where a slot is free; a power of two of them.
        values: Their quantities.
        facts: `BASE`, `PLACE`, `BEST`, `TAKEN`, `FAR`, `OUTSIDE`.
    """

    floor0: Words
    floor1: Words
    floor2: Words
    floor3: Words
    window: Ints
    keys: Ints
    values: Ints
    facts: Ints


def new_side(slots: int) -> SideArrays:
    """An empty side whose table has so many slots, a power of two."""
    floor0, floor1, floor2, floor3 = (np.zeros(SPAN >> (6 * floor), np.uint64) for floor in (1, 2, 3, 4))
    facts = np.zeros(FACTS, np.int64)
    facts[BEST] = EMPTY
    window, keys, values = np.zeros(WINDOW, np.int64), np.full(slots, EMPTY), np.zeros(slots, np.int64)
    return SideArrays(floor0, floor1, floor2, floor3, window, keys, values, facts)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def after(side: SideArrays, place: np.uint64) -> np.uint64:  # noqa: C901, PLR0911 - a floor after the other
    """The first taken place at or behind `place`, `SPAN` if there is none; a place is a rank less `BASE`."""
    if place >= _SPAN:
        return _SPAN
    word = side.floor0[place >> _6] >> (place & _63)
    if word:
        return place + np.uint64(trailing_zeros(word))
    at = (place >> _6) + _1
    if at >= np.uint64(side.floor0.size):
        return _SPAN
    word = side.floor1[at >> _6] >> (at & _63)
    if word:
        at += trailing_zeros(word)
        return np.uint64((at << _6) + trailing_zeros(side.floor0[at]))
    at = (at >> _6) + _1
    if at >= np.uint64(side.floor1.size):
        return _SPAN
    word = side.floor2[at >> _6] >> (at & _63)
    if word:
        at += trailing_zeros(word)
        at = (at << _6) + trailing_zeros(side.floor1[at])
        return np.uint64((at << _6) + trailing_zeros(side.floor0[at]))
    at = (at >> _6) + _1
    if at >= np.uint64(side.floor2.size):
        return _SPAN
    top = at >> _6
    word = (side.floor3[top] >> (at & _63)) << (at & _63)
    while not word:
        top += _1
        if top >= np.uint64(side.floor3.size):
            return _SPAN
        word = side.floor3[top]
    at = (top << _6) + trailing_zeros(word)
    at = (at << _6) + trailing_zeros(side.floor2[at])
    at = (at << _6) + trailing_zeros(side.floor1[at])
    return np.uint64((at << _6) + trailing_zeros(side.floor0[at]))


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def raise_floors(side: SideArrays, word: np.uint64) -> None:
    """A word of the lowest floor is no longer empty."""
    at = word
    before = side.floor1[at >> _6]
    side.floor1[at >> _6] = before | (_1 << (at & _63))
    if before:
        return
    at >>= _6
    before = side.floor2[at >> _6]
    side.floor2[at >> _6] = before | (_1 << (at & _63))
    if before:
        return
    at >>= _6
    side.floor3[at >> _6] |= _1 << (at & _63)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def lower_floors(side: SideArrays, word: np.uint64) -> None:
    """A word of the lowest floor has become empty."""
    at = word
    side.floor1[at >> _6] &= ~(_1 << (at & _63))
    if side.floor1[at >> _6]:
        return
    at >>= _6
    side.floor2[at >> _6] &= ~(_1 << (at & _63))
    if side.floor2[at >> _6]:
        return
    at >>= _6
    side.floor3[at >> _6] &= ~(_1 << (at & _63))


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def mark(side: SideArrays, place: np.uint64) -> None:
    """A place of the bitmap is taken."""
    word = side.floor0[place >> _6]
    side.floor0[place >> _6] = word | (_1 << (place & _63))
    if not word:
        raise_floors(side, place >> _6)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def unmark(side: SideArrays, place: np.uint64) -> None:
    """A place of the bitmap is free."""
    word = side.floor0[place >> _6] & ~(_1 << (place & _63))
    side.floor0[place >> _6] = word
    if not word:
        lower_floors(side, place >> _6)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def slot_of(side: SideArrays, rank: np.int64) -> np.uint64:
    """Where a rank stands in the table, or the free slot where it would; at least one slot is free."""
    most = np.uint64(side.keys.size - 1)
    at = (np.uint64(rank) * _MIX) >> np.uint64(20) & most
    while side.keys[at] != rank and side.keys[at] != EMPTY:
        at = (at + _1) & most
    return at


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def free(side: SideArrays, at: np.uint64) -> None:
    """Free a slot, and move up what it kept from its own."""
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
def has_rank(tick: np.int64) -> bool:
    """Whether a price can be a rank."""
    return bool(np.uint64(tick + MOST_TICK) <= _MOST_SPAN)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def lacks_room(side: SideArrays) -> bool:
    """Whether the table may take no further level; more than half of its slots are never taken."""
    return bool(2 * (side.facts[FAR] + 1) > side.keys.size)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def quantity(side: SideArrays, rank: np.int64) -> np.int64:
    """Lots at a rank; 0 where there is no level."""
    if np.uint64(rank - side.facts[PLACE]) < _WINDOW:
        return np.int64(side.window[np.uint64(rank) & _RING])
    slot = slot_of(side, rank)
    return np.int64(side.values[slot]) if side.keys[slot] == rank else np.int64(0)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def set_level(side: SideArrays, rank: np.int64, lots: np.int64) -> bool:  # noqa: C901, PLR0912 - a call costs more than a level
    """Set a level; no lots remove it. False where the table lacks room: nothing is changed then."""
    facts = side.facts
    if facts[TAKEN] == 0:
        facts[BASE], facts[PLACE] = rank - SPAN // 2, rank - WINDOW // 2
    if np.uint64(rank - facts[PLACE]) < _WINDOW:
        before = side.window[np.uint64(rank) & _RING]
        side.window[np.uint64(rank) & _RING] = lots
    else:
        slot = slot_of(side, rank)
        known = side.keys[slot] == rank
        if not known and lots and lacks_room(side):
            return False
        before = side.values[slot] if known else np.int64(0)
        place = np.uint64(rank - facts[BASE])
        if lots:
            side.keys[slot], side.values[slot] = rank, lots
            facts[FAR] += not known
            facts[OUTSIDE] += not known and place >= _SPAN
        elif known:
            free(side, slot)
            facts[FAR] -= 1
            facts[OUTSIDE] -= place >= _SPAN
    if (before != 0) != (lots != 0):
        place = np.uint64(rank - facts[BASE])
        if place < _SPAN:
            if lots:
                mark(side, place)
            else:
                unmark(side, place)
        facts[TAKEN] += 1 if lots else -1
    if lots:
        if rank < facts[BEST] or facts[BEST] == EMPTY:
            facts[BEST] = rank
    elif rank == facts[BEST]:
        facts[BEST] = next_rank(side, rank)
    return True


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def next_rank(side: SideArrays, rank: np.int64) -> np.int64:
    """The rank of the first level at or behind a rank; `EMPTY` if there is none."""
    if side.facts[TAKEN] == 0:
        return EMPTY
    place = rank - side.facts[BASE]
    found = after(side, np.uint64(max(place, 0)))
    best = side.facts[BASE] + np.int64(found) if found < _SPAN else EMPTY
    if side.facts[OUTSIDE]:
        for slot in range(side.keys.size):
            key = side.keys[slot]
            if key != EMPTY and key >= rank and (best == EMPTY or key < best):
                best = key
    return best
