"""Absence, proven: which candles REST has been seen without, how often and how far apart."""

from __future__ import annotations

from collections.abc import Iterable

from capture_pipeline.binance.periods import MINUTE_US
from capture_pipeline.klines.quality.ranges import Ranges, intersect, subtract, union
from capture_pipeline.lake.manifests import RestPage
from capture_pipeline.settings.models import Gaps


def find_absent(page: RestPage) -> Ranges:
    """The ranges that this answer shows to have no candle, up to its own time."""
    end = min(page.answered_end_us, page.asked_end_us, page.server_time_us)
    return subtract([(page.asked_start_us, end)], page.present)


def find_nonexistent(pages: Iterable[RestPage], gaps: Gaps) -> Ranges:
    """Ranges seen without a candle often enough and far enough apart.

    The k-th sighting of a range counts only if it comes at least `sighting_minutes` after the one counted before, by the time each
    request was made: a run reads the time once, and may ask much later.
    """
    ordered = sorted(pages, key=lambda page: page.asked_at_us)
    apart = gaps.sighting_minutes * MINUTE_US
    counted: list[tuple[int, Ranges, int]] = []
    verified: Ranges = []
    for page in ordered:
        fresh: list[tuple[int, Ranges, int]] = [(1, find_absent(page), page.asked_at_us)]
        for count, ranges, at in counted:
            if page.asked_at_us - at >= apart:
                again = intersect(ranges, find_absent(page))
                if again:
                    fresh.append((count + 1, again, page.asked_at_us))
        verified = union(verified, *(ranges for count, ranges, _ in fresh if count >= gaps.sightings))
        counted += [entry for entry in fresh if entry[1] and entry[0] < gaps.sightings]
    return verified


def find_recently_absent(pages: Iterable[RestPage], gaps: Gaps, now_us: int) -> Ranges:
    """Ranges seen without a candle so short a while ago that asking now would prove nothing.

    Within a run the present is when the run began, so an answer may lie after it and still be of this run.
    """
    apart = gaps.sighting_minutes * MINUTE_US
    return union(
        *(
            find_absent(page)
            for page in pages
            if page.server_time_us - apart < now_us < page.asked_at_us + apart
        )
    )


def count_attempts(pages: Iterable[RestPage], start_us: int, end_us: int) -> int:
    """How many answers showed that nothing lies in `[start_us, end_us)`."""
    return sum(intersect(find_absent(page), [(start_us, end_us)]) == [(start_us, end_us)] for page in pages)
