"""The row gates: each fails only on its fault, and an error in a gate is not reported as bad data."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from capture_pipeline.binance.periods import DAY_US, Interval
from capture_pipeline.checks.klines import SCHEMA
from capture_pipeline.checks.model import Bound, CheckSpec, Severity, Threshold, Verdict
from capture_pipeline.klines.quality.gate_results import GateResult, find_worst_level
from capture_pipeline.klines.quality.row_rules import evaluate_row_gates, is_valid
from capture_pipeline.settings.levels import Level
from capture_pipeline.tables.klines import bars as bar_table
from capture_pipeline.tables.table import Rule
from capture_pipeline_tests.support.frames import START_US, bars, changed

NOW_US = START_US + DAY_US


def list_failed_gates(frame: pl.DataFrame, now_us: int = NOW_US) -> set[str]:
    return {
        result.spec.name for result in evaluate_row_gates(frame, Interval.M1, now_us, 5) if not result.passed
    }


FAULTS: list[tuple[set[str], pl.DataFrame]] = [
    ({"schema"}, bars(9).with_columns(pl.col("close").cast(pl.Float64))),
    ({"schema"}, bars(9).drop("trades")),
    ({"schema"}, bars(9).with_columns(pl.lit(1).alias("extra"))),
    ({"schema"}, changed(bars(9), 3, "close", pl.lit(None))),
    ({"open_times_increase"}, pl.concat([bars(9).tail(4), bars(9).head(5)])),
    ({"open_times_increase", "open_times_unique"}, pl.concat([bars(9).head(5), bars(9).tail(5)])),
    (
        {"open_times_on_grid", "close_time_fits"},
        changed(bars(9), 3, "open_time_us", pl.col("open_time_us") + 1_000_000),
    ),
    ({"high_is_highest"}, changed(bars(9), 3, "high", pl.max_horizontal("open", "close") - 0.01)),
    ({"low_is_lowest"}, changed(bars(9), 3, "low", pl.min_horizontal("open", "close") + 0.01)),
    ({"prices_positive"}, changed(bars(9), 3, "low", pl.lit(0))),
    ({"prices_positive"}, changed(bars(9), 3, "low", pl.lit(-1))),
    ({"volumes_not_negative", "taker_within_total"}, changed(bars(9), 3, "volume", pl.lit(-1))),
    ({"volumes_not_negative"}, changed(bars(9), 3, "taker_buy_volume", pl.lit(-1))),
    ({"volumes_not_negative"}, changed(bars(9), 3, "trades", pl.lit(-1))),
    ({"taker_within_total"}, changed(bars(9), 3, "taker_buy_volume", pl.col("volume") + 1)),
    ({"taker_within_total"}, changed(bars(9), 3, "taker_buy_quote_volume", pl.col("quote_volume") + 1)),
    ({"close_time_fits"}, changed(bars(9), 3, "close_time_us", pl.col("close_time_us") - 999)),
    ({"close_time_fits"}, changed(bars(9), 3, "time_unit", pl.lit("ms"))),
]


@pytest.mark.parametrize(
    ("names", "frame"),
    FAULTS,
    ids=[f"{index}-{'-'.join(sorted(names))}" for index, (names, _) in enumerate(FAULTS)],
)
def test_each_gate_fails_on_its_fault(names: set[str], frame: pl.DataFrame) -> None:
    """One fault fails one gate, with the failing rows."""
    found = list_failed_gates(frame)
    if names == {"schema"}:
        assert "schema" in found
    else:
        assert found == names
    assert not is_valid(frame, Interval.M1, NOW_US)


def test_sound_bars_pass_every_gate() -> None:
    """The same holds for milliseconds, and for no bars."""
    assert list_failed_gates(bars(50)) == set()
    assert list_failed_gates(bars(50).clear()) == set()
    milliseconds = bars(5).with_columns(pl.lit("ms").alias("time_unit"), pl.col("close_time_us") - 999)
    assert list_failed_gates(milliseconds) == set()
    flat = bars(5).with_columns(
        high=pl.max_horizontal("open", "close"),
        low=pl.min_horizontal("open", "close"),
        taker_buy_volume="volume",
    )
    assert list_failed_gates(flat) == set()


def test_a_candle_that_has_not_closed_is_in_the_future() -> None:
    """The end of a kline must be before the present."""
    last = bars(9)["close_time_us"][-1]
    assert list_failed_gates(bars(9), last) == {"none_in_future"}
    assert list_failed_gates(bars(9), last + 1) == set()


def test_failing_rows_are_shown_capped_and_counted() -> None:
    """Five of fifty failing rows are shown."""
    frame = bars(50).with_columns(high=(pl.col("low") - 1).cast(pl.Decimal(18, 8)))
    result = next(
        result
        for result in evaluate_row_gates(frame, Interval.M1, NOW_US, 5)
        if result.spec.name == "high_is_highest"
    )
    assert result.failing is not None
    assert (result.failing.height, result.failing_count) == (5, 50)
    assert "50 of 50 rows are irregular (50 high_not_highest)" in result.reason


def test_a_broken_gate_is_an_error_and_not_bad_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule about a missing column must not fail the data."""
    broken = [Rule("broken", "asks for a column that is not there", pl.col("no_such_column") > 0)]
    monkeypatch.setattr(bar_table, "rules", lambda *_: broken)
    with pytest.raises(RuntimeError, match="a gate is broken"):
        evaluate_row_gates(bars(3), Interval.M1, NOW_US, 5)


def test_the_environment_cannot_switch_the_gates_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pandera has switches in environment variables, which must not disable the gates."""
    monkeypatch.setenv("PANDERA_VALIDATION_ENABLED", "False")
    monkeypatch.setenv("PANDERA_VALIDATION_DEPTH", "SCHEMA_ONLY")
    from pandera import config  # noqa: PLC0415 - after the environment was set

    monkeypatch.setattr(config, "CONFIG", config._config_from_env_vars())  # type: ignore[no-untyped-call]
    assert list_failed_gates(changed(bars(9), 3, "low", pl.lit(0))) == {"prices_positive"}


def test_the_loudest_failure_sets_the_level() -> None:
    """Passed gates do not count."""
    results = [
        GateResult(SCHEMA, Verdict.PASS, level=Level.CRITICAL),
        GateResult(SCHEMA, Verdict.FAIL, level=Level.WARNING),
        GateResult(SCHEMA, Verdict.FAIL, level=Level.INFO),
    ]
    assert find_worst_level(results) is Level.WARNING
    assert find_worst_level(results[:1]) is Level.INFO


@pytest.mark.parametrize(
    ("bound", "below", "at", "above"),
    [
        (Bound.AT_LEAST, Verdict.FAIL, Verdict.PASS, Verdict.PASS),
        (Bound.AT_MOST, Verdict.PASS, Verdict.PASS, Verdict.FAIL),
        (Bound.BELOW, Verdict.PASS, Verdict.FAIL, Verdict.FAIL),
        (Bound.EXACTLY, Verdict.FAIL, Verdict.PASS, Verdict.FAIL),
    ],
)
def test_a_bound_is_met_or_missed_at_its_limit(
    bound: Bound, below: Verdict, at: Verdict, above: Verdict
) -> None:
    """A value that was not measured is unknown, and does not pass."""
    spec = CheckSpec("x", "X", threshold=Threshold(bound, 2, "s"))
    assert [spec.verdict(value) for value in (1, 2, 3)] == [below, at, above]
    assert spec.judge(None, "").verdict is Verdict.UNKNOWN
    assert not spec.judge(None, "").passed


def test_a_skipped_check_passes_and_a_warning_is_no_failure() -> None:
    """Only a failure of severity ERROR fails a command."""
    assert SCHEMA.skip("").passed
    assert SCHEMA.fail("").is_failure
    assert not replace(SCHEMA, severity=Severity.WARN).fail("").is_failure
