"""Gates on the coverage of partitions, on their gap ledgers and on the freshness of the lake.

The thresholds are in the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from capture_pipeline.binance.periods import HOUR_US, Month, iso
from capture_pipeline.calendars.outages import Kind
from capture_pipeline.checks import klines as checks
from capture_pipeline.checks.model import Verdict
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.ingest.trading_period import load_trading_period
from capture_pipeline.klines.quality.coverage_report import measure_coverage
from capture_pipeline.klines.quality.gate_results import GateResult, fail_gates
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.levels import Level
from capture_pipeline.settings.models import Gates
from capture_pipeline.tables.klines.gaps import GapStatus

_COUNTS = (
    "expected",
    "present",
    "missing",
    "explained",
    "unexplained",
    "suspended",
    "unjudged",
    "filled",
    "longest_gap",
)
"""Columns of the coverage that the gate `coverage` reports."""


def check_gaps(deployment: Deployment, partitions: Sequence[Partition], now_us: int) -> list[GateResult]:
    """Evaluate the coverage gates of each partition, from its gap ledger.

    Args:
        partitions: The partitions; the gates of a partition without a ledger fail.
        now_us: The present time.
    """
    symbols = sorted({part.symbol for part in partitions})
    months = sorted({part.month for part in partitions})
    rows = {
        (row["symbol"], row["month"]): row
        for row in measure_coverage(deployment, symbols, months, now_us).iter_rows(named=True)
    }
    return [
        result
        for part in partitions
        for result in _check_coverage(deployment, part, rows[part.symbol, str(part.month)])
    ]


def check_lake(deployment: Deployment, now_us: int) -> list[GateResult]:
    """Evaluate the gates on the whole lake: symbols with bars, current ledgers, and freshness."""
    settings = deployment.settings
    frame = measure_coverage(deployment, settings.symbols, deployment.months(now_us), now_us)
    sums = (pl.col(name).sum() for name in ("present", "expected", "suspended"))
    totals = frame.group_by("symbol").agg(*sums, pl.col("newest_us").max()).sort("symbol")
    # A symbol that was suspended during the whole history has no bars at the exchange.
    absent = totals.filter(
        (pl.col("present") == 0) & ~((pl.col("expected") == 0) & (pl.col("suspended") > 0))
    )
    reason = (
        f"{absent.height} of {totals.height} symbols have no bars: {', '.join(absent['symbol'])}"
        if absent.height
        else ""
    )
    present = GateResult(
        checks.ALL_SYMBOLS,
        Verdict.of(absent.is_empty()),
        reason,
        {"symbols": totals.height},
        failing=absent,
        failing_count=absent.height,
    )
    return [present, _check_ledgers(deployment, frame, now_us), _check_freshness(deployment, frame, now_us)]


def _check_ledgers(deployment: Deployment, frame: pl.DataFrame, now_us: int) -> GateResult:
    """Evaluate the gate on ledgers: each partition with bars has a ledger that was computed from these bars.

    A file of bars is read only if it is newer than the file of its ledger.
    """
    lake = deployment.lake
    recorded = {(row["symbol"], row["month"]): row["bars_sha256"] for row in frame.iter_rows(named=True)}
    with_bars = [
        part
        for part in deployment.partitions(deployment.settings.symbols, deployment.months(now_us))
        if lake.bars(part).is_file()
    ]
    outdated = []
    for part in with_bars:
        bars, window = lake.bars(part), lake.window(part)
        if not window.is_file():
            outdated.append({"symbol": part.symbol, "month": str(part.month), "why": "there is no ledger"})
        elif (
            bars.stat().st_mtime_ns > window.stat().st_mtime_ns
            and sha256_file(bars) != recorded[part.symbol, str(part.month)]
        ):
            outdated.append(
                {
                    "symbol": part.symbol,
                    "month": str(part.month),
                    "why": "the bars changed after the ledger was computed",
                }
            )
    failing = pl.DataFrame(outdated, schema={"symbol": pl.String, "month": pl.String, "why": pl.String})
    first = ", ".join(f"{row['symbol']} {row['month']}" for row in outdated[:3])
    reason = (
        f"{len(outdated)} of {len(with_bars)} gap ledgers were not computed from the present bars: {first}; "
        "materialize bar_gaps of these partitions"
    )
    return GateResult(
        checks.LEDGERS_CURRENT,
        Verdict.of(not outdated),
        reason if outdated else "",
        {"partitions": len(with_bars)},
        failing=failing.head(deployment.settings.gates.failing_rows_shown),
        failing_count=len(outdated),
    )


def _check_coverage(deployment: Deployment, part: Partition, row: dict[str, Any]) -> list[GateResult]:
    """Evaluate the gates of a partition from its row of the coverage."""
    if row["expected"] is None:
        reason = (
            "the gap ledger was never computed; materialize bar_gaps"
            if deployment.lake.raw(part).is_dir()
            else "the partition was never backfilled; backfill or deselect it"
        )
        results = fail_gates([checks.LEDGER_FITS, checks.COVERAGE, checks.UNEXPLAINED], reason)
    else:
        mismatch = _describe_mismatch(deployment, part, row)
        ledger = GateResult(
            checks.LEDGER_FITS,
            Verdict.of(not mismatch),
            mismatch,
            {"as_of": iso(row["as_of_us"])},
        )
        results = [ledger, *_check_shares(deployment, part, row)]
    file = deployment.lake.relative(deployment.lake.gaps(part))
    return [replace(result, symbol=part.symbol, month=str(part.month), file=file) for result in results]


def _check_shares(deployment: Deployment, part: Partition, row: dict[str, Any]) -> list[GateResult]:
    """Evaluate the gates on shares of the expected bars, and on the longest gap."""
    gates, expected = deployment.settings.gates, row["expected"]
    percent, raw = row["explained_coverage_percent"], row["coverage_percent"] if expected else 100.0
    unexplained = 100.0 * row["unexplained"] / expected if expected else 0.0
    level = _choose_level(percent, gates)
    hours = row["longest_gap"] * part.interval.us / HOUR_US
    left_out = f" ({row['explained']:,} explained ones are left out)" if row["explained"] else ""
    unjudged = (
        f"; {row['unjudged']:,} of them are after the end of the ledger, "
        f"last computed at {iso(row['as_of_us'])}: top up or backfill"
        if row["unjudged"]
        else ""
    )
    shares = {"coverage_percent": raw, "explained_coverage_percent": percent}
    return [
        GateResult(
            checks.COVERAGE,
            Verdict.of(percent >= gates.coverage_error_below_percent),
            f"{percent:.4f} % of {expected - row['explained']:,} expected bars are present, "
            f"below {gates.coverage_error_below_percent} %{left_out}",
            {**{name: row[name] for name in _COUNTS}, **shares},
            level=level,
        ),
        GateResult(
            checks.OUTAGES,
            Verdict.of(not row["explained"] or raw >= gates.coverage_warning_below_percent),
            f"{raw:.4f} % of {expected:,} expected bars are present; "
            f"{row['explained']:,} are missing with an explained cause",
            {"explained": row["explained"], **shares},
            level=_choose_level(raw, gates),
        ),
        GateResult(
            checks.UNEXPLAINED,
            Verdict.of(unexplained < gates.unexplained_error_percent),
            f"{row['unexplained']:,} of {expected:,} expected bars ({unexplained:.4f} %) "
            f"are missing without a proven outage{unjudged}",
            {"unexplained": row["unexplained"], "unexplained_percent": unexplained},
            level=level,
            failing=_read_open_gaps(deployment, part),
            failing_count=row["unexplained"],
        ),
        GateResult(
            checks.LONG_GAP,
            Verdict.of(hours <= gates.long_gap_hours),
            f"a gap of {hours:g} h is longer than {gates.long_gap_hours:g} h",
            {"longest_gap_hours": hours},
            level=max(level, Level.WARNING, key=lambda each: each.rank),
        ),
    ]


def _choose_level(percent: float, gates: Gates) -> Level:
    """Return the level of an alert about a partition with this coverage."""
    if percent < gates.coverage_critical_below_percent:
        return Level.CRITICAL
    return Level.WARNING if percent < gates.coverage_warning_below_percent else Level.INFO


def _describe_mismatch(deployment: Deployment, part: Partition, row: dict[str, Any]) -> str:
    """Describe the first difference between bars and ledger; empty if they match."""
    files = {
        "bars": (deployment.lake.bars(part), row["bars_sha256"]),
        "gaps": (deployment.lake.gaps(part), row["gaps_sha256"]),
    }
    for name, (path, recorded) in files.items():
        if (sha256_file(path) if path.is_file() else "") != recorded:
            return f"the {name} changed after the ledger was computed; backfill the partition again"
    if row["present"] + row["missing"] != row["expected"]:
        return (
            f"{row['present']:,} bars and {row['missing']:,} missing ones "
            f"are not the {row['expected']:,} expected ones"
        )
    return ""


def _read_open_gaps(deployment: Deployment, part: Partition) -> pl.DataFrame:
    path = deployment.lake.gaps(part)
    if not path.is_file():
        return pl.DataFrame()
    gaps = read_table(path).filter((pl.col("status") == str(GapStatus.OPEN)) & ~pl.col("explained"))
    return gaps.head(deployment.settings.gates.failing_rows_shown)


def _check_freshness(deployment: Deployment, frame: pl.DataFrame, now_us: int) -> GateResult:
    """Evaluate the age of the newest bar of each symbol; passed if the configured history has ended."""
    settings = deployment.settings
    limit = settings.gates.freshness_hours
    end = settings.history.end
    if end is not None and Month(end.year, end.month) < Month.of(now_us):
        return GateResult(checks.FRESHNESS, Verdict.PASS, "history.end is in the past")
    since_us = now_us - round(limit * HOUR_US)
    ended = [
        symbol
        for symbol in settings.symbols
        if _is_delisted(deployment, symbol) or _is_suspended(deployment, symbol, since_us, now_us)
    ]
    newest = (
        frame.group_by("symbol")
        .agg(pl.col("newest_us").max())
        .sort("symbol")
        .filter(~pl.col("symbol").is_in(ended))
    )
    aged = newest.with_columns(((now_us - pl.col("newest_us")) / HOUR_US).alias("age_hours"))
    stale = aged.filter(pl.col("age_hours").is_null() | (pl.col("age_hours") > limit))
    reason = (
        f"{stale.height} of {aged.height} symbols have no bar of the last {limit:g} h: "
        f"{', '.join(stale['symbol'])}"
        if stale.height
        else ""
    )
    figures = {"as_of": iso(now_us), "oldest_hours": aged["age_hours"].max(), "symbols": aged.height}
    return GateResult(
        checks.FRESHNESS,
        Verdict.of(stale.is_empty()),
        reason,
        figures,
        failing=stale,
        failing_count=stale.height,
    )


def _is_suspended(deployment: Deployment, symbol: str, start_us: int, end_us: int) -> bool:
    """Report whether a listed suspension of the symbol covers the whole range."""
    suspensions = (
        each
        for each in deployment.outages
        if each.kind is Kind.SUSPENSION and each.applies_to(deployment.settings.market, symbol)
    )
    return any(each.start_us <= start_us and each.end_us >= end_us for each in suspensions)


def _is_delisted(deployment: Deployment, symbol: str) -> bool:
    trading_period = load_trading_period(deployment, symbol)
    return trading_period is not None and trading_period.last_open_us is not None
