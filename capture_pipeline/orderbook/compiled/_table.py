"""Hash table of the levels outside the window, with open addressing and linear probing.

    slot      0       1       2       3       4       5       6       7
    keys    EMPTY    r1      r2      r3     EMPTY   EMPTY    r4     EMPTY      ranks
    values    0      q1      q2      q3       0       0      q4       0        quantities in lots
                      ▲       │
                      └───────┘   home of r2 is slot 1, which r1 took before: r2 is in the next free slot

A rank is searched from its home, a hash of the rank, to the first free slot. When a slot becomes free,
`remove_slot` moves later entries forward, so that no search ends too early. At most half of the slots are
taken; the number of slots is a power of two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.orderbook.compiled._arrays import EMPTY, IN_TABLE, SideArrays
from capture_pipeline.orderbook.compiled._jit import kernel

_1 = np.uint64(1)
_MIX = np.uint64(0x9E3779B97F4A7C15)


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
def is_table_full(side: SideArrays) -> bool:
    """Return True if another level would occupy more than half of the slots of the table."""
    return bool(2 * (side.stats[IN_TABLE] + 1) > side.keys.size)


@kernel  # type: ignore[untyped-decorator, unused-ignore]
def _rehash(side: SideArrays, keys: NDArray[np.int64], values: NDArray[np.int64]) -> None:
    for slot in range(keys.size):
        if keys[slot] != EMPTY:
            found = find_slot(side, keys[slot])
            side.keys[found], side.values[found] = keys[slot], values[slot]


def with_larger_table(side: SideArrays, slots: int) -> SideArrays:
    """Return the side with a table of `slots` slots, a power of two."""
    wider = side._replace(keys=np.full(slots, EMPTY), values=np.zeros(slots, np.int64))
    _rehash(wider, side.keys, side.values)
    return wider
