"""Model of a check: specification, threshold, severity, verdict and result.

A check judges data, a machine or a measurement. An error of the program inside a check is raised, and never
reported as a failed check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """Effect of a failed check: an ERROR fails the command and the report, a WARN is only reported."""

    ERROR = "ERROR"
    WARN = "WARN"


class Verdict(StrEnum):
    """Result of one check, or of all checks of a report."""

    PASS = "PASS"  # noqa: S105 - no secret
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"
    """The evidence is missing or partial; nothing fails."""
    UNKNOWN = "UNKNOWN"
    """The value was not measured; the check does not pass."""

    @classmethod
    def of(cls, is_good: bool) -> Verdict:  # noqa: FBT001 - the condition is the only argument
        """Return PASS if the condition is met, otherwise FAIL."""
        return cls.PASS if is_good else cls.FAIL


class Bound(StrEnum):
    """Required relation of a measured value to the threshold."""

    AT_LEAST = "at least"
    AT_MOST = "at most"
    BELOW = "below"
    EXACTLY = "exactly"


@dataclass(frozen=True)
class Threshold:
    """Limit of a measured value.

    Attributes:
        bound: Required relation of the value to the limit.
        limit: Limit in `unit`.
        unit: Unit of value and limit.
    """

    bound: Bound
    limit: float
    unit: str

    def __str__(self) -> str:
        """Format bound, limit and unit."""
        return f"{self.bound} {self.limit:,g} {self.unit}"

    def is_met(self, measured: float) -> bool:
        """Compare a value with the limit."""
        return {
            Bound.AT_LEAST: measured >= self.limit,
            Bound.AT_MOST: measured <= self.limit,
            Bound.BELOW: measured < self.limit,
            Bound.EXACTLY: measured == self.limit,
        }[self.bound]

    def margin(self, measured: float | None) -> float | None:
        """Return the factor between value and limit: above 1 for a pass, below 1 for a failure.

        Returns:
            None without a value, or if the bound allows no factor.
        """
        if measured is None or self.bound is Bound.EXACTLY or not self.limit:
            return None
        if self.bound is Bound.AT_LEAST:
            return measured / self.limit
        return self.limit / measured if measured > 0 else None


@dataclass(frozen=True)
class CheckSpec:
    """Specification of a check.

    Attributes:
        name: Name, unique in its registry.
        description: Condition under which the check passes.
        severity: Effect of a failure.
        asset: Dagster asset, and table if there is one, that the check judges; empty for a check outside
            Dagster.
        blocking: Whether downstream assets wait after a failure.
        asset_check: Name of the asset check in Dagster, which may contain several checks; empty if it is
            `name`.
        threshold: Fixed threshold of the measured value, if there is one.
        settings: Keys of `pipeline.yaml` with the limits of the check.
        remedy: Action after a failure; empty if it depends on the failure.
    """

    name: str
    description: str
    severity: Severity = Severity.ERROR
    asset: str = ""
    blocking: bool = False
    asset_check: str = ""
    threshold: Threshold | None = None
    settings: tuple[str, ...] = ()
    remedy: str = ""

    def verdict(self, measured: float | None) -> Verdict:
        """Compare a measured value with the threshold; UNKNOWN if one of them is missing."""
        if measured is None or self.threshold is None:
            return Verdict.UNKNOWN
        return Verdict.of(self.threshold.is_met(measured))

    def judge(self, measured: float | None, reason: str) -> CheckResult:
        """Return the result of a measured value."""
        return CheckResult(self, self.verdict(measured), reason, measured=measured)

    def pass_if(self, is_good: bool, reason: str, **figures: object) -> CheckResult:  # noqa: FBT001 - see `of`
        """Return a result that passes if the condition is met."""
        return CheckResult(self, Verdict.of(is_good), reason, figures)

    def fail(self, reason: str, **figures: object) -> CheckResult:
        """Return the result of a failure."""
        return CheckResult(self, Verdict.FAIL, reason, figures)

    def skip(self, reason: str) -> CheckResult:
        """Return the result of a check that could not be evaluated."""
        return CheckResult(self, Verdict.SKIPPED, reason)


@dataclass(frozen=True)
class CheckResult:
    """Result of a check.

    Attributes:
        spec: Specification of the check.
        verdict: Result.
        reason: One line for people with the measured and the expected values.
        figures: Numbers and texts that explain the result.
        measured: Value that was compared with the threshold; None without one.
        remedy: Action after this failure, if it is not `spec.remedy`.
    """

    spec: CheckSpec
    verdict: Verdict
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    measured: float | None = None
    remedy: str = ""

    @property
    def passed(self) -> bool:
        """True if the check passed or was skipped."""
        return self.verdict in {Verdict.PASS, Verdict.SKIPPED}

    @property
    def is_failure(self) -> bool:
        """True if the check failed with severity ERROR."""
        return not self.passed and self.spec.severity is Severity.ERROR


def combine_specs(specs: Sequence[CheckSpec]) -> dict[str, CheckSpec]:
    """Combine checks into asset checks, by name of the asset check.

    The checks of an asset check have one asset and one severity, and all of them block or none does:
    Dagster's automation waits after a failed blocking check, whatever the severity of its evaluation.
    """
    grouped: dict[str, list[CheckSpec]] = {}
    for spec in specs:
        grouped.setdefault(spec.asset_check or spec.name, []).append(spec)
    return {
        name: replace(group[0], name=name, description=" ".join(spec.description for spec in group))
        for name, group in grouped.items()
    }
