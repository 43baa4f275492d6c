"""Lengths of klines. A table is rejected if most of its rows have another interval."""

from __future__ import annotations

from collections import Counter

import polars as pl

from capture_pipeline.binance.archive.klines.columns import REMEDY
from capture_pipeline.binance.periods import DAY_US, Interval
from capture_pipeline.errors import MalformedDataError

_LENGTHS = {
    length: name
    for name, length in (*((str(each), each.us) for each in Interval), ("3d", 3 * DAY_US), ("1w", 7 * DAY_US))
}
_MIN_SHORTER_ROWS = 2
"""Minimum number of rows of a shorter interval in a rejected file: a halt may cut one kline to any length."""


def count_lengths(rows: pl.DataFrame, interval: Interval) -> Counter[int]:
    """Count klines by their length in microseconds.

    Args:
        rows: A frame of `KLINE_SCHEMA`.
        interval: The most frequent length.
    """
    length = (
        pl.col("close_time_us")
        - pl.col("open_time_us")
        + pl.when(pl.col("time_unit") == "ms").then(1000).otherwise(1)
    )
    lengths = rows.select(length.alias("length"))["length"]
    if (lengths == interval.us).all():  # this takes a hundredth of the time of counting
        return Counter({interval.us: rows.height})
    return Counter(dict(lengths.value_counts().iter_rows()))


def reject_other_interval(lengths: Counter[int], interval: Interval, where: str) -> None:
    """Reject a table whose klines have another interval.

    A kline may have any length, because a halt of the exchange ends it early. A table has another interval if
    more than half of its rows have the length of that interval. If that interval is shorter, at least two
    rows are needed, because a halt may cut one kline to any length.

    Args:
        lengths: Numbers of klines by length, of `count_lengths`.
        interval: The expected interval.
        where: Name of the table, for errors.

    Raises:
        MalformedDataError: The table has another interval.
    """
    total = lengths.total()
    if not total or lengths[interval.us] * 2 >= total:
        return
    ((usual, count),) = lengths.most_common(1)
    enough = usual > interval.us or count >= _MIN_SHORTER_ROWS
    if usual in _LENGTHS and usual != interval.us and count * 2 > total and enough:
        what = f"contains klines of {_LENGTHS[usual]}, not of {interval}: {count:,} of {total:,} rows"
        raise MalformedDataError(what, where=where, remedy=REMEDY)
