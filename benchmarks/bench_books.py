"""Benchmark of order books: level updates per second, compared with hftbacktest and nautilus_trader.

hftbacktest also simulates latencies and orders, so that its ratio does not compare books only. The benchmark
fails if the best prices after the messages differ between the programs.
"""

from __future__ import annotations

from pathlib import Path

import book_events_file
from inputs import OUT
from picture import write_bar_chart
from processes import BOOK_PEERS, OURS, Command, Run, Series, run_in_new_process, run_interleaved
from report import Finding, ratio

from capture_pipeline.feasibility.replay_throughput.synthetic_events import LEVELS
from capture_pipeline.feasibility.replay_throughput.synthetic_session import make_session

NAME = "books"
_EVENTS, _EIGHTH, _FEW = 8_000_000, 1_000_000, 5_000
_PICTURE = Path(__file__).parent.parent / "docs" / "images" / "replay.svg"
_MEMORY, _SCAN, _PARQUET, _RAW = (
    "ours, in memory",
    "a plain scan of the columns",
    "ours, from Parquet",
    "ours, from raw JSONL.gz",
)
_ROI, _HASHMAP, _NAUTILUS = "hftbacktest, ROI vector", "hftbacktest, hash map", "nautilus_trader"
_SNAPSHOT_LEVELS = 10_000
"""Number of levels of the snapshot."""
_MAX_MB, _MAX_GROWTH, _MAX_SCANS, _MIN_EVENTS_PER_S = 700.0, 1.2, 27.0, 100_000


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure rates in interleaved runs, and peak memory for all data and for one eighth.

    Raises:
        RuntimeError: The best prices differ between the programs.
    """
    events, session, eighth = _ensure_events(_EVENTS), _ensure_session(_EVENTS), _ensure_session(_EIGHTH)
    commands: dict[str, Command] = {
        _MEMORY: (OURS, "worker_book.py", "book", events),
        _SCAN: (OURS, "worker_book.py", "scan", events),
        _PARQUET: (OURS, "worker_replay.py", "parquet", session),
        _RAW: (OURS, "worker_replay.py", "raw", session),
        _ROI: (BOOK_PEERS, "peer_hftbacktest.py", "roi", events),
        _HASHMAP: (BOOK_PEERS, "peer_hftbacktest.py", "hashmap", events),
    }
    series = run_interleaved(commands, 0, repeats)
    few = run_interleaved(
        {_NAUTILUS: (BOOK_PEERS, "peer_nautilus.py", events, _FEW), _MEMORY: commands[_MEMORY]}, _FEW, repeats
    )
    _check_equal({name: each for name, each in series.items() if name != _SCAN})
    _check_equal(few)
    nautilus = few[_NAUTILUS]
    peaks = {
        kind: [_measure_peak(kind, folder) for folder in (eighth, session)] for kind in ("parquet", "raw")
    }
    rates = {name: _EVENTS / each.minimum("wall_s") / 1e6 for name, each in series.items() if name != _SCAN}
    rates[_NAUTILUS] = (_SNAPSHOT_LEVELS + (_FEW - 1) * LEVELS) / nautilus.minimum("wall_s") / 1e6
    write_bar_chart(
        _PICTURE,
        "Level updates replayed a second, millions; best bid and ask read after each message",
        rates,
        ours="ours",
    )
    return _findings(series, rates, peaks), [*series.values(), nautilus]


def _findings(
    series: dict[str, Series], rates: dict[str, float], peaks: dict[str, list[float]]
) -> list[Finding]:
    ours, roi = series[_MEMORY], series[_ROI]
    findings = [
        ratio(NAME, "in memory: times as fast as hftbacktest's fastest depth", roi, ours, least=5),
        Finding(NAME, "… as nautilus_trader's book", rates[_MEMORY] / rates[_NAUTILUS], "x", least=20),
        ratio(NAME, "… times a plain scan of the same columns", ours, series[_SCAN], most=_MAX_SCANS),
        ratio(NAME, "from Parquet: times as fast as hftbacktest in memory", roi, series[_PARQUET], least=2),
        ratio(
            NAME, "from raw JSONL.gz: times as fast as hftbacktest in memory", roi, series[_RAW], least=0.7
        ),
        Finding(
            NAME,
            "from raw JSONL.gz: times the gate of 100,000 a second",
            rates[_RAW] * 1e6 / _MIN_EVENTS_PER_S,
            "x",
            least=1,
        ),
    ]
    for kind, (small, large) in peaks.items():
        findings += [
            Finding(NAME, f"from {kind}: peak memory", large, "MB", most=_MAX_MB),
            Finding(
                NAME, "… of eight times as many: times the peak memory", large / small, "x", most=_MAX_GROWTH
            ),
        ]
    return findings + [Finding(NAME, f"{name}: level updates", rate, "M/s") for name, rate in rates.items()]


def _check_equal(series: dict[str, Series]) -> None:
    """Check that all programs compute the same best prices."""
    checksums = {name: {run.rows for run in each.runs} for name, each in series.items()}
    if len(set.union(*checksums.values())) != 1:
        raise RuntimeError(f"best prices differ: {checksums}")


def _measure_peak(kind: str, folder: Path) -> float:
    run: Run = run_in_new_process((OURS, "worker_replay.py", kind, folder), 1)
    return run.peak_mb


def _ensure_events(count: int) -> Path:
    path = OUT / f"book_{count}.npz"
    if not path.is_file():
        book_events_file.write_events(path, count)
    return path


def _ensure_session(count: int) -> Path:
    path = OUT / f"book_session_{count}"
    make_session(path, count)
    return path
