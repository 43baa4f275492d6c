"""Bars, raw files and gap ledger must match, and an outdated ledger must not hide missing bars."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline.binance.periods import Month, parse_time
from capture_pipeline.klines.backfill import backfill
from capture_pipeline.klines.gaps import find_gaps
from capture_pipeline.klines.quality.coverage_gates import check_gaps, check_lake
from capture_pipeline.klines.quality.coverage_report import measure_coverage
from capture_pipeline.klines.quality.row_gates import check_bars
from capture_pipeline.lake.paths import Partition
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment

FEBRUARY = Month(2025, 2)


def backfill_months(sandbox: SandboxDeployment, *months: Month) -> list[Partition]:
    """Backfill months of BTCUSDT."""
    deployment = sandbox.reopened()
    parts = [deployment.partition("BTCUSDT", month) for month in months]
    assert not [
        outcome.error
        for outcome in backfill(deployment, parts, deployment.rest.server_time_us())
        if outcome.error
    ]
    return parts


def list_failed_gates(sandbox: SandboxDeployment, parts: list[Partition]) -> dict[str, str]:
    """Return the failed gates with their summaries."""
    deployment = sandbox.deployment
    now_us = deployment.now_us()
    results = [*check_bars(deployment, parts, now_us), *check_gaps(deployment, parts, now_us)]
    return {result.spec.name: result.reason for result in results if not result.passed}


def bars_of(sandbox: SandboxDeployment, part: Partition) -> Path:
    return sandbox.deployment.lake.bars(part)


def test_a_month_that_nobody_topped_up_after_its_end_fails(sandbox: SandboxDeployment) -> None:
    """On 5 March the ledger of February ends on the 20th.

    The bars after it are expected, missing and unexplained.
    """
    parts = backfill_months(sandbox, FEBRUARY)
    assert list_failed_gates(sandbox, parts) == {}
    sandbox.clock(now="2025-03-05T09:00:00Z")
    found = list_failed_gates(sandbox, parts)
    assert set(found) == {"coverage", "unexplained_missing", "long_gap"}
    assert (
        "206 of them are after the end of the ledger, last computed at 2025-02-20T10:30"
        in found["unexplained_missing"]
    )
    (row,) = measure_coverage(
        sandbox.deployment, ["BTCUSDT"], [FEBRUARY], sandbox.deployment.now_us()
    ).iter_rows(named=True)
    assert (row["expected"], row["present"], row["missing"], row["unjudged"]) == (672, 466, 206, 206)
    backfill_months(sandbox, FEBRUARY)
    assert list_failed_gates(sandbox, parts) == {}


def test_a_day_without_an_update_is_freshness_and_no_hole(sandbox: SandboxDeployment) -> None:
    """The daily update may be a day old."""
    parts = backfill_months(sandbox, FEBRUARY)
    sandbox.clock(advance_s=29 * 3600)
    assert list_failed_gates(sandbox, parts) == {}


def test_bars_that_were_cut_do_not_fit_the_ledger(sandbox: SandboxDeployment) -> None:
    """Forty rows are removed, and every other row is sound."""
    (part,) = backfill_months(sandbox, Month(2025, 1))
    table = pl.read_parquet(bars_of(sandbox, part), hive_partitioning=False)
    pl.concat([table[:200], table[240:]]).write_parquet(bars_of(sandbox, part))
    assert "the bars changed after" in list_failed_gates(sandbox, [part])["ledger_fits"]


def test_values_that_were_changed_do_not_fit_the_ledger(sandbox: SandboxDeployment) -> None:
    """All prices are doubled, which no rule for rows detects."""
    (part,) = backfill_months(sandbox, Month(2025, 1))
    table = pl.read_parquet(bars_of(sandbox, part), hive_partitioning=False)
    doubled = table.with_columns(
        (pl.col(name) * 2).cast(table.schema[name]) for name in ("open", "high", "low", "close")
    )
    doubled.write_parquet(bars_of(sandbox, part))
    assert set(list_failed_gates(sandbox, [part])) == {"ledger_fits"}


def test_a_ledger_that_was_changed_does_not_fit_itself(sandbox: SandboxDeployment) -> None:
    """The same holds for a deleted ledger."""
    (part,) = backfill_months(sandbox, Month(2025, 1))
    sandbox.deployment.lake.gaps(part).unlink()
    assert "the gaps changed after" in list_failed_gates(sandbox, [part])["ledger_fits"]


def test_bars_newer_than_their_ledger_are_named(sandbox: SandboxDeployment) -> None:
    """The gate names partitions with an outdated or missing ledger. Equal bars that were built again pass."""
    (part,) = backfill_months(sandbox, FEBRUARY)
    path, window = bars_of(sandbox, part), sandbox.deployment.lake.window(part)
    sound = path.read_bytes()
    assert list_outdated(sandbox) == []
    pl.read_parquet(path, hive_partitioning=False).head(100).write_parquet(path)
    assert list_outdated(sandbox) == [
        ("BTCUSDT", "2025-02", "the bars changed after the ledger was computed")
    ]
    path.write_bytes(sound)
    assert path.stat().st_mtime_ns > window.stat().st_mtime_ns
    assert list_outdated(sandbox) == []
    window.unlink()
    assert list_outdated(sandbox) == [("BTCUSDT", "2025-02", "there is no ledger")]


def list_outdated(sandbox: SandboxDeployment) -> list[tuple[object, ...]]:
    """Return the failing rows of the gate that compares bars with ledgers."""
    deployment = sandbox.deployment
    (result,) = [
        result
        for result in check_lake(deployment, deployment.now_us())
        if result.spec.name == "ledgers_current"
    ]
    assert result.failing is not None
    assert result.passed is result.failing.is_empty()
    return result.failing.rows()


def test_bars_without_any_raw_file_fail_their_checksums(sandbox: SandboxDeployment) -> None:
    """Bars without a recorded raw file are not verified."""
    (part,) = backfill_months(sandbox, Month(2025, 1))
    shutil.rmtree(sandbox.deployment.lake.raw(part))
    assert "raw_checksums" in list_failed_gates(sandbox, [part])


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_a_damaged_table_fails_its_schema_and_holds_up_no_other(
    content: bytes | None, sandbox: SandboxDeployment
) -> None:
    """The table is empty or cut. A backfill builds it again."""
    january, february = backfill_months(sandbox, Month(2025, 1), FEBRUARY)
    path = bars_of(sandbox, january)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    deployment = sandbox.deployment
    results = check_bars(deployment, [january, february], deployment.now_us())
    bad = [(result.month, result.spec.name) for result in results if not result.passed]
    assert ("2025-01", "schema") in bad
    assert {month for month, _ in bad} == {"2025-01"}
    backfill_months(sandbox, Month(2025, 1))
    assert path.read_bytes() == whole
    assert list_failed_gates(sandbox, [january]) == {}


def test_a_damaged_ledger_is_made_anew(sandbox: SandboxDeployment) -> None:
    """Only the gaps that were filled earlier are lost."""
    (part,) = backfill_months(sandbox, Month(2025, 1))
    sandbox.deployment.lake.gaps(part).write_bytes(b"")
    backfill_months(sandbox, Month(2025, 1))
    assert list_failed_gates(sandbox, [part]) == {}


def test_a_gap_is_one_whatever_its_causes_and_months(tmp_path: Path) -> None:
    """A gap of thirty hours counts with its whole length in both months.

    Two hours of it are in a listed outage.
    """
    hole = {"start": "2025-01-31T12:00:00Z", "end": "2025-02-01T18:00:00Z"}
    calendar = tmp_path / "outages.yaml"
    calendar.write_text(
        "outages:\n  - {start: 2025-01-31T20:00:00Z, end: 2025-01-31T22:00:00Z, reason: a test}\n"
    )
    with run_sandbox_deployment(
        tmp_path / "d", {"outages": [hole]}, CAPTURE_GAPS_OUTAGE_CALENDAR=str(calendar)
    ) as sandbox:
        parts = backfill_months(sandbox, Month(2025, 1), FEBRUARY)
        deployment = sandbox.deployment
        gaps = find_gaps(deployment, parts[0], deployment.now_us()).open
        assert set(gaps["cause"]) == {"unknown", "exchange_outage"}
        rows = measure_coverage(
            deployment, ["BTCUSDT"], [Month(2025, 1), FEBRUARY], parse_time("2025-02-20T10:30:00Z")
        )
        assert rows["longest_gap"].to_list() == [30, 30]
        assert "long_gap" in list_failed_gates(sandbox, parts)
