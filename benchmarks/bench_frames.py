"""The compiled reader of recordings: lines of spot, of USD-M futures as sent since the middle of 2026, and as sent before."""

from __future__ import annotations

from processes import OURS, Series, in_turn
from report import Finding, ratio
from worker_frames import MESSAGES

NAME = "frames"
_FORMS = ("spot", "um", "um-older")


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure; the three files have the same trades and levels, in other words.

    Raises:
        RuntimeError: The processes did not read the same number of trades and levels.
    """
    series = in_turn({form: (OURS, "worker_frames.py", form) for form in _FORMS}, MESSAGES, repeats)
    if len({run.rows for each in series.values() for run in each.runs}) != 1:
        raise RuntimeError("the processes read different numbers of rows")
    spot, um, older = (series[form] for form in _FORMS)
    findings = [
        ratio(NAME, "USD-M frames since the middle of 2026: times as fast as spot's", spot, um, least=0.5),
        ratio(NAME, "… in CPU time", spot, um, of="cpu_s"),
        ratio(NAME, "USD-M frames before: times as fast as spot's", spot, older, least=0.5),
        ratio(NAME, "… in CPU time", spot, older, of="cpu_s"),
    ]
    for form, each in series.items():
        name = f"{MESSAGES:,} messages, {form}"
        findings.append(
            Finding(NAME, name, 1000 * each.least("wall_s"), "ms", median=1000 * each.middle("wall_s"))
        )
    return findings, list(series.values())
