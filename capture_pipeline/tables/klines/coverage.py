"""The table of the coverage report: expected and present bars by symbol and month."""

from __future__ import annotations

from capture_pipeline.tables.table import FLOAT, INT64, TEXT, Column, Table

_TIME = "microseconds UTC"

COVERAGE = Table(
    "coverage",
    "Number of expected and of present bars by symbol and month, in `reports/coverage.csv`.",
    (
        Column("symbol", TEXT, "Symbol in capitals, for instance BTCUSDT"),
        Column("month", TEXT, "Month, YYYY-MM, UTC"),
        Column(
            "expected",
            INT64,
            "Open times of the grid from the month's start to its end or the last finished kline, without "
            "those before listing, after delisting, in a listed suspension and not yet published; null if "
            "gaps were never computed",
            "bars",
            nullable=True,
        ),
        Column("present", INT64, "Distinct open times on the grid in `bars`", "bars"),
        Column("duplicates", INT64, "Rows of `bars` whose open time is already present", "bars"),
        Column("missing", INT64, "Expected bars that are not present", "bars"),
        Column(
            "explained",
            INT64,
            "Missing bars with a known cause that needs no action: a listed outage, or klines off the grid",
            "bars",
        ),
        Column("unexplained", INT64, "Missing bars that need action", "bars"),
        Column(
            "suspended",
            INT64,
            "Bars that are not expected because the calendar lists a suspension of the symbol",
            "bars",
        ),
        Column("unjudged", INT64, "Missing bars after the time at which the gaps were computed", "bars"),
        Column("filled", INT64, "Bars that were missing earlier and are present now", "bars"),
        Column(
            "longest_gap",
            INT64,
            "The longest open gap of expected bars; a gap that continues in the next month has its whole "
            "length",
            "bars",
        ),
        Column("conflicts", INT64, "Bars on which sources differ", "bars"),
        Column("monthly", INT64, "Bars from monthly files", "bars"),
        Column("daily", INT64, "Bars from daily files", "bars"),
        Column("rest", INT64, "Bars from REST", "bars"),
        Column("newest_us", INT64, "Open time of the newest bar", _TIME, nullable=True),
        Column("as_of_us", INT64, "Time at which the gaps were computed", _TIME, nullable=True),
        Column(
            "coverage_percent",
            FLOAT,
            "100 × present / expected; null if expected is 0",
            "percent",
            nullable=True,
        ),
        Column(
            "explained_coverage_percent",
            FLOAT,
            "100 × present / (expected − explained). 100 if expected − explained is 0, for instance in a "
            "month of which every bar is in an outage or a suspension; null if gaps were never computed",
            "percent",
            nullable=True,
        ),
    ),
)
