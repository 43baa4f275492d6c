"""Checks of lines, capture times, number of messages, duration, uptime and message rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.checks import recordings as checks
from capture_pipeline.checks.model import CheckResult, CheckSpec
from capture_pipeline.checks.recordings import RateRange, Thresholds
from capture_pipeline.golden.scan.scanner import Scan

LATE_S = 5.0
"""Later starts are reported. A recorder needs one or two seconds to connect after a manual start."""


@dataclass(frozen=True, slots=True)
class PlanComparison:
    """Times of a recording compared with the plan of its session.

    Attributes:
        late_s: Seconds from the planned start to the start of the recording; 0 if it started earlier.
        early_s: Seconds from the last message to the planned end; negative if the message is later.
        problem: Reason why the plan is unknown.
        is_damaged: True if the plan is unknown because it cannot be read.
        streams: Planned streams.
    """

    late_s: float = 0.0
    early_s: float = 0.0
    problem: str = ""
    is_damaged: bool = False
    streams: Sequence[str] = ()


def check_form(found: Scan) -> list[CheckResult]:
    """Run the checks `file`, `line_form` and `capture_order`."""
    whole = "; ".join(map(str, found.findings)) or "every gzip member and every line is complete"
    file = checks.FILE.pass_if(
        not found.findings, whole, findings=[str(finding) for finding in found.findings]
    )
    if not found.lines:
        nothing = "the recording contains no line"
        return [
            checks.FILE.skip(nothing) if not found.findings else file,
            checks.LINE_FORM.skip(nothing),
            checks.CAPTURE_ORDER.skip(nothing),
        ]
    lines = (
        f"{found.bad_count:,} of {found.lines:,} lines: {'; '.join(found.bad_examples)}"
        if found.bad_count
        else f"all {found.lines:,} lines"
    )
    order = (
        f"{found.disorder_count:,} stamps go back: {'; '.join(found.disorder_examples)}"
        if found.disorder_count
        else "capture_ns never decreases"
    )
    return [
        file,
        checks.LINE_FORM.pass_if(not found.bad_count, lines, bad=found.bad_count, first=found.bad_examples),
        checks.CAPTURE_ORDER.pass_if(
            not found.disorder_count,
            order,
            disorder=found.disorder_count,
            first=found.disorder_examples,
        ),
    ]


def check_size(
    found: Scan, thresholds: Thresholds, planned: PlanComparison | None = None
) -> list[CheckResult]:
    """Run the checks of the number of messages, duration, uptime and rates.

    Args:
        found: Scan of the recording.
        thresholds: Limits of the checks.
        planned: Comparison with the plan; None for a recording without a session.
    """
    enough = found.lines >= max(1, thresholds.min_messages)
    return [
        checks.MESSAGES.pass_if(
            enough,
            f"{found.lines:,} of at least {thresholds.min_messages:,}",
            messages=found.lines,
        ),
        _check_duration(found, thresholds, planned or PlanComparison()),
        _check_uptime(found, thresholds),
        _check_rate(checks.TRADE_RATE, found, StreamKind.TRADE, thresholds.trades_per_s),
        _check_rate(checks.DEPTH_RATE, found, StreamKind.DEPTH, thresholds.depth_per_s),
    ]


def _check_duration(found: Scan, thresholds: Thresholds, planned: PlanComparison) -> CheckResult:
    """Check the duration by capture times, and that the recording does not end before the planned end."""
    duration = (
        f"{found.duration_s:,.1f} s by capture_ns, "
        f"at least {thresholds.duration_s:,.0f} s less {thresholds.duration_tolerance_s:g} s are required"
    )
    is_long = found.duration_s >= thresholds.duration_s - thresholds.duration_tolerance_s
    is_early = planned.early_s > thresholds.end_tolerance_s
    late = f"the recording began {planned.late_s:,.1f} s after its planned start"
    early = (
        f"the last message arrived {planned.early_s:,.1f} s before the planned end, "
        f"at most {thresholds.end_tolerance_s:g} s are allowed"
    )
    parts = [duration, late if planned.late_s >= LATE_S else "", early if is_early else "", planned.problem]
    reason = "; ".join(filter(None, parts))
    if is_long and planned.problem and not planned.is_damaged:
        return checks.DURATION.skip(reason)
    return checks.DURATION.pass_if(
        found.lines > 0 and is_long and not is_early and not planned.is_damaged,
        reason,
        duration_s=found.duration_s,
        late_s=round(planned.late_s, 3),
        early_s=round(planned.early_s, 3),
    )


def sum_gap_seconds(found: Scan) -> float:
    """Sum the seconds inside gaps of all streams, from the message before to the message after a gap.

    Overlapping gaps count once.
    """
    stretches = sorted(
        (gap.start_ns, gap.end_ns)
        for gap in chain.from_iterable(stream.breaks for stream in found.streams.values())
    )
    total, reached = 0, -1
    for start, end in stretches:
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e9


def _check_uptime(found: Scan, thresholds: Thresholds) -> CheckResult:
    if not found.duration_s:
        return checks.UPTIME.skip("the recording spans no time")
    down = sum_gap_seconds(found)
    uptime = 1 - down / found.duration_s
    uncounted = sum(stream.track.gaps - len(stream.breaks) for stream in found.streams.values())
    if uncounted and uptime > thresholds.min_uptime:
        return checks.UPTIME.skip(f"at most {uptime:.5%}: the times of {uncounted:,} gaps were not stored")
    reason = (
        f"{uptime:.5%} of the duration is outside gaps, more than {thresholds.min_uptime:.3%} is required; "
        f"the gaps last {down:,.3f} s by the capture times before and after them"
    )
    return checks.UPTIME.pass_if(uptime > thresholds.min_uptime, reason, uptime=uptime, gap_seconds=down)


def _check_rate(spec: CheckSpec, found: Scan, kind: StreamKind, expected: RateRange) -> CheckResult:
    streams = found.of_kind(kind)
    if not streams or not found.duration_s:
        return spec.skip(f"there is no {kind} stream")
    rates = {stream.symbol: stream.track.messages / found.duration_s for stream in streams}
    outside = [
        f"{symbol} {rate:.2f}/s"
        for symbol, rate in rates.items()
        if not expected.least <= rate <= expected.most
    ]
    least, most = min(rates.values()), max(rates.values())
    reason = (
        f"outside {expected.least:g}–{expected.most:g}/s: {', '.join(outside)}"
        if outside
        else f"{least:.2f}–{most:.2f}/s per symbol"
    )
    return spec.pass_if(not outside, reason, per_second=rates)
