"""Benchmark of the compiled reader: lines of spot, and of USD-M futures as sent since and before mid-2026."""

from __future__ import annotations

from processes import OURS, Series, run_interleaved
from report import Finding, ratio
from worker_frames import MESSAGES

NAME = "frames"
_FORMS = ("spot", "um", "um-older")


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure the three forms of the same trades and levels.

    Raises:
        RuntimeError: The processes read different numbers of trades and levels.
    """
    series = run_interleaved({form: (OURS, "worker_frames.py", form) for form in _FORMS}, MESSAGES, repeats)
    if len({run.rows for each in series.values() for run in each.runs}) != 1:
        raise RuntimeError("the processes read different numbers of rows")
    spot, um, older = (series[form] for form in _FORMS)
    findings = [
        ratio(NAME, "USD-M frames since the middle of 2026: times as fast as spot's", spot, um, least=0.5),
        ratio(NAME, "… in CPU time", spot, um, figure="cpu_s"),
        ratio(NAME, "USD-M frames before: times as fast as spot's", spot, older, least=0.5),
        ratio(NAME, "… in CPU time", spot, older, figure="cpu_s"),
    ]
    for form, each in series.items():
        name = f"{MESSAGES:,} messages, {form}"
        findings.append(
            Finding(NAME, name, 1000 * each.minimum("wall_s"), "ms", median=1000 * each.median("wall_s"))
        )
    return findings, list(series.values())
