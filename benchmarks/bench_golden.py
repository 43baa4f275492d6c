"""Benchmark of validation and conversion of golden samples: time, peak memory and growth of memory."""

from __future__ import annotations

from pathlib import Path

from golden_file import write_recording
from inputs import OUT
from processes import OURS, PEERS, Run, Series, run_in_new_process
from report import Finding, ratio

NAME = "golden"
_MESSAGES, _FACTOR = 1_000_000, 5
_MAX_MB = {"validate": 60.0, "convert": 700.0}
_MIN_RATIO = {"validate": 5.0, "convert": 3.5}
_PEER = {"validate": "gzip + json.loads", "convert": "json + pandas"}
_MAX_GROWTH = 1.2


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure each pass in a new process; a longer recording shows whether memory grows."""
    recording, long = _ensure_recording(_MESSAGES), _ensure_recording(_FACTOR * _MESSAGES)
    findings: list[Finding] = []
    timed: list[Series] = []
    for task in ("validate", "convert"):
        ours, peer, longer = (
            Series(f"{task}: ours"),
            Series(f"{task}: {_PEER[task]}"),
            Series(f"{task}: ours, {_FACTOR} times as long"),
        )
        for _ in range(repeats):
            peer.runs.append(_run(PEERS, "peer_golden.py", task, recording))
            ours.runs.append(_run(OURS, "worker_golden.py", task, recording))
        longer.runs.append(_run(OURS, "worker_golden.py", task, long))
        peak = ours.median("peak_mb")
        findings += [
            ratio(
                NAME,
                f"{task} {_MESSAGES:,} messages: times as fast as {_PEER[task]}",
                peer,
                ours,
                least=_MIN_RATIO[task],
            ),
            ratio(NAME, "… in CPU time", peer, ours, figure="cpu_s"),
            Finding(NAME, "… time", ours.minimum("wall_s"), "s", median=ours.median("wall_s")),
            Finding(NAME, "… peak memory", ours.maximum("peak_mb"), "MB", most=_MAX_MB[task]),
            Finding(
                NAME,
                f"… of {_FACTOR} times as many messages: times the peak memory",
                longer.maximum("peak_mb") / peak,
                "x",
                most=_MAX_GROWTH,
            ),
        ]
        timed += [ours, peer, longer]
    return findings, timed


def _run(python: str, script: str, task: str, recording: Path) -> Run:
    return run_in_new_process(
        (python, script, task, recording, OUT / "work" / f"golden-{Path(script).stem}"), 1
    )


def _ensure_recording(messages: int) -> Path:
    path = OUT / f"golden_{messages}.jsonl.gz"
    if not path.is_file():
        write_recording(path, messages)
    return path
