"""Tests of the bitmap of a side against a sorted list, with guard words after each array."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from capture_pipeline.orderbook.compiled._arrays import SPAN, SideArrays, new_side
from capture_pipeline.orderbook.compiled._bitmap import clear_bit, next_occupied, set_bit

GUARD = 1 << 13
GUARD_WORD = np.uint64(2)
"""Guard word with the second bit set. The first bit after a layer is `SPAN`, which means no level."""
FLOORS = ("bitmap_l0", "bitmap_l1", "bitmap_l2", "bitmap_l3")
EDGES = [SPAN >> shift for shift in (0, 1, 2)] + [1 << bits for bits in (6, 12, 18, 24)]
PROGRESS_SIZE = st.builds(
    lambda edge, off: min(SPAN - 1, max(0, edge + off)),
    st.sampled_from([0, *EDGES, *(SPAN - edge for edge in EDGES)]),
    st.integers(-70, 70),
)


class GuardedSide:
    """Side with guard words after its layers, where a read past a layer finds a level that does not exist."""

    def __init__(self) -> None:
        side = new_side(4)
        self.wholes = [np.full(getattr(side, name).size + GUARD, GUARD_WORD) for name in FLOORS]
        floors: list[NDArray[np.uint64]] = [whole[:-GUARD] for whole in self.wholes]
        for floor in floors:
            floor[:] = 0
        self.arrays: SideArrays = side._replace(
            bitmap_l0=floors[0], bitmap_l1=floors[1], bitmap_l2=floors[2], bitmap_l3=floors[3]
        )

    def first(self, place: int) -> int:
        """Return the first set bit from a bit on."""
        return int(next_occupied(self.arrays, np.uint64(place)))

    def is_unharmed(self) -> bool:
        """Return True if no guard word was changed."""
        return all((whole[-GUARD:] == GUARD_WORD).all() for whole in self.wholes)


@pytest.fixture(scope="module")
def guarded() -> GuardedSide:
    return GuardedSide()


@given(
    st.lists(st.tuples(st.booleans(), PROGRESS_SIZE), max_size=40),
    st.lists(PROGRESS_SIZE, min_size=1, max_size=40),
)
@settings(max_examples=200)
def test_next_place_is_that_of_a_sorted_list(
    guarded: GuardedSide, changes: list[tuple[bool, int]], asked: list[int]
) -> None:
    """Test all boundaries of all layers, from an empty bitmap to one with bits at both ends."""
    taken: set[int] = set()
    for is_taken, place in changes:
        if is_taken or not taken:
            set_bit(guarded.arrays, np.uint64(place))
            taken.add(place)
        else:
            nearest = min((abs(one - place), one) for one in taken)[1]
            clear_bit(guarded.arrays, np.uint64(nearest))
            taken.remove(nearest)
    ordered = sorted(taken)
    try:
        for place in [*asked, 0, SPAN - 1]:
            at = bisect_left(ordered, place)
            assert guarded.first(place) == (ordered[at] if at < len(ordered) else SPAN)
        assert guarded.is_unharmed()
    finally:
        for place in taken:
            clear_bit(guarded.arrays, np.uint64(place))


@pytest.mark.parametrize("floor", [1, 2])
def test_a_removed_place_hides_no_other_of_its_word(floor: int, guarded: GuardedSide) -> None:
    """Two bits have adjacent words in a layer; the search starts so early that it uses the layer above."""
    removed = 2 << 6 * (floor + 1)
    kept = removed + (1 << 6 * floor)
    for place in (removed, kept):
        set_bit(guarded.arrays, np.uint64(place))
    clear_bit(guarded.arrays, np.uint64(removed))
    try:
        assert guarded.first(0) == kept
    finally:
        clear_bit(guarded.arrays, np.uint64(kept))


@pytest.mark.parametrize("floor", range(5))
def test_nothing_is_found_behind_the_last_place(floor: int, guarded: GuardedSide) -> None:
    """Search from the last word of each layer, from the word before it, and from the end."""
    words = 1 << 6 * floor
    for place in (SPAN - words, SPAN - words + 1, SPAN - 1, SPAN, SPAN + 1):
        assert guarded.first(max(0, place)) == SPAN
    for place in range(0, SPAN, SPAN // 4):  # the four words of the top floor
        assert guarded.first(place) == SPAN
