"""Counts of a track for the ids of one stream, and the ratios that follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.sessions.continuity import Track, compute_gap_ratios


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 4)), min_size=1, max_size=30))
def test_track_counts_what_a_set_of_ids_says(messages: list[tuple[int, int]]) -> None:
    """Each message covers ids `first..first + width`; ids that come late stay lost."""
    track, seen = Track(), set[int]()
    lost = gaps = 0
    for first, width in messages:
        last = first + width
        newest = max(seen, default=first - 1)
        missing = max(0, first - newest - 1)
        assert track.count(first, last) == missing
        lost, gaps = lost + missing, gaps + (missing > 0)
        if last > newest:
            seen |= set(range(first, last + 1))
    assert (track.messages, track.lost, track.gaps, track.last) == (len(messages), lost, gaps, max(seen))


@pytest.mark.parametrize(
    ("first", "last", "counts"),
    [
        (11, 12, (0, 0, 0, 0)),
        (12, 12, (1, 1, 0, 0)),
        (21, 30, (1, 10, 0, 0)),
        (9, 10, (0, 0, 1, 0)),
        (10, 12, (0, 0, 0, 1)),
    ],
)
def test_message_continues_or_is_counted(first: int, last: int, counts: tuple[int, int, int, int]) -> None:
    """The last message has the ids 5 to 10."""
    track = Track()
    track.count(5, 10)
    track.count(first, last)
    assert (track.gaps, track.lost, track.duplicates, track.overlaps) == counts
    assert track.last == max(10, last)


def test_ratios_of_two_streams() -> None:
    """One of ten trades and five of twenty ids of diffs are lost."""
    trades, diffs = Track(), Track()
    for number in (1, 2, 3, 4, 5, 6, 7, 9, 10):
        trades.count(number, number)
    for first in (1, 6, 16):
        diffs.count(first, first + 4)
    ratios = compute_gap_ratios([trades, diffs])
    assert (ratios.lost_ids, ratios.lost_events, ratios.discontinuities) == (6 / 30, 2 / 14, 2 / 12)
    assert compute_gap_ratios([]) == compute_gap_ratios([Track()])
