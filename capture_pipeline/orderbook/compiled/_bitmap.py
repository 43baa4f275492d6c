"""Bitmap of the ranks that have a level: four layers, so that the next level is found with four loads.

    bitmap_l3   4 words       [ …1… ]                            a bit for each word of l2
                                 │
    bitmap_l2   2**8 words    [ 0 0 …1… 0 0 ]                    a bit for each word of l1
                                     │
    bitmap_l1   2**14 words   [ 0 0 0 …1… 0 0 0 ]                a bit for each word of l0
                                       │
    bitmap_l0   2**20 words   [ 0 0 0 0 …1011… 0 0 0 0 ]         a bit for each rank: bit n is rank BASE + n

A word has 64 bits. A bit of an upper layer is set if its word of the layer below is not 0. A search goes up
until a layer has a later bit in the same word, and then down along the lowest set bits.
"""

from __future__ import annotations

import numpy as np

from capture_pipeline.orderbook.compiled._arrays import SPAN, SideArrays
from capture_pipeline.orderbook.compiled._jit import kernel, trailing_zeros

_1, _6, _63 = np.uint64(1), np.uint64(6), np.uint64(63)
_SPAN = np.uint64(SPAN)


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
