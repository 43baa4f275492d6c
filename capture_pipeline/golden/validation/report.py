"""Report of a validation: results of the checks, statistics and verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture_pipeline.checks.model import CheckResult, Severity, Verdict


@dataclass(frozen=True, slots=True)
class Report:
    """Result of the validation of one recording.

    Attributes:
        path: The recording.
        checks: Results in the order of `RECORDING_CHECKS`.
        statistics: Duration, gap ratios, and counts by stream.
    """

    path: Path
    checks: list[CheckResult]
    statistics: dict[str, Any]

    @property
    def failed(self) -> list[CheckResult]:
        """Failed checks of severity ERROR."""
        return [check for check in self.checks if check.is_failure]

    @property
    def verdict(self) -> Verdict:
        """FAIL if a check of severity ERROR failed, else PASS."""
        return Verdict.FAIL if self.failed else Verdict.PASS

    def check(self, name: str) -> CheckResult:
        """Return the result of a check.

        Raises:
            KeyError: The report has no check of this name.
        """
        for check in self.checks:
            if check.spec.name == name:
                return check
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to values that JSON can represent."""
        return {
            "path": str(self.path),
            "verdict": str(self.verdict),
            "reasons": [f"{check.spec.name}: {check.reason}" for check in self.failed],
            "checks": [
                {
                    "name": check.spec.name,
                    "verdict": str(check.verdict),
                    "decides": check.spec.severity is Severity.ERROR,
                    "reason": check.reason,
                    "figures": check.figures,
                }
                for check in self.checks
            ],
            "statistics": self.statistics,
        }
