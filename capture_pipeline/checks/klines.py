"""Checks of klines, called gates: rows of bars, raw files, coverage, gap ledgers and freshness.

`klines/quality` evaluates them.
"""

from __future__ import annotations

from functools import partial

from capture_pipeline.binance.periods import Interval
from capture_pipeline.checks.model import CheckSpec, Severity
from capture_pipeline.tables.klines import bars as bar_table
from capture_pipeline.tables.table import Rule

BARS, GAPS, REPORT = "bars", "bar_gaps", "coverage_report"
"""Assets with gates."""
_TIMESTAMPS, _VALUES = "timestamps", "values"
"""Asset checks of several gates: no file of the exchange breaks those of the first, which block."""

_check_bars = partial(CheckSpec, asset=BARS)
_check_gaps = partial(CheckSpec, asset=GAPS)
_check_report = partial(CheckSpec, asset=REPORT)

SCHEMA = _check_bars(
    "schema",
    "Columns and types are those of the table; nothing is null.",
    blocking=True,
    asset_check=_TIMESTAMPS,
)
OFF_GRID = _check_bars(
    "off_grid_rows_known",
    "The calendar lists all rows that open off the grid.",
    Severity.WARN,
    asset_check=_VALUES,
)
RAW_CHECKSUMS = _check_bars(
    "raw_checksums", "Every raw file has the SHA-256 that was recorded for it.", blocking=True
)

LEDGER_FITS = _check_gaps(
    "ledger_fits",
    "The gap ledger was computed from these bars, and bars and gaps together are the expected bars.",
)
COVERAGE = _check_gaps(
    "coverage",
    "Of the expected bars that have no explained cause, nearly all are present.",
    settings=("gates.coverage_error_below_percent",),
)
OUTAGES = _check_gaps(
    "coverage_with_outages",
    "Of all expected bars, few are missing with an explained cause.",
    Severity.WARN,
    settings=("gates.coverage_warning_below_percent",),
)
UNEXPLAINED = _check_gaps(
    "unexplained_missing",
    "Few expected bars are missing without an explained cause.",
    settings=("gates.unexplained_error_percent",),
)
LONG_GAP = _check_gaps(
    "long_gap", "No single gap is long.", Severity.WARN, settings=("gates.long_gap_hours",)
)
GAP_GATES = (LEDGER_FITS, COVERAGE, OUTAGES, UNEXPLAINED, LONG_GAP)

ALL_SYMBOLS = _check_report("all_symbols_present", "Every configured symbol has bars.")
LEDGERS_CURRENT = _check_report("ledgers_current", "Every gap ledger was computed from the present bars.")
FRESHNESS = _check_report(
    "freshness",
    "The newest bar of the open month is recent, for every symbol that trades.",
    settings=("gates.freshness_hours",),
)
REPORT_GATES = (ALL_SYMBOLS, LEDGERS_CURRENT, FRESHNESS)


def list_row_gates() -> list[CheckSpec]:
    """List the gates of single rows: the schema, then each rule of the table."""
    return [SCHEMA, *map(_build_row_gate, bar_table.rules(Interval.M1, 0))]


def list_gates() -> list[CheckSpec]:
    """List all gates in the order of their evaluation."""
    return [*list_row_gates(), OFF_GRID, RAW_CHECKSUMS, *GAP_GATES, *REPORT_GATES]


def _build_row_gate(rule: Rule) -> CheckSpec:
    """Build the gate of a rule; if a verified file of the exchange can break it, the gate only warns."""
    if rule.irregularity is None:
        return _check_bars(rule.name, rule.description, blocking=True, asset_check=_TIMESTAMPS)
    description = f"{rule.description} Rows that the calendar lists may differ."
    return _check_bars(rule.name, description, Severity.WARN, asset_check=_VALUES)
