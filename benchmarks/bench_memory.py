"""Benchmark of the peak memory of backfills: many symbol-months compared with few, to detect growth."""

from __future__ import annotations

from inputs import FEW, MANY, OUT, ensure_zips
from processes import OURS, Series, run_in_new_process
from report import Finding

NAME = "memory"


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure each backfill in a new process."""
    command = (OURS, "worker_backfill.py", ensure_zips(), OUT / "work" / "memory")
    few, many = Series(f"backfill of {FEW}"), Series(f"backfill of {MANY}")
    for _ in range(repeats):
        few.runs.append(run_in_new_process(command, FEW))
        many.runs.append(run_in_new_process(command, MANY))
    value = many.median("peak_mb") / few.median("peak_mb")
    finding = Finding(NAME, f"peak memory of {MANY} symbol-months against {FEW}", value, "x", most=1.2)
    return [finding, Finding(NAME, f"peak memory of {MANY} symbol-months", many.maximum("peak_mb"), "MB")], [
        few,
        many,
    ]
