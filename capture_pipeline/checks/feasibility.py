"""Criteria of feasibility, and the checks of benchmarks and of the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from capture_pipeline.checks.model import Bound, CheckSpec, Severity, Threshold


@dataclass(frozen=True, kw_only=True)
class Criterion(CheckSpec):
    """Check of one measured value. Without a remedy, a failure makes the verdict No-Go.

    Attributes:
        threshold: Threshold of the value.
        depends_on: Name of another criterion. If that one fails, this one may not be measurable, and the
            remedy of the other one is sufficient.
    """

    threshold: Threshold
    severity: Severity = Severity.WARN
    depends_on: str = ""


THROUGHPUT = Criterion(
    "throughput",
    "Level updates replayed per second",
    "replay_benchmark",
    threshold=Threshold(Bound.AT_LEAST, 100_000, "events/s"),
    remedy="replay in batches, not live",
)
MEMORY = Criterion(
    "memory_p95",
    "Memory of a replay, 95th percentile",
    "replay_benchmark",
    asset_check="memory",
    threshold=Threshold(Bound.BELOW, 24, "GB"),
    remedy="replay in streaming windows",
)
ORIGIN_TIME = Criterion(
    "origin_time_missing",
    "Missing or invalid origin times",
    "origin_time_report",
    threshold=Threshold(Bound.BELOW, 5, "%"),
    remedy="use the receipt time as the clock",
)
SKEW = Criterion(
    "origin_time_skew",
    "Skew between origin time and receipt, less the clock offset, 95th percentile",
    "origin_time_report",
    threshold=Threshold(Bound.BELOW, 100, "ms"),
    remedy="use the receipt time as the clock",
    depends_on=ORIGIN_TIME.name,
)
GAPS = Criterion(
    "sequence_gaps",
    "Updates lost in sequence gaps",
    "delta_feed_report",
    threshold=Threshold(Bound.BELOW, 0.1, "%"),
    remedy="rebuild from snapshots",
)
EXACT = Criterion(
    "decimal_errors",
    "Results that differ from exact decimals",
    "decimal_benchmark",
    severity=Severity.ERROR,
    asset_check="decimals_exact",
    threshold=Threshold(Bound.EXACTLY, 0, "results"),
)
DISK = Criterion(
    "disk_rate",
    "Sustained disk rate / needed rate for 220 GB a month",
    "io_benchmark",
    threshold=Threshold(Bound.AT_LEAST, 1, "times"),
    remedy="store fewer symbols, or use a faster disk",
)
CRITERIA = (THROUGHPUT, MEMORY, ORIGIN_TIME, SKEW, GAPS, EXACT, DISK)
WORST_RATIO = 0.7
"""Lowest ratio of a figure to the median of earlier runs that is no regression."""
REGRESSIONS = tuple(
    CheckSpec(
        "no_regression",
        f"No main figure is below {WORST_RATIO} of the median of earlier runs",
        Severity.WARN,
        asset,
    )
    for asset in (THROUGHPUT.asset, EXACT.asset, DISK.asset)
)
GO = CheckSpec(
    "go",
    "The verdict is Go; Conditional and Not judged are warnings, No-Go is an error",
    asset="go_no_go",
)


def list_criteria(asset: str) -> list[Criterion]:
    """List the criteria that an asset measures."""
    return [criterion for criterion in CRITERIA if criterion.asset == asset]
