"""All gates of the bars over ten symbols and sixty months, against merely reading the same files."""

from __future__ import annotations

from inputs import PARTITIONS, ensure_lake
from processes import OURS, Series, afresh
from report import Finding, ratio

NAME = "gates"


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure, each pass in a process of its own; a first reading fills the page cache and does not count."""
    lake = ensure_lake()
    reading, judging = Series("read all columns"), Series("gates")
    afresh((OURS, "worker_lake.py", "read", lake), PARTITIONS)
    for _ in range(repeats):
        reading.runs.append(afresh((OURS, "worker_lake.py", "read", lake), PARTITIONS))
        judging.runs.append(afresh((OURS, "worker_lake.py", "gates", lake), PARTITIONS))
    rows = judging.runs[0].rows
    findings = [
        ratio(
            NAME,
            f"gates over {rows / 1e6:.1f} M rows: times the time of reading them",
            judging,
            reading,
            most=3.0,
        ),
        ratio(NAME, "… in CPU time", judging, reading, of="cpu_s"),
        Finding(NAME, "… peak memory", judging.most("peak_mb"), "MB", most=1000),
        Finding(NAME, "… time", judging.least("wall_s"), "s", median=judging.middle("wall_s")),
    ]
    return findings, [reading, judging]
