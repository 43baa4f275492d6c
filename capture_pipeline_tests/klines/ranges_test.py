"""Operations on ranges, compared with sets of minutes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.periods import TimeRange
from capture_pipeline.klines.quality.ranges import (
    Ranges,
    batch_ranges,
    find_missing,
    find_present,
    intersect,
    subtract,
    sum_lengths,
    union,
)

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


def members(given_ranges: Ranges) -> set[int]:
    return {minute for start, end in given_ranges for minute in range(start, end)}


def is_canonical(result: Ranges) -> bool:
    return all(start < end for start, end in result) and all(a[1] < b[0] for a, b in pairwise(result))


@given(ranges, ranges)
def test_ranges_behave_as_the_sets_they_stand_for(left: Ranges, right: Ranges) -> None:
    """Results contain the same minutes as the sets, and are sorted and disjoint."""
    cases = [
        (union(left, right), members(left) | members(right)),
        (intersect(left, right), members(left) & members(right)),
        (subtract(left, right), members(left) - members(right)),
    ]
    for result, expected in cases:
        assert members(result) == expected
        assert is_canonical(result)
        assert sum_lengths(result) == len(expected)


@given(st.sets(st.integers(0, 30)), st.lists(st.integers(-50, 350), max_size=5))
def test_what_is_present_and_what_is_missing_make_the_whole(indices: set[int], noise: list[int]) -> None:
    """Repeated, unordered and unaligned open times, and those outside of the range, change nothing."""
    opens = np.array(
        [
            *(index * 10 for index in indices),
            *(index * 10 for index in indices),
            *(each for each in noise if each % 10),
        ],
        np.int64,
    )
    whole = TimeRange(0, 300)
    there, gone = find_present(opens, 10, whole), find_missing(opens, 10, whole)
    assert union(there, gone) == [(0, 300)]
    assert intersect(there, gone) == []
    assert sum_lengths(there) == 10 * len({index for index in indices if index < 30})


def test_small_holes_share_a_request_and_long_ones_stay_whole() -> None:
    """A span of several holes is never longer than a page."""
    ranges = union([(0, 1), (5, 6), (99, 100), (101, 102), (200, 900)])
    assert batch_ranges(ranges, 100) == [
        (0, 100),
        (101, 102),
        (200, 900),
    ]
