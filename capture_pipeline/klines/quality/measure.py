"""What the archive is worth: expected against present bars by symbol and month, by one query over the lake.

Distinct open times are counted in a bit string a partition, so memory depends on the number of partitions, not of bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from markupsafe import Markup

from capture_pipeline.binance.periods import DAY_US, HOUR_US, Month, iso
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.quality.page import heat_map, page
from capture_pipeline.lake.catalog import build_select, configure_duckdb
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.tables.gaps import NOT_EXPECTED, Cause
from capture_pipeline.tables.registry import TABLES

_LONGEST_MONTH_US = 31 * DAY_US
_NULLABLE = {
    **dict.fromkeys(("expected", "newest_us", "as_of_us"), pl.Int64()),
    **dict.fromkeys(("coverage_percent", "explained_coverage_percent"), pl.Float64()),
}
"""Columns of the report that may be empty."""


@dataclass(frozen=True)
class CoverageReport:
    """Coverage of the configured symbols and months.

    Attributes:
        frame: One row a symbol-month, see `measure`, without digests.
        summary: Totals.
        svg: The heat-map.
        csv: Where the same rows lie as CSV once published.
        html: Where the page lies once published.
    """

    frame: pl.DataFrame
    summary: dict[str, Any]
    svg: Markup
    csv: Path
    html: Path


def measure(
    workspace: Workspace, symbols: Sequence[str], months: Sequence[Month], now_us: int
) -> pl.DataFrame:
    """Coverage by symbol and month, by one query.

    What a ledger does not reach although it is older than `gates.freshness_hours` counts as expected, missing and unexplained: nobody
    has looked there.

    Args:
        workspace: The deployment.
        symbols: Which ones.
        months: Which ones.
        now_us: The present.

    Returns:
        One row a symbol-month, also where nothing is there: expected (null where it was never computed), present, duplicates, missing,
        explained, unexplained, suspended (not expected), unjudged (beyond the ledger), filled, longest_gap (all in bars; a gap that
        goes on in the next month is counted whole in both), conflicts, bars by source, newest_us, as_of_us, bars_sha256, gaps_sha256,
        coverage_percent (null where nothing was expected), explained_coverage_percent (null where gaps were never computed).

    Raises:
        LakeError: A table cannot be read.
    """
    lake, interval = workspace.lake, workspace.settings.interval
    tables = {
        name: build_select(
            lake, f"bar_{name}" if name != "bars" else name, TABLES[f"bar_{name}" if name != "bars" else name]
        )
        for name in ("bars", "gaps", "conflicts", "windows")
    }
    here = f"market = '{workspace.settings.market}' AND interval = '{interval}'"
    query = (
        files("capture_pipeline.klines.quality")
        .joinpath("coverage.sql")
        .read_text(encoding="utf-8")
        .format(
            step=interval.us,
            month=_LONGEST_MONTH_US,
            most=_LONGEST_MONTH_US // interval.us - 1,
            not_expected=", ".join(f"'{cause}'" for cause in sorted(NOT_EXPECTED)),
            suspended=Cause.SUSPENDED,
            **{name: f"SELECT * FROM ({sql}) WHERE {here}" for name, sql in tables.items()},  # noqa: S608 - the project's own names
        )
    )
    parameters = {
        "symbols": list(symbols),
        "months": [str(month) for month in months],
        "starts": [month.start_us for month in months],
        "ends": [month.end_us for month in months],
        "known_by": interval.floor(now_us - round(workspace.settings.gates.freshness_hours * HOUR_US)),
    }
    with duckdb.connect() as connection:
        configure_duckdb(connection, lake.state("duckdb"))
        try:
            frame = pl.DataFrame(connection.sql(query, params=parameters).to_arrow_table())
        except duckdb.Error as error:
            what = f"a table cannot be read: {' '.join(str(error).split())[:200]}"
            raise LakeError(
                what,
                where=str(lake.root),
                remedy="move it aside, then backfill its partition again to make it anew",
            ) from None
    return frame.with_columns(
        _percent(pl.col("present"), pl.col("expected")).alias("coverage_percent"),
        _explained_percent(pl.col("present"), pl.col("expected") - pl.col("explained")).alias(
            "explained_coverage_percent"
        ),
    )


def report(workspace: Workspace, now_us: int, *, publish: bool = True) -> CoverageReport:
    """Measure the configured symbols and months and publish CSV and page.

    Args:
        workspace: The deployment.
        now_us: The present.
        publish: Whether to; a look at a part of the deployment leaves the files of the whole alone.
    """
    settings = workspace.settings
    found = _report(
        workspace,
        measure(workspace, settings.symbols, workspace.months(now_us), now_us).drop(
            "bars_sha256", "gaps_sha256"
        ),
        now_us,
    )
    if publish:
        title = f"{settings.market} {settings.interval}"
        publish_bytes(found.csv, found.frame.write_csv().encode())
        publish_bytes(found.html, page(found.frame, found.summary, found.svg, title, settings.gates).encode())
    return found


def recorded_report(workspace: Workspace, made_us: int) -> CoverageReport:
    """Read the report that was published last.

    Args:
        workspace: The deployment.
        made_us: When it was made, by the exchange's clock.

    Raises:
        LakeError: It cannot be read.
    """
    path = workspace.lake.reports() / "coverage.csv"
    try:
        frame = pl.read_csv(path, infer_schema_length=None)
        return _report(
            workspace,
            frame.with_columns(pl.col(name).cast(kind) for name, kind in _NULLABLE.items()),
            made_us,
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LakeError(
            f"cannot be read: {' '.join(str(error).split())[:200]}",
            where=str(path),
            remedy="make it again: capture coverage",
        ) from None


def _report(workspace: Workspace, frame: pl.DataFrame, now_us: int) -> CoverageReport:
    reports, gates = workspace.lake.reports(), workspace.settings.gates
    return CoverageReport(
        frame,
        summarise(frame, now_us),
        heat_map(frame, gates),
        reports / "coverage.csv",
        reports / "coverage.html",
    )


def summarise(frame: pl.DataFrame, now_us: int) -> dict[str, Any]:
    """Totals over all symbol-months.

    Args:
        frame: As `measure` returns.
        now_us: The present.
    """
    names = (
        "expected",
        "present",
        "missing",
        "explained",
        "unexplained",
        "suspended",
        "unjudged",
        "filled",
        "duplicates",
        "conflicts",
    )
    totals: dict[str, Any] = {name: int(frame[name].sum() or 0) for name in names}
    newest = frame["newest_us"].max()
    expected = totals["expected"]
    totals["coverage_percent"] = round(100 * totals["present"] / expected, 4) if expected else None
    attainable = expected - totals["explained"]
    computed = frame["expected"].null_count() < frame.height
    totals["explained_coverage_percent"] = (
        round(100 * totals["present"] / attainable, 4) if attainable else 100.0 if computed else None
    )
    totals["newest"] = iso(newest) if isinstance(newest, int) else None
    totals["newest_age_hours"] = round((now_us - newest) / HOUR_US, 2) if isinstance(newest, int) else None
    totals["never_computed"] = frame["expected"].null_count()
    totals["symbols"], totals["months"] = frame["symbol"].n_unique(), frame["month"].n_unique()
    totals["as_of"] = iso(now_us // 1_000_000 * 1_000_000)
    return totals


def _explained_percent(present: pl.Expr, attainable: pl.Expr) -> pl.Expr:
    """Share of the bars that the exchange had, as far as is known; all of them where it had none."""
    return pl.when(attainable > 0).then(100.0 * present / attainable).when(attainable <= 0).then(100.0)


def _percent(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(100.0 * part / whole)
