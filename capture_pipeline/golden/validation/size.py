"""Checks of a recording's form and size: lines, stamps, count, duration, uptime, rates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.golden.scan.scan import Scan
from capture_pipeline.golden.validation.report import Check, Thresholds, check_result, skipped_check

LATE_S = 5.0
"""A recorder that was started by hand takes a second or two to connect; only more is worth telling."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The times of a recording against the plan of its session.

    Attributes:
        late_s: How long after the planned start it begins; 0 if it begins before.
        early_s: How long before the planned end its last message came; negative if it came after.
        trouble: Why they are not known.
        is_damaged: Whether that is because the plan cannot be read.
    """

    late_s: float = 0.0
    early_s: float = 0.0
    trouble: str = ""
    is_damaged: bool = False


def form_checks(found: Scan) -> list[Check]:
    """The file as a file, its lines, the order of their stamps."""
    whole = "; ".join(map(str, found.findings)) or "every member whole, every line ended"
    file = check_result(
        "file", not found.findings, whole, findings=[str(finding) for finding in found.findings]
    )
    if not found.lines:
        nothing = "the recording holds no line"
        return [
            skipped_check("file", nothing) if not found.findings else file,
            skipped_check("line_form", nothing),
            skipped_check("capture_order", nothing),
        ]
    lines = (
        f"{found.bad:,} of {found.lines:,} lines: {'; '.join(found.bad_shown)}"
        if found.bad
        else f"all {found.lines:,} lines"
    )
    order = (
        f"{found.disorder:,} stamps go back: {'; '.join(found.disorder_shown)}"
        if found.disorder
        else "capture_ns never decreases"
    )
    return [
        file,
        check_result("line_form", not found.bad, lines, bad=found.bad, first=found.bad_shown),
        check_result(
            "capture_order", not found.disorder, order, disorder=found.disorder, first=found.disorder_shown
        ),
    ]


def size_checks(found: Scan, thresholds: Thresholds, planned: Planned | None = None) -> list[Check]:
    """Count, duration, uptime and rates.

    Args:
        found: The recording.
        thresholds: What it has to keep.
        planned: How its times compare with the plan; None of a bare file.
    """
    enough = found.lines >= max(1, thresholds.min_messages)
    return [
        check_result(
            "messages",
            enough,
            f"{found.lines:,} of at least {thresholds.min_messages:,}",
            messages=found.lines,
        ),
        _duration(found, thresholds, planned or Planned()),
        _uptime(found, thresholds),
        _rate("trade_rate", found, StreamKind.TRADE, thresholds.trades_per_s),
        _rate("depth_rate", found, StreamKind.DEPTH, thresholds.depth_per_s),
    ]


def _duration(found: Scan, thresholds: Thresholds, planned: Planned) -> Check:
    """Long enough by its stamps, and until the planned end: a session that stops early by what it recorded is not whole."""
    lasted = f"{found.duration_s:,.1f} s by capture_ns, of {thresholds.duration_s:,.0f} s less {thresholds.duration_tolerance_s:g} s"
    is_long = found.duration_s >= thresholds.duration_s - thresholds.duration_tolerance_s
    is_early = planned.early_s > thresholds.end_tolerance_s
    told = [
        lasted,
        f"it began {planned.late_s:,.1f} s after its planned start" if planned.late_s >= LATE_S else "",
        f"its last message came {planned.early_s:,.1f} s before its planned end, of at most {thresholds.end_tolerance_s:g} s"
        if is_early
        else "",
        planned.trouble,
    ]
    reason = "; ".join(filter(None, told))
    if is_long and planned.trouble and not planned.is_damaged:
        return skipped_check("duration", reason)
    return check_result(
        "duration",
        found.lines > 0 and is_long and not is_early and not planned.is_damaged,
        reason,
        duration_s=found.duration_s,
        late_s=round(planned.late_s, 3),
        early_s=round(planned.early_s, 3),
    )


def gap_seconds(found: Scan) -> float:
    """Time inside gaps: from the message before to the message after each break, of all streams, overlapping stretches counted once."""
    stretches = sorted(
        (gap.start_ns, gap.end_ns)
        for gap in chain.from_iterable(stream.breaks for stream in found.streams.values())
    )
    total, reached = 0, -1
    for start, end in stretches:
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e9


def _uptime(found: Scan, thresholds: Thresholds) -> Check:
    if not found.duration_s:
        return skipped_check("uptime", "the recording spans no time")
    down = gap_seconds(found)
    uptime = 1 - down / found.duration_s
    uncounted = sum(stream.track.gaps - len(stream.breaks) for stream in found.streams.values())
    if uncounted and uptime > thresholds.min_uptime:
        return skipped_check(
            "uptime", f"at most {uptime:.5%}: {uncounted:,} gaps have no times, for there are too many"
        )
    reason = f"{uptime:.5%} of more than {thresholds.min_uptime:.3%}: 1 − {down:,.3f} s inside gaps (capture_ns before to after) / duration"
    return check_result("uptime", uptime > thresholds.min_uptime, reason, uptime=uptime, gap_seconds=down)


def _rate(name: str, found: Scan, kind: StreamKind, expected: tuple[float, float]) -> Check:
    streams = found.of_kind(kind)
    if not streams or not found.duration_s:
        return skipped_check(name, f"there is no {kind} stream")
    rates = {stream.symbol: stream.track.messages / found.duration_s for stream in streams}
    outside = [
        f"{symbol} {rate:.2f}/s" for symbol, rate in rates.items() if not expected[0] <= rate <= expected[1]
    ]
    least, most = min(rates.values()), max(rates.values())
    reason = (
        f"outside {expected[0]:g}–{expected[1]:g}/s: {', '.join(outside)}"
        if outside
        else f"{least:.2f}–{most:.2f}/s a symbol"
    )
    return check_result(name, not outside, reason, per_second=rates)
