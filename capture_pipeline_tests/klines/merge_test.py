"""Merging of sources: priority, duplicates, conflicts, and independence of the order of the parts."""

from __future__ import annotations

import random
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.klines import merge as merging
from capture_pipeline.klines.merge import Part, merge
from capture_pipeline.tables.klines.bars import BARS
from capture_pipeline.tables.klines.conflicts import CONFLICTS
from capture_pipeline_tests.support.frames import changed, klines


def test_monthly_wins_over_daily_over_rest() -> None:
    """Each minute comes from the most trusted source that has it."""
    merged = merge(
        [Part("rest", "r", klines(10)), Part("daily", "d", klines(6)), Part("monthly", "m", klines(3))]
    )
    assert merged.bars["source"].to_list() == ["monthly"] * 3 + ["daily"] * 3 + ["rest"] * 4
    assert merged.bars["open_time_us"].is_sorted()
    assert merged.duplicates == 9
    assert merged.conflicts.is_empty()


def test_a_conflict_keeps_both_sides() -> None:
    """The trusted value is in the bars, the other one in the conflicts."""
    other = changed(changed(klines(5), 2, "high", pl.lit("999.5")), 2, "trades", pl.lit(77))
    merged = merge([Part("rest", "page", other), Part("monthly", "zip", klines(5))])
    assert merged.bars.drop("source").equals(klines(5))
    assert merged.conflicts.schema == pl.Schema(CONFLICTS.schema)
    at = klines(5)["open_time_us"][2]
    assert merged.conflicts.rows() == [
        (at, "high", "monthly", Decimal("105.5"), "zip", "rest", Decimal("999.5"), "page"),
        (at, "trades", "monthly", Decimal(2), "zip", "rest", Decimal(77), "page"),
    ]
    assert merged.duplicates == 4


def test_the_unit_alone_is_no_conflict() -> None:
    """REST sends milliseconds where the archive has microseconds."""
    milliseconds = klines(3).with_columns(pl.lit("ms").alias("time_unit"), pl.col("close_time_us") - 999)
    assert merge([Part("monthly", "m", klines(3)), Part("rest", "r", milliseconds)]).conflicts.is_empty()


def test_rows_doubled_or_out_of_order_within_one_file_are_put_right() -> None:
    """The archive has such files (#12, #191)."""
    rows = klines(20)
    shuffled = pl.concat([rows.tail(10), rows.head(15)])
    merged = merge([Part("monthly", "m", shuffled)])
    assert merged.bars.drop("source").equals(rows)
    assert merged.duplicates == 5


def test_nothing_gives_an_empty_table_of_the_right_columns() -> None:
    """A partition without any source is still a table."""
    merged = merge([])
    assert merged.bars.schema == pl.Schema(BARS.schema)
    assert merged.bars.is_empty()


sources = st.sampled_from(["monthly", "daily", "rest"])


@given(
    st.lists(st.tuples(sources, st.integers(0, 15), st.integers(1, 15)), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_merging_is_idempotent_complete_and_blind_to_order(
    spans: list[tuple[str, int, int]], chance: random.Random
) -> None:
    """Each minute of any part occurs once, in any order of the parts; a second merge changes nothing."""
    whole = klines(40)
    parts = [
        Part(source, f"{index}", whole.slice(start, count))
        for index, (source, start, count) in enumerate(spans)
    ]
    merged = merge(parts)
    expected = {open_us for part in parts for open_us in part.rows["open_time_us"]}
    assert merged.bars["open_time_us"].to_list() == sorted(expected)
    shuffled = parts.copy()
    chance.shuffle(shuffled)
    assert merge(shuffled).bars.equals(merged.bars)
    assert merge([*parts, *parts]).bars.equals(merged.bars)
    assert merged.duplicates == sum(part.rows.height for part in parts) - len(expected)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["monthly", "daily", "rest"]),
            st.lists(st.integers(0, 39), min_size=1, max_size=40),
        ),
        max_size=4,
    ),
    st.integers(1, 30),
)
def test_windows_are_merged_as_the_whole_is(drawn: list[tuple[str, list[int]]], at_once: int) -> None:
    """For windows of any length: duplicate rows, wrong order, and different values in one source."""
    rows = klines(40)
    odd = changed(rows, 7, "high", pl.lit("999.5"))
    parts = [
        Part(source, f"{source}{number}", (odd if number else rows)[chosen])
        for number, (source, chosen) in enumerate(drawn)
    ]
    whole = merge(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_ROWS_AT_ONCE", at_once)
        found = merge(parts)
    assert found.bars.equals(whole.bars)
    assert found.conflicts.equals(whole.conflicts)
    assert found.duplicates == whole.duplicates
