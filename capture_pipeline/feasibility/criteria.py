"""What a reconstruction of the market has to reach, and what is done where it does not. The one place in which these thresholds stand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Bound(StrEnum):
    """How a measured value has to lie to its threshold."""

    AT_LEAST = "at least"
    BELOW = "below"
    EXACTLY = "exactly"


class Verdict(StrEnum):
    """What a criterion, or all of them, come to."""

    PASS = "PASS"  # noqa: S105 - no secret
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"
    """Nothing was measured yet."""


@dataclass(frozen=True)
class Criterion:
    """One of them.

    Attributes:
        name: Identifier.
        title: For people.
        asset: Which asset measures it.
        bound: How the value has to lie to the threshold.
        threshold: In `unit`.
        unit: Of both.
        mitigation: What to do where it fails; empty where nothing helps: its failure makes the whole a No-Go.
        rests_on: Name of a criterion that has to hold for this one to be measurable at all; where that one fails, its mitigation does.
    """

    name: str
    title: str
    asset: str
    bound: Bound
    threshold: float
    unit: str
    mitigation: str = ""
    rests_on: str = ""

    def verdict(self, measured: float | None) -> Verdict:
        """Whether a measured value holds."""
        if measured is None:
            return Verdict.UNKNOWN
        held = {
            Bound.AT_LEAST: measured >= self.threshold,
            Bound.BELOW: measured < self.threshold,
            Bound.EXACTLY: measured == self.threshold,
        }[self.bound]
        return Verdict.PASS if held else Verdict.FAIL

    def margin(self, measured: float | None) -> float | None:
        """By which factor it holds, above 1, or fails, below 1; None where there is none."""
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
    "origin_time_skew", "Skew of origin time to receipt, 95th percentile, clock offset taken out", "origin_time_report", Bound.BELOW, 100,
    "ms", "use the receipt time as the clock", rests_on=ORIGIN_TIME.name,
)  # fmt: skip
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
    "disk_rate", "Sustained write and read against what 220 GB a month needs", "io_benchmark", Bound.AT_LEAST, 1, "times",
    "store fewer symbols or a faster medium",
)  # fmt: skip
CRITERIA = (THROUGHPUT, MEMORY, ORIGIN_TIME, SKEW, GAPS, EXACT, DISK)
