"""Peak memory of a backfill of many symbol-months against that of few: what grows with the work would show."""

from __future__ import annotations

from inputs import FEW, MANY, OUT, ensure_zips
from processes import OURS, Series, afresh
from report import Finding

NAME = "memory"


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure, each backfill in a process of its own."""
    command = (OURS, "worker_backfill.py", ensure_zips(), OUT / "work" / "memory")
    few, many = Series(f"backfill of {FEW}"), Series(f"backfill of {MANY}")
    for _ in range(repeats):
        few.runs.append(afresh(command, FEW))
        many.runs.append(afresh(command, MANY))
    value = many.middle("peak_mb") / few.middle("peak_mb")
    finding = Finding(NAME, f"peak memory of {MANY} symbol-months against {FEW}", value, "x", most=1.2)
    return [finding, Finding(NAME, f"peak memory of {MANY} symbol-months", many.most("peak_mb"), "MB")], [
        few,
        many,
    ]
