"""Coverage of the lake: expected and present bars by symbol and month, by one SQL query.

Distinct open times are counted in a bit string for each partition, so the memory depends on the number of
partitions and not on the number of bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from capture_pipeline.binance.periods import DAY_US, HOUR_US, Month, iso
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.quality.page import draw_heat_map, render_coverage_page
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.tables.klines.bars import BARS
from capture_pipeline.tables.klines.conflicts import CONFLICTS
from capture_pipeline.tables.klines.coverage import COVERAGE
from capture_pipeline.tables.klines.gaps import GAPS, NOT_EXPECTED, Cause
from capture_pipeline.tables.klines.windows import WINDOWS

_LONGEST_MONTH_US = 31 * DAY_US
_NULLABLE = {column.name: column.kind for column in COVERAGE.columns if column.nullable}
"""Columns of the report that may contain nulls."""


@dataclass(frozen=True)
class CoverageReport:
    """Coverage of the configured symbols and months.

    Attributes:
        frame: One row for each symbol and month, see `measure_coverage`, without digests.
        summary: Totals.
        svg: Heat map.
        csv: Path of the published CSV file with the rows of `frame`.
        html: Path of the published page.
    """

    frame: pl.DataFrame
    summary: dict[str, Any]
    svg: Markup
    csv: Path
    html: Path


def measure_coverage(
    deployment: Deployment, symbols: Sequence[str], months: Sequence[Month], now_us: int
) -> pl.DataFrame:
    """Measure the coverage by symbol and month, by one query.

    Bars after the end of a gap ledger that are older than `gates.freshness_hours` count as expected, missing
    and unexplained, because their absence was not examined yet.

    Args:
        symbols: The symbols.
        months: The months.
        now_us: The present time.

    Returns:
        One row for each symbol and month, with the columns of `COVERAGE`, bars_sha256 and gaps_sha256.

    Raises:
        LakeError: A table cannot be read.
    """
    import duckdb  # noqa: PLC0415 - few processes that load this module measure the coverage

    from capture_pipeline.tables.catalog import build_select, configure_duckdb  # noqa: PLC0415 - the same

    lake, interval = deployment.lake, deployment.settings.interval
    tables = {
        name: build_select(lake, table)
        for name, table in (("bars", BARS), ("gaps", GAPS), ("conflicts", CONFLICTS), ("windows", WINDOWS))
    }
    here = f"market = '{deployment.settings.market}' AND interval = '{interval}'"
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
            **{
                name: f"SELECT * FROM ({sql}) WHERE {here}"  # noqa: S608 - the project's own names
                for name, sql in tables.items()
            },
        )
    )
    parameters = {
        "symbols": list(symbols),
        "months": [str(month) for month in months],
        "starts": [month.start_us for month in months],
        "ends": [month.end_us for month in months],
        "known_by": interval.floor(now_us - round(deployment.settings.gates.freshness_hours * HOUR_US)),
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
                remedy="move the table to another folder, then backfill its partition again",
            ) from None
    return frame.with_columns(
        _compute_percent(pl.col("present"), pl.col("expected")).alias("coverage_percent"),
        _compute_explained_percent(pl.col("present"), pl.col("expected") - pl.col("explained")).alias(
            "explained_coverage_percent"
        ),
    )


def report_coverage(deployment: Deployment, now_us: int, *, publish: bool = True) -> CoverageReport:
    """Measure the coverage of the configured symbols and months and publish it as CSV and as a page.

    Args:
        now_us: The present time.
        publish: Write the files. A report on a part of the deployment must not replace the files of the
            whole.
    """
    settings = deployment.settings
    found = _build_report(
        deployment,
        measure_coverage(deployment, settings.symbols, deployment.months(now_us), now_us).drop(
            "bars_sha256", "gaps_sha256"
        ),
        now_us,
    )
    if publish:
        title = f"{settings.market} {settings.interval}"
        publish_bytes(found.csv, found.frame.write_csv().encode())
        publish_bytes(
            found.html,
            render_coverage_page(found.frame, found.summary, found.svg, title, settings.gates).encode(),
        )
    return found


def load_coverage_report(deployment: Deployment, created_us: int) -> CoverageReport:
    """Load the report that was published last.

    Args:
        created_us: Time of the report, by the exchange's clock.

    Raises:
        LakeError: The CSV file of the report cannot be read.
    """
    path = deployment.lake.reports() / "coverage.csv"
    try:
        frame = pl.read_csv(path, infer_schema_length=None)
        return _build_report(
            deployment,
            frame.with_columns(pl.col(name).cast(kind) for name, kind in _NULLABLE.items()),
            created_us,
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LakeError(
            f"cannot be read: {' '.join(str(error).split())[:200]}",
            where=str(path),
            remedy="run `capture klines coverage` to publish it again",
        ) from None


def _build_report(deployment: Deployment, frame: pl.DataFrame, now_us: int) -> CoverageReport:
    reports, gates = deployment.lake.reports(), deployment.settings.gates
    return CoverageReport(
        frame,
        summarise_coverage(frame, now_us),
        draw_heat_map(frame, gates),
        reports / "coverage.csv",
        reports / "coverage.html",
    )


def summarise_coverage(frame: pl.DataFrame, now_us: int) -> dict[str, Any]:
    """Sum up the coverage of all symbols and months.

    Args:
        frame: Result of `measure_coverage`.
        now_us: The present time.
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


def _compute_explained_percent(present: pl.Expr, attainable: pl.Expr) -> pl.Expr:
    """Return the present bars as a percentage of the attainable ones; 100 if no bar is attainable."""
    return pl.when(attainable > 0).then(100.0 * present / attainable).when(attainable <= 0).then(100.0)


def _compute_percent(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(100.0 * part / whole)
