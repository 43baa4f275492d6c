"""Criteria of feasibility with their thresholds, and the mitigation if a criterion fails."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Bound(StrEnum):
    """Required relation of a measured value to the threshold."""

    AT_LEAST = "at least"
    BELOW = "below"
    EXACTLY = "exactly"


class Verdict(StrEnum):
    """Result of a criterion."""

    PASS = "PASS"  # noqa: S105 - no secret
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"
    """The criterion was not measured."""


@dataclass(frozen=True)
class Criterion:
    """A criterion of feasibility.

    Attributes:
        name: Identifier.
        title: Title for readers.
        asset: Name of the asset that measures it.
        bound: Required relation of the value to the threshold.
        threshold: Threshold in `unit`.
        unit: Unit of value and threshold.
        mitigation: Action if the criterion fails; if it is empty, a failure makes the verdict No-Go.
        depends_on: Name of another criterion. If that one fails, this one may not be measurable, and the
            mitigation of the other one is sufficient.
    """

    name: str
    title: str
    asset: str
    bound: Bound
    threshold: float
    unit: str
    mitigation: str = ""
    depends_on: str = ""

    def verdict(self, measured: float | None) -> Verdict:
        """Compare a measured value with the threshold."""
        if measured is None:
            return Verdict.UNKNOWN
        is_met = {
            Bound.AT_LEAST: measured >= self.threshold,
            Bound.BELOW: measured < self.threshold,
            Bound.EXACTLY: measured == self.threshold,
        }[self.bound]
        return Verdict.PASS if is_met else Verdict.FAIL

    def margin(self, measured: float | None) -> float | None:
        """Return the factor between value and threshold: above 1 for a pass, below 1 for a failure.

        Returns:
            None without a value, or if the criterion allows no factor.
        """
        if measured is None or self.bound is Bound.EXACTLY or not self.threshold:
            return None
        if self.bound is Bound.AT_LEAST:
            return measured / self.threshold
        return self.threshold / measured if measured > 0 else None


THROUGHPUT = Criterion(
    "throughput",
    "Level updates replayed a second",
    "replay_benchmark",
    Bound.AT_LEAST,
    100_000,
    "events/s",
    "replay in batches, not live",
)
MEMORY = Criterion(
    "memory_p95",
    "Memory of a replay, 95th percentile",
    "replay_benchmark",
    Bound.BELOW,
    24,
    "GB",
    "replay in streaming windows",
)
ORIGIN_TIME = Criterion(
    "origin_time_missing",
    "Origin times missing or invalid",
    "origin_time_report",
    Bound.BELOW,
    5,
    "%",
    "use the receipt time as the clock",
)
SKEW = Criterion(
    "origin_time_skew",
    "Skew of origin time to receipt, 95th percentile, clock offset taken out",
    "origin_time_report",
    Bound.BELOW,
    100,
    "ms",
    "use the receipt time as the clock",
    depends_on=ORIGIN_TIME.name,
)
GAPS = Criterion(
    "sequence_gaps",
    "Updates lost in sequence gaps",
    "delta_feed_report",
    Bound.BELOW,
    0.1,
    "%",
    "rebuild from snapshots",
)
EXACT = Criterion(
    "decimal_errors",
    "Results that differ from exact decimals",
    "decimal_benchmark",
    Bound.EXACTLY,
    0,
    "results",
)
DISK = Criterion(
    "disk_rate",
    "Sustained write and read against what 220 GB a month needs",
    "io_benchmark",
    Bound.AT_LEAST,
    1,
    "times",
    "store fewer symbols or a faster medium",
)
CRITERIA = (THROUGHPUT, MEMORY, ORIGIN_TIME, SKEW, GAPS, EXACT, DISK)
