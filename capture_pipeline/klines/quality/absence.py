"""Proof of absence: ranges in which REST had no kline, with the number and the times of the sightings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from capture_pipeline.binance.periods import MINUTE_US
from capture_pipeline.klines.quality.ranges import Ranges, intersect, subtract, union
from capture_pipeline.lake.manifests import RestPage
from capture_pipeline.settings.models import Gaps


def find_absent(page: RestPage) -> Ranges:
    """Find the ranges in which an answer shows no kline, up to the time of the answer."""
    end = min(page.answered_end_us, page.asked_end_us, page.server_time_us)
    return subtract([(page.asked_start_us, end)], page.present)


class _Sighting(NamedTuple):
    """Ranges whose absence was observed `times` times, and the time of the last request."""

    times: int
    ranges: Ranges
    asked_at_us: int


def find_nonexistent(pages: Iterable[RestPage], gaps: Gaps) -> Ranges:
    """Find the ranges whose absence was observed `gaps.sightings` times.

    A sighting counts only if its request was sent at least `gaps.sighting_minutes` after the request of the
    last counted sighting. The times of the requests are used, because a run reads `now_us` once and may send
    a request much later.
    """
    ordered = sorted(pages, key=lambda page: page.asked_at_us)
    min_distance_us = gaps.sighting_minutes * MINUTE_US
    counted: list[_Sighting] = []
    verified: Ranges = []
    for page in ordered:
        new_entries = [_Sighting(1, find_absent(page), page.asked_at_us)]
        for count, ranges, at in counted:
            if page.asked_at_us - at >= min_distance_us:
                common = intersect(ranges, find_absent(page))
                if common:
                    new_entries.append(_Sighting(count + 1, common, page.asked_at_us))
        verified = union(verified, *(each.ranges for each in new_entries if each.times >= gaps.sightings))
        counted += [each for each in new_entries if each.ranges and each.times < gaps.sightings]
    return verified


def find_recently_absent(pages: Iterable[RestPage], gaps: Gaps, now_us: int) -> Ranges:
    """Find the ranges whose absence was observed less than `gaps.sighting_minutes` ago.

    A sighting by a request now would not count. `now_us` is the start of a run, so answers of the same run
    may be later.
    """
    min_distance_us = gaps.sighting_minutes * MINUTE_US
    return union(
        *(
            find_absent(page)
            for page in pages
            if page.server_time_us - min_distance_us < now_us < page.asked_at_us + min_distance_us
        )
    )


def count_attempts(pages: Iterable[RestPage], start_us: int, end_us: int) -> int:
    """Count the answers that show no kline in `[start_us, end_us)`."""
    return sum(intersect(find_absent(page), [(start_us, end_us)]) == [(start_us, end_us)] for page in pages)
