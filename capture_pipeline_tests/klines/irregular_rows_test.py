"""Irregular rows of verified files, which are stored and counted without blocking their month."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US, HOUR_US, MINUTE_US, Interval, Month, parse_time
from capture_pipeline.calendars.outages import Kind
from capture_pipeline.checks.model import Severity
from capture_pipeline.cli.klines.backfill import outcome_row
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.backfill import Outcome, backfill
from capture_pipeline.klines.gaps import find_gaps
from capture_pipeline.klines.quality.coverage_gates import check_gaps
from capture_pipeline.klines.quality.coverage_report import measure_coverage
from capture_pipeline.klines.quality.gate_results import GateResult
from capture_pipeline.klines.quality.row_gates import check_bars
from capture_pipeline.klines.reconciliation import reconcile_partition
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import TopupsManifest
from capture_pipeline.tables.klines.bars import Irregularity
from capture_pipeline_tests.support.deployment import SandboxDeployment
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

MONTH = Month(2023, 3)
START = MONTH.start_us
HALT = parse_time("2023-03-24T12:00:00Z")
QUIET = parse_time("2023-03-10T05:00:00Z")
SHIFT = 17 * MINUTE_US + 3_250_000
SHIFTED = (parse_time("2023-03-06T09:00:00Z"), parse_time("2023-03-08T04:00:00Z"))
Alter = Callable[[list[list[object]]], None]


def hours(step: int = HOUR_US, length: int | None = None) -> list[list[object]]:
    """Return sound rows of the month, in milliseconds."""
    return [
        [at // 1000, 50, 60, 40, 55, 10, (at + (length or step)) // 1000 - 1, 500, 7, 5, 250, 0]
        for at in range(START, MONTH.end_us, step)
    ]


def at(rows: list[list[object]], time_us: int) -> list[object]:
    return next(row for row in rows if row[0] == time_us // 1000)


def with_value(column: int, value: object, time_us: int = QUIET) -> Alter:
    def alter(rows: list[list[object]]) -> None:
        at(rows, time_us)[column] = value

    return alter


def early(rows: list[list[object]]) -> None:
    """Return rows of which two end early: one at a listed halt, and the next one, which opens late."""
    at(rows, HALT)[6] = HALT // 1000 + 2_345_678
    rows.remove(at(rows, HALT + HOUR_US))


def shifted(rows: list[list[object]]) -> None:
    """Return rows with two days whose klines open late by the same time; the last one closes early."""
    inside = [row for row in rows if SHIFTED[0] <= int(str(row[0])) * 1000 < SHIFTED[1]]
    for row in inside:
        row[0], row[6] = int(str(row[0])) + SHIFT // 1000, int(str(row[6])) + SHIFT // 1000
    inside[-1][6] = SHIFTED[1] // 1000 + 999


def outside(rows: list[list[object]]) -> None:
    """Return rows with one row of the month before."""
    rows.insert(0, [START // 1000 - 3_600_000, *rows[0][1:6], START // 1000 - 1, *rows[0][7:]])


MONTHS: dict[str, Alter] = {
    "EARLYUSDT": early,
    "NEWUSDT": with_value(6, QUIET // 1000 + 5_000),
    "BACKUSDT": with_value(6, QUIET // 1000 - 5_000),
    "LATEUSDT": with_value(6, parse_time("2099-01-01") // 1000),
    "ODDUSDT": with_value(6, 0),
    "ZEROUSDT": with_value(3, 0),
    "HIGHUSDT": with_value(2, 54),
    "LOWUSDT": with_value(3, 51),
    "MINUSUSDT": with_value(9, -1),
    "TAKERUSDT": with_value(9, 11),
    "OFFUSDT": shifted,
    "OUTUSDT": outside,
}


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an exchange that publishes irregular months."""
    folder = tmp_path_factory.mktemp("irregular")
    for symbol, alter in MONTHS.items():
        rows = hours()
        alter(rows)
        write(folder / f"{symbol}-1h-2023-03.csv", rows)
        minutes: list[list[object]] = [
            [when // 1000, 1, 1, 1, 1, 1, when // 1000 + 59_999, 1, 1, 1, 1, 0]
            for when in (START, MONTH.end_us - MINUTE_US)
        ]
        write(folder / f"{symbol}-1m-2023-03-01.csv", minutes[:1])
        write(folder / f"{symbol}-1m-2023-03-31.csv", minutes[1:])
    for name, rows in {
        "LONGUSDT": hours(DAY_US),
        "SHORTUSDT": hours(15 * MINUTE_US),
        "HALFUSDT": half_other(),
    }.items():
        write(folder / f"{name}-1h-2023-03.csv", rows)
        write(
            folder / f"{name}-1h-2023-03-05.csv",
            [row for row in hours() if START + 4 * DAY_US <= int(str(row[0])) * 1000 < START + 5 * DAY_US],
        )
    config = {"recorded": folder, "now": "2023-04-20T00:00:00Z", "frozen": True}
    with SandboxServer(SandboxConfig.model_validate(config)) as server:
        yield server.url


def half_other() -> list[list[object]]:
    """Return rows of which a third closes like daily klines."""
    rows = hours()
    for row in rows[::3]:
        row[6] = int(str(row[0])) + 86_399_999
    return rows


def write(path: Path, rows: list[list[object]]) -> None:
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))


@dataclass
class BackfilledSymbol:
    """One symbol after a backfill."""

    deployment: Deployment
    outcome: Outcome
    sandbox: SandboxDeployment

    @property
    def bars(self) -> pl.DataFrame:
        return pl.read_parquet(self.deployment.lake.bars(self.outcome.partition), hive_partitioning=False)

    @property
    def results(self) -> dict[str, GateResult]:
        """Evaluate every gate of the partition."""
        now_us, parts = self.deployment.now_us(), [self.outcome.partition]
        found = [*check_bars(self.deployment, parts, now_us), *check_gaps(self.deployment, parts, now_us)]
        return {result.spec.name: result for result in found}

    @property
    def failed(self) -> set[str]:
        """Return the names of the gates that are not passed."""
        return {name for name, result in self.results.items() if not result.passed}


def backfill_symbol(exchange: str, root: Path, symbol: str, **environment: str) -> BackfilledSymbol:
    sandbox = SandboxDeployment(
        exchange, root, CAPTURE_SYMBOLS=symbol, CAPTURE_HISTORY_START="2023-03-01", **environment
    )
    deployment = sandbox.deployment
    (outcome,) = backfill(deployment, [deployment.partition(symbol, MONTH)], deployment.rest.server_time_us())
    return BackfilledSymbol(deployment, outcome, sandbox)


def test_a_listed_early_close_is_kept_and_passes(exchange: str, tmp_path: Path) -> None:
    """The row is stored as sent, and the gate counts it as known."""
    found = backfill_symbol(exchange, tmp_path, "EARLYUSDT")
    assert found.outcome.error is None
    row = found.bars.filter(pl.col("open_time_us") == HALT)
    assert row["close_time_us"].to_list() == [HALT + 2_345_678_000]
    assert found.failed == set()
    assert found.results["close_time_fits"].figures == {
        "rows": 743,
        "irregular": {"early_close": {"known": 1, "unknown": 0}},
    }
    assert found.outcome.gaps is not None
    assert outcome_row(found.outcome)["irregular"] == {"early_close": {"known": 1, "unknown": 0}}


@pytest.mark.parametrize(
    ("symbol", "gate", "kind"),
    [
        ("NEWUSDT", "close_time_fits", "early_close"),
        ("BACKUSDT", "close_time_fits", "negative_length"),
        ("LATEUSDT", "close_time_fits", "late_close"),
        ("ODDUSDT", "close_time_fits", "negative_length"),
        ("ZEROUSDT", "prices_positive", "price_not_positive"),
        ("HIGHUSDT", "high_is_highest", "high_not_highest"),
        ("LOWUSDT", "low_is_lowest", "low_not_lowest"),
        ("MINUSUSDT", "volumes_not_negative", "negative_amount"),
        ("TAKERUSDT", "taker_within_total", "taker_above_total"),
    ],
)
def test_an_unknown_irregular_row_warns_and_blocks_nothing(
    symbol: str, gate: str, kind: str, exchange: str, tmp_path: Path
) -> None:
    """Bars and ledger are complete, and the gate names the row.

    An entry in the deployment's calendar makes it known.
    """
    found = backfill_symbol(exchange, tmp_path / "data", symbol)
    assert found.outcome.error is None
    assert found.outcome.gaps is not None
    assert found.bars.height == 744
    assert found.failed == {gate}
    result = found.results[gate]
    assert (result.spec.severity, result.spec.blocking, result.is_failure) == (Severity.WARN, False, False)
    assert result.figures["irregular"] == {kind: {"known": 0, "unknown": 1}}
    assert result.failing is not None
    assert result.failing.select("open_time_us", "kind").rows() == [(QUIET, kind)]
    calendar = tmp_path / "known.yaml"
    entry = (
        f"{{start: 2023-03-10T05:00:00Z, end: 2023-03-10T05:00:01Z, "
        f"kinds: [{kind}], symbols: [{symbol}], reason: explained}}"
    )
    calendar.write_text(f"irregularities:\n  - {entry}\n")
    found.deployment = found.sandbox.reopened(CAPTURE_GAPS_IRREGULARITY_CALENDAR=str(calendar))
    assert found.failed == set()
    assert found.results[gate].figures["irregular"] == {kind: {"known": 1, "unknown": 0}}


def test_off_grid_rows_are_in_their_table_and_explained(exchange: str, tmp_path: Path) -> None:
    """Bars, ledger and coverage agree. REST is requested on the grid until the absence is proven."""
    found = backfill_symbol(exchange, tmp_path, "OFFUSDT")
    missing = (SHIFTED[1] - SHIFTED[0]) // HOUR_US
    assert found.outcome.error is None
    assert found.bars.height == 744 - missing
    assert (found.bars["open_time_us"] % HOUR_US == 0).all()
    lake, part = found.deployment.lake, found.outcome.partition
    excluded = pl.read_parquet(lake.exclusions(part), hive_partitioning=False)
    assert excluded.height == missing
    assert excluded.select("cause", "shift_us", "source", "file").unique().rows() == [
        ("off_grid", SHIFT, "monthly", "OFFUSDT-1h-2023-03.zip")
    ]
    assert outcome_row(found.outcome)["excluded"] == {"off_grid": missing}
    assert found.outcome.gaps is not None
    (gap,) = found.outcome.gaps.open.iter_rows(named=True)
    assert (gap["cause"], gap["start_us"], gap["end_us"], gap["explained"]) == ("off_grid", *SHIFTED, True)
    assert "shifted by 17 min 3.25 s; they are in the table bar_exclusions" in gap["detail"]
    (row,) = measure_coverage(found.deployment, ["OFFUSDT"], [MONTH], found.deployment.now_us()).iter_rows(
        named=True
    )
    assert (row["present"], row["missing"], row["explained"], row["unexplained"]) == (
        744 - missing,
        missing,
        missing,
        0,
    )
    assert row["explained_coverage_percent"] == 100.0
    assert [name for name, result in found.results.items() if result.is_failure] == []
    gate = found.results["off_grid_rows_known"]
    assert (gate.passed, gate.spec.severity, gate.spec.blocking) == (False, Severity.WARN, False)
    assert (gate.figures["off_grid"], gate.failing_count) == ({"known": 0, "unknown": missing}, missing)
    calendar = tmp_path / "known.yaml"
    calendar.write_text("irregularities:\n  - {start: 2023-03-06, end: 2023-03-09, kinds: [off_grid]}\n")
    found.deployment = found.sandbox.reopened(CAPTURE_GAPS_IRREGULARITY_CALENDAR=str(calendar))
    assert found.results["off_grid_rows_known"].figures["off_grid"] == {"known": missing, "unknown": 0}
    assert "off_grid_rows_known" not in found.failed
    pages = (read_model(lake.topups_manifest(part), TopupsManifest) or TopupsManifest()).pages
    assert pages
    assert all(time % HOUR_US == 0 for page in pages for time in (page.asked_start_us, page.answered_end_us))
    assert all(page.present == [] for page in pages)


def test_off_grid_rows_alone_explain_nothing_before_rest_was_asked(exchange: str, tmp_path: Path) -> None:
    """Without REST the gap is unexplained and its remedy is a top-up, unless the calendar lists the time."""
    sandbox = SandboxDeployment(
        exchange, tmp_path, CAPTURE_SYMBOLS="OFFUSDT", CAPTURE_HISTORY_START="2023-03-01"
    )
    part = sandbox.deployment.partition("OFFUSDT", MONTH)
    (outcome,) = backfill(sandbox.deployment, [part], sandbox.deployment.now_us(), use_rest=False)
    assert outcome.gaps is not None
    (gap,) = outcome.gaps.open.iter_rows(named=True)
    assert (gap["cause"], gap["explained"]) == ("ours", False)
    assert "run a top-up" in gap["detail"]
    calendar = tmp_path / "known.yaml"
    calendar.write_text("irregularities:\n  - {start: 2023-03-06, end: 2023-03-09, kinds: [off_grid]}\n")
    listed = sandbox.reopened(CAPTURE_GAPS_IRREGULARITY_CALENDAR=str(calendar))
    (gap,) = find_gaps(listed, part, listed.now_us()).open.iter_rows(named=True)
    assert (gap["cause"], gap["explained"]) == ("off_grid", True)


def test_a_verified_off_grid_range_is_not_asked_for_again(exchange: str, tmp_path: Path) -> None:
    """Two sightings end the requests, and the second answer adds no row to the table."""
    found = backfill_symbol(exchange, tmp_path, "OFFUSDT")
    deployment, part = found.deployment, found.outcome.partition
    before = pl.read_parquet(deployment.lake.exclusions(part), hive_partitioning=False)
    for minutes, asks in ((10, 0), (40, 1), (120, 0)):
        found.sandbox.clock(now="2023-04-20T00:00:00Z")
        found.sandbox.clock(advance_s=minutes * 60)
        (outcome,) = backfill(deployment, [part], deployment.rest.server_time_us())
        assert outcome.topups is not None
        assert (minutes, min(outcome.topups.pages, 1)) == (minutes, asks)
    found.sandbox.clock(now="2023-04-20T00:00:00Z")
    assert pl.read_parquet(deployment.lake.exclusions(part), hive_partitioning=False).equals(before)
    assert find_gaps(deployment, part, deployment.now_us()).fillable == 0


def test_off_grid_rows_are_no_bars_of_a_reconciliation(exchange: str, tmp_path: Path) -> None:
    """Rows off the grid are not counted for any source."""
    found = backfill_symbol(exchange, tmp_path, "OFFUSDT")
    report = reconcile_partition(found.deployment, found.outcome.partition).report
    assert (report.monthly_bars, report.rest_bars, report.differing_bars) == (found.bars.height, 0, 0)


def test_a_row_of_another_month_is_excluded_and_the_file_is_used(exchange: str, tmp_path: Path) -> None:
    """The row is in the table of exclusions, with its file."""
    found = backfill_symbol(exchange, tmp_path, "OUTUSDT")
    assert found.outcome.error is None
    assert found.failed == set()
    assert found.bars.height == 744
    excluded = pl.read_parquet(
        found.deployment.lake.exclusions(found.outcome.partition), hive_partitioning=False
    )
    assert excluded.select("open_time_us", "cause").rows() == [(START - HOUR_US, "outside_period")]


@pytest.mark.parametrize(
    ("symbol", "told"),
    [("LONGUSDT", "contains klines of 1d, not of 1h"), ("SHORTUSDT", "contains klines of 15m, not of 1h")],
)
def test_a_file_of_another_interval_is_quarantined(
    symbol: str, told: str, exchange: str, tmp_path: Path
) -> None:
    """The checksum of the file is correct. The daily file replaces it."""
    found = backfill_symbol(exchange, tmp_path, symbol)
    assert found.outcome.archives is not None
    (record,) = found.outcome.archives.quarantined
    assert (record.trust, record.name) == (Trust.MALFORMED, f"{symbol}-1h-2023-03.zip")
    assert told in (record.detail or "")


def test_a_file_with_some_rows_of_another_interval_is_kept_and_warned_of(
    exchange: str, tmp_path: Path
) -> None:
    """A third of its rows is too long, and the gate reports them."""
    found = backfill_symbol(exchange, tmp_path, "HALFUSDT")
    assert found.outcome.error is None
    assert found.failed == {"close_time_fits"}
    assert found.results["close_time_fits"].figures["irregular"] == {
        "late_close": {"known": 0, "unknown": 248}
    }


def test_listed_halts_make_their_cut_candles_known_up_to_12h() -> None:
    """The dates are those of klines in the public archive that end early.

    A suspension makes no kline known.
    """
    deployment = Deployment(SandboxDeployment("http://127.0.0.1:1", Path("unused")).deployment.settings)
    edge_us = deployment.settings.gaps.outage_edge_minutes * MINUTE_US
    halts = [
        entry.start_us + edge_us
        for entry in deployment.irregularities
        if Irregularity.EARLY_CLOSE in entry.kinds
    ]
    days = {start_us // DAY_US * DAY_US for start_us in halts}
    dates = "2017-12-04 2017-12-18 2018-01-04 2018-02-08 2018-07-04 2019-06-07 2020-02-19"
    dates += " 2020-03-04 2021-02-11 2021-04-25 2021-08-13 2021-12-24 2023-03-24"
    assert days >= {parse_time(date) for date in dates.split()}
    assert halts == [outage.start_us for outage in deployment.outages if outage.kind is Kind.OUTAGE]
    assert all(entry.reason and entry.source for entry in deployment.irregularities)
    part = deployment.partition("BTCUSDT", MONTH)
    assert len(deployment.known_irregularities(part)) == len(deployment.irregularities)
    assert [
        entry
        for entry in deployment.irregularities
        if entry.applies_to(part.market, part.symbol, Interval.D1)
    ] == []
