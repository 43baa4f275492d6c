"""Gates on bars: one definition for the asset checks, the command line and the report.

A gate evaluates data. An error in a gate itself is raised as an error of the program and never reported as
bad data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrorReason, SchemaErrors

from capture_pipeline.binance.periods import Interval
from capture_pipeline.calendars.irregularities import KnownIrregularity, is_known
from capture_pipeline.settings.levels import Level
from capture_pipeline.tables import models
from capture_pipeline.tables.klines import bars as bar_table
from capture_pipeline.tables.table import Rule

_ROWS_AT_ONCE = 500_000


class Severity(StrEnum):
    """Effect of a failed gate: an ERROR fails a run of `capture check`, a WARN is only reported."""

    ERROR = "ERROR"
    WARN = "WARN"


@dataclass(frozen=True)
class GateSpec:
    """Specification of a gate.

    Attributes:
        name: Unique name.
        table: Table that the gate evaluates.
        description: One sentence.
        severity: Effect of a failure.
        blocking: Whether downstream assets must wait after a failure.
        check: Name of the asset check that evaluates the gate together with others; empty if the check has
            the name of the gate.
    """

    name: str
    table: str
    description: str
    severity: Severity = Severity.ERROR
    blocking: bool = False
    check: str = ""


@dataclass(frozen=True)
class GateResult:
    """Result of a gate for one partition, or for the whole lake.

    Attributes:
        spec: Specification of the gate.
        passed: Whether the data pass.
        symbol: Symbol of the partition; None for the whole lake.
        month: Month of the partition; None for the whole lake.
        level: Level of the alert.
        summary: One line for people.
        values: Numbers and texts that explain the result.
        failing: Failing rows, up to a limit.
        failing_count: Count of all failing rows.
        file: Path of the evaluated file below the storage root; empty if there are several.
    """

    spec: GateSpec
    passed: bool
    symbol: str | None = None
    month: str | None = None
    level: Level = Level.INFO
    summary: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    failing: pl.DataFrame | None = None
    failing_count: int = 0
    file: str = ""

    @property
    def fails_check(self) -> bool:
        """Whether `capture check` must exit with 1."""
        return not self.passed and self.spec.severity is Severity.ERROR


TIMESTAMPS, VALUES = "timestamps", "values"
"""Asset checks of several gates. Either all gates of a check block, or none does: Dagster's automation waits
after a failed blocking check, whatever the severity of its evaluation."""

SCHEMA_GATE = GateSpec(
    "schema",
    "bars",
    "Columns and types are those of the table; nothing is null.",
    blocking=True,
    check=TIMESTAMPS,
)
CHECKSUM_GATE = GateSpec(
    "raw_checksums", "bars", "Every raw file has the SHA-256 that was recorded for it.", blocking=True
)

OFF_GRID_GATE = GateSpec(
    "off_grid_rows_known",
    "bars",
    "The calendar lists all rows that open off the grid.",
    severity=Severity.WARN,
    check=VALUES,
)


def row_gates() -> list[GateSpec]:
    """Return the gates of single rows, in order."""
    return [SCHEMA_GATE, *(_gate_of(rule) for rule in bar_table.rules(Interval.M1, 0))]


def _gate_of(rule: Rule) -> GateSpec:
    """Build the gate of a rule; if a verified file of the exchange can break it, the gate only warns."""
    if rule.irregularity is None:
        return GateSpec(rule.name, "bars", rule.description, blocking=True, check=TIMESTAMPS)
    return GateSpec(
        rule.name,
        "bars",
        f"{rule.description} Rows that the calendar lists may differ.",
        severity=Severity.WARN,
        check=VALUES,
    )


def evaluate_row_gates(
    bars: pl.DataFrame,
    interval: Interval,
    now_us: int,
    max_shown: int,
    known: Sequence[KnownIrregularity] = (),
) -> list[GateResult]:
    """Evaluate every row gate on the bars of one partition.

    Args:
        bars: Frame that should have schema of `BARS`.
        interval: Interval of the bars.
        now_us: Current time.
        max_shown: Limit of failing rows in a result.
        known: Irregularities that the calendar lists for this market, symbol and interval.

    Returns:
        One result per gate, in the order of `row_gates`.
    """
    specs = row_gates()
    if is_valid(bars, interval, now_us):
        return [GateResult(spec, passed=True, values={"rows": bars.height}) for spec in specs]
    wrong = _schema_failures(bars)
    if wrong is not None:
        first = GateResult(
            SCHEMA_GATE,
            passed=False,
            level=Level.CRITICAL,
            summary=_schema_summary(bars),
            failing=wrong.head(max_shown),
            failing_count=wrong.height,
        )
        untested = "not evaluated: the schema gate failed"
        return [
            first,
            *(GateResult(spec, passed=False, level=Level.CRITICAL, summary=untested) for spec in specs[1:]),
        ]
    results = [GateResult(SCHEMA_GATE, passed=True, values={"rows": bars.height})]
    for spec, rule in zip(specs[1:], bar_table.rules(interval, now_us), strict=True):
        kind = rule.irregularity
        broken = _validate(models.build_rule_model(rule), bars) is not None
        if not broken:
            results.append(GateResult(spec, passed=True, values={"rows": bars.height}))
        elif kind is None:
            results.append(_evaluate_rule(bars, spec, rule, max_shown))
        else:
            results.append(
                _evaluate_irregular_rule(bars, rule, spec, (kind, is_known(known, interval, kind)), max_shown)
            )
    return results


def irregular_counts(results: Sequence[GateResult]) -> dict[str, dict[str, int]]:
    """Sum the irregular rows over all gates: counts of known and unknown rows by class."""
    found: dict[str, dict[str, int]] = {}
    for result in results:
        for kind, counts in result.values.get("irregular", {}).items():
            sums = found.setdefault(kind, {"known": 0, "unknown": 0})
            for name, count in counts.items():
                sums[name] += count
    return found


def is_valid(bars: pl.DataFrame, interval: Interval, now_us: int) -> bool:
    """Return whether bars have the schema and meet every rule; a fast check for valid data."""
    if not models.has_schema(bar_table.BARS, bars):
        return False
    model = models.build_rules_model(bar_table.rules(interval, now_us))
    # Slices limit the memory. Each begins with the last row of the slice before, to compare open times.
    starts = range(0, max(bars.height, 1), _ROWS_AT_ONCE)
    return all(_validate(model, bars.slice(max(0, start - 1), _ROWS_AT_ONCE + 1)) is None for start in starts)


def _evaluate_rule(bars: pl.DataFrame, spec: GateSpec, rule: Rule, max_shown: int) -> GateResult:
    failing = bars.filter(~rule.holds.fill_null(value=False))
    summary = f"{failing.height:,} of {bars.height:,} rows fail: {rule.description}"
    return GateResult(
        spec,
        passed=False,
        level=Level.CRITICAL,
        summary=summary,
        values={"rows": bars.height},
        failing=failing.head(max_shown),
        failing_count=failing.height,
    )


def _evaluate_irregular_rule(
    bars: pl.DataFrame,
    rule: Rule,
    spec: GateSpec,
    kind_and_known: tuple[pl.Expr, pl.Expr],
    max_shown: int,
) -> GateResult:
    """Classify the rows that break a rule; the gate fails if the calendar does not list one of them."""
    kind, known = kind_and_known
    irregular = bars.filter(~rule.holds.fill_null(value=False)).with_columns(kind=kind, known=known)
    counts: dict[str, dict[str, int]] = {
        str(name): {"known": int(group["known"].sum()), "unknown": int((~group["known"]).sum())}
        for (name,), group in irregular.group_by("kind", maintain_order=True)
    }
    unknown = irregular.filter(~pl.col("known")).drop("known")
    counts_text = ", ".join(
        f"{count['unknown']:,} {name}" for name, count in counts.items() if count["unknown"]
    )
    remedy = "the rows are kept as sent; list them in gaps.irregularity_calendar once they are explained"
    return GateResult(
        spec,
        passed=unknown.is_empty(),
        level=Level.WARNING,
        summary=f"{unknown.height:,} of {bars.height:,} rows are irregular ({counts_text}): "
        f"{rule.description} {remedy}",
        values={"rows": bars.height, "irregular": counts},
        failing=unknown.head(max_shown),
        failing_count=unknown.height,
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


def _schema_summary(bars: pl.DataFrame) -> str:
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
    """Return the failing cases, or None; data checks run whatever the environment says about Pandera.

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


def worst_level(results: Sequence[GateResult]) -> Level:
    """Return the highest level among failed gates."""
    return max(
        (result.level for result in results if not result.passed),
        key=lambda level: level.rank,
        default=Level.INFO,
    )
