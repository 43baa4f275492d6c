"""From zips to Parquet: ours, two peers and the floor on 24 symbol-months of 1m bars."""

from __future__ import annotations

from inputs import FEW, OUT, ensure_zips
from processes import OURS, PEERS, Series, in_turn
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
    """Measure.

    Raises:
        RuntimeError: The processes did not make the same number of rows.
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
    series = in_turn(commands, FEW, repeats)
    if len({run.rows for each in series.values() for run in each.runs}) != 1:
        raise RuntimeError("the processes made different numbers of rows")
    ours, pandas, floor = series[_OURS], series[_PANDAS], series[_FLOOR]
    findings = [
        ratio(NAME, "verified, exact, gated: times as fast as pandas", pandas, ours, least=1.8),
        ratio(NAME, "… in CPU time", pandas, ours, of="cpu_s"),
        ratio(NAME, "… times as fast as unzip + pandas", series[_DOWNLOADER], ours),
        ratio(NAME, "… times the time of the floor, inflate + parse", ours, floor, most=2.2),
        ratio(NAME, "… in CPU time", ours, floor, of="cpu_s"),
        ratio(NAME, "whole backfill after the download: times as fast as pandas", pandas, series[_BACKFILL]),
        Finding(
            NAME,
            "ours, a symbol-month",
            1000 * ours.least("wall_s") / FEW,
            "ms",
            median=1000 * ours.middle("wall_s") / FEW,
        ),
        Finding(
            NAME,
            "floor, a symbol-month",
            1000 * floor.least("wall_s") / FEW,
            "ms",
            median=1000 * floor.middle("wall_s") / FEW,
        ),
    ]
    return findings, list(series.values())
