"""The coverage gates at, just above and just below each threshold."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from capture_pipeline.binance.periods import HOUR_US, Month, parse_time
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.quality.coverage_gates import _check_coverage, _check_freshness, _choose_level
from capture_pipeline.klines.quality.coverage_report import measure_coverage
from capture_pipeline.klines.quality.gate_results import GateResult
from capture_pipeline.lake.parquet import publish_table
from capture_pipeline.settings.levels import Level
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.settings.models import Gates
from capture_pipeline_tests.support.deployment import NO_SETTINGS, NOW, QUICK
from capture_pipeline_tests.support.frames import START_US, bars, changed

NOW_US = parse_time(NOW)


def deployment_of(root: Path, **environment: str) -> Deployment:
    return Deployment(
        load_settings(environ={**QUICK, "CAPTURE_STORAGE_ROOT": str(root), **environment}, path=NO_SETTINGS)
    )


def evaluate_gates(root: Path, **row: float) -> dict[str, GateResult]:
    """Return the gates of a month of 100,000 expected hours, from the values of its row."""
    deployment = deployment_of(root)
    counts: dict[str, Any] = dict.fromkeys(
        ("missing", "explained", "unexplained", "suspended", "unjudged", "filled", "longest_gap"), 0
    )
    known = {
        "expected": 100_000,
        "present": 100_000,
        "coverage_percent": 100.0,
        "explained_coverage_percent": 100.0,
        "as_of_us": NOW_US,
    }
    part = deployment.partition("BTCUSDT", Month(2025, 1))
    results = _check_coverage(
        deployment, part, {**counts, **known, "bars_sha256": "", "gaps_sha256": "", **row}
    )
    return {result.spec.name: result for result in results}


@pytest.mark.parametrize(
    ("gate", "row", "passed"),
    [
        ("coverage", {"explained_coverage_percent": 99.9}, True),
        ("coverage", {"explained_coverage_percent": 99.8999}, False),
        ("coverage_with_outages", {"explained": 1000, "coverage_percent": 99.0}, True),
        ("coverage_with_outages", {"explained": 1001, "coverage_percent": 98.999}, False),
        ("coverage_with_outages", {"explained": 0, "coverage_percent": 98.999}, True),
        ("unexplained_missing", {"unexplained": 9}, True),
        ("unexplained_missing", {"unexplained": 10}, False),
        ("long_gap", {"longest_gap": 24}, True),
        ("long_gap", {"longest_gap": 25}, False),
    ],
)
def test_coverage_gate_at_its_threshold(
    gate: str, row: dict[str, float], passed: bool, tmp_path: Path
) -> None:
    """The rules are those of docs/gates.md.

    Coverage fails below its threshold, the unexplained share at or above it, and a gap above it.
    """
    assert evaluate_gates(tmp_path, **row)[gate].passed is passed


@pytest.mark.parametrize(
    ("percent", "level"),
    [(99.0, Level.INFO), (98.9999, Level.WARNING), (95.0, Level.WARNING), (94.9999, Level.CRITICAL)],
)
def test_alert_level_at_its_threshold(percent: float, level: Level) -> None:
    """A partition alerts as a warning below 99 %, and as critical below 95 %."""
    assert _choose_level(percent, Gates()) is level


@pytest.mark.parametrize(("late_us", "passed"), [(0, True), (1, False)])
def test_freshness_at_its_threshold(late_us: int, passed: bool, tmp_path: Path) -> None:
    """A bar that opened exactly the allowed time ago is fresh."""
    newest = NOW_US - 30 * HOUR_US - late_us
    frame = pl.DataFrame({"symbol": ["BTCUSDT"], "newest_us": [newest]})
    assert _check_freshness(deployment_of(tmp_path), frame, NOW_US).passed is passed


@pytest.mark.parametrize(("late_us", "ended"), [(0, True), (1, False)])
def test_suspension_that_begins_at_the_limit_excuses_a_symbol(
    late_us: int, ended: bool, tmp_path: Path
) -> None:
    """The suspension must cover the whole time without a bar."""
    start = NOW_US - 30 * HOUR_US + late_us
    calendar = tmp_path / "outages.yaml"
    times = f"start: {_time(start)}, end: {_time(NOW_US)}"
    calendar.write_text(f"outages:\n  - {{{times}, symbols: [BTCUSDT]}}\n")
    frame = pl.DataFrame({"symbol": ["BTCUSDT"], "newest_us": [NOW_US - 40 * HOUR_US]})
    deployment = deployment_of(tmp_path, CAPTURE_GAPS_OUTAGE_CALENDAR=str(calendar))
    assert _check_freshness(deployment, frame, NOW_US).passed is ended


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat()


def test_presence_counts_bars_on_the_grid_alone(tmp_path: Path) -> None:
    """A bar between two minutes does not replace the missing minute, and a repeated bar is a duplicate."""
    deployment = deployment_of(tmp_path, CAPTURE_INTERVAL="1m")
    month = Month.of(START_US)
    shifted = changed(bars(9), 4, "open_time_us", pl.col("open_time_us") + 1_000_000)
    publish_table(
        pl.concat([shifted, shifted.tail(1)]), deployment.lake.bars(deployment.partition("BTCUSDT", month))
    )
    (row,) = measure_coverage(deployment, ["BTCUSDT"], [month], NOW_US).to_dicts()
    assert (row["present"], row["duplicates"]) == (8, 2)
