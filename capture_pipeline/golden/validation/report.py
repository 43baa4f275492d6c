"""What a validation says: its thresholds, one result a check, the verdict. Typed, without knowing how anything is measured."""

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
    """What a golden sample has to keep.

    Attributes:
        min_messages: Lines it has at least.
        duration_s: How long it lasts at least, by its own stamps.
        duration_tolerance_s: How much of that may lie before the first and after the last message.
        end_tolerance_s: How long before the planned end of a session its last message may have come.
        max_gap_ratio: Upper limit of each of the three gap ratios, exclusive.
        min_uptime: Lower limit of the share of time outside gaps, exclusive.
        trades_per_s: Expected trades of a symbol, from and to.
        depth_per_s: Expected depth diffs of a symbol, from and to.
        stream_silence_s: How long after the recording's start a planned stream may begin, and how long before its end it may end.
        min_book_valid: Share of depth diffs at which the replayed book is synced.
        max_crossed: Diffs after which the book may be crossed.
        min_audit_ratio: Match ratio of the best 1000 levels that each audit reaches.
        advisory: Checks whose failure is told and does not decide; how much is traded is the market's doing.
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
    """One result.

    Attributes:
        name: What was checked.
        verdict: How it ended.
        reason: One line: what was measured, what was expected.
        figures: The numbers behind it.
        decides: Whether its failure fails the whole.
    """

    name: str
    verdict: Verdict
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)
    decides: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """Every check of one recording.

    Attributes:
        path: The recording.
        checks: In the order in which they were made.
        statistics: Figures by stream, duration, ratios.
    """

    path: Path
    checks: list[Check]
    statistics: dict[str, Any]

    @property
    def failed(self) -> list[Check]:
        """What decides and failed."""
        return [check for check in self.checks if check.verdict is Verdict.FAIL and check.decides]

    @property
    def verdict(self) -> Verdict:
        """FAIL where anything that decides failed."""
        return Verdict.FAIL if self.failed else Verdict.PASS

    def check(self, name: str) -> Check:
        """The result of that name.

        Raises:
            KeyError: There is none.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
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


def check_result(name: str, good: bool, reason: str, *, decides: bool = True, **figures: object) -> Check:  # noqa: FBT001 - reads as a sentence
    """A check that passes where `good`."""
    return Check(name, Verdict.PASS if good else Verdict.FAIL, reason, figures, decides)


def skipped_check(name: str, reason: str) -> Check:
    """A check that has nothing to look at."""
    return Check(name, Verdict.SKIPPED, reason)
