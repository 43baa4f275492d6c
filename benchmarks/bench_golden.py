"""Golden samples: validated against gzip + json.loads, made into Parquet against json + pandas; time, and memory that does not grow."""

from __future__ import annotations

from pathlib import Path

from golden_file import write
from inputs import OUT
from processes import OURS, PEERS, Run, Series, afresh
from report import Finding, ratio

NAME = "golden"
_MESSAGES, _TIMES = 1_000_000, 5
_MOST_MB = {"validate": 60.0, "convert": 700.0}
_LEAST = {"validate": 5.0, "convert": 3.5}
_PEER = {"validate": "gzip + json.loads", "convert": "json + pandas"}
_MOST_GROWTH = 1.2


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure, each pass in a process of its own; a recording five times as long shows what memory grows with."""
    recording, long = _ensure(_MESSAGES), _ensure(_TIMES * _MESSAGES)
    findings: list[Finding] = []
    timed: list[Series] = []
    for what in ("validate", "convert"):
        ours, peer, longer = (
            Series(f"{what}: ours"),
            Series(f"{what}: {_PEER[what]}"),
            Series(f"{what}: ours, {_TIMES} times as long"),
        )
        for _ in range(repeats):
            peer.runs.append(_run(PEERS, "peer_golden.py", what, recording))
            ours.runs.append(_run(OURS, "worker_golden.py", what, recording))
        longer.runs.append(_run(OURS, "worker_golden.py", what, long))
        peak = ours.middle("peak_mb")
        findings += [
            ratio(
                NAME,
                f"{what} {_MESSAGES:,} messages: times as fast as {_PEER[what]}",
                peer,
                ours,
                least=_LEAST[what],
            ),
            ratio(NAME, "… in CPU time", peer, ours, of="cpu_s"),
            Finding(NAME, "… time", ours.least("wall_s"), "s", median=ours.middle("wall_s")),
            Finding(NAME, "… peak memory", ours.most("peak_mb"), "MB", most=_MOST_MB[what]),
            Finding(
                NAME,
                f"… of {_TIMES} times as many messages: times the peak memory",
                longer.most("peak_mb") / peak,
                "x",
                most=_MOST_GROWTH,
            ),
        ]
        timed += [ours, peer, longer]
    return findings, timed


def _run(python: str, script: str, what: str, recording: Path) -> Run:
    return afresh((python, script, what, recording, OUT / "work" / f"golden-{Path(script).stem}"), 1)


def _ensure(messages: int) -> Path:
    path = OUT / f"golden_{messages}.jsonl.gz"
    if not path.is_file():
        write(path, messages)
    return path
