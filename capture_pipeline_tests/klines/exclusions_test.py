"""Rows that are not bars: separation before the merge, causes, and replacement by other files."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.periods import MINUTE_US, TimeRange
from capture_pipeline.klines.merge import Part, merge, separate_rows
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS
from capture_pipeline_tests.support.frames import START_US, klines

SHIFT = 14_789_000
TIMES = [pl.col(name) + SHIFT for name in ("open_time_us", "close_time_us")]


def test_other_sources_fill_the_place_of_rows_off_the_grid() -> None:
    """Half of the monthly file is shifted; a daily file has the candles; REST repeats the shifted rows."""
    shifted = klines(6).slice(3).with_columns(TIMES)
    monthly = Part("monthly", "month", pl.concat([klines(6).head(3), shifted]))
    separated = separate_rows(
        [Part("rest", "answer", shifted), Part("daily", "day", klines(6)), monthly], MINUTE_US
    )
    bars = merge(separated.parts).bars
    assert bars.select("open_time_us", "source").rows() == [
        (START_US + index * MINUTE_US, "monthly" if index < 3 else "daily") for index in range(6)
    ]
    assert separated.exclusions.schema == pl.Schema(EXCLUSIONS.schema)
    assert separated.exclusions.select("open_time_us", "source", "cause", "shift_us", "file").rows() == [
        (START_US + index * MINUTE_US + SHIFT, "monthly", "off_grid", SHIFT, "month") for index in range(3, 6)
    ]


def test_rows_off_the_grid_that_disagree_are_both_kept() -> None:
    """Each version of a row is kept."""
    shifted = klines(1).with_columns(TIMES)
    other = shifted.with_columns(volume=(pl.col("volume") + 1).cast(shifted.schema["volume"]))
    assert separate_rows([Part("monthly", "a", shifted), Part("rest", "b", other)], MINUTE_US).exclusions[
        "file"
    ].to_list() == ["a", "b"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["monthly", "daily", "rest"]), st.integers(-90, 90), st.integers(0, 2)),
        max_size=4,
    )
)
def test_every_row_is_a_bar_candidate_or_excluded(files: list[tuple[str, int, int]]) -> None:
    """For files that are shifted by seconds and may extend beyond their period."""
    parts = [
        Part(
            source,
            str(index),
            klines(3, START_US + seconds * 1_000_000),
            TimeRange(START_US, START_US + length * MINUTE_US),
        )
        for index, (source, seconds, length) in enumerate(files)
    ]
    separated = separate_rows(parts, MINUTE_US)
    kept = [(part.file, at) for part in separated.parts for at in part.rows["open_time_us"].to_list()]
    every = {at for part in parts for at in part.rows["open_time_us"].to_list()}
    assert {at for _, at in kept} | set(separated.exclusions["open_time_us"]) == every
    bounds = {part.file: part.bounds or (0, 0) for part in parts}
    assert all(at % MINUTE_US == 0 and bounds[file][0] <= at < bounds[file][1] for file, at in kept)
