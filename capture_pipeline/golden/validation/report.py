"""Data model of a validation: thresholds, results of the checks, verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

DAY_S = 86_400.0


class Verdict(StrEnum):
    """Result of one check or of all."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits that a golden sample has to meet.

    Attributes:
        min_messages: Minimum number of lines.
        duration_s: Minimum duration by the capture times.
        duration_tolerance_s: Seconds that the duration may be shorter.
        end_tolerance_s: Maximum seconds between the last message and the planned end of the session.
        max_gap_ratio: Upper limit of each of the three gap ratios, exclusive.
        min_uptime: Lower limit of the share of time outside gaps, exclusive.
        trades_per_s: Minimum and maximum of trades per second of a symbol.
        depth_per_s: Minimum and maximum of depth diffs per second of a symbol.
        stream_silence_s: Maximum seconds without a message of a planned stream at the start and at the end.
        min_book_valid: Minimum share of depth diffs at which the replayed book is synced.
        max_crossed: Maximum number of diffs after which the book is crossed.
        min_audit_ratio: Minimum match ratio of the best 1000 levels in each audit.
        advisory: Checks that are reported and never fail the recording: trading activity depends on the
            market.
    """

    min_messages: int = 1_000_000
    duration_s: float = DAY_S
    duration_tolerance_s: float = 60.0
    end_tolerance_s: float = 10.0
    max_gap_ratio: float = 1e-4
    min_uptime: float = 0.999
    trades_per_s: tuple[float, float] = (10.0, 100.0)
    depth_per_s: tuple[float, float] = (8.0, 10.5)
    stream_silence_s: float = 600.0
    min_book_valid: float = 0.999
    max_crossed: int = 0
    min_audit_ratio: float = 0.99
    advisory: frozenset[str] = frozenset({"trade_rate", "depth_rate"})


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check.

    Attributes:
        name: Name of the check.
        verdict: Result.
        reason: One line with the measured and the expected values.
        figures: Measured values by name.
        decides: True if a failure of the check fails the recording.
    """

    name: str
    verdict: Verdict
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)
    decides: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """Result of the validation of one recording.

    Attributes:
        path: The recording.
        checks: Results in the order of `checks.CHECKS`.
        statistics: Duration, gap ratios, and counts by stream.
    """

    path: Path
    checks: list[Check]
    statistics: dict[str, Any]

    @property
    def failed(self) -> list[Check]:
        """Failed checks that decide."""
        return [check for check in self.checks if check.verdict is Verdict.FAIL and check.decides]

    @property
    def verdict(self) -> Verdict:
        """FAIL if a check that decides failed, else PASS."""
        return Verdict.FAIL if self.failed else Verdict.PASS

    def check(self, name: str) -> Check:
        """Return the result of a check.

        Raises:
            KeyError: The report has no check of this name.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to values that JSON can represent."""
        return {
            "path": str(self.path),
            "verdict": str(self.verdict),
            "reasons": [f"{check.name}: {check.reason}" for check in self.failed],
            "checks": [
                {
                    "name": check.name,
                    "verdict": str(check.verdict),
                    "decides": check.decides,
                    "reason": check.reason,
                    "figures": check.figures,
                }
                for check in self.checks
            ],
            "statistics": self.statistics,
        }


def check_result(
    name: str,
    good: bool,  # noqa: FBT001 - the condition is the second argument of every call
    reason: str,
    *,
    decides: bool = True,
    **figures: object,
) -> Check:
    """Create a result that passes if `good` is true."""
    return Check(name, Verdict.PASS if good else Verdict.FAIL, reason, figures, decides)


def skipped_check(name: str, reason: str) -> Check:
    """Create the result of a check that could not be evaluated."""
    return Check(name, Verdict.SKIPPED, reason)
