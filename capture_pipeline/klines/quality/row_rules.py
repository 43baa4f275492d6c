"""Evaluation of the gates of single rows, with Pandera's models of the table of bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandera.polars as pa
import polars as pl
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrorReason, SchemaErrors

from capture_pipeline.binance.periods import Interval
from capture_pipeline.calendars.irregularities import KnownIrregularity, is_known
from capture_pipeline.checks.klines import SCHEMA, list_row_gates
from capture_pipeline.checks.model import CheckSpec, Verdict
from capture_pipeline.klines.quality.gate_results import (
    GateResult,
    IrregularCounts,
    fail_gates,
    pass_gates,
)
from capture_pipeline.settings.levels import Level
from capture_pipeline.tables import models
from capture_pipeline.tables.klines import bars as bar_table
from capture_pipeline.tables.table import Rule

_ROWS_AT_ONCE = 500_000


def evaluate_row_gates(
    bars: pl.DataFrame,
    interval: Interval,
    now_us: int,
    max_shown: int,
    known: Sequence[KnownIrregularity] = (),
) -> list[GateResult]:
    """Evaluate every row gate on the bars of one partition.

    Args:
        bars: Frame that should have the schema of `BARS`.
        interval: Interval of the bars.
        now_us: Current time.
        max_shown: Limit of failing rows in a result.
        known: Irregularities that the calendar lists for this market, symbol and interval.

    Returns:
        One result per gate, in the order of `list_row_gates`.
    """
    specs = list_row_gates()
    if is_valid(bars, interval, now_us):
        return pass_gates(specs, bars.height)
    wrong = _schema_failures(bars)
    if wrong is not None:
        schema = GateResult(
            SCHEMA,
            Verdict.FAIL,
            _describe_schema(bars),
            failing=wrong.head(max_shown),
            failing_count=wrong.height,
        )
        return [schema, *fail_gates(specs[1:], "not evaluated: the schema gate failed")]
    results = pass_gates([SCHEMA], bars.height)
    for spec, rule in zip(specs[1:], bar_table.rules(interval, now_us), strict=True):
        if _validate(models.build_rule_model(rule), bars) is None:
            results += pass_gates([spec], bars.height)
            continue
        failing = bars.filter(~rule.holds.fill_null(value=False))
        if rule.irregularity is None:
            results.append(_report_failing(spec, rule, failing, bars.height, max_shown))
        else:
            is_listed = is_known(known, interval, rule.irregularity)
            irregular = failing.with_columns(kind=rule.irregularity, known=is_listed)
            results.append(_report_irregular(spec, rule, irregular, bars.height, max_shown))
    return results


def is_valid(bars: pl.DataFrame, interval: Interval, now_us: int) -> bool:
    """Return whether bars have the schema and meet every rule; a fast check for valid data."""
    if not models.has_schema(bar_table.BARS, bars):
        return False
    model = models.build_rules_model(bar_table.rules(interval, now_us))
    # Slices limit the memory. Each begins with the last row of the slice before, to compare open times.
    starts = range(0, max(bars.height, 1), _ROWS_AT_ONCE)
    return all(_validate(model, bars.slice(max(0, start - 1), _ROWS_AT_ONCE + 1)) is None for start in starts)


def _report_failing(
    spec: CheckSpec, rule: Rule, failing: pl.DataFrame, rows: int, max_shown: int
) -> GateResult:
    return GateResult(
        spec,
        Verdict.FAIL,
        f"{failing.height:,} of {rows:,} rows fail: {rule.description}",
        {"rows": rows},
        failing=failing.head(max_shown),
        failing_count=failing.height,
    )


def _report_irregular(
    spec: CheckSpec, rule: Rule, irregular: pl.DataFrame, rows: int, max_shown: int
) -> GateResult:
    """Count rows that break a rule by class; the gate fails if the calendar does not list one of them.

    Args:
        spec: The gate.
        rule: The rule.
        irregular: Rows that break the rule, with the columns `kind` and `known`.
        rows: Number of all rows.
        max_shown: Limit of failing rows in the result.
    """
    counts = {
        str(kind): IrregularCounts(int(group["known"].sum()), int((~group["known"]).sum()))
        for (kind,), group in irregular.group_by("kind", maintain_order=True)
    }
    unknown = irregular.filter(~pl.col("known")).drop("known")
    classes = ", ".join(f"{count.unknown:,} {kind}" for kind, count in counts.items() if count.unknown)
    remedy = "the rows are kept as sent; list them in gaps.irregularity_calendar once they are explained"
    return GateResult(
        spec,
        Verdict.of(unknown.is_empty()),
        f"{unknown.height:,} of {rows:,} rows are irregular ({classes}): {rule.description} {remedy}",
        {"rows": rows, "irregular": {kind: asdict(count) for kind, count in counts.items()}},
        level=Level.WARNING,
        failing=unknown.head(max_shown),
        failing_count=unknown.height,
        irregular=counts,
    )


def _schema_failures(bars: pl.DataFrame) -> pl.DataFrame | None:
    failures = _validate(models.build_schema_model(bar_table.BARS), bars)
    return (
        None
        if failures is None
        else failures.select(
            pl.col("failure_case").cast(pl.String), "column", pl.col("check").cast(pl.String)
        )
    )


def _describe_schema(bars: pl.DataFrame) -> str:
    expected = bar_table.BARS.schema
    differs = [name for name in expected if bars.schema.get(name) != expected[name]]
    nulls = [name for name in bars.columns if bars[name].null_count()]
    parts = [f"columns missing or of another type: {', '.join(differs)}"] if differs else []
    parts += (
        [f"unknown columns: {', '.join(set(bars.columns) - set(expected))}"]
        if set(bars.columns) - set(expected)
        else []
    )
    parts += [f"nulls in {', '.join(nulls)}"] if nulls else []
    return "; ".join(parts) or "columns are in another order"


def _validate(schema: pa.DataFrameSchema, frame: pl.DataFrame) -> pl.DataFrame | None:
    """Return the failing cases, or None; data checks run even if the environment disables them in Pandera.

    Raises:
        RuntimeError: A check itself raised an error.
    """
    try:
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        broken = [
            error for error in errors.schema_errors if error.reason_code is SchemaErrorReason.CHECK_ERROR
        ]
        # Without its column a rule cannot be evaluated: then the schema's failure is the finding.
        if len(broken) == len(errors.schema_errors):
            raise RuntimeError(f"a gate is broken: {broken[0]}") from errors
        failures: pl.DataFrame = errors.failure_cases
        return failures
    return None
