"""Checks of a recording's form and size: lines, stamps, count, duration, uptime, rates."""

from __future__ import annotations

from itertools import chain

from capture_pipeline.binance.streams import StreamKind
from capture_pipeline.golden.report import Check, Thresholds, judged, skipped
from capture_pipeline.golden.scan import Scan

LATE_S = 5.0
"""A recorder that was started by hand takes a second or two to connect; only more is worth telling."""


def form_checks(found: Scan) -> list[Check]:
    """The file as a file, its lines, the order of their stamps."""
    whole = "; ".join(map(str, found.findings)) or "every member whole, every line ended"
    lines = f"{found.bad:,} of {found.lines:,} lines: {'; '.join(found.bad_shown)}" if found.bad else f"all {found.lines:,} lines"
    order = f"{found.disorder:,} stamps go back: {'; '.join(found.disorder_shown)}" if found.disorder else "capture_ns never decreases"
    return [
        judged("file", not found.findings, whole, findings=[str(finding) for finding in found.findings]),
        judged("line_form", not found.bad, lines, bad=found.bad, first=found.bad_shown),
        judged("capture_order", not found.disorder, order, disorder=found.disorder, first=found.disorder_shown),
    ]


def size_checks(found: Scan, thresholds: Thresholds, late_s: float = 0.0) -> list[Check]:
    """Count, duration, uptime and rates.

    Args:
        found: The recording.
        thresholds: What it has to keep.
        late_s: How long after its planned start it began; told with the duration, which it shortens.
    """
    late = f"; it began {late_s:,.1f} s after its planned start" if late_s >= LATE_S else ""
    enough = found.lines >= thresholds.min_messages
    wanted_s = thresholds.duration_s - thresholds.duration_tolerance_s
    return [
        judged("messages", enough, f"{found.lines:,} of at least {thresholds.min_messages:,}", messages=found.lines),
        judged(
            "duration",
            found.duration_s >= wanted_s,
            f"{found.duration_s:,.1f} s by capture_ns, of {thresholds.duration_s:,.0f} s less {thresholds.duration_tolerance_s:g} s{late}",
            duration_s=found.duration_s,
            late_s=round(late_s, 3),
        ),
        _uptime(found, thresholds),
        _rate("trade_rate", found, StreamKind.TRADE, thresholds.trades_per_s),
        _rate("depth_rate", found, StreamKind.DEPTH, thresholds.depth_per_s),
    ]


def gap_seconds(found: Scan) -> float:
    """Time inside gaps: from the message before to the message after each break, of all streams, overlapping stretches counted once."""
    stretches = sorted((gap.start_ns, gap.end_ns) for gap in chain.from_iterable(stream.breaks for stream in found.streams.values()))
    total, reached = 0, -1
    for start, end in stretches:
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e9


def _uptime(found: Scan, thresholds: Thresholds) -> Check:
    if not found.duration_s:
        return skipped("uptime", "the recording spans no time")
    down = gap_seconds(found)
    uptime = 1 - down / found.duration_s
    reason = f"{uptime:.5%} of more than {thresholds.min_uptime:.3%}: 1 − {down:,.3f} s inside gaps (capture_ns before to after) / duration"
    return judged("uptime", uptime > thresholds.min_uptime, reason, uptime=uptime, gap_seconds=down)


def _rate(name: str, found: Scan, kind: StreamKind, expected: tuple[float, float]) -> Check:
    streams = found.of_kind(kind)
    if not streams or not found.duration_s:
        return skipped(name, f"there is no {kind} stream")
    rates = {stream.symbol: stream.track.messages / found.duration_s for stream in streams}
    outside = [f"{symbol} {rate:.2f}/s" for symbol, rate in rates.items() if not expected[0] <= rate <= expected[1]]
    least, most = min(rates.values()), max(rates.values())
    reason = f"outside {expected[0]:g}–{expected[1]:g}/s: {', '.join(outside)}" if outside else f"{least:.2f}–{most:.2f}/s a symbol"
    return judged(name, not outside, reason, per_second=rates)
