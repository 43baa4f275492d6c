"""Suspended symbols, listed outages, and symbols with files of one interval only."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from capture_pipeline.binance.periods import HOUR_US, Month, parse_time
from capture_pipeline.checks.model import Severity
from capture_pipeline.cli.main import main
from capture_pipeline.defs.klines import result_metadata
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import ConfigError
from capture_pipeline.klines.backfill import Outcome, backfill
from capture_pipeline.klines.quality.coverage_gates import check_gaps, check_lake
from capture_pipeline.klines.quality.coverage_report import measure_coverage, report_coverage
from capture_pipeline.klines.quality.gate_results import GateResult
from capture_pipeline.settings.levels import Level
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment

MONTHS = [Month(2024, 11), Month(2024, 12), Month(2025, 1)]
SUSPENSION = {"start": "2024-11-29T03:00:00Z", "end": "2025-01-12T07:00:00Z"}
RANGE = {"CAPTURE_HISTORY_START": "2024-11-01", "CAPTURE_HISTORY_END": "2025-01-31"}


def calendar_setting(folder: Path, *entries: str) -> dict[str, str]:
    """Return the setting for a calendar with these entries."""
    path = folder / "outages.yaml"
    path.write_text("outages:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries))
    return {"CAPTURE_GAPS_OUTAGE_CALENDAR": str(path)}


def run(deployment: Deployment, *, use_rest: bool = True) -> dict[str, Outcome]:
    """Backfill the whole history and return the outcomes by month."""
    now_us = deployment.rest.server_time_us()
    parts = deployment.partitions(deployment.settings.symbols, deployment.months(now_us))
    return {
        str(outcome.partition.month): outcome
        for outcome in backfill(deployment, parts, now_us, use_rest=use_rest)
    }


def list_failed_gates(deployment: Deployment) -> list[GateResult]:
    """Return the failed coverage gates of the whole history."""
    now_us = deployment.now_us()
    parts = deployment.partitions(deployment.settings.symbols, deployment.months(now_us))
    return [
        result
        for result in (*check_gaps(deployment, parts, now_us), *check_lake(deployment, now_us))
        if not result.passed
    ]


@pytest.fixture(scope="module")
def suspended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxDeployment]:
    """Run an exchange on which BTCUSDT does not trade from the end of November to the middle of January."""
    config = {"listed": "2024-10-01", "outages": [{**SUSPENSION, "symbols": ["BTCUSDT"]}]}
    with run_sandbox_deployment(tmp_path_factory.mktemp("suspended"), config, **RANGE) as sandbox:
        assert not [outcome.error for outcome in run(sandbox.deployment).values() if outcome.error]
        yield sandbox


@pytest.mark.parametrize(
    "form", ["symbols: [BTCUSDT]", "kind: suspension, symbols: [BTCUSDT, ETHUSDT], markets: [spot]"]
)
def test_a_listed_suspension_is_not_expected_and_its_months_pass(
    form: str, suspended: SandboxDeployment, tmp_path: Path
) -> None:
    """The month without a file has no expected bar, and the whole suspension is explained."""
    calendar = calendar_setting(tmp_path, f"start: {SUSPENSION['start']}, end: {SUSPENSION['end']}, {form}")
    deployment = suspended.reopened(**calendar)
    outcomes = run(deployment)
    assert list_failed_gates(deployment) == []
    rows = measure_coverage(deployment, ["BTCUSDT"], MONTHS, deployment.now_us()).to_dicts()
    assert [(row["expected"], row["present"], row["missing"], row["suspended"]) for row in rows] == [
        (675, 675, 0, 45),
        (0, 0, 0, 744),
        (473, 473, 0, 271),
    ]
    assert [row["explained_coverage_percent"] for row in rows] == [100.0, 100.0, 100.0]
    assert [row["coverage_percent"] for row in rows] == [100.0, None, 100.0]
    december = outcomes["2024-12"].gaps
    assert december is not None
    assert (december.expected, december.suspended, set(december.gaps["cause"])) == (0, 744, {"suspended"})
    metadata = result_metadata.gaps(deployment, december)["bar_gaps"]
    assert (metadata["suspended"], metadata["explained_coverage_percent"]) == (744, 100.0)
    shown = (
        CliRunner()
        .invoke(main, ["klines", "coverage"], env=suspended.environment(**calendar), catch_exceptions=False)
        .stdout
    )
    assert re.search(r"2024-12 +│ +0 │ +0 │ +│ +100 │ +0 │ +0 │ +744 │", shown)
    told = (
        CliRunner()
        .invoke(main, ["klines", "backfill"], env=suspended.environment(**calendar), catch_exceptions=False)
        .stdout
    )
    assert "bars not expected, because the outage calendar lists a suspension: 1,060" in told
    made = report_coverage(deployment, deployment.now_us())
    assert (made.summary.suspended, made.summary.explained_coverage_percent) == (1060, 100.0)
    assert "744 not expected while suspended" in made.svg
    (row,) = [row for row in csv.DictReader(made.csv.read_text().splitlines()) if row["month"] == "2024-12"]
    assert (
        row["expected"],
        row["suspended"],
        row["coverage_percent"],
        row["explained_coverage_percent"],
    ) == ("0", "744", "", "100.0")
    assert "<td>2024-12</td><td>0</td><td>0</td><td>–</td><td>100.0000</td>" in made.html.read_text()


def test_a_history_inside_a_suspension_passes(suspended: SandboxDeployment, tmp_path: Path) -> None:
    """The exchange has no bar, so no bar is missing."""
    calendar = calendar_setting(
        tmp_path, f"start: {SUSPENSION['start']}, end: {SUSPENSION['end']}, symbols: [BTCUSDT]"
    )
    deployment = suspended.reopened(
        **calendar, CAPTURE_HISTORY_START="2024-12-01", CAPTURE_HISTORY_END="2024-12-31"
    )
    run(deployment)
    assert list_failed_gates(deployment) == []
    assert (
        report_coverage(deployment, deployment.now_us(), publish=False).summary.explained_coverage_percent
        == 100.0
    )


def test_freshness_does_not_wait_for_a_suspended_symbol(tmp_path: Path) -> None:
    """The gate ignores the symbol during the suspension."""
    entry = "start: 2025-02-17T00:00:00Z, end: 2025-03-01T00:00:00Z, symbols: [BTCUSDT]"
    config = {
        "listed": "2025-01-01",
        "outages": [{"start": "2025-02-17T00:00:00Z", "end": "2025-03-01T00:00:00Z"}],
    }
    with run_sandbox_deployment(tmp_path / "d", config) as sandbox:
        run(sandbox.deployment, use_rest=False)
        assert "freshness" in {result.spec.name for result in list_failed_gates(sandbox.deployment)}
        deployment = sandbox.reopened(**calendar_setting(tmp_path, entry))
        run(deployment, use_rest=False)
        assert "freshness" not in {result.spec.name for result in list_failed_gates(deployment)}


def test_a_suspension_that_is_not_listed_fails_and_the_ledger_names_what_to_do(
    suspended: SandboxDeployment,
) -> None:
    """The gap is unexplained.

    After the proof of absence, its detail suggests a calendar entry for the symbol.
    """
    deployment = suspended.reopened()
    suspended.clock(advance_s=31 * 60)
    outcomes = run(deployment)
    assert {"coverage", "unexplained_missing"} <= {
        result.spec.name for result in list_failed_gates(deployment)
    }
    december = outcomes["2024-12"].gaps
    assert december is not None
    assert set(december.gaps["cause"]) == {"unknown"}
    assert all("if it was suspended" in detail for detail in december.gaps["detail"])


@pytest.mark.parametrize(
    ("hours", "level"),
    [(4, None), (34, Level.WARNING), (80, Level.CRITICAL)],
    ids=["short", "longer than a day", "a tenth of the month"],
)
def test_a_listed_outage_fails_no_error_gate(hours: int, level: Level | None, tmp_path: Path) -> None:
    """A long outage is a warning, with the percentage of all expected bars."""
    start = parse_time("2025-01-07T00:00:00Z")
    end = f"2025-01-{7 + hours // 24:02}T{hours % 24:02}:00:00Z"
    config = {"listed": "2025-01-01", "outages": [{"start": "2025-01-07T00:00:00Z", "end": end}]}
    calendar = calendar_setting(tmp_path, f"start: 2025-01-07T00:00:00Z, end: {end}, reason: a test")
    with run_sandbox_deployment(
        tmp_path / "d", config, CAPTURE_HISTORY_END="2025-01-31", **calendar
    ) as sandbox:
        (outcome,) = run(sandbox.deployment, use_rest=False).values()
        assert outcome.gaps is not None
        assert [
            tuple(row) for row in outcome.gaps.gaps.select("start_us", "end_us", "cause").iter_rows()
        ] == [(start, start + hours * HOUR_US, "exchange_outage")]
        found = {result.spec.name: result for result in list_failed_gates(sandbox.deployment)}
    assert {result.spec.severity for result in found.values()} <= {Severity.WARN}
    warned = found.get("coverage_with_outages")
    assert (warned.level if warned else None) is level
    if warned:
        assert warned.figures["coverage_percent"] == pytest.approx(100 * (744 - hours) / 744)
        assert warned.figures["explained_coverage_percent"] == 100.0


def test_bars_missing_beside_a_listed_outage_fail_coverage(tmp_path: Path) -> None:
    """The listed hours do not hide other missing bars."""
    config = {
        "listed": "2025-01-01",
        "outages": [{"start": "2025-01-07T00:00:00Z", "end": "2025-01-07T10:00:00Z"}],
    }
    calendar = calendar_setting(tmp_path, "start: 2025-01-07T00:00:00Z, end: 2025-01-07T08:00:00Z")
    with run_sandbox_deployment(
        tmp_path / "d", config, CAPTURE_HISTORY_END="2025-01-31", **calendar
    ) as sandbox:
        run(sandbox.deployment, use_rest=False)
        found = {result.spec.name: result for result in list_failed_gates(sandbox.deployment)}
    assert {"coverage", "unexplained_missing"} <= found.keys()
    assert "of 736 expected bars are present" in found["coverage"].reason


def write_kline_files(folder: Path, symbol: str, interval: str, *periods: tuple[str, str]) -> None:
    """Write kline files with generated rows of one hour, one file for each period."""
    folder.mkdir(exist_ok=True)
    for period, end in periods:
        first = parse_time(f"{period}-01" if len(period) == len("2024-05") else period) // 1000
        opens = range(first, parse_time(end) // 1000, 3_600_000)
        rows = (f"{at},7.5,7.5,7.5,7.5,2,{at + 3_599_999},15,1,1,7.5,0\n" for at in opens)
        (folder / f"{symbol}-{interval}-{period}.csv").write_text("".join(rows))


def test_a_symbol_with_files_of_one_interval_alone_is_known(tmp_path: Path) -> None:
    """REST has no minutes of the symbol, so its trading period is requested in hours.

    Months without a file do not make it unknown.
    """
    write_kline_files(tmp_path / "r", "ABCUSDT", "1h", ("2024-05", "2024-06-01"), ("2024-07", "2024-08-01"))
    config = {"recorded": tmp_path / "r", "now": "2024-09-01T00:00:00Z", "frozen": True}
    environment = {
        "CAPTURE_SYMBOLS": "ABCUSDT",
        "CAPTURE_HISTORY_START": "2024-04-01",
        "CAPTURE_HISTORY_END": "2024-07-31",
    }
    with run_sandbox_deployment(tmp_path / "d", config, **environment) as sandbox:
        outcomes = run(sandbox.deployment)
    assert {month: str(outcome.error) for month, outcome in outcomes.items() if outcome.error} == {}
    assert [outcomes[month].bars.rows for month in ("2024-05", "2024-07")] == [744, 744]  # type: ignore[union-attr]
    april, june = outcomes["2024-04"].gaps, outcomes["2024-06"].gaps
    assert april is not None
    assert june is not None
    assert (set(april.gaps["cause"]), set(june.gaps["cause"])) == ({"before_listing"}, {"unknown"})


def test_the_life_of_one_interval_says_nothing_of_another(tmp_path: Path) -> None:
    """The symbol has no daily klines; a deployment of hours in the same lake still finds its hours."""
    write_kline_files(tmp_path / "r", "ABCUSDT", "1h", ("2024-05", "2024-06-01"))
    config = {"recorded": tmp_path / "r", "now": "2024-07-01T00:00:00Z", "frozen": True}
    environment = {
        "CAPTURE_SYMBOLS": "ABCUSDT",
        "CAPTURE_HISTORY_START": "2024-04-01",
        "CAPTURE_HISTORY_END": "2024-06-30",
    }
    with run_sandbox_deployment(tmp_path / "d", config, **environment) as sandbox:
        with pytest.raises(ConfigError, match="does not know ABCUSDT"):
            run(sandbox.reopened(CAPTURE_INTERVAL="1d"))
        outcomes = run(sandbox.reopened())
    assert [outcome.error for outcome in outcomes.values()] == [None, None, None]


CASE = Path(__file__).resolve().parents[3] / "shared" / "cases" / "klines" / "relisted"


@pytest.mark.skipif(not CASE.is_dir(), reason="the folder of shared cases is not beside the repository")
def test_the_recorded_case_of_a_relisted_symbol_passes(tmp_path: Path) -> None:
    """The calendar entry has no kind and names the symbol."""
    environment = {
        "CAPTURE_SYMBOLS": "BTCUSDC",
        "CAPTURE_HISTORY_START": "2022-08-01",
        "CAPTURE_HISTORY_END": "2023-04-30",
    }
    calendar = {"CAPTURE_GAPS_OUTAGE_CALENDAR": str(CASE / "outages.yaml")}
    with run_sandbox_deployment(
        tmp_path / "d", {"recorded": CASE, "now": None, "frozen": False}, **environment, **calendar
    ) as sandbox:
        outcomes = run(sandbox.deployment)
        assert [outcome.error for outcome in outcomes.values()] == [None] * 9
        assert list_failed_gates(sandbox.deployment) == []
