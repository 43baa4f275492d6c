"""Benchmark of all gates of the bars over ten symbols and sixty months, compared with plain reading."""

from __future__ import annotations

from inputs import PARTITIONS, ensure_lake
from processes import OURS, Series, run_in_new_process
from report import Finding, ratio

NAME = "gates"


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure each pass in a new process, after one uncounted pass that fills the page cache."""
    lake = ensure_lake()
    reading, checking = Series("read all columns"), Series("gates")
    run_in_new_process((OURS, "worker_lake.py", "read", lake), PARTITIONS)
    for _ in range(repeats):
        reading.runs.append(run_in_new_process((OURS, "worker_lake.py", "read", lake), PARTITIONS))
        checking.runs.append(run_in_new_process((OURS, "worker_lake.py", "gates", lake), PARTITIONS))
    rows = checking.runs[0].rows
    findings = [
        ratio(
            NAME,
            f"gates over {rows / 1e6:.1f} M rows: times the time of reading them",
            checking,
            reading,
            most=3.0,
        ),
        ratio(NAME, "… in CPU time", checking, reading, figure="cpu_s"),
        Finding(NAME, "… peak memory", checking.maximum("peak_mb"), "MB", most=1000),
        Finding(NAME, "… time", checking.minimum("wall_s"), "s", median=checking.median("wall_s")),
    ]
    return findings, [reading, checking]
