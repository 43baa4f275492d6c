"""Results of gates of klines, for a partition or for the whole lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from capture_pipeline.checks.model import CheckResult, CheckSpec, Verdict
from capture_pipeline.settings.levels import Level


@dataclass(frozen=True)
class IrregularCounts:
    """Numbers of irregular rows of a class.

    Attributes:
        known: Rows that the calendar lists.
        unknown: Other rows.
    """

    known: int = 0
    unknown: int = 0

    def __add__(self, other: IrregularCounts) -> IrregularCounts:
        """Sum the numbers."""
        return IrregularCounts(self.known + other.known, self.unknown + other.unknown)


@dataclass(frozen=True)
class GateResult(CheckResult):
    """Result of a gate for one partition, or for the whole lake.

    Attributes:
        symbol: Symbol of the partition; None for the whole lake.
        month: Month of the partition; None for the whole lake.
        level: Level of the alert after a failure.
        failing: Failing rows, up to a limit.
        failing_count: Count of all failing rows.
        file: Path of the evaluated file below the storage root; empty if there are several.
        irregular: Numbers of irregular rows by class.
    """

    symbol: str | None = None
    month: str | None = None
    level: Level = Level.CRITICAL
    failing: pl.DataFrame | None = None
    failing_count: int = 0
    file: str = ""
    irregular: Mapping[str, IrregularCounts] = field(default_factory=dict)


def pass_gates(specs: Sequence[CheckSpec], rows: int) -> list[GateResult]:
    """Return the results of gates that a table with this number of rows passes."""
    return [GateResult(spec, Verdict.PASS, figures={"rows": rows}) for spec in specs]


def fail_gates(specs: Sequence[CheckSpec], reason: str) -> list[GateResult]:
    """Return the results of gates that fail for one reason."""
    return [GateResult(spec, Verdict.FAIL, reason) for spec in specs]


def sum_irregular(results: Sequence[GateResult]) -> dict[str, IrregularCounts]:
    """Sum the irregular rows of all gates by class."""
    sums: dict[str, IrregularCounts] = {}
    for result in results:
        for kind, counts in result.irregular.items():
            sums[kind] = sums.get(kind, IrregularCounts()) + counts
    return sums


def find_worst_level(results: Sequence[GateResult]) -> Level:
    """Return the highest level among failed gates."""
    return max(
        (result.level for result in results if not result.passed),
        key=lambda level: level.rank,
        default=Level.INFO,
    )
