"""The coverage query over the whole lake: its time and its memory."""

from __future__ import annotations

from inputs import PARTITIONS, ensure_lake
from processes import OURS, Series, afresh
from report import Finding

NAME = "coverage"


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure, each query in a process of its own."""
    command = (OURS, "worker_lake.py", "coverage", ensure_lake())
    asking = Series("coverage query", [afresh(command, PARTITIONS) for _ in range(repeats)])
    findings = [
        Finding(
            NAME,
            f"coverage of {PARTITIONS} symbol-months: time",
            asking.least("wall_s"),
            "s",
            median=asking.middle("wall_s"),
        ),
        Finding(NAME, "… peak memory", asking.most("peak_mb"), "MB"),
    ]
    return findings, [asking]
