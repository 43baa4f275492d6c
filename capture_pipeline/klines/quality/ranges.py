"""Operations on sets of times: sorted, disjoint, half-open ranges `[start, end)`, int64 microseconds UTC.

Gaps, coverage and ranges to request are such sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.periods import TimeRange

Ranges = list[TimeRange]


def union(*sets: Iterable[Sequence[int]]) -> Ranges:
    """Return the times that are in at least one set; adjacent ranges are joined, empty ones are removed."""
    merged: Ranges = []
    for start, end in sorted((each[0], each[1]) for ranges in sets for each in ranges):
        if end <= start:
            continue
        if merged and start <= merged[-1].end_us:
            merged[-1] = TimeRange(merged[-1].start_us, max(end, merged[-1].end_us))
        else:
            merged.append(TimeRange(start, end))
    return merged


def intersect(left: Iterable[Sequence[int]], right: Iterable[Sequence[int]]) -> Ranges:
    """Return the times that are in both sets."""
    a, b, i, j = union(left), union(right), 0, 0
    found: Ranges = []
    while i < len(a) and j < len(b):
        start, end = max(a[i].start_us, b[j].start_us), min(a[i].end_us, b[j].end_us)
        if start < end:
            found.append(TimeRange(start, end))
        if a[i].end_us < b[j].end_us:
            i += 1
        else:
            j += 1
    return found


def subtract(left: Iterable[Sequence[int]], right: Iterable[Sequence[int]]) -> Ranges:
    """Return the times that are in `left` and not in `right`."""
    rest: Ranges = []
    removed = union(right)
    at = 0
    for start, end in union(left):
        while at < len(removed) and removed[at].end_us <= start:
            at += 1
        cursor, look = start, at
        while look < len(removed) and removed[look].start_us < end:
            if removed[look].start_us > cursor:
                rest.append(TimeRange(cursor, removed[look].start_us))
            cursor = max(cursor, removed[look].end_us)
            look += 1
        if cursor < end:
            rest.append(TimeRange(cursor, end))
    return rest


def sum_lengths(ranges: Iterable[Sequence[int]]) -> int:
    """Return the number of microseconds in the union of the ranges."""
    return sum(each.length_us for each in union(ranges))


def find_whole_steps(ranges: Iterable[Sequence[int]], step_us: int) -> Ranges:
    """Return the steps of the grid that lie completely inside the ranges."""
    return union((-(-start // step_us) * step_us, end // step_us * step_us) for start, end in union(ranges))


def find_touched_steps(ranges: Iterable[Sequence[int]], step_us: int) -> Ranges:
    """Return the steps of the grid that overlap the ranges."""
    return union((start // step_us * step_us, -(-end // step_us) * step_us) for start, end in union(ranges))


def find_missing(opens_us: NDArray[np.int64], step_us: int, within: TimeRange) -> Ranges:
    """Find the ranges of `within` whose klines are not among `opens_us`.

    Args:
        opens_us: Open times in any order; duplicates and times off the grid are ignored.
        step_us: Interval of the klines.
        within: Start and end.
    """
    return subtract([within], find_present(opens_us, step_us, within))


def find_present(opens_us: NDArray[np.int64], step_us: int, within: TimeRange) -> Ranges:
    """Find the ranges of `within` whose klines are among `opens_us`; see `find_missing`.

    A kline is present if `opens_us` contains its open time on the grid. Requests, gap ledger and coverage all
    use this function.
    """
    chosen = opens_us[(opens_us >= within.start_us) & (opens_us < within.end_us) & (opens_us % step_us == 0)]
    if not chosen.size:
        return []
    ordered = chosen if (np.diff(chosen) > 0).all() else np.unique(chosen)
    breaks = np.flatnonzero(np.diff(ordered) != step_us)
    starts = ordered[np.concatenate(([0], breaks + 1))]
    ends = ordered[np.concatenate((breaks, [ordered.size - 1]))] + step_us
    return [TimeRange(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def batch_ranges(ranges: Ranges, max_us: int) -> Ranges:
    """Join neighbouring ranges into spans of at most `max_us`, so that one request covers several ranges.

    A range longer than `max_us` is a span of its own.
    """
    spans: Ranges = []
    for start, end in ranges:
        if spans and end - spans[-1].start_us <= max_us:
            spans[-1] = TimeRange(spans[-1].start_us, end)
        else:
            spans.append(TimeRange(start, end))
    return spans
