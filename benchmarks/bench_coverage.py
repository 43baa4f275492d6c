"""Benchmark of the coverage query over the whole lake: time and memory."""

from __future__ import annotations

from inputs import PARTITIONS, ensure_lake
from processes import OURS, Series, run_in_new_process
from report import Finding

NAME = "coverage"


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure each query in a new process."""
    command = (OURS, "worker_lake.py", "coverage", ensure_lake())
    queries = Series("coverage query", [run_in_new_process(command, PARTITIONS) for _ in range(repeats)])
    findings = [
        Finding(
            NAME,
            f"coverage of {PARTITIONS} symbol-months: time",
            queries.minimum("wall_s"),
            "s",
            median=queries.median("wall_s"),
        ),
        Finding(NAME, "… peak memory", queries.maximum("peak_mb"), "MB"),
    ]
    return findings, [queries]
