"""Limits of memory by rows: small work runs in parallel, large work alone."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from capture_pipeline.binance.archive.klines.parser import parse_csv
from capture_pipeline.binance.periods import Interval
from capture_pipeline.klines.quality import row_rules
from capture_pipeline.klines.quality.row_rules import evaluate_row_gates, is_valid
from capture_pipeline.memory import RowBudget

START_US = 1_735_689_600_000_000


@pytest.mark.parametrize(("rows", "at_once"), [(1, 4), (30, 3), (60, 1), (1000, 1)])
def test_as_much_work_runs_at_the_same_time_as_fits(rows: int, at_once: int) -> None:
    """Work larger than the budget is not rejected."""
    budget, lock, barrier = RowBudget(100), threading.Lock(), threading.Barrier(at_once)
    running, most = 0, 0

    def work(_: int) -> None:
        nonlocal running, most
        with budget.reserve(rows):
            with lock:
                running += 1
                most = max(most, running)
            barrier.wait(10)
            with lock:
                running -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4 * at_once)))
    assert most == at_once


def test_a_failure_gives_its_rows_back() -> None:
    """The next work does not wait for ever."""
    budget = RowBudget(10)
    with pytest.raises(ValueError, match="broken"), budget.reserve(10):
        raise ValueError("broken")
    with budget.reserve(10):
        pass


def seconds(count: int) -> pl.DataFrame:
    """Return bars of one second."""
    return parse_csv(_lines(count), "f").with_columns(source=pl.lit("monthly"))


def _lines(count: int) -> bytes:
    opens = range(START_US, START_US + count * 1_000_000, 1_000_000)
    return "\n".join(f"{at},1.5,1.5,1.5,1.5,1,{at + 999_999},1.5,1,1,1.5,0" for at in opens).encode()


@pytest.mark.parametrize("swapped", [None, 0, 98, 99, 100, 198])
def test_rows_are_judged_in_slices_as_they_are_judged_whole(
    swapped: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows in the wrong order are found inside a slice and across the edge of two slices."""
    bars = seconds(200)
    if swapped is not None:
        order = list(range(200))
        order[swapped : swapped + 2] = reversed(order[swapped : swapped + 2])
        bars = bars[order]
    whole = {
        result.spec.name: result.passed for result in evaluate_row_gates(bars, Interval.S1, 2 * START_US, 1)
    }
    monkeypatch.setattr(row_rules, "_ROWS_AT_ONCE", 100)
    assert is_valid(bars, Interval.S1, 2 * START_US) == all(whole.values()) == (swapped is None)


def test_a_parsed_frame_does_not_keep_what_it_was_parsed_from() -> None:
    """The integer columns are copies. A view would keep the parser's whole array, 96 bytes a row."""
    content = _lines(20_000)
    parse_csv(content, "f")
    tracemalloc.start()
    try:
        frame = parse_csv(content, "f")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < frame.height * 170
