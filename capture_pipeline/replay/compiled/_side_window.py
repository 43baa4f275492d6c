"""A side of a book as a whole: its window moved after the best level, levels removed beyond a corridor, all of them listed or forgotten."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.replay.compiled._jit import kernel, making
from capture_pipeline.replay.compiled._side import (
    BASE,
    BEST,
    EMPTY,
    FAR,
    OUTSIDE,
    PLACE,
    SPAN,
    TAKEN,
    WINDOW,
    SideArrays,
    after,
    free,
    mark,
    next_rank,
    quantity,
    set_level,
    slot_of,
    unmark,
)

_SPAN, _WINDOW, _RING = np.uint64(SPAN), np.uint64(WINDOW), np.uint64(WINDOW - 1)
_QUARTER, _HALF = np.uint64(WINDOW // 4), np.uint64(WINDOW // 2)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def is_astray(side: SideArrays) -> bool:
    """Whether the best level has left the middle half of the window."""
    facts = side.facts
    return bool(facts[TAKEN] != 0 and np.uint64(facts[BEST] - facts[PLACE]) - _QUARTER >= _HALF)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def recentre(side: SideArrays) -> bool:
    """Move the window around the best level. False where the table could lack room for what leaves it: nothing is changed then."""
    facts = side.facts
    if 2 * (facts[TAKEN] + 1) > side.keys.size:
        return False
    place = facts[BEST] - WINDOW // 2
    if place < facts[BASE] or place + WINDOW > facts[BASE] + SPAN:
        _to_table(side, facts[PLACE] + WINDOW)
        _rebase(side, facts[BEST] - SPAN // 2)
    else:
        _to_table(side, place)
    facts[PLACE] = place
    slot = 0
    while slot < side.keys.size and facts[FAR]:
        rank = side.keys[slot]
        if rank != EMPTY and np.uint64(rank - place) < _WINDOW:
            side.window[np.uint64(rank) & _RING] = side.values[slot]
            free(side, np.uint64(slot))
            facts[FAR] -= 1
        else:
            slot += 1
    return True


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def _to_table(side: SideArrays, place: np.int64) -> None:
    """The levels that a window from `place` on would not hold go to the table."""
    facts = side.facts
    end = facts[PLACE] + WINDOW
    rank = next_rank(side, facts[PLACE])
    while rank != EMPTY and rank < end:
        if np.uint64(rank - place) >= _WINDOW:
            slot = slot_of(side, rank)
            side.keys[slot], side.values[slot] = rank, side.window[np.uint64(rank) & _RING]
            side.window[np.uint64(rank) & _RING] = 0
            facts[FAR] += 1
        rank = next_rank(side, rank + 1)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def _rebase(side: SideArrays, base: np.int64) -> None:
    """Begin the bitmap elsewhere; every level is in the table."""
    side.floor0[:] = 0
    side.floor1[:] = 0
    side.floor2[:] = 0
    side.floor3[:] = 0
    facts = side.facts
    facts[BASE], facts[OUTSIDE] = base, 0
    for slot in range(side.keys.size):
        rank = side.keys[slot]
        if rank == EMPTY:
            continue
        if np.uint64(rank - base) < _SPAN:
            mark(side, np.uint64(rank - base))
        else:
            facts[OUTSIDE] += 1


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def prune(side: SideArrays, furthest: np.int64) -> int:
    """Remove the levels of a higher rank; returns how many."""
    before = side.facts[TAKEN]
    rank = next_rank(side, furthest + 1)
    while rank != EMPTY:
        set_level(side, rank, np.int64(0))
        rank = next_rank(side, rank)
    return int(before - side.facts[TAKEN])


@making  # type: ignore[untyped-decorator, unused-ignore]
def listed(side: SideArrays, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The best levels, best first: (ranks, lots)."""
    count = min(most, side.facts[TAKEN])
    ranks, lots = np.empty(count, np.int64), np.empty(count, np.int64)
    rank = side.facts[BEST]
    for number in range(count):
        ranks[number], lots[number] = rank, quantity(side, rank)
        rank = next_rank(side, rank + 1)
    return ranks, lots


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def forget(side: SideArrays) -> None:
    """Remove every level."""
    facts = side.facts
    rank = next_rank(side, facts[PLACE])
    while rank != EMPTY and np.uint64(rank - facts[PLACE]) < _WINDOW:
        side.window[np.uint64(rank) & _RING] = 0
        rank = next_rank(side, rank + 1)
    place = after(side, np.uint64(0))
    while place < _SPAN:
        unmark(side, place)
        place = after(side, place)
    if facts[FAR]:
        side.keys[:] = EMPTY
    facts[TAKEN] = facts[FAR] = facts[OUTSIDE] = 0
    facts[BEST] = EMPTY


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def load(side: SideArrays, ranks: NDArray[np.int64], lots: NDArray[np.int64], first: int) -> int:
    """Set levels from `first` on; returns the one that the table has no room for, or how many there are."""
    for number in range(first, ranks.size):
        if not set_level(side, ranks[number], lots[number]) or (is_astray(side) and not recentre(side)):
            return number
    return int(ranks.size)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def _rehash(side: SideArrays, keys: NDArray[np.int64], values: NDArray[np.int64]) -> None:
    for slot in range(keys.size):
        if keys[slot] != EMPTY:
            found = slot_of(side, keys[slot])
            side.keys[found], side.values[found] = keys[slot], values[slot]


def widened(side: SideArrays, slots: int) -> SideArrays:
    """The same side with a table of so many slots, a power of two."""
    wider = side._replace(keys=np.full(slots, EMPTY), values=np.zeros(slots, np.int64))
    _rehash(wider, side.keys, side.values)
    return wider
