"""Coverage of the lake: expected and present bars by symbol and month, by one SQL query.

Distinct open times are counted in a bit string for each partition, so the memory depends on the number of
partitions and not on the number of bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path

import polars as pl
from markupsafe import Markup

from capture_pipeline.binance.periods import DAY_US, HOUR_US, SECOND_US, Month, iso
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
class CoverageSummary:
    """Totals of all symbols and months.

    Attributes:
        expected: Number of expected bars; the following counts are numbers of bars, too.
        present: Present bars.
        missing: Missing bars.
        explained: Missing bars with an explained cause.
        unexplained: Missing bars without an explained cause.
        suspended: Bars that are not expected because of a suspension.
        unjudged: Missing bars that no gap ledger covers.
        filled: Bars that were missing earlier.
        duplicates: Rows with the values of another row.
        conflicts: Fields in which sources differ.
        coverage_percent: Present bars as a percentage of the expected ones; None if no bar is expected.
        explained_coverage_percent: The same without explained missing bars; None if no ledger was computed.
        newest: Open time of the newest bar; None without a bar.
        newest_age_hours: Age of the newest bar; None without a bar.
        never_computed: Number of symbol-months without a gap ledger.
        symbols: Number of symbols.
        months: Number of months.
        as_of: Time of the report.
    """

    expected: int
    present: int
    missing: int
    explained: int
    unexplained: int
    suspended: int
    unjudged: int
    filled: int
    duplicates: int
    conflicts: int
    coverage_percent: float | None
    explained_coverage_percent: float | None
    newest: str | None
    newest_age_hours: float | None
    never_computed: int
    symbols: int
    months: int
    as_of: str


_TOTALS = tuple(each.name for each in fields(CoverageSummary))[:10]
"""Fields of the summary that are sums of columns."""


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
    summary: CoverageSummary
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
            whole deployment.
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
            render_coverage_page(
                found.frame, asdict(found.summary), found.svg, title, settings.gates
            ).encode(),
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


def summarise_coverage(frame: pl.DataFrame, now_us: int) -> CoverageSummary:
    """Sum up the coverage of all symbols and months.

    Args:
        frame: Result of `measure_coverage`.
        now_us: The present time.
    """
    totals = {name: int(frame[name].sum() or 0) for name in _TOTALS}
    expected, present, never_computed = totals["expected"], totals["present"], frame["expected"].null_count()
    attainable = expected - totals["explained"]
    nothing = 100.0 if never_computed < frame.height else None
    newest = frame["newest_us"].max()
    newest_us = newest if isinstance(newest, int) else None
    return CoverageSummary(
        **totals,
        coverage_percent=round(100 * present / expected, 4) if expected else None,
        explained_coverage_percent=round(100 * present / attainable, 4) if attainable else nothing,
        newest=None if newest_us is None else iso(newest_us),
        newest_age_hours=None if newest_us is None else round((now_us - newest_us) / HOUR_US, 2),
        never_computed=never_computed,
        symbols=frame["symbol"].n_unique(),
        months=frame["month"].n_unique(),
        as_of=iso(now_us // SECOND_US * SECOND_US),
    )


def _compute_explained_percent(present: pl.Expr, attainable: pl.Expr) -> pl.Expr:
    """Return the present bars as a percentage of the attainable ones; 100 if no bar is attainable."""
    return pl.when(attainable > 0).then(100.0 * present / attainable).when(attainable <= 0).then(100.0)


def _compute_percent(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(100.0 * part / whole)
