"""Column schemas of the assets of klines; those of tables are taken from `capture_pipeline.tables`."""

import dagster as dg
import polars as pl

from capture_pipeline.defs.shared.table_metadata import build_schema
from capture_pipeline.tables.bars import BAR_SCHEMA, COLUMN_DESCRIPTIONS
from capture_pipeline.tables.exclusions import EXCLUSION_DESCRIPTIONS, EXCLUSION_SCHEMA
from capture_pipeline.tables.gaps import GAP_DESCRIPTIONS, GAP_SCHEMA
from capture_pipeline.tables.merge import CONFLICT_SCHEMA

_TIME, _TEXT, _COUNT, _PERCENT = pl.Int64(), pl.String(), pl.Int64(), pl.Float64()

_RAW_COLUMNS: dict[str, tuple[pl.DataType, str]] = {
    "open_time": (_TIME, "Open time, UTC, in milliseconds or microseconds"),
    "open": (_TEXT, "First price, quote asset, as sent"),
    "high": (_TEXT, "Highest price, quote asset, as sent"),
    "low": (_TEXT, "Lowest price, quote asset, as sent"),
    "close": (_TEXT, "Last price, quote asset, as sent"),
    "volume": (_TEXT, "Base asset traded, as sent"),
    "close_time": (_TIME, "Last instant of the candle, in the unit of open_time"),
    "quote_volume": (_TEXT, "Quote asset traded, as sent"),
    "count": (_COUNT, "Number of trades"),
    "taker_buy_volume": (_TEXT, "Base asset bought by takers, as sent"),
    "taker_buy_quote_volume": (_TEXT, "Quote asset spent by buying takers, as sent"),
    "ignore": (_TEXT, "Unused by the exchange"),
}
_CONFLICTS = {
    "open_time_us": "Open time of the bar, microseconds UTC",
    "field": "The column on which the sources disagree",
    "kept_source": "Source of the bar that was kept",
    "kept_value": "Value of the bar that was kept",
    "kept_file": "File of the bar that was kept",
    "other_source": "Source of the other value",
    "other_value": "Value of the other source",
    "other_file": "File of the other source",
}
COVERAGE_COLUMNS: dict[str, tuple[pl.DataType, str]] = {
    "symbol": (_TEXT, "For instance BTCUSDT"),
    "month": (_TEXT, "YYYY-MM, UTC"),
    "expected": (_COUNT, "Bars that should be present; empty where gaps were never computed"),
    "present": (_COUNT, "Number of distinct open times"),
    "duplicates": (_COUNT, "Rows whose open time is already present"),
    "missing": (_COUNT, "Expected bars that are not present"),
    "explained": (
        _COUNT,
        "Missing bars with a known cause that needs no action: a listed outage, or candles off the grid",
    ),
    "unexplained": (_COUNT, "Missing bars without a known cause"),
    "suspended": (
        _COUNT,
        "Bars that were not expected because the calendar lists a suspension of the symbol",
    ),
    "unjudged": (_COUNT, "Missing bars after the time at which the gaps were computed"),
    "filled": (_COUNT, "Bars that were missing and are present now"),
    "longest_gap": (_COUNT, "Bars of the longest open gap"),
    "conflicts": (_COUNT, "Bars on which sources disagree"),
    "monthly": (_COUNT, "Bars from monthly files"),
    "daily": (_COUNT, "Bars from daily files"),
    "rest": (_COUNT, "Bars from REST"),
    "newest_us": (_TIME, "Open time of the newest bar, microseconds UTC"),
    "as_of_us": (_TIME, "When the gaps were computed, microseconds UTC"),
    "coverage_percent": (_PERCENT, "Present bars, percent of the expected ones"),
    "explained_coverage_percent": (
        _PERCENT,
        "Present bars, percent of the expected ones outside listed outages; 100 where there are none",
    ),
}
_MAY_BE_EMPTY = {"expected", "newest_us", "as_of_us", "coverage_percent", "explained_coverage_percent"}

RAW = build_schema(
    {name: kind for name, (kind, _) in _RAW_COLUMNS.items()},
    {name: text for name, (_, text) in _RAW_COLUMNS.items()},
)
"""The twelve columns of a kline at the exchange, both in the CSV of a zip and in a REST answer."""
BARS = build_schema(BAR_SCHEMA, COLUMN_DESCRIPTIONS)
CONFLICTS = build_schema(CONFLICT_SCHEMA, _CONFLICTS)
EXCLUSIONS = build_schema(EXCLUSION_SCHEMA, EXCLUSION_DESCRIPTIONS)
GAPS = build_schema(GAP_SCHEMA, GAP_DESCRIPTIONS, nullable={"filled_by"})
COVERAGE = build_schema(
    {name: kind for name, (kind, _) in COVERAGE_COLUMNS.items()},
    {name: text for name, (_, text) in COVERAGE_COLUMNS.items()},
    nullable=_MAY_BE_EMPTY,
)

_RAW_NAMES = {
    "open_time_us": "open_time",
    "close_time_us": "close_time",
    "trades": "count",
    "time_unit": "open_time",
}
"""Name in the exchange's files by column of `bars`, if it differs."""
LINEAGE = dg.TableColumnLineage(
    {
        name: [
            dg.TableColumnDep(asset, _RAW_NAMES.get(name, name))
            for asset in ("kline_archives", "kline_topups")
        ]
        for name in BAR_SCHEMA
        if name != "source"
    }
)
"""Columns of the raw files from which each column of `bars` is computed."""
