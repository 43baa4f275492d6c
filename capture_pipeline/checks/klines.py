"""Checks of klines, called gates: rows of bars, raw files, coverage, gap ledgers and freshness.

`klines/quality` evaluates them.
"""

from __future__ import annotations

from capture_pipeline.binance.periods import Interval
from capture_pipeline.checks.model import CheckSpec, Severity
from capture_pipeline.tables import bars as bar_table

BARS, GAPS, REPORT = "bars", "bar_gaps", "coverage_report"
"""Assets with gates."""
_TIMESTAMPS, _VALUES = "timestamps", "values"
"""Asset checks of several gates: no file of the exchange breaks those of the first, which block."""

SCHEMA = CheckSpec(
    "schema",
    "Columns and types are those of the table; nothing is null.",
    asset=BARS,
    blocking=True,
    asset_check=_TIMESTAMPS,
)
OFF_GRID = CheckSpec(
    "off_grid_rows_known",
    "The calendar lists all rows that open off the grid.",
    Severity.WARN,
    BARS,
    asset_check=_VALUES,
)
RAW_CHECKSUMS = CheckSpec(
    "raw_checksums", "Every raw file has the SHA-256 that was recorded for it.", asset=BARS, blocking=True
)
LEDGER_FITS = CheckSpec(
    "ledger_fits",
    "The gap ledger is that of these bars, and bars and gaps are all that was expected.",
    asset=GAPS,
)
COVERAGE = CheckSpec(
    "coverage",
    "Of the expected bars that have no explained cause, nearly all are present.",
    asset=GAPS,
    settings=("gates.coverage_error_below_percent",),
)
OUTAGES = CheckSpec(
    "coverage_with_outages",
    "Of all expected bars, few are missing with an explained cause.",
    Severity.WARN,
    GAPS,
    settings=("gates.coverage_warning_below_percent",),
)
UNEXPLAINED = CheckSpec(
    "unexplained_missing",
    "Few expected bars are missing without an explained cause.",
    asset=GAPS,
    settings=("gates.unexplained_error_percent",),
)
LONG_GAP = CheckSpec(
    "long_gap", "No single gap is long.", Severity.WARN, GAPS, settings=("gates.long_gap_hours",)
)
ALL_SYMBOLS = CheckSpec("all_symbols_present", "Every configured symbol has bars.", asset=REPORT)
LEDGERS_CURRENT = CheckSpec(
    "ledgers_current",
    "Every gap ledger was computed from the bars that are there now.",
    asset=REPORT,
)
FRESHNESS = CheckSpec(
    "freshness",
    "The newest bar of the open month is recent, for every symbol that trades.",
    asset=REPORT,
    settings=("gates.freshness_hours",),
)


def list_row_gates() -> list[CheckSpec]:
    """List the gates of single rows: the schema, then each rule of the table."""
    return [SCHEMA, *map(_build_row_gate, bar_table.rules(Interval.M1, 0))]


def list_gates() -> list[CheckSpec]:
    """List all gates in the order of their evaluation."""
    return [
        *list_row_gates(),
        OFF_GRID,
        RAW_CHECKSUMS,
        LEDGER_FITS,
        COVERAGE,
        OUTAGES,
        UNEXPLAINED,
        LONG_GAP,
        ALL_SYMBOLS,
        LEDGERS_CURRENT,
        FRESHNESS,
    ]


def _build_row_gate(rule: bar_table.Rule) -> CheckSpec:
    """Build the gate of a rule; if a verified file of the exchange can break it, the gate only warns."""
    if rule.irregularity is None:
        return CheckSpec(rule.name, rule.description, asset=BARS, blocking=True, asset_check=_TIMESTAMPS)
    return CheckSpec(
        rule.name,
        f"{rule.description} Rows that the calendar lists may differ.",
        Severity.WARN,
        BARS,
        asset_check=_VALUES,
    )
