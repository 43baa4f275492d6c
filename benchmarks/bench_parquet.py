"""Benchmark of the conversion of zips to Parquet: ours, two peers and the minimum work, 24 symbol-months."""

from __future__ import annotations

from inputs import FEW, OUT, ensure_zips
from processes import OURS, PEERS, Series, run_interleaved
from report import Finding, ratio

NAME = "parquet"
_OURS, _BACKFILL, _PANDAS, _DOWNLOADER, _FLOOR = (
    "ours",
    "ours, whole backfill",
    "pandas",
    "unzip + pandas",
    "floor",
)


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure all processes in interleaved runs.

    Raises:
        RuntimeError: The processes created different numbers of rows.
    """
    zips = ensure_zips()
    work = OUT / "work"
    commands = {
        _OURS: (OURS, "worker_ours.py", zips, work / "ours"),
        _PANDAS: (PEERS, "peer_pandas.py", zips, work / "pandas"),
        _DOWNLOADER: (PEERS, "peer_downloader.py", zips, work / "downloader"),
        _FLOOR: (OURS, "peer_floor.py", zips, work / "floor"),
        _BACKFILL: (OURS, "worker_backfill.py", zips, work / "backfill"),
    }
    series = run_interleaved(commands, FEW, repeats)
    if len({run.rows for each in series.values() for run in each.runs}) != 1:
        raise RuntimeError("the processes created different numbers of rows")
    ours, pandas, floor = series[_OURS], series[_PANDAS], series[_FLOOR]
    findings = [
        ratio(NAME, "verified, exact, gated: times as fast as pandas", pandas, ours, least=1.8),
        ratio(NAME, "… in CPU time", pandas, ours, figure="cpu_s"),
        ratio(NAME, "… times as fast as unzip + pandas", series[_DOWNLOADER], ours),
        ratio(NAME, "… times the time of the floor, inflate + parse", ours, floor, most=2.2),
        ratio(NAME, "… in CPU time", ours, floor, figure="cpu_s"),
        ratio(NAME, "whole backfill after the download: times as fast as pandas", pandas, series[_BACKFILL]),
        Finding(
            NAME,
            "ours, a symbol-month",
            1000 * ours.minimum("wall_s") / FEW,
            "ms",
            median=1000 * ours.median("wall_s") / FEW,
        ),
        Finding(
            NAME,
            "floor, a symbol-month",
            1000 * floor.minimum("wall_s") / FEW,
            "ms",
            median=1000 * floor.median("wall_s") / FEW,
        ),
    ]
    return findings, list(series.values())
